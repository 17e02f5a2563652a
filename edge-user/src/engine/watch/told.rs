//! What sessions tell the ledger of: each worker has a list of its own, which whoever has the ledger takes over. No session
//! waits for the ledger, which is copied and written whole.

use std::sync::Mutex;

use crossbeam::channel::{self, Receiver, Sender};
use crossbeam::utils::CachePadded;
use edge_core::time::UnixMillis;
use edge_core::watch::{Ledger, LetThrough};

use super::super::locked;
use crate::telemetry::shard::{self, SHARDS};

/// Most bounces of a worker that wait. What comes beyond is only counted, as among the others of a full table.
const WAITING_MAX: usize = 1024;

/// With so many waiting the keeper is told to come before its time.
const MANY: usize = WAITING_MAX / 2;

/// What was told and is not in the ledger yet.
#[derive(Debug)]
pub(super) struct Told {
    by_shard: [CachePadded<Mutex<List>>; SHARDS],
    bell: Sender<()>,
    /// Rings when a list is half full.
    pub(super) many: Receiver<()>,
}

#[derive(Debug, Default)]
struct List {
    bounces: Vec<(LetThrough, UnixMillis)>,
    /// How many found no room, and when the last did.
    others: Option<(u64, UnixMillis)>,
}

impl Told {
    pub(super) fn new() -> Self {
        let (bell, many) = channel::bounded(1);
        Self { by_shard: std::array::from_fn(|_| CachePadded::default()), bell, many }
    }

    /// A bounce was let through.
    pub(super) fn add(&self, bounce: LetThrough, now: UnixMillis) {
        let mut list = locked(&self.by_shard[shard::here()]);
        if list.bounces.len() >= WAITING_MAX {
            let before = list.others.map_or(0, |(count, _)| count);
            list.others = Some((before + 1, now));
            return;
        }
        list.bounces.push((bounce, now));
        let is_many = list.bounces.len() == MANY;
        drop(list);
        if is_many {
            // A full bell has been rung and not been heard yet: once is enough.
            let _ = self.bell.try_send(());
        }
    }

    /// Puts all of it into the ledger. A list is locked for as long as it takes to change it for an empty one.
    pub(super) fn put_into(&self, ledger: &mut Ledger) {
        for list in &self.by_shard {
            let List { bounces, others } = std::mem::take(&mut *locked(list));
            for (bounce, at) in bounces {
                ledger.let_through(bounce, at);
            }
            if let Some((count, at)) = others {
                ledger.others_let_through(count, at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use edge_core::bounce::Kind;
    use edge_core::policy::Grace;
    use edge_core::source::Source;
    use edge_core::watch::Decider;

    use super::*;

    const NOW: UnixMillis = UnixMillis::from_secs(1_795_000_000);

    fn bounce(source: u32) -> LetThrough {
        let decider = Decider { filter: None, memo: String::new(), would: None };
        LetThrough { source: Source::V4(source.into()), kind: Kind::Unknown, decider }
    }

    #[test]
    fn what_finds_no_room_is_counted_all_the_same_and_the_bell_rings_once() {
        let told = Told::new();
        for number in 0..3 * WAITING_MAX as u32 {
            told.add(bounce(number % 8), NOW);
        }
        assert_eq!(told.many.try_iter().count(), 1);
        let mut ledger = Ledger::begin(NOW, None);
        told.put_into(&mut ledger);
        told.put_into(&mut ledger);
        let grace = Grace { length: std::time::Duration::ZERO, in_flood: false };
        let summary = ledger.summary(NOW, grace, false, 100);
        assert_eq!(summary.would_be_stopped, 3 * WAITING_MAX as u64, "each once");
        assert_eq!(summary.days[0].let_through, 3 * WAITING_MAX as u64);
        assert_eq!((summary.sources.len(), summary.other_sources), (8, 2 * WAITING_MAX as u64));
    }
}
