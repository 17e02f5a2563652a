//! The record in the daemon: the outbound side remembers, the inbound side asks, and a thread of its own (`keeper`)
//! brings to disk (`files`) what came, at most a second behind. The disk never holds up a message; a crash may forget
//! the last second's messages, whose bounces must then prove themselves by token or tag.

mod files;
mod keeper;

use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use edge_core::mailbox::Mailbox;
use edge_core::message::outgoing::Added;
use edge_core::signature::Keys;
use edge_core::signature::record::{Asked, Record, Remembered, Sent, SentHash};
use edge_core::time::UnixMillis;

pub(super) use self::keeper::Keeper;
use super::Edge;
use crate::config::Config;
use crate::state::StateDir;

/// The record that the state directory holds; without one, an empty one. What cannot be used of it is named, set aside,
/// and otherwise not missed.
pub(super) fn open(config: &Config, state: Option<&StateDir>, now: UnixMillis) -> RwLock<Record> {
    let mut record = Record::new(config.record.messages_per_day_max, config.token_age_max());
    if let Some(state) = state {
        match files::directory(state) {
            Ok(directory) => files::load(&directory, &mut record, now),
            Err(error) => tracing::error!("the record of sent mail is not read: {error}"),
        }
    }
    RwLock::new(record)
}

/// The record that the state directory at `dir` holds, for who is not the daemon: nothing is changed there.
///
/// # Errors
/// It is there and cannot be read.
pub fn look(config: &Config, dir: &Path, now: UnixMillis) -> std::io::Result<Record> {
    let mut record = Record::new(config.record.messages_per_day_max, config.token_age_max());
    files::look(&dir.join(files::DIRECTORY), &mut record, now)?;
    Ok(record)
}

impl Edge {
    /// Remembers a message that is about to go out: for its sender, and for another mailbox of ours in its From.
    pub(super) fn remember(&self, keys: &Keys, sender: &Mailbox, added: &Added, recipients: u32) {
        let now = self.now();
        let (Some(key), Some(id)) = (keys.signer(now), &added.message_id) else { return };
        if !self.keeps_record() {
            return;
        }
        for mailbox in [Some(sender), added.author.as_ref()].into_iter().flatten() {
            let hash = SentHash::of(key, mailbox, id);
            let remembered = written(&self.record).remember(key.id(), hash, recipients, now);
            match remembered {
                Remembered::Yes => self.metrics.record_kept.add(1),
                Remembered::Full { first } => {
                    self.metrics.record_full.add(1);
                    if first {
                        tracing::warn!(
                            "the record of today is full ({} entries): what is sent until midnight (UTC) is not \
                             remembered; see `messages_per_day_max` in [record]",
                            self.config.record.messages_per_day_max
                        );
                    }
                }
            }
        }
    }

    /// The message with this Message-ID that was sent for `mailbox`, if there was one.
    pub(super) fn find_sent(&self, mailbox: &Mailbox, message_id: &[u8]) -> Option<Sent> {
        let (keys, now) = (self.keys(), self.now());
        // By itself: a lock that lives as long as its line would keep senders waiting while the hashes are made.
        let key_ids = read(&self.record).key_ids(now);
        let asked = Asked::new(&keys, &key_ids, mailbox, message_id, (now, self.max_age()))?;
        read(&self.record).find_asked(&asked, now)
    }

    /// Whether there is a record at all.
    pub(super) fn keeps_record(&self) -> bool {
        self.config.record.messages_per_day_max > 0
    }
}

/// The lock, also when a session panicked that held it: each call leaves the record whole.
fn read(record: &RwLock<Record>) -> RwLockReadGuard<'_, Record> {
    record.read().unwrap_or_else(PoisonError::into_inner)
}

/// The same, to change it.
fn written(record: &RwLock<Record>) -> RwLockWriteGuard<'_, Record> {
    record.write().unwrap_or_else(PoisonError::into_inner)
}
