//! Which days were watched, and which of them were clean.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::UnixMillis;

/// Days that are remembered.
pub const DAYS_MAX: usize = 60;

/// Clean days that are wanted before unproven bounces are stopped.
pub const CLEAN_DAYS: u32 = 14;

/// A day counts as watched when the edge ran so long of it: restarts are no gap, since mail waits for the edge meanwhile.
const WATCHED_MS_MIN: u64 = 23 * 3_600_000;

/// The longest time between two beats that counts as running.
const BEAT_MAX: Duration = Duration::from_secs(120);

/// A day counts when of so many unproven messages that came at most one was not looked at, or could not be told: or a
/// stranger's flood could put off for ever what is to stop it.
const UNSEEN_ONE_OF: u64 = 100;

/// So many messages a day need not be looked at, however few came. What could not be told is no part of that: it claims
/// to be ours.
const MISSED_ALLOWED: u64 = 5;

/// One day, from midnight to midnight UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Day {
    /// Whole days since 1970.
    pub day: u64,
    /// For how long the edge ran, in milliseconds.
    pub watched_ms: u64,
    /// Unproven bounces that were let through.
    pub let_through: u64,
    /// Unproven messages that were looked at, and of which it could be told whether they look like ours.
    #[serde(default)]
    pub looked_at: u64,
    /// Unproven messages that looked like ours.
    pub ours: u64,
    /// Those that might be: a fault (of the DNS) kept it from being told.
    pub unclear: u64,
    /// Those that were not looked at: too many came at once.
    pub missed: u64,
}

/// What a day says for or against stopping unproven bounces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Says {
    /// It was watched whole, and nothing looked like ours.
    Clean,
    /// Something looked like ours.
    Ours,
    /// Nothing: the edge did not run all of it, or too much of what came was not looked at, or could not be told.
    Nothing,
}

impl Day {
    /// Unproven messages that came, looked at or not.
    #[must_use]
    pub fn came(&self) -> u64 {
        self.looked_at.saturating_add(self.unclear).saturating_add(self.missed)
    }

    /// Whether enough of them was looked at, and could be told, for the day to count.
    #[must_use]
    pub fn is_seen(&self) -> bool {
        let unseen = self.unclear.saturating_add(self.missed);
        unseen <= self.came() / UNSEEN_ONE_OF || self.unclear == 0 && self.missed <= MISSED_ALLOWED
    }

    fn says(&self) -> Says {
        if self.ours > 0 {
            Says::Ours
        } else if self.watched_ms >= WATCHED_MS_MIN && self.is_seen() {
            Says::Clean
        } else {
            Says::Nothing
        }
    }
}

/// The last days, the oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Days {
    days: VecDeque<Day>,
    /// When it was last said that the edge runs, by this run of it.
    #[serde(skip)]
    beat: Option<UnixMillis>,
}

impl Days {
    /// The edge runs.
    pub fn beat(&mut self, now: UnixMillis) {
        if let Some(before) = self.beat.replace(now) {
            let ran = now.since(before).min(BEAT_MAX).as_millis();
            let day = self.day(now);
            day.watched_ms = day.watched_ms.saturating_add(u64::try_from(ran).unwrap_or(0));
        } else {
            self.day(now);
        }
    }

    /// The day of `now`. A clock that was set back finds the day that it was then, or the oldest that is remembered.
    pub fn day(&mut self, now: UnixMillis) -> &mut Day {
        let wanted = now.days();
        let place = match self.days.iter().rposition(|day| day.day <= wanted) {
            Some(place) if self.days[place].day == wanted => place,
            Some(place) => {
                self.days.insert(place + 1, Day { day: wanted, ..Day::default() });
                place + 1
            }
            None if self.days.len() < DAYS_MAX => {
                self.days.push_front(Day { day: wanted, ..Day::default() });
                0
            }
            None => 0,
        };
        if self.days.len() > DAYS_MAX {
            self.days.pop_front();
            return &mut self.days[place.saturating_sub(1)];
        }
        &mut self.days[place]
    }

    /// How many days were clean since the last on which something looked like ours, and since the day of the first
    /// signature: before it nothing could be proven, so those days say nothing of who goes round the signer. Today is not
    /// over, so it can only begin the count anew.
    #[must_use]
    pub fn clean(&self, first_signature: Option<UnixMillis>, now: UnixMillis) -> u32 {
        let today = now.days();
        let Some(first) = first_signature.map(UnixMillis::days) else { return 0 };
        let mut clean = 0;
        for day in self.days.iter().rev().filter(|day| day.day <= today) {
            match day.says() {
                Says::Ours => break,
                Says::Clean if first < day.day && day.day < today => clean += 1,
                Says::Clean | Says::Nothing => {}
            }
        }
        clean
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Day> {
        self.days.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_SECS: u64 = 86_400;

    fn at(day: u64, secs: u64) -> UnixMillis {
        UnixMillis::from_secs(day * DAY_SECS + secs)
    }

    /// Clean days, where all of them come after the first signature.
    fn clean(days: &Days, now: UnixMillis) -> u32 {
        days.clean(Some(at(0, 0)), now)
    }

    /// The edge runs for the whole day.
    fn watched(days: &mut Days, day: u64) {
        for minute in 0..=24 * 60 {
            days.beat(at(day, minute * 60));
        }
    }

    #[test]
    fn a_day_counts_when_it_was_watched_whole_and_is_over() {
        let mut days = Days::default();
        days.beat(at(100, 6 * 3600));
        for minute in 0..18 * 60 {
            days.beat(at(100, 6 * 3600 + minute * 60));
        }
        assert_eq!(clean(&days, at(101, 0)), 0, "it began in the morning");
        watched(&mut days, 101);
        assert_eq!(clean(&days, at(101, 86_399)), 0, "it is not over");
        assert_eq!(clean(&days, at(102, 0)), 1);
        for day in 102..=115 {
            watched(&mut days, day);
        }
        assert_eq!(clean(&days, at(116, 1)), 15);
    }

    #[test]
    fn what_looks_like_ours_begins_the_count_anew_at_once() {
        let mut days = Days::default();
        (100..110).for_each(|day| watched(&mut days, day));
        assert_eq!(clean(&days, at(110, 0)), 10);
        days.day(at(105, 5)).ours += 1;
        assert_eq!(clean(&days, at(110, 0)), 4);
        days.day(at(110, 9)).ours += 1;
        assert_eq!(clean(&days, at(110, 10)), 0, "today too");
    }

    #[test]
    fn a_day_without_the_edge_or_with_a_fault_neither_counts_nor_breaks() {
        let mut days = Days::default();
        watched(&mut days, 100);
        // Off from 101 to 103.
        (104..106).for_each(|day| watched(&mut days, day));
        days.day(at(105, 7)).unclear += 1;
        assert_eq!(clean(&days, at(106, 0)), 2);
    }

    #[test]
    fn a_day_counts_when_at_most_a_hundredth_of_what_came_was_not_seen() {
        let counts = |looked_at, unclear, missed| {
            let mut days = Days::default();
            watched(&mut days, 100);
            let day = days.day(at(100, 7));
            (day.looked_at, day.unclear, day.missed) = (looked_at, unclear, missed);
            assert_eq!(day.came(), looked_at.saturating_add(unclear).saturating_add(missed));
            clean(&days, at(101, 0)) == 1
        };
        assert!(counts(0, 0, 0), "nothing came");
        assert!(counts(0, 0, MISSED_ALLOWED) && !counts(0, 0, MISSED_ALLOWED + 1), "a few, on a quiet day");
        assert!(counts(9_900, 0, 100) && !counts(9_899, 0, 101), "a flood");
        assert!(counts(9_900, 50, 50) && !counts(9_899, 50, 51), "what could not be told counts with it");
        assert!(!counts(98, 1, 0) && counts(99, 1, 0), "what could not be told has no few");
        assert!(!counts(u64::MAX, u64::MAX, u64::MAX) && !counts(0, 0, u64::MAX), "no overflow");
    }

    #[test]
    fn days_up_to_the_first_signature_do_not_count() {
        let mut days = Days::default();
        (100..110).for_each(|day| watched(&mut days, day));
        assert_eq!(days.clean(None, at(110, 0)), 0, "nothing was signed");
        assert_eq!(days.clean(Some(at(109, 5)), at(110, 0)), 0, "signed yesterday");
        assert_eq!(days.clean(Some(at(107, 0)), at(110, 0)), 2);
    }

    #[test]
    fn a_gap_is_not_counted_as_running_but_a_short_restart_is_no_gap() {
        let mut days = Days::default();
        days.beat(at(100, 0));
        days.beat(at(100, 20 * 3600));
        assert_eq!(days.day(at(100, 1)).watched_ms, 120_000);
        watched(&mut days, 101);
        let written = serde_json::to_string(&days).unwrap();
        let mut again: Days = serde_json::from_str(&written).unwrap();
        again.beat(at(103, 30));
        again.beat(at(103, 60));
        assert_eq!(again.day(at(103, 0)).watched_ms, 30_000, "the time before this run began does not count");
    }

    #[test]
    fn days_are_bounded_and_a_clock_that_jumps_loses_none_of_the_bound() {
        let mut days = Days::default();
        for day in 0..500 {
            days.day(at(day, 0));
        }
        assert_eq!(days.iter().count(), DAYS_MAX);
        days.day(at(10, 0)).ours += 1;
        days.day(at(470, 0)).ours += 1;
        days.day(at(1000, 0)).ours += 1;
        let order: Vec<u64> = days.iter().map(|day| day.day).collect();
        assert!(order.is_sorted() && order.len() == DAYS_MAX, "{order:?}");
    }
}
