//! What is kept by source, in stripes: each has a lock of its own, so that two cores rarely want the same one.

use std::hash::{BuildHasher, Hash};
use std::sync::Mutex;

use crossbeam::utils::CachePadded;
use foldhash::fast::RandomState;

/// Into how many stripes what all workers share is cut; a power of two.
pub(super) const STRIPES: usize = 64;

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

    /// The stripe that a key belongs to.
    pub(super) fn of<K: Hash>(&self, key: K) -> &Mutex<T> {
        let place = self.hasher.hash_one(key) as usize & (self.stripes.len() - 1);
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
