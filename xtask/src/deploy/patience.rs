//! How long a host is waited for whose connection broke in the middle of the switch.
//!
//! As long as it says that it is at work, the longest that it may lawfully take counts, which it says itself: a stop
//! that waits for replies is no failure. One that does not answer has less.

use std::time::Duration;

/// How long a host may be silent, beyond the wait for a healthy edge, forth and back: it may be starting anew.
const SILENCE: Duration = Duration::from_secs(60);
/// What is added to a host's own word.
const MARGIN: Duration = Duration::from_secs(60);
/// How often it is said that nothing is new.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// Times are since the connection broke.
#[derive(Debug)]
pub(super) struct Patience {
    silence: Duration,
    /// When the host answered last.
    answered: Duration,
    /// Until when it may be at work by its own word.
    bound: Option<Duration>,
    /// What was said last, and when.
    said: Option<(String, Duration)>,
}

impl Patience {
    /// For a daemon that may take so long until it is healthy.
    pub(super) fn new(healthy_secs: u64) -> Self {
        let silence = SILENCE + Duration::from_secs(2 * healthy_secs);
        Self { silence, answered: Duration::ZERO, bound: None, said: None }
    }

    /// The host is at work, at something, for at most so long. Returns what is to be shown of that.
    pub(super) fn is_at_work(&mut self, now: Duration, doing: &str, left_secs: u32) -> Option<String> {
        self.answered = now;
        if left_secs > 0 || self.bound.is_none() {
            self.bound = Some(now + Duration::from_secs(left_secs.into()) + MARGIN);
        }
        let is_news = self.said.as_ref().is_none_or(|(said, at)| said != doing || now >= *at + SAY_EVERY);
        is_news.then(|| {
            self.said = Some((doing.to_owned(), now));
            format!("it is at work: {doing} ({left_secs} s left at most)")
        })
    }

    /// Whether it is no longer waited for.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        now > self.answered + self.silence || self.bound.is_some_and(|bound| now > bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_stop_that_may_take_a_quarter_of_an_hour_is_waited_for_to_its_end() {
        let mut patience = Patience::new(60);
        for now in 0..2400 {
            assert!(!patience.is_over(secs(now.into())), "given up after {now} s");
            patience.is_at_work(secs(now.into()), "restarting", 2400 - now);
        }
    }

    #[test]
    fn a_host_that_is_silent_or_takes_longer_than_it_said_is_given_up() {
        let mut patience = Patience::new(60);
        assert!(!patience.is_over(secs(180)));
        assert!(patience.is_over(secs(181)));
        patience.is_at_work(secs(100), "restarting", 900);
        assert!(!patience.is_over(secs(280)));
        assert!(patience.is_over(secs(281)), "it was silent since");
        for now in 1000..=1061 {
            patience.is_at_work(secs(now), "restarting", 0);
        }
        assert!(patience.is_over(secs(1061)), "its time and a minute are over");
        assert!(!patience.is_over(secs(1060)));
    }

    #[test]
    fn what_is_new_is_shown_at_once_and_what_is_not_now_and_then() {
        let mut patience = Patience::new(60);
        let shown: Vec<u64> = (0..100)
            .filter(|now| {
                let doing = if *now < 10 { "checking" } else { "restarting" };
                patience.is_at_work(secs(*now), doing, 900).is_some()
            })
            .collect();
        assert_eq!(shown, [0, 10, 40, 70]);
    }
}
