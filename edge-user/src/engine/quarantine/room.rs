//! How much the quarantine holds, and what may still come in.
//!
//! A message on its way in has a place and as many octets as it has written so far; both are given back when it is not
//! kept. Nothing is thrown out to make room for another: a message that got its 250 stays until it expires. So that one
//! stranger cannot shut out all others until then, each source has a share of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use edge_core::source::Source;

use super::{Id, NotKept, Quarantine, locked};

/// Messages and their octets on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Taken {
    pub(super) messages: usize,
    pub(super) bytes: u64,
}

/// What is taken.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    /// Messages that are kept, with their octets on disk and who sent them, where their files say it.
    kept: BTreeMap<Id, (u64, Option<Source>)>,
    /// Messages on their way in.
    coming: BTreeSet<Id>,
    /// All of both.
    all: Taken,
    /// Both, by source; no source without a message.
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

    /// The ids of what is kept.
    pub(super) fn ids(&self) -> BTreeSet<Id> {
        self.kept.keys().copied().collect()
    }

    /// A message that was found on disk.
    pub(super) fn add(&mut self, id: Id, bytes: u64, source: Option<Source>) {
        if !self.knows(id) {
            self.kept.insert(id, (bytes, source));
            self.count(source, Taken { messages: 1, bytes });
        }
    }

    /// A message that is on disk no more.
    pub(super) fn remove(&mut self, id: Id) {
        if let Some((bytes, source)) = self.kept.remove(&id) {
            self.discount(source, Taken { messages: 1, bytes });
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
    source: Source,
    bytes: u64,
}

impl Room {
    /// Takes a place.
    pub(super) fn take(quarantine: &Arc<Quarantine>, id: Id, source: Source) -> Result<Self, NotKept> {
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
        Ok(Self { quarantine: Arc::clone(quarantine), id, source, bytes: 0 })
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
            rooms.kept.insert(self.id, (self.bytes, Some(self.source)));
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
