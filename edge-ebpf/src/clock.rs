//! The clock that bans end by and budgets refill by.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;

/// `CLOCK_MONOTONIC` as of the last tick, 1 to 10 ms ago: a few nanoseconds to read, where reading the hardware clock
/// costs more than everything else that a drop does.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing and gives a number.
    unsafe { bpf_ktime_get_coarse_ns() }
}
