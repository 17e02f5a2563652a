//! How much unproven mail a mailbox gets within an hour.

use std::hash::{BuildHasher, RandomState};

use super::budget::{Bucket, Rate};
use super::table::Table;
use crate::mailbox::Mailbox;
use crate::time::UnixMillis;

const HOUR_SECS: f64 = 3600.0;

/// A budget for each mailbox, kept by keyed hashes (about 60 octets each): the mailboxes that nothing came for longest
/// make room. Nothing outlives the process.
#[derive(Debug)]
pub struct Allowances {
    spent: Table<u64, Bucket>,
    key: RandomState,
}

impl Allowances {
    /// Budgets for at most `mailboxes_max` mailboxes at once.
    #[must_use]
    pub fn new(mailboxes_max: usize) -> Self {
        Self { spent: Table::new(mailboxes_max), key: RandomState::new() }
    }

    /// Takes one message of those that `mailbox` may get: `per_hour` at once, and as many again an hour. `false`: it had
    /// them.
    pub fn take(&mut self, mailbox: &Mailbox, per_hour: u32, now: UnixMillis) -> bool {
        let burst = f64::from(per_hour);
        let rate = Rate { per_sec: burst / HOUR_SECS, burst };
        self.spent.get_or_default(self.key.hash_one(mailbox)).take(rate, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: UnixMillis = UnixMillis::from_secs(1_000_000);

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    #[test]
    fn each_mailbox_has_its_own_and_gets_it_again_within_an_hour() {
        let mut allowances = Allowances::new(10);
        let (ann, bob) = (mailbox("ann@example.jp"), mailbox("bob@example.jp"));
        let taken = |allowances: &mut Allowances, who: &Mailbox, now| {
            (0..100).take_while(|_| allowances.take(who, 6, now)).count()
        };
        assert_eq!(taken(&mut allowances, &ann, NOW), 6);
        assert_eq!(taken(&mut allowances, &ann, NOW), 0);
        assert_eq!(taken(&mut allowances, &bob, NOW), 6);
        assert_eq!(taken(&mut allowances, &ann, NOW.plus(Duration::from_secs(601))), 1);
        assert_eq!(taken(&mut allowances, &ann, NOW.plus(Duration::from_secs(601 + 3600))), 6);
    }

    #[test]
    fn none_is_none() {
        assert!(!Allowances::new(1).take(&mailbox("ann@example.jp"), 0, NOW));
    }
}
