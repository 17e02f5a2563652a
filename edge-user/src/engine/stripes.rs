//! What is kept by source, in stripes: each has a lock of its own, so that two cores rarely want the same one.

use std::hash::{BuildHasher, Hash};
use std::sync::Mutex;

use crossbeam::utils::CachePadded;
use foldhash::fast::RandomState;

/// Into how many stripes what all workers share is cut; a power of two.
pub(super) const STRIPES: usize = 64;

/// Each stripe of a table of many has room for at least so many entries: in a smaller one a few busy ones would push each
/// other out while others stand empty.
const ENTRIES_MIN: usize = 512;

/// How many stripes share the room for so many entries.
pub(super) fn for_entries(entries_max: usize) -> usize {
    1 << (entries_max / ENTRIES_MIN).clamp(1, STRIPES).ilog2()
}

/// A table in stripes.
#[derive(Debug)]
pub(super) struct Stripes<T> {
    stripes: Box<[CachePadded<Mutex<T>>]>,
    /// Nobody outside knows which keys share a stripe.
    hasher: RandomState,
}

impl<T> Stripes<T> {
    /// At most `count` stripes, and at least one: the next smaller power of two.
    pub(super) fn new(count: usize, make: impl FnMut(usize) -> T) -> Self {
        let count = 1_usize << count.max(1).ilog2();
        let stripes = (0..count).map(make).map(|stripe| CachePadded::new(Mutex::new(stripe))).collect();
        Self { stripes, hasher: RandomState::default() }
    }

    /// As many as share the room for `entries_max` entries; each is made with its share. All together hold no more than
    /// that.
    pub(super) fn sharing(entries_max: usize, make: impl Fn(usize) -> T) -> Self {
        let count = for_entries(entries_max);
        Self::new(count, |_| make(entries_max / count))
    }

    /// The stripe that a key belongs to.
    pub(super) fn of<K: Hash>(&self, key: K) -> &Mutex<T> {
        self.at(self.place(key))
    }

    /// The number of that stripe.
    pub(super) fn place<K: Hash>(&self, key: K) -> usize {
        self.hasher.hash_one(key) as usize & (self.stripes.len() - 1)
    }

    /// The stripe of that number.
    pub(super) fn at(&self, place: usize) -> &Mutex<T> {
        &self.stripes[place]
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Mutex<T>> {
        self.stripes.iter().map(|stripe| &**stripe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::locked;

    #[test]
    fn stripes_that_share_a_room_have_no_more_of_it_than_there_is() {
        for entries_max in [1, 511, 1024, 1500, 1_000_000] {
            let stripes = Stripes::sharing(entries_max, |share| share);
            let shares: Vec<usize> = stripes.all().map(|stripe| *locked(stripe)).collect();
            let all: usize = shares.iter().sum();
            assert!(all <= entries_max && all + STRIPES > entries_max, "{shares:?} of {entries_max}");
            assert!(shares.len() == 1 || shares[0] >= ENTRIES_MIN, "{shares:?} of {entries_max}");
        }
    }

    #[test]
    fn a_key_is_always_in_the_same_stripe_and_keys_are_spread() {
        let stripes = Stripes::new(STRIPES + 5, |_| 0_u32);
        assert_eq!(stripes.all().count(), STRIPES);
        for _ in 0..2 {
            (0..10_000_u32).for_each(|key| *locked(stripes.of(key)) += 1);
        }
        let counts: Vec<u32> = stripes.all().map(|stripe| *locked(stripe)).collect();
        assert!(counts.iter().all(|count| (100..1000).contains(count) && count % 2 == 0), "{counts:?}");
    }
}
