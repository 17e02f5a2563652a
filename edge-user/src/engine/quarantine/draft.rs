//! A message on its way into the quarantine.
//!
//! ```text
//! pieces ─► a chunk of at most CHUNK_BYTES ─► tmp/NAME ─ synced, renamed ─► new/NAME ─ folder synced ─► Sealed
//! ```
//! A message that fits into one chunk is one piece of work for the disk. Whatever fails, and whoever goes away, the file
//! is removed by whoever has it last; what cannot be removed then, the next sweep or start removes. Only
//! [`Sealed::keep`] makes it stay.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use edge_core::message::ToDisk;
use nix::sys::statvfs::fstatvfs;

use super::room::Room;
use super::shelf::{create, name, sync_folder};
use super::{Head, Id, NotKept, Quarantine, secs};

/// Octets that are handed to the disk at once: all that a message on its way in takes of memory beside what is held.
const CHUNK_BYTES: usize = 16 << 10;

/// A message on its way in.
#[derive(Debug)]
pub(crate) struct Draft {
    quarantine: Arc<Quarantine>,
    id: Id,
    to_disk: ToDisk,
    chunk: Vec<u8>,
    /// `None` only while the disk works on it, or after that failed.
    file: Option<DraftFile>,
}

impl Draft {
    /// Begins one; nothing is on disk yet.
    pub(super) fn begin(quarantine: &Arc<Quarantine>, id: Id, head: &Head) -> Result<Self, NotKept> {
        let came = secs(head.at);
        let room = Room::take(quarantine, id, came, head.source.into())?;
        let name = name(came, id, &quarantine.hostname);
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        head.write(&mut chunk);
        let file = DraftFile {
            path: quarantine.shelf.in_tmp(&name),
            goal: quarantine.shelf.in_new(&name),
            file: None,
            room: Some(room),
        };
        Ok(Self {
            quarantine: Arc::clone(quarantine),
            id,
            to_disk: ToDisk::default(),
            chunk,
            file: Some(file),
        })
    }

    /// Takes the next piece, as it stands on the wire.
    pub(crate) async fn take(&mut self, mut piece: &[u8]) -> Result<(), NotKept> {
        while !piece.is_empty() {
            if self.chunk.len() >= CHUNK_BYTES {
                self.write_out().await?;
            }
            let (some, rest) = piece.split_at(piece.len().min(CHUNK_BYTES - self.chunk.len()));
            self.to_disk.take(some, &mut self.chunk);
            piece = rest;
        }
        Ok(())
    }

    async fn write_out(&mut self) -> Result<(), NotKept> {
        let file = self.file.take().ok_or(NotKept::Broken)?;
        let mut chunk = std::mem::take(&mut self.chunk);
        let work = move |mut file: DraftFile| {
            file.append(&chunk)?;
            chunk.clear();
            Ok((file, chunk))
        };
        let (file, chunk) = self.quarantine.on_disk(file, work).await?;
        (self.file, self.chunk) = (Some(file), chunk);
        Ok(())
    }

    /// The message is whole: brings it to disk.
    pub(crate) async fn seal(mut self) -> Result<Sealed, NotKept> {
        let file = self.file.take().ok_or(NotKept::Broken)?;
        let (id, chunk) = (self.id, std::mem::take(&mut self.chunk));
        let work = move |mut file: DraftFile| {
            file.append(&chunk)?;
            file.settle()?;
            Ok(Sealed { id, file })
        };
        self.quarantine.on_disk(file, work).await
    }
}

impl Drop for Draft {
    /// The client went away, or the message is refused. The worker's thread does not wait until its file is removed.
    fn drop(&mut self) {
        let Some(mut file) = self.file.take().filter(DraftFile::is_on_disk) else { return };
        match (tokio::runtime::Handle::try_current(), Arc::clone(&self.quarantine.disk).try_acquire_owned()) {
            (Ok(runtime), Ok(turn)) => drop(runtime.spawn_blocking(move || {
                drop(file);
                drop(turn);
            })),
            // The disk has more to do than it can: the sweep removes it.
            (_, Err(_)) => file.leave(),
            (Err(_), Ok(_)) => {}
        }
    }
}

/// A message that is on disk, whole and synced. Dropped, it is taken back: nobody was told that it is there.
#[derive(Debug)]
pub(crate) struct Sealed {
    id: Id,
    file: DraftFile,
}

impl Sealed {
    /// It stays: from here on it may be acknowledged. Its id.
    pub(crate) fn keep(mut self) -> Id {
        if let Some(room) = self.file.room.take() {
            room.keep();
        }
        self.file.leave();
        self.id
    }
}

/// The file of a message on its way in; dropped, it is removed.
#[derive(Debug)]
pub(super) struct DraftFile {
    /// Where it is.
    path: PathBuf,
    /// Where it is to be when it is whole.
    goal: PathBuf,
    file: Option<File>,
    room: Option<Room>,
}

impl DraftFile {
    fn is_on_disk(&self) -> bool {
        self.file.is_some()
    }

    /// Lets go of it without removing it. Where it is not to stay, it counts until the sweep has removed it.
    pub(super) fn leave(&mut self) {
        if self.file.take().is_some()
            && let Some(room) = self.room.take()
        {
            room.leave();
        }
    }

    fn append(&mut self, chunk: &[u8]) -> Result<(), NotKept> {
        let room = self.room.as_mut().ok_or(NotKept::Broken)?;
        #[cfg(test)]
        room.quarantine.wait_while_stuck();
        room.grow(chunk.len() as u64)?;
        let path = &self.path;
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(create(path).map_err(NotKept::io("make", path))?),
        };
        let room_left = fstatvfs(&*file).map_err(|errno| NotKept::io("ask about", path)(errno.into()))?;
        let free = room_left.blocks_available().saturating_mul(room_left.fragment_size());
        let keep_free = room.quarantine.settings.free_bytes_min;
        // 0: to the last octet; then the kernel says it.
        if keep_free > 0 && free < keep_free.saturating_add(chunk.len() as u64) {
            return Err(NotKept::DiskFull(free));
        }
        file.write_all(chunk).map_err(NotKept::io("write", path))
    }

    /// Syncs it, and puts it where mail readers look.
    fn settle(&mut self) -> Result<(), NotKept> {
        let file = self.file.as_mut().ok_or(NotKept::Broken)?;
        file.sync_all().map_err(NotKept::io("sync", &self.path))?;
        // This edge alone has the directory, and uses no id twice; but a clock may have been set back between two starts.
        if self.goal.try_exists().map_err(NotKept::io("look at", &self.goal))? {
            let taken = io::ErrorKind::AlreadyExists.into();
            return Err(NotKept::io("make", &self.goal)(taken));
        }
        fs::rename(&self.path, &self.goal).map_err(NotKept::io("rename", &self.path))?;
        self.path.clone_from(&self.goal);
        let folder = self.goal.parent().ok_or(NotKept::Broken)?;
        sync_folder(folder).map_err(NotKept::io("sync", folder))
    }
}

impl Drop for DraftFile {
    fn drop(&mut self) {
        if self.file.take().is_none() {
            return;
        }
        let still_there = match fs::remove_file(&self.path) {
            Ok(()) => false,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if let Some(room) = self.room.take().filter(|_| still_there) {
            if self.path == self.goal {
                // Whole, and where mail readers look: a message as any other, though its sender heard 452 and sends it
                // again.
                room.keep();
            } else {
                room.leave();
            }
        }
    }
}
