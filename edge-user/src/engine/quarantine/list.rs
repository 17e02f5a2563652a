//! What lies in the quarantine, for who looks: the daemon for its callers, or root where no daemon runs.

use std::io::{self, Read as _, Seek as _, SeekFrom};

use edge_core::mailbox::Mailbox;
use edge_core::time::UnixMillis;
use serde::{Deserialize, Serialize};

use super::head::{self, Head};
use super::{Id, Item, Shelf, secs};

/// Octets of a message that are read at once.
pub const PART_BYTES: usize = 256 << 10;

/// A quarantined message in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// When it came, in milliseconds since 1970.
    pub at_ms: u64,
    /// Octets of the message on disk; of its file where that is damaged.
    pub bytes: u64,
    /// What is known of it; none where its file is damaged.
    pub head: Option<Head>,
}

/// Which messages are listed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Which {
    /// Only those to this address, or to this domain.
    pub recipient: Option<String>,
    /// Only those that came at or after this time.
    pub since: Option<UnixMillis>,
}

impl Which {
    fn takes(&self, head: Option<&Head>) -> bool {
        let Some(wanted) = &self.recipient else { return true };
        let Some(mailbox) = head.and_then(|head| Mailbox::parse(&head.recipient)) else { return false };
        match Mailbox::parse(wanted) {
            Some(wanted) => wanted == mailbox,
            None => Mailbox::parse(&format!("x@{wanted}")).is_some_and(|it| it.domain() == mailbox.domain()),
        }
    }
}

/// Lists messages, the oldest first.
///
/// # Errors
/// The folders cannot be read.
pub fn list(shelf: &Shelf, which: &Which) -> io::Result<Vec<Row>> {
    let since = which.since.unwrap_or(UnixMillis(0));
    let mut rows = Vec::new();
    for item in shelf.items()?.into_iter().filter(|item| item.secs >= secs(since)) {
        let (head, bytes) = match head::open(&item.path) {
            Ok(opened) => (Some(opened.head), opened.bytes),
            // Released, deleted or moved by a mail reader in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => (None, item.path.metadata().map_or(0, |metadata| metadata.len())),
        };
        if which.takes(head.as_ref()) {
            let at_ms = head.as_ref().map_or(item.secs * 1000, |head| head.at.0);
            rows.push(Row { id: item.id.to_string(), at_ms, bytes, head });
        }
    }
    Ok(rows)
}

/// A part of a message: as it is on disk, behind its head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// What is known of the message.
    pub head: Head,
    /// Octets of the whole message.
    pub total: u64,
    /// The next octets, at most [`PART_BYTES`].
    pub octets: Vec<u8>,
}

/// Reads a part of a message. `None`: it is not there.
///
/// # Errors
/// It cannot be read.
pub fn read(shelf: &Shelf, id: Id, offset: u64) -> io::Result<Option<Part>> {
    part(shelf.find(id)?, offset)
}

pub(super) fn part(item: Option<Item>, offset: u64) -> io::Result<Option<Part>> {
    let Some(item) = item else { return Ok(None) };
    let mut opened = match head::open(&item.path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let from = opened.start.saturating_add(offset.min(opened.bytes));
    opened.message.seek(SeekFrom::Start(from))?;
    let mut octets = Vec::new();
    opened.message.take(PART_BYTES as u64).read_to_end(&mut octets)?;
    Ok(Some(Part { head: opened.head, total: opened.bytes, octets }))
}
