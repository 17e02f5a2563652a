//! How much the quarantine holds, and what may still come in.
//!
//! A message on its way in has a place and as many octets as it has written so far; both are given back when it is not
//! kept. Nothing is thrown out to make room for another: a message that got its 250 stays until it expires.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Id, NotKept, Quarantine, locked};

/// What is taken.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    /// Messages that are kept, with their octets on disk.
    kept: BTreeMap<Id, u64>,
    /// Messages on their way in.
    coming: BTreeSet<Id>,
    /// Octets of both.
    bytes: u64,
}

impl Rooms {
    /// Messages and octets.
    pub(super) fn taken(&self) -> (usize, u64) {
        (self.kept.len() + self.coming.len(), self.bytes)
    }

    pub(super) fn is_coming(&self, id: Id) -> bool {
        self.coming.contains(&id)
    }

    /// The ids of what is kept.
    pub(super) fn ids(&self) -> BTreeSet<Id> {
        self.kept.keys().copied().collect()
    }

    /// A message that was found on disk.
    pub(super) fn add(&mut self, id: Id, bytes: u64) {
        if !self.is_coming(id) {
            let before = self.kept.insert(id, bytes).unwrap_or(0);
            self.bytes = self.bytes.saturating_sub(before).saturating_add(bytes);
        }
    }

    /// A message that is on disk no more.
    pub(super) fn remove(&mut self, id: Id) {
        if let Some(bytes) = self.kept.remove(&id) {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }
}

/// The place of a message on its way in; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) quarantine: Arc<Quarantine>,
    id: Id,
    bytes: u64,
}

impl Room {
    /// Takes a place.
    pub(super) fn take(quarantine: &Arc<Quarantine>, id: Id) -> Result<Self, NotKept> {
        let settings = &quarantine.settings;
        let mut rooms = locked(&quarantine.rooms);
        let (messages, bytes) = rooms.taken();
        if messages >= settings.messages_max {
            return Err(NotKept::TooMany(messages));
        }
        if bytes >= settings.bytes_max {
            return Err(NotKept::TooBig(bytes));
        }
        // Ids are given out once in the life of an edge, and go on after a restart.
        rooms.coming.insert(id);
        Ok(Self { quarantine: Arc::clone(quarantine), id, bytes: 0 })
    }

    /// Takes room for more octets.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), NotKept> {
        let mut rooms = locked(&self.quarantine.rooms);
        let sum = rooms.bytes.saturating_add(bytes);
        if sum > self.quarantine.settings.bytes_max {
            return Err(NotKept::TooBig(rooms.bytes));
        }
        rooms.bytes = sum;
        self.bytes += bytes;
        Ok(())
    }

    /// The message is kept.
    pub(super) fn keep(mut self) {
        let mut rooms = locked(&self.quarantine.rooms);
        rooms.coming.remove(&self.id);
        rooms.bytes = rooms.bytes.saturating_sub(self.bytes);
        rooms.add(self.id, self.bytes);
        drop(rooms);
        self.bytes = 0;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut rooms = locked(&self.quarantine.rooms);
        rooms.coming.remove(&self.id);
        rooms.bytes = rooms.bytes.saturating_sub(self.bytes);
    }
}
