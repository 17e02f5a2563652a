//! Budgets: token buckets, and counts within a window.

use std::time::Duration;

use crate::time::UnixMillis;

/// How fast a budget fills, and how much it holds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Rate {
    pub(super) per_sec: f64,
    pub(super) burst: f64,
}

impl Rate {
    /// The same, `times` as wide.
    pub(super) fn widened(self, times: f64) -> Self {
        Self { per_sec: self.per_sec * times, burst: self.burst * times }
    }
}

/// A token bucket. What was *spent* is kept rather than what is left, so that a bucket that nobody has used yet is
/// full, and widening its rate gives at once.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Bucket {
    spent: f64,
    at: UnixMillis,
}

impl Bucket {
    /// Takes one token. `false`: there is none.
    pub(super) fn take(&mut self, rate: Rate, now: UnixMillis) -> bool {
        let spent = self.spent_at(rate, now);
        let there = spent + 1.0 <= rate.burst;
        *self = Self { spent: if there { spent + 1.0 } else { spent }, at: now };
        there
    }

    /// Puts one token back that was taken.
    pub(super) fn give_back(&mut self) {
        self.spent = (self.spent - 1.0).max(0.0);
    }

    /// The tokens left.
    pub(super) fn left(&self, rate: Rate, now: UnixMillis) -> f64 {
        (rate.burst - self.spent_at(rate, now)).max(0.0)
    }

    fn spent_at(&self, rate: Rate, now: UnixMillis) -> f64 {
        // Never more than a full budget is owed: a budget that was wider once does not stay empty for longer.
        let owed = self.spent.min(rate.burst);
        (owed - now.since(self.at).as_secs_f64() * rate.per_sec).max(0.0)
    }
}

/// Counts what happens within a window that begins with its first event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Strikes {
    count: u32,
    began: UnixMillis,
    last: UnixMillis,
}

impl Strikes {
    /// Counts one and says how many there are within `window`; those less than `spacing` after the one before are one
    /// with it.
    pub(super) fn strike(&mut self, window: Duration, spacing: Duration, now: UnixMillis) -> u32 {
        // A clock that went backwards: the window begins anew.
        let over = now < self.began || now.since(self.began) >= window;
        if self.count == 0 || over {
            *self = Self { count: 1, began: now, last: now };
        } else if now.since(self.last) >= spacing {
            self.count = self.count.saturating_add(1);
            self.last = now;
        }
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_sec: 2.0, burst: 3.0 };

    #[test]
    fn a_budget_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::default();
        let rows = [
            (1000, true),
            (1000, true),
            (1000, true),
            (1000, false),
            (1499, false),
            (1500, true),
            (1500, false),
            (9000, true),
            (9000, true),
            (9000, true),
            (9000, false),
        ];
        for (row, (millis, given)) in rows.into_iter().enumerate() {
            assert_eq!(bucket.take(RATE, UnixMillis(millis)), given, "row {row}");
        }
    }

    #[test]
    fn a_clock_that_went_backwards_gives_nothing_and_holds_nothing_back() {
        let mut bucket = Bucket::default();
        while bucket.take(RATE, UnixMillis::from_secs(1_000_000)) {}
        assert!(!bucket.take(RATE, UnixMillis::from_secs(10)));
        assert!(bucket.take(RATE, UnixMillis::from_secs(11)));
    }

    #[test]
    fn a_wider_budget_gives_at_once() {
        let mut bucket = Bucket::default();
        let now = UnixMillis::from_secs(1);
        while bucket.take(RATE, now) {}
        assert!(bucket.take(RATE.widened(2.0), now));
        assert_eq!(bucket.left(RATE.widened(2.0), now), 2.0);
        assert_eq!(bucket.left(RATE, now), 0.0);
    }

    #[test]
    fn a_budget_that_was_wider_once_owes_no_more_than_itself() {
        let mut bucket = Bucket::default();
        let now = UnixMillis::from_secs(1);
        while bucket.take(RATE.widened(10.0), now) {}
        assert!(!bucket.take(RATE, now.plus(Duration::from_millis(499))));
        assert!(bucket.take(RATE, now.plus(Duration::from_millis(999))));
    }

    #[test]
    fn strikes_are_counted_within_their_window_and_not_closer_than_their_spacing() {
        let mut strikes = Strikes::default();
        let rows =
            [(0, 1), (499, 1), (500, 2), (600, 2), (1100, 3), (59_999, 4), (60_000, 1), (10, 1), (510, 2)];
        for (millis, count) in rows {
            let counted =
                strikes.strike(Duration::from_secs(60), Duration::from_millis(500), UnixMillis(millis));
            assert_eq!(counted, count, "at {millis}");
        }
    }
}
