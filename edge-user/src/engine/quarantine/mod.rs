//! The quarantine: bounces that a filter keeps for the operator, a Maildir below the state directory.
//!
//! - `shelf`: folders, names and files;
//! - `head`: what is known of a message besides itself, in a field in front of it;
//! - `draft`: a message on its way in: written in pieces, synced, moved into place, then only acknowledged;
//! - [`list`]: for who looks;
//! - `release`: a message on its way out, to the upstream;
//! - `room`: how much there may be, and how much there is;
//! - `sweep`: what has expired, and what a crash left behind.
//!
//! The disk is the truth: a mail reader may look into the Maildir, and the operator may delete files. What is counted in
//! memory is brought up to date at start and by every sweep; it is never less than what lies on the disk. No worker's thread ever waits for the disk: what touches it
//! runs on the runtime's blocking threads, at most `DISK_THREADS_MAX` at once, and whoever waits for it reads nothing
//! from his client meanwhile. Each message has at most one piece of work there, so nothing queues without bound.

mod draft;
mod head;
mod list;
mod release;
mod room;
mod shelf;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edge_core::message::Unkept;
use edge_core::source::Source;
use edge_core::time::UnixMillis;
use tokio::sync::Semaphore;
use tokio::time::timeout;

pub(crate) use self::draft::Draft;
use self::draft::DraftFile;
pub use self::head::{Head, Opened, open};
pub use self::list::{PART_BYTES, Part, Row, Which, list, read};
pub(crate) use self::release::{Released, release};
use self::room::{Rooms, Taken};
pub use self::shelf::{Id, Item, NotAnId, Shelf};
pub(crate) use self::sweep::sweep_hourly;
use super::clock::Deadline;
use super::{Edge, locked};
use crate::config;
use crate::state::{StateDir, StateError};
use crate::telemetry::Event;

/// The Maildir's name in the state directory.
pub const DIR: &str = "quarantine";

/// Most threads that work on the disk at once. Syncs that wait together are committed together by the file system's
/// journal, so a few more than the disk does at once pay; many more would only wait.
const DISK_THREADS_MAX: usize = 8;

/// How long one piece of work may take on the disk, the wait for its turn included. Past it the message is deferred:
/// clients wait minutes for the reply to a final dot (RFC 5321 section 4.5.3.2.6), but not for ever.
const DISK_PATIENCE: Duration = Duration::from_secs(60);

/// What a second caller is told.
const RELEASING: &str = "somebody is releasing or deleting this message just now; try again";

/// Why a message is not kept. Nothing of it stays on disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotKept {
    /// There is no state directory.
    #[error("the edge has no state directory")]
    Nowhere,
    /// As many messages as there may be.
    #[error(
        "it holds {0} messages, as many as `messages_max` of [quarantine] allows; release, delete or expire some"
    )]
    TooMany(usize),
    /// As many octets as there may be.
    #[error(
        "it holds {0} octets, and `bytes_max` of [quarantine] allows no more; release, delete or expire some"
    )]
    TooBig(u64),
    /// As many messages of one source as there may be.
    #[error(
        "it holds {1} messages of {0}, as many as `messages_per_source_max` of [quarantine] allows; release, delete or \
         expire some"
    )]
    TooManyOfOne(Source, usize),
    /// As many octets of one source as there may be.
    #[error(
        "it holds {1} octets of {0}, and `bytes_per_source_max` of [quarantine] allows no more; release, delete or \
         expire some"
    )]
    TooBigOfOne(Source, u64),
    /// The file system is nearly full.
    #[error("its file system has {0} octets left, and `free_bytes_min` of [quarantine] keeps them free")]
    DiskFull(u64),
    /// The system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk did not answer in time.
    #[error("its disk took longer than {0:?}")]
    TooSlow(Duration),
    /// A fault of the program.
    #[error("a task ended by a fault of the program")]
    Broken,
}

impl NotKept {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Whose fault it is.
    pub(crate) fn unkept(&self) -> Unkept {
        match self {
            Self::TooMany(_) | Self::TooBig(_) | Self::TooManyOfOne(..) | Self::TooBigOfOne(..) => {
                Unkept::Full
            }
            Self::Nowhere | Self::DiskFull(_) | Self::Io { .. } | Self::TooSlow(_) | Self::Broken => {
                Unkept::Fault
            }
        }
    }

    /// Errors of the same sort are logged once.
    fn sort(&self) -> &'static str {
        match self {
            Self::Nowhere => "nowhere",
            Self::TooMany(_) => "messages_max",
            Self::TooBig(_) => "bytes_max",
            Self::TooManyOfOne(..) => "messages_per_source_max",
            Self::TooBigOfOne(..) => "bytes_per_source_max",
            Self::DiskFull(_) => "free_bytes_min",
            Self::Io { action, .. } => action,
            Self::TooSlow(_) => "slow",
            Self::Broken => "broken",
        }
    }
}

/// The quarantine of a running edge.
#[derive(Debug)]
pub struct Quarantine {
    shelf: Shelf,
    /// The edge's name, as it stands in file names.
    hostname: String,
    settings: config::Quarantine,
    rooms: Mutex<Rooms>,
    /// Messages that are being released or deleted.
    in_hand: Mutex<HashSet<Id>>,
    disk: Arc<Semaphore>,
    patience: Duration,
    /// Why messages are refused, since the last one that was taken: its sort, and its words.
    trouble: Mutex<Option<(&'static str, String)>>,
    /// Set by a test: a disk that does not answer.
    #[cfg(test)]
    pub(crate) stuck: std::sync::atomic::AtomicBool,
}

/// How much it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Load {
    /// Messages, those on their way in included.
    pub messages: usize,
    /// Their octets on disk.
    pub bytes: u64,
    /// Why it takes no more, if it refused the last one.
    pub trouble: Option<String>,
}

impl Quarantine {
    /// Opens it, makes its folders where they are not there, removes what a crash left half-written, and counts.
    ///
    /// # Errors
    /// The disk says no.
    pub fn open(
        state: &StateDir,
        hostname: &str,
        settings: &config::Quarantine,
    ) -> Result<Arc<Self>, StateError> {
        let dir = state.directory(DIR)?;
        let failed = |action: &'static str| {
            let path = dir.clone();
            move |source| StateError::Io { action, path, source }
        };
        let shelf = Shelf::make(&dir).map_err(failed("make"))?;
        let quarantine = Self::at(shelf, hostname, settings);
        quarantine.recount().map_err(failed("read"))?;
        Ok(Arc::new(quarantine))
    }

    /// With these folders; nothing is counted yet.
    fn at(shelf: Shelf, hostname: &str, settings: &config::Quarantine) -> Self {
        Self {
            shelf,
            hostname: hostname.to_owned(),
            settings: settings.clone(),
            rooms: Mutex::new(Rooms::default()),
            in_hand: Mutex::default(),
            disk: Arc::new(Semaphore::new(DISK_THREADS_MAX)),
            patience: DISK_PATIENCE,
            trouble: Mutex::default(),
            #[cfg(test)]
            stuck: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Its folders.
    #[must_use]
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// How much it holds.
    #[must_use]
    pub fn load(&self) -> Load {
        let Taken { messages, bytes } = locked(&self.rooms).taken();
        let trouble = locked(&self.trouble).as_ref().map(|(_, words)| words.clone());
        Load { messages, bytes, trouble }
    }

    /// Takes a message in hand, so that nobody else releases or deletes it. `None`: somebody does.
    pub(crate) fn take_in_hand(&self, id: Id) -> Option<InHand<'_>> {
        let mine = locked(&self.in_hand).insert(id);
        // Made only where it is ours: dropped, it would free what another has in hand.
        mine.then(|| InHand { quarantine: self, id })
    }

    /// Deletes a message, for good. `false`: it is not there.
    ///
    /// # Errors
    /// The disk says no: it is still there.
    pub(crate) fn delete(&self, item: &Item, _hand: &InHand<'_>) -> io::Result<bool> {
        let mut was_there = self.shelf.remove(item)?;
        // A mail reader that looked at it meanwhile has moved it.
        if !was_there && let Some(moved) = self.find(item.id)? {
            was_there = self.shelf.remove(&moved)?;
        }
        locked(&self.rooms).remove(item.id);
        Ok(was_there)
    }

    /// One message. `None`: it is not there. Where it lies as it was put there, no folder is listed.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn find(&self, id: Id) -> io::Result<Option<Item>> {
        let came = locked(&self.rooms).secs_of(id);
        if let Some(secs) = came {
            let path = self.shelf.in_new(&shelf::name(secs, id, &self.hostname));
            if path.try_exists()? {
                return Ok(Some(Item { id, secs, path }));
            }
        }
        self.shelf.find(id)
    }

    /// Reads a part of a message. `None`: it is not there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, id: Id, offset: u64) -> io::Result<Option<Part>> {
        list::part(self.find(id)?, offset)
    }

    /// Deletes a message, for good. `false`: it is not there.
    ///
    /// # Errors
    /// The disk says no, or somebody releases it just now.
    pub fn delete_by_id(&self, id: Id) -> io::Result<bool> {
        let hand = self.take_in_hand(id).ok_or_else(|| io::Error::other(RELEASING))?;
        match self.find(id)? {
            Some(item) => self.delete(&item, &hand),
            None => Ok(false),
        }
    }

    /// How long messages are kept.
    #[must_use]
    pub fn keeping(&self) -> Duration {
        Duration::from_secs(u64::from(self.settings.days) * 86_400)
    }

    /// Works on a file on a thread that may wait for the disk.
    async fn on_disk<T: Send + 'static>(
        &self,
        mut file: DraftFile,
        work: impl FnOnce(DraftFile) -> Result<T, NotKept> + Send + 'static,
    ) -> Result<T, NotKept> {
        let too_slow = || NotKept::TooSlow(self.patience);
        let by = Deadline::after(self.patience);
        let Ok(Ok(turn)) = timeout(self.patience, Arc::clone(&self.disk).acquire_owned()).await else {
            // To remove it here would be to wait for the same disk, on a worker's thread: the sweep does it.
            file.leave();
            return Err(too_slow());
        };
        let working = tokio::task::spawn_blocking(move || {
            let done = work(file);
            drop(turn);
            done
        });
        match timeout(by.left(), working).await {
            Ok(Ok(done)) => done,
            Ok(Err(_panicked)) => Err(NotKept::Broken),
            // The work goes on by itself, and takes back what it did: its result is dropped there.
            Err(_) => Err(too_slow()),
        }
    }

    /// The same place, as the next edge finds it.
    #[cfg(test)]
    pub(crate) fn opened_again(&self, settings: &config::Quarantine) -> io::Result<Arc<Self>> {
        let quarantine = Self::at(Shelf::make(self.shelf.dir())?, &self.hostname, settings);
        quarantine.recount()?;
        Ok(Arc::new(quarantine))
    }

    /// Whether one more message of `source` would find a place.
    #[cfg(test)]
    pub(crate) fn has_room_for(self: &Arc<Self>, source: std::net::IpAddr) -> Result<(), NotKept> {
        room::Room::take(self, Id::of(u64::MAX), 0, source.into()).map(drop)
    }

    #[cfg(test)]
    fn wait_while_stuck(&self) {
        while self.stuck.load(std::sync::atomic::Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A message that only its holder releases or deletes.
#[derive(Debug)]
pub(crate) struct InHand<'q> {
    quarantine: &'q Quarantine,
    id: Id,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        locked(&self.quarantine.in_hand).remove(&self.id);
    }
}

impl Edge {
    /// A message begins in the quarantine.
    pub(crate) fn draft(&self, id: u64, head: &Head) -> Result<Draft, NotKept> {
        Draft::begin(self.quarantine.as_ref().ok_or(NotKept::Nowhere)?, Id::of(id), head)
    }

    /// A message was kept: whatever was wrong is over.
    pub(crate) fn kept(&self) {
        let Some(quarantine) = &self.quarantine else { return };
        if locked(&quarantine.trouble).take().is_some() {
            self.log.event(Event::QuarantineRecovered {});
        }
    }

    /// A message was not kept. Logged when it is news; its own line says so each time.
    pub(crate) fn not_kept(&self, error: &NotKept) {
        self.metrics.quarantine_failed.add(1);
        let Some(quarantine) = &self.quarantine else { return };
        let trouble = Some((error.sort(), error.to_string()));
        let before = std::mem::replace(&mut *locked(&quarantine.trouble), trouble);
        if before.is_none_or(|(sort, _)| sort != error.sort()) {
            self.log.event(Event::QuarantineFailed { error: error.to_string() });
        }
    }
}

/// The time as file names have it: whole seconds.
fn secs(at: UnixMillis) -> u64 {
    at.0 / 1000
}
