//! The SYN budget of a source: a token bucket, kept as the time at which it is full again.
//!
//! A SYN moves that time one refill interval on, and passes unless that would lie more than a whole burst ahead. One
//! word of state needs no lock: SYNs of one source on several CPUs add to it atomically. Between look and add each
//! CPU may let one SYN too many through: a burst is exact within the number of CPUs, the rate in the long run is.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::warn;
use edge_ebpf::{NEVER, Settings, SourceKey, SynBudget};

use crate::clock::now_ns;
use crate::maps::SYN_BUDGETS;

/// Takes one SYN out of the source's budget; `false` when it is empty.
#[inline(always)]
pub(crate) fn take(ctx: &XdpContext, source: &SourceKey, settings: &Settings) -> bool {
    if settings.syn_burst == 0 {
        return false;
    }
    let interval = settings.syn_interval_ns;
    let Some(budget) = SYN_BUDGETS.get_ptr_mut(source) else {
        let budget = match interval {
            NEVER => SynBudget { full_ns: 0, spent: 1 },
            _ => SynBudget { full_ns: now_ns() + interval, spent: 0 },
        };
        if let Err(error) = SYN_BUDGETS.insert(source, budget, 0) {
            warn!(ctx, "a source got no SYN budget, so this SYN passes: error {}", error);
        }
        return true;
    };
    // SAFETY: the map gave the pointer to a whole, aligned SynBudget, which stays readable and writable
    // until the program ends even if the entry is evicted meanwhile; concurrent writers only make the count inexact
    // as said above.
    unsafe {
        if interval == NEVER {
            let spent = &raw mut (*budget).spent;
            if *spent >= u64::from(settings.syn_burst) {
                return false;
            }
            add(spent, 1);
            return true;
        }
        let now = now_ns();
        let full = &raw mut (*budget).full_ns;
        if *full < now {
            *full = now;
        }
        // At most 2^32 intervals of a second each, and the clock: far from overflow.
        if *full + interval > now + u64::from(settings.syn_burst) * interval {
            return false;
        }
        add(full, interval);
    }
    true
}

/// Adds atomically. `AtomicU64::fetch_add` does not exist for this target, the instruction does.
///
/// # Safety
/// `word` points to an aligned word of a map value.
#[inline(always)]
unsafe fn add(word: *mut u64, by: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's word is a live map value.
    unsafe {
        core::arch::asm!("lock *(u64 *)({word} + 0) += {by}", word = in(reg) word, by = in(reg) by);
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's word is live; only compiled to be linted.
    unsafe {
        *word += by;
    }
}
