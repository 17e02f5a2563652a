//! How much the quarantine holds, and what may still come in.
//!
//! A message on its way in has a place and as many octets as it has written so far; both are given back when it is not
//! kept and its file is gone: what could not be removed yet lies on the disk, and counts, until the sweep has removed it.
//! Nothing is thrown out to make room for another: a message that got its 250 stays until it expires. So that one
//! stranger cannot shut out all others until then, each source has a share of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use edge_core::source::Source;

use super::{Id, NotKept, Quarantine, locked};

/// Ids that are listed at once at most.
const IDS_AT_ONCE: usize = 256;

/// Messages and their octets on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Taken {
    pub(super) messages: usize,
    pub(super) bytes: u64,
}

/// A message that is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// Its octets on disk.
    pub(super) bytes: u64,
    /// Who sent it, where its file says it.
    pub(super) source: Option<Source>,
    /// When it came, in seconds since 1970: what the name of its file begins with.
    pub(super) secs: u64,
}

/// What is taken.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    /// Messages that are kept.
    kept: BTreeMap<Id, Kept>,
    /// Messages on their way in.
    coming: BTreeSet<Id>,
    /// Messages that are not kept and whose files could not be removed yet, with their octets.
    left: BTreeMap<Id, (Source, u64)>,
    /// All of the three.
    all: Taken,
    /// The same, by source; no source without a message.
    of: HashMap<Source, Taken>,
}

impl Rooms {
    /// Messages and octets.
    pub(super) fn taken(&self) -> Taken {
        self.all
    }

    fn taken_of(&self, source: Source) -> Taken {
        self.of.get(&source).copied().unwrap_or_default()
    }

    pub(super) fn is_coming(&self, id: Id) -> bool {
        self.coming.contains(&id)
    }

    /// Whether it is counted already.
    pub(super) fn knows(&self, id: Id) -> bool {
        self.is_coming(id) || self.kept.contains_key(&id)
    }

    /// The first ids of what is kept, in their order, behind this one: some of them, so that nobody who brings a message
    /// waits until all are listed.
    pub(super) fn ids_behind(&self, last: Option<Id>) -> Vec<Id> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.kept.range((from, Bound::Unbounded)).map(|(id, _)| *id).take(IDS_AT_ONCE).collect()
    }

    /// When a message came that is kept.
    pub(super) fn secs_of(&self, id: Id) -> Option<u64> {
        self.kept.get(&id).map(|kept| kept.secs)
    }

    /// The ids of what could not be removed yet.
    pub(super) fn left(&self) -> Vec<Id> {
        self.left.keys().copied().collect()
    }

    /// A message that was found on disk.
    pub(super) fn add(&mut self, id: Id, kept: Kept) {
        if !self.knows(id) {
            self.kept.insert(id, kept);
            self.count(kept.source, Taken { messages: 1, bytes: kept.bytes });
        }
    }

    /// A message that is on disk no more.
    pub(super) fn remove(&mut self, id: Id) {
        if let Some(Kept { bytes, source, secs: _ }) = self.kept.remove(&id) {
            self.discount(source, Taken { messages: 1, bytes });
        }
    }

    /// The file of one that was not kept is on disk no more.
    pub(super) fn remove_left(&mut self, id: Id) {
        if let Some((source, bytes)) = self.left.remove(&id) {
            self.discount(Some(source), Taken { messages: 1, bytes });
        }
    }

    fn count(&mut self, source: Option<Source>, more: Taken) {
        let of_source = source.map(|source| self.of.entry(source).or_default());
        for taken in of_source.into_iter().chain([&mut self.all]) {
            taken.messages += more.messages;
            taken.bytes = taken.bytes.saturating_add(more.bytes);
        }
    }

    fn discount(&mut self, source: Option<Source>, less: Taken) {
        let of_source = source.and_then(|source| self.of.get_mut(&source));
        for taken in of_source.into_iter().chain([&mut self.all]) {
            taken.messages = taken.messages.saturating_sub(less.messages);
            taken.bytes = taken.bytes.saturating_sub(less.bytes);
        }
        if let Some(source) = source.filter(|source| self.taken_of(*source).messages == 0) {
            self.of.remove(&source);
        }
    }
}

/// The place of a message on its way in; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) quarantine: Arc<Quarantine>,
    id: Id,
    secs: u64,
    source: Source,
    bytes: u64,
}

impl Room {
    /// Takes a place.
    pub(super) fn take(
        quarantine: &Arc<Quarantine>,
        id: Id,
        secs: u64,
        source: Source,
    ) -> Result<Self, NotKept> {
        let settings = &quarantine.settings;
        let mut rooms = locked(&quarantine.rooms);
        let (all, of_source) = (rooms.taken(), rooms.taken_of(source));
        if all.messages >= settings.messages_max {
            return Err(NotKept::TooMany(all.messages));
        }
        if all.bytes >= settings.bytes_max {
            return Err(NotKept::TooBig(all.bytes));
        }
        if of_source.messages >= settings.messages_per_source_max {
            return Err(NotKept::TooManyOfOne(source, of_source.messages));
        }
        if of_source.bytes >= settings.bytes_per_source_max {
            return Err(NotKept::TooBigOfOne(source, of_source.bytes));
        }
        // Ids are given out once in the life of an edge, and go on after a restart.
        rooms.coming.insert(id);
        rooms.count(Some(source), Taken { messages: 1, bytes: 0 });
        Ok(Self { quarantine: Arc::clone(quarantine), id, secs, source, bytes: 0 })
    }

    /// Takes room for more octets.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), NotKept> {
        let settings = &self.quarantine.settings;
        let mut rooms = locked(&self.quarantine.rooms);
        let (all, of_source) = (rooms.taken().bytes, rooms.taken_of(self.source).bytes);
        if all.saturating_add(bytes) > settings.bytes_max {
            return Err(NotKept::TooBig(all));
        }
        if of_source.saturating_add(bytes) > settings.bytes_per_source_max {
            return Err(NotKept::TooBigOfOne(self.source, of_source));
        }
        rooms.count(Some(self.source), Taken { messages: 0, bytes });
        self.bytes += bytes;
        Ok(())
    }

    /// The message is kept: what it took stays taken.
    pub(super) fn keep(self) {
        let mut rooms = locked(&self.quarantine.rooms);
        if rooms.coming.remove(&self.id) {
            let (bytes, source) = (self.bytes, Some(self.source));
            rooms.kept.insert(self.id, Kept { bytes, source, secs: self.secs });
        }
    }

    /// The message is not kept, but its file is still there: what it took stays taken until that is removed.
    pub(super) fn leave(self) {
        let mut rooms = locked(&self.quarantine.rooms);
        if rooms.coming.remove(&self.id) {
            rooms.left.insert(self.id, (self.source, self.bytes));
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut rooms = locked(&self.quarantine.rooms);
        if rooms.coming.remove(&self.id) {
            rooms.discount(Some(self.source), Taken { messages: 1, bytes: self.bytes });
        }
    }
}
