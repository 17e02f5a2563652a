//! A count over the last stretch of time, in slots that fall out at its far end.

use std::time::Duration;

use crate::time::UnixMillis;

/// Into how many slots a window is cut: the count is exact to a tenth of the window.
pub(super) const SLOTS: usize = 10;

/// What happened within the last `length`.
#[derive(Debug)]
pub(super) struct Window {
    slot_ms: u64,
    slots: [u64; SLOTS],
    /// The slot that counts now, as time divided by `slot_ms`.
    current: Option<u64>,
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        let slot_ms = (length.as_millis() as u64 / SLOTS as u64).max(1);
        Self { slot_ms, slots: [0; SLOTS], current: None }
    }

    /// Moves on to `now` and hands out, oldest first, the counts of the slots that ended; those further back than a
    /// whole window were empty, and only their number is returned.
    ///
    /// A clock that went backwards stays in the slot that counts; by more than a window, the count goes on in the
    /// past (or it would stand still until the clock is there again).
    pub(super) fn advance(&mut self, now: UnixMillis, mut ended: impl FnMut(u64)) -> u64 {
        let to = now.0 / self.slot_ms;
        let from = *self.current.get_or_insert(to);
        if to <= from {
            if from - to > SLOTS as u64 {
                let total = self.total();
                self.slots = [0; SLOTS];
                self.slots[Self::place(to)] = total;
                self.current = Some(to);
            }
            return 0;
        }
        let steps = to - from;
        for step in 0..steps.min(SLOTS as u64) {
            // The slot after the current one is the oldest: its count leaves the window as it is taken into use.
            ended(self.slots[Self::place(from + step)]);
            let next = Self::place(from + step + 1);
            self.slots[next] = 0;
        }
        self.current = Some(to);
        steps.saturating_sub(SLOTS as u64)
    }

    pub(super) fn add(&mut self, count: u32) {
        if let Some(current) = self.current {
            let place = Self::place(current);
            self.slots[place] = self.slots[place].saturating_add(u64::from(count));
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.slots.iter().fold(0, |sum, slot| sum.saturating_add(*slot))
    }

    fn place(slot: u64) -> usize {
        (slot % SLOTS as u64) as usize
    }
}
