//! Floods: a wave of unproven bounces well above the baseline.
//!
//! In: counts of unproven bounces, with the time. Out: whether a flood is on, and since when. A flood begins in the
//! window that has both `unproven_min` and `factor` times the baseline, and ends after `calm_after` without such a
//! window. The baseline is a moving average over about sixty windows; what comes during a flood does not teach it,
//! or a long wave would become normal and the next one go unseen. Only what lasts longer than a day is no wave any
//! more: it teaches, so that a domain whose every day is over `unproven_min` finds its level and is calm again.
//!
//! Bound: ten counters, whatever comes.

mod window;

use std::time::Duration;

use self::window::{SLOTS, Window};
use crate::time::UnixMillis;

/// Over how many windows the baseline is averaged.
const BASELINE_WINDOWS: f64 = 60.0;

/// How long a flood teaches nothing.
const LONGEST_WAVE: Duration = Duration::from_secs(86_400);

/// When a flood begins and ends.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// A flood has at least this many unproven bounces within `window`.
    pub unproven_min: u32,
    /// And at least this many times the baseline's.
    pub factor: f64,
    /// The time over which unproven bounces are counted.
    pub window: Duration,
    /// How long it must be calm before a flood is over.
    pub calm_after: Duration,
}

/// Watches the rate of unproven bounces.
#[derive(Debug)]
pub struct Detector {
    limits: Limits,
    window: Window,
    /// Unproven bounces in a usual window.
    baseline: f64,
    flood: Option<Flood>,
}

#[derive(Clone, Copy, Debug)]
struct Flood {
    since: UnixMillis,
    /// When the window was last over the limits.
    high: UnixMillis,
}

/// What the detector says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// No flood.
    Calm,
    /// A flood, since when.
    Flood {
        /// When it was noticed.
        since: UnixMillis,
    },
}

impl State {
    /// Whether it is a flood.
    #[must_use]
    pub const fn is_flood(self) -> bool {
        match self {
            Self::Calm => false,
            Self::Flood { .. } => true,
        }
    }
}

impl Detector {
    /// Calm at first.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, window: Window::new(limits.window), baseline: 0.0, flood: None }
    }

    /// `count` unproven bounces came.
    pub fn unproven(&mut self, count: u32, now: UnixMillis) -> State {
        self.advance(now);
        self.window.add(count);
        self.decide(now)
    }

    /// The state at `now`.
    pub fn state(&mut self, now: UnixMillis) -> State {
        self.advance(now);
        self.decide(now)
    }

    /// Unproven bounces in a usual window.
    #[must_use]
    pub fn baseline(&self) -> f64 {
        self.baseline
    }

    /// Lets time pass, and the slots that end teach the baseline.
    fn advance(&mut self, now: UnixMillis) {
        let teaches = self.flood.is_none_or(|flood| flood.high.since(flood.since) > LONGEST_WAVE);
        let keep = 1.0 - 1.0 / (BASELINE_WINDOWS * SLOTS as f64);
        let mut baseline = self.baseline;
        let empty = self.window.advance(now, |count| {
            baseline = baseline * keep + (count as f64 * SLOTS as f64) * (1.0 - keep);
        });
        if teaches {
            self.baseline = baseline * keep.powi(i32::try_from(empty).unwrap_or(i32::MAX));
        }
    }

    fn decide(&mut self, now: UnixMillis) -> State {
        if let Some(flood) = &mut self.flood {
            // A clock that went backwards must not make the flood's end a thing of the far future.
            *flood = Flood { since: flood.since.min(now), high: flood.high.min(now) };
        }
        if self.is_high() {
            let since = self.flood.map_or(now, |flood| flood.since);
            self.flood = Some(Flood { since, high: now });
        } else if self.flood.is_some_and(|flood| now.since(flood.high) >= self.limits.calm_after) {
            self.flood = None;
        }
        self.flood.map_or(State::Calm, |flood| State::Flood { since: flood.since })
    }

    fn is_high(&self) -> bool {
        let total = self.window.total();
        total > 0
            && total >= u64::from(self.limits.unproven_min)
            && total as f64 >= self.limits.factor * self.baseline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 within a minute and five times the usual; over after ten minutes.
    const LIMITS: Limits = Limits {
        unproven_min: 100,
        factor: 5.0,
        window: Duration::from_secs(60),
        calm_after: Duration::from_secs(600),
    };

    const START: u64 = 1_000_000;

    fn at(secs: u64) -> UnixMillis {
        UnixMillis::from_secs(START + secs)
    }

    /// Feeds `per_minute` evenly from `from` to `to`, in steps of six seconds; returns the last state.
    fn feed(detector: &mut Detector, per_minute: u32, from: u64, to: u64) -> State {
        let mut state = detector.state(at(from));
        for secs in (from..to).step_by(6) {
            state = detector.unproven(per_minute / 10, at(secs));
        }
        state
    }

    #[test]
    fn a_flood_begins_at_the_bounce_that_reaches_the_minimum() {
        let mut detector = Detector::new(LIMITS);
        assert_eq!(detector.unproven(99, at(0)), State::Calm);
        assert_eq!(detector.unproven(1, at(5)), State::Flood { since: at(5) });
        assert_eq!(detector.unproven(1, at(9)), State::Flood { since: at(5) });
    }

    #[test]
    fn what_lies_further_apart_than_the_window_is_no_flood() {
        let mut detector = Detector::new(LIMITS);
        for minute in 0..50 {
            assert_eq!(detector.unproven(99, at(minute * 61)), State::Calm, "minute {minute}");
        }
    }

    #[test]
    fn a_flood_is_over_only_after_it_was_calm_long_enough() {
        let mut detector = Detector::new(LIMITS);
        detector.unproven(500, at(0));
        assert!(detector.state(at(599)).is_flood());
        detector.unproven(500, at(599));
        assert!(detector.state(at(600)).is_flood());
        assert!(detector.state(at(1198)).is_flood());
        assert_eq!(detector.state(at(1300)), State::Calm);
        assert_eq!(
            detector.unproven(500, at(1400)),
            State::Flood { since: at(1400) },
            "the second wave counts anew"
        );
    }

    #[test]
    fn a_usual_load_over_the_minimum_is_no_flood_once_it_is_known_to_be_usual() {
        let mut detector = Detector::new(Limits { unproven_min: 500, ..LIMITS });
        assert_eq!(feed(&mut detector, 300, 0, 86_400), State::Calm);
        assert!((detector.baseline() - 300.0).abs() < 10.0, "{}", detector.baseline());
        assert_eq!(feed(&mut detector, 1200, 86_400, 87_000), State::Calm, "four times the usual");
        assert!(feed(&mut detector, 9000, 87_000, 87_060).is_flood(), "thirty times the usual");
    }

    #[test]
    fn a_flood_does_not_teach_the_baseline() {
        let mut detector = Detector::new(LIMITS);
        feed(&mut detector, 20, 0, 7200);
        let before = detector.baseline();
        feed(&mut detector, 6000, 7200, 36_000);
        assert!(detector.state(at(36_000)).is_flood());
        assert!(detector.baseline() < before * 10.0 + 100.0, "{} after {before}", detector.baseline());
        assert_eq!(feed(&mut detector, 20, 36_000, 37_000), State::Calm);
        assert!(
            feed(&mut detector, 6000, 37_000, 37_060).is_flood(),
            "the second wave is seen like the first"
        );
    }

    #[test]
    fn what_lasts_longer_than_a_day_becomes_usual() {
        let mut detector = Detector::new(LIMITS);
        assert!(feed(&mut detector, 200, 0, 86_000).is_flood());
        assert_eq!(feed(&mut detector, 200, 86_000, 2 * 86_400), State::Calm);
    }

    #[test]
    fn a_day_of_silence_after_a_flood_teaches_nothing_of_it() {
        let mut detector = Detector::new(LIMITS);
        detector.unproven(60_000, at(0));
        detector.state(at(3 * 86_400));
        assert!(detector.baseline() < 1.0, "{}", detector.baseline());
    }

    #[test]
    fn a_clock_that_jumps_neither_panics_nor_stops_the_count() {
        let mut detector = Detector::new(LIMITS);
        detector.unproven(500, at(1000));
        assert_eq!(detector.state(UnixMillis(u64::MAX)), State::Calm, "far ahead, it was calm for ages");
        for minute in 0..10 {
            assert_eq!(detector.unproven(99, at(minute * 61)), State::Calm, "back again, minute {minute}");
        }
        detector.unproven(500, at(700));
        assert!(detector.state(UnixMillis(0)).is_flood(), "back to the epoch, the flood goes on");
        assert!(detector.state(UnixMillis(599_000)).is_flood());
        assert_eq!(detector.state(UnixMillis(700_000)), State::Calm, "and ends in its time");
        assert!(detector.unproven(u32::MAX, at(2000)).is_flood());
    }
}
