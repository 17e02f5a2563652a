//! A table that never holds more than it may: who was not seen for the longest time makes room.
//!
//! Every operation is O(1), however many newcomers a flood brings: the entries stand in a list by last sight, which
//! runs through the slots themselves; and so do the chains of those whose hashes meet. A flood comes from thousands of
//! sources by turns, so each is cold when it comes again: it is found by one look at the heads and one at its slot.

use std::hash::{BuildHasher, Hash, RandomState};

/// No slot.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Table<K, V> {
    /// Nobody outside knows which keys meet.
    hasher: RandomState,
    /// The first slot of each chain, counted from 1: memory that is all zeros costs no page until it is used. A power of
    /// two of them, and at least as many as entries.
    heads: Vec<u32>,
    slots: Vec<Slot<K, V>>,
    free: Vec<u32>,
    entries_max: usize,
    /// The slot seen last, and the one unseen for longest.
    newest: u32,
    oldest: u32,
}

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    newer: u32,
    older: u32,
    /// The next one of its chain, counted from 1.
    next: u32,
}

impl<K: Copy + Eq + Hash, V: Default> Table<K, V> {
    /// A table of at most `entries_max` entries (at least one).
    ///
    /// The room is reserved at once, so that no growth holds up the middle of a flood; the pages are touched only
    /// when they are used.
    pub(super) fn new(entries_max: usize) -> Self {
        let entries_max = entries_max.clamp(1, NONE as usize - 1);
        Self {
            hasher: RandomState::new(),
            heads: vec![0; entries_max.next_power_of_two()],
            slots: Vec::with_capacity(entries_max),
            free: Vec::new(),
            entries_max,
            newest: NONE,
            oldest: NONE,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.entries_max
    }

    /// Looks without being seen: the order stays.
    pub(super) fn peek(&self, key: &K) -> Option<&V> {
        self.find(key).map(|place| &self.slot(place).value)
    }

    /// The entry, which counts as seen now.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.find(key)?;
        self.see(place);
        Some(&mut self.slot_mut(place).value)
    }

    /// The entry, seen now; where there is none, a new one.
    pub(super) fn get_or_default(&mut self, key: K) -> &mut V {
        let place = match self.find(&key) {
            Some(place) => {
                self.see(place);
                place
            }
            None => {
                self.insert(key, V::default());
                self.newest
            }
        };
        &mut self.slot_mut(place).value
    }

    /// Puts an entry in, as the one seen last; the one unseen for longest makes room and is handed out.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        if let Some(entry) = self.get_mut(&key) {
            *entry = value;
            return None;
        }
        let evicted = if self.is_full() { self.remove_at(self.oldest) } else { None };
        let head = self.head(&key);
        let slot = Slot { key, value, newer: NONE, older: NONE, next: self.heads[head] };
        let place = match self.free.pop() {
            Some(place) => {
                *self.slot_mut(place) = slot;
                place
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.heads[head] = place + 1;
        self.link_newest(place);
        evicted
    }

    /// Looks at the `looked_at` entries unseen for longest and removes the lightest of them, if it weighs no more than
    /// `at_most`. The others have been looked at now: heavy entries never gather at the far end, where they would
    /// leave only light ones a place to be compared.
    pub(super) fn make_room(
        &mut self,
        looked_at: usize,
        at_most: f64,
        weight: impl Fn(&V) -> f64,
    ) -> Option<(K, V)> {
        let mut lightest: Option<(u32, f64)> = None;
        for _ in 0..looked_at.min(self.len()) {
            let place = self.oldest;
            let weighs = weight(&self.slot(place).value);
            if lightest.is_none_or(|(_, least)| weighs < least) {
                lightest = Some((place, weighs));
            }
            self.see(place);
        }
        lightest.filter(|(_, least)| *least <= at_most).and_then(|(place, _)| self.remove_at(place))
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.find(key)?;
        self.remove_at(place).map(|(_, value)| value)
    }

    /// From the one unseen for longest to the one seen last.
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut place = self.oldest;
        std::iter::from_fn(move || {
            let slot = self.slots.get(place as usize)?;
            place = slot.newer;
            Some((&slot.key, &slot.value))
        })
    }

    fn remove_at(&mut self, place: u32) -> Option<(K, V)> {
        let key = self.slots.get(place as usize)?.key;
        self.unchain(place, &key);
        self.unlink(place);
        self.free.push(place);
        Some((key, std::mem::take(&mut self.slot_mut(place).value)))
    }

    /// Where the chain of a key begins.
    fn head(&self, key: &K) -> usize {
        self.hasher.hash_one(key) as usize & (self.heads.len() - 1)
    }

    fn find(&self, key: &K) -> Option<u32> {
        if self.len() == 0 {
            return None;
        }
        let mut next = self.heads[self.head(key)];
        loop {
            let place = next.checked_sub(1)?;
            let slot = self.slot(place);
            if slot.key == *key {
                return Some(place);
            }
            next = slot.next;
        }
    }

    /// Takes a slot, whose key this is, out of its chain.
    fn unchain(&mut self, place: u32, key: &K) {
        let (head, after) = (self.head(key), self.slot(place).next);
        let mut before = self.heads[head];
        if before == place + 1 {
            self.heads[head] = after;
            return;
        }
        while let Some(other) = before.checked_sub(1) {
            let slot = self.slot_mut(other);
            if slot.next == place + 1 {
                slot.next = after;
                return;
            }
            before = slot.next;
        }
    }

    /// It is the one seen last.
    fn see(&mut self, place: u32) {
        if self.newest != place {
            self.unlink(place);
            self.link_newest(place);
        }
    }

    fn unlink(&mut self, place: u32) {
        let (newer, older) = (self.slot(place).newer, self.slot(place).older);
        match newer {
            NONE => self.newest = older,
            newer => self.slot_mut(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.slot_mut(older).newer = newer,
        }
    }

    fn link_newest(&mut self, place: u32) {
        let before = std::mem::replace(&mut self.newest, place);
        let slot = self.slot_mut(place);
        (slot.newer, slot.older) = (NONE, before);
        match before {
            NONE => self.oldest = place,
            before => self.slot_mut(before).newer = place,
        }
    }

    fn slot(&self, place: u32) -> &Slot<K, V> {
        &self.slots[place as usize]
    }

    fn slot_mut(&mut self, place: u32) -> &mut Slot<K, V> {
        &mut self.slots[place as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(table: &Table<u8, u32>) -> Vec<u8> {
        table.oldest_first().map(|(key, _)| *key).collect()
    }

    #[test]
    fn the_one_unseen_for_longest_makes_room() {
        let mut table = Table::new(3);
        for key in [1, 2, 3] {
            assert_eq!(table.insert(key, 0), None);
        }
        assert!(table.get_mut(&1).is_some());
        assert!(table.peek(&2).is_some(), "a peek is not seen");
        assert_eq!(table.insert(4, 0), Some((2, 0)));
        assert_eq!(keys(&table), [3, 1, 4]);
    }

    #[test]
    fn the_lightest_of_the_longest_unseen_makes_room_unless_it_is_too_heavy() {
        let mut table = Table::new(4);
        for (key, value) in [(1, 50), (2, 10), (3, 70), (4, 5)] {
            table.insert(key, value);
        }
        let weight = |value: &u32| f64::from(*value);
        assert_eq!(table.make_room(3, 9.0, weight), None);
        assert_eq!(keys(&table), [4, 1, 2, 3], "those looked at count as seen");
        assert_eq!(table.make_room(3, 100.0, weight), Some((4, 5)));
        assert_eq!(table.make_room(9, 100.0, weight), Some((2, 10)));
        assert_eq!(keys(&table), [3, 1]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8, u32),
        See(u8),
        Remove(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = 0..12u8;
        prop_oneof![
            (key.clone(), any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
            key.clone().prop_map(Step::See),
            key.prop_map(Step::Remove),
        ]
    }

    proptest! {
        /// The model is a plain list, oldest first.
        #[test]
        fn it_behaves_like_a_list_that_is_cut_at_its_bound(
            entries_max in 1..8usize,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut table = Table::new(entries_max);
            let mut model: Vec<(u8, u32)> = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        table.insert(key, value);
                        model.retain(|(other, _)| *other != key);
                        model.push((key, value));
                        if model.len() > entries_max {
                            model.remove(0);
                        }
                    }
                    Step::See(key) => {
                        let seen = table.get_mut(&key).copied();
                        let place = model.iter().position(|(other, _)| *other == key);
                        prop_assert_eq!(seen, place.map(|place| model[place].1));
                        if let Some(place) = place {
                            let entry = model.remove(place);
                            model.push(entry);
                        }
                    }
                    Step::Remove(key) => {
                        let removed = table.remove(&key);
                        let place = model.iter().position(|(other, _)| *other == key);
                        prop_assert_eq!(removed, place.map(|place| model.remove(place).1));
                    }
                }
                let entries: Vec<(u8, u32)> = table.oldest_first().map(|(key, value)| (*key, *value)).collect();
                prop_assert_eq!(&entries, &model);
                prop_assert_eq!(table.len(), model.len());
                prop_assert!(table.slots.len() <= entries_max, "slots are used again");
            }
        }
    }
}
