//! Sampled drops for the daemon: so many a second and CPU, and past that nearly nothing, however large the flood.

use edge_ebpf::{Reason, Sample, Settings, SourceKey};

use crate::clock::now_ns;
use crate::maps::{SAMPLE_BUDGET, SAMPLES};

/// Without samples left, the clock is read once in so many drops (a power of two).
const CLOCK_EVERY: u32 = 64;

/// Puts the drop into the ring while this CPU's budget lasts. A full ring loses it: samples are no account, the
/// counters are.
#[inline(always)]
pub(crate) fn sample(source: &SourceKey, reason: Reason, settings: &Settings) {
    let Some(budget) = SAMPLE_BUDGET.get_ptr_mut(0) else { return };
    // SAFETY: the map gave a whole, aligned SampleBudget of this CPU, and XDP does not nest on a CPU.
    let budget = unsafe { &mut *budget };
    if budget.left == 0 {
        budget.skipped = budget.skipped.wrapping_add(1);
        if budget.skipped % CLOCK_EVERY != 1 {
            return;
        }
    }
    let time_ns = now_ns();
    if time_ns >= budget.next_ns {
        budget.next_ns = time_ns + 1_000_000_000;
        budget.left = settings.samples_per_sec;
        budget.skipped = 0;
    }
    if budget.left == 0 {
        return;
    }
    budget.left -= 1;
    if let Some(mut entry) = SAMPLES.reserve::<Sample>(0) {
        entry.write(Sample { time_ns, source: *source, reason: reason as u32 });
        entry.submit(0);
    }
}
