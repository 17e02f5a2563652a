//! How much unproven mail a mailbox gets within an hour.

use std::hash::{BuildHasher, Hash, RandomState};

use super::budget::{Bucket, Rate};
use super::table::Table;
use crate::time::UnixMillis;

const HOUR_SECS: f64 = 3600.0;

/// A budget for each mailbox (or mailbox and kind of mail), kept by keyed hashes (about 60 octets each): those that
/// nothing came for longest make room. Nothing outlives the process.
#[derive(Debug)]
pub struct Allowances {
    spent: Table<u64, Bucket>,
    key: RandomState,
}

/// One message that was taken from a budget.
#[derive(PartialEq, Eq, Debug)]
pub struct Taken(u64);

impl Allowances {
    /// At most `budgets_max` budgets at once.
    #[must_use]
    pub fn new(budgets_max: usize) -> Self {
        Self { spent: Table::new(budgets_max), key: RandomState::new() }
    }

    /// Takes one message of those that `whom` may get: `per_hour` at once, and as many again an hour. `None`: it had
    /// them.
    pub fn take(&mut self, whom: &impl Hash, per_hour: u32, now: UnixMillis) -> Option<Taken> {
        let burst = f64::from(per_hour);
        let rate = Rate { per_sec: burst / HOUR_SECS, burst };
        let hash = self.key.hash_one(whom);
        self.spent.get_or_default(hash).take(rate, now).then_some(Taken(hash))
    }

    /// The message did not arrive, and comes again.
    pub fn give_back(&mut self, taken: &Taken) {
        if let Some(bucket) = self.spent.get_mut(&taken.0) {
            bucket.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::mailbox::Mailbox;

    const NOW: UnixMillis = UnixMillis::from_secs(1_000_000);

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    #[test]
    fn each_mailbox_has_its_own_and_gets_it_again_within_an_hour() {
        let mut allowances = Allowances::new(10);
        let (ann, bob) = (mailbox("ann@example.jp"), mailbox("bob@example.jp"));
        let taken = |allowances: &mut Allowances, who: &Mailbox, now| {
            (0..100).take_while(|_| allowances.take(who, 6, now).is_some()).count()
        };
        assert_eq!(taken(&mut allowances, &ann, NOW), 6);
        assert_eq!(taken(&mut allowances, &ann, NOW), 0);
        assert_eq!(taken(&mut allowances, &bob, NOW), 6);
        assert_eq!(taken(&mut allowances, &ann, NOW.plus(Duration::from_secs(601))), 1);
        assert_eq!(taken(&mut allowances, &ann, NOW.plus(Duration::from_secs(601 + 3600))), 6);
    }

    #[test]
    fn none_is_none() {
        assert_eq!(Allowances::new(1).take(&mailbox("ann@example.jp"), 0, NOW), None);
    }

    #[test]
    fn what_did_not_arrive_is_given_back_and_no_more_than_that() {
        let mut allowances = Allowances::new(1);
        let ann = mailbox("ann@example.jp");
        let first = allowances.take(&ann, 2, NOW).unwrap();
        assert!(allowances.take(&ann, 2, NOW).is_some() && allowances.take(&ann, 2, NOW).is_none());
        allowances.give_back(&first);
        assert!(allowances.take(&ann, 2, NOW).is_some() && allowances.take(&ann, 2, NOW).is_none());
        // Long after, the budget is full already; a mailbox that made room for another owes nothing.
        let later = NOW.plus(Duration::from_secs(3600));
        let last = allowances.take(&ann, 2, later).unwrap();
        for _ in 0..2 {
            allowances.give_back(&last);
        }
        assert!(allowances.take(&ann, 2, later).is_some() && allowances.take(&ann, 2, later).is_some());
        assert!(allowances.take(&ann, 2, later).is_none());
        assert!(allowances.take(&mailbox("bob@example.jp"), 2, later).is_some());
        allowances.give_back(&last);
    }
}
