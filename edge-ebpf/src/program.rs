//! The entry point: from reason to action.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::info;
use edge_ebpf::{ABI_VERSION, Action, Reason};

use crate::judge::judge;
use crate::maps::COUNTERS;
use crate::parse::segment;

/// Judges one packet.
#[xdp]
pub(crate) fn backstop(ctx: XdpContext) -> u32 {
    let reason = match segment(&ctx) {
        Ok(segment) => judge(&ctx, &segment),
        Err(reason) => reason,
    };
    count(&ctx, reason);
    match reason.action() {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop => xdp_action::XDP_DROP,
    }
}

/// Counts the packet, and says once for each CPU that mail passes it.
#[inline(always)]
fn count(ctx: &XdpContext, reason: Reason) {
    let Some(counter) = COUNTERS.get_ptr_mut(reason as u32) else { return };
    // SAFETY: the map holds u64s and checked the index; XDP does not nest on a CPU, so nobody else writes this one.
    let before = unsafe { *counter };
    // SAFETY: as above.
    unsafe { *counter = before + 1 };
    if before == 0 && reason as u32 == Reason::Pass as u32 {
        info!(ctx, "the first judged packet passed on this CPU (map ABI {})", ABI_VERSION);
    }
}
