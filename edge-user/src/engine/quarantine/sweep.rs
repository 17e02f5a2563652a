//! What is no longer to be there: messages that are older than they are kept, and what was left half-written.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use edge_core::time::UnixMillis;

use super::room::Kept;
use super::{Id, Quarantine, locked, open, secs};
use crate::engine::{Edge, worker};
use crate::telemetry::{Event, Level};

/// How often the daemon looks by itself: whether a file was left that is to go, and each so many times at everything.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const LOOKS_PER_SWEEP: usize = 60;

impl Quarantine {
    /// Deletes what came before `before`; how many messages that were. What somebody has in hand stays until the next
    /// time.
    ///
    /// # Errors
    /// The disk says no; what was deleted so far is.
    pub fn expire(&self, before: UnixMillis) -> io::Result<u64> {
        let mut expired = 0;
        for item in self.shelf.items()?.into_iter().take_while(|item| item.secs < secs(before)) {
            let Some(hand) = self.take_in_hand(item.id) else { continue };
            expired += u64::from(self.delete(&item, &hand)?);
        }
        Ok(expired)
    }

    /// The ids of what is kept.
    fn kept_ids(&self) -> BTreeSet<Id> {
        let mut ids = BTreeSet::new();
        loop {
            let more = locked(&self.rooms).ids_behind(ids.last().copied());
            if more.is_empty() {
                return ids;
            }
            ids.extend(more);
        }
    }

    /// Removes what was left half-written, and counts what is there.
    ///
    /// # Errors
    /// The disk says no.
    pub(crate) fn recount(&self) -> io::Result<()> {
        let left = locked(&self.rooms).left();
        for item in self.shelf.unfinished()? {
            if !locked(&self.rooms).is_coming(item.id) {
                self.shelf.remove(&item)?;
                locked(&self.rooms).remove_left(item.id);
            }
        }
        // Somebody else may have removed them.
        left.into_iter().for_each(|id| locked(&self.rooms).remove_left(id));
        // What comes in meanwhile is counted when it is kept, and what is deleted meanwhile is found out next time.
        let mut gone = self.kept_ids();
        for item in self.shelf.items()? {
            gone.remove(&item.id);
            if locked(&self.rooms).knows(item.id) {
                continue;
            }
            match std::fs::metadata(&item.path) {
                Ok(metadata) => {
                    // What a mail reader put there says nothing of its source; it counts in all only.
                    let source = open(&item.path).ok().map(|opened| opened.head.source.into());
                    let kept = Kept { bytes: metadata.len(), source, secs: item.secs };
                    locked(&self.rooms).add(item.id, kept);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        gone.into_iter().for_each(|id| locked(&self.rooms).remove(id));
        Ok(())
    }
}

/// Sweeps now and every hour, and each minute in which a file was left that is to go.
pub(crate) async fn sweep_hourly(edge: Arc<Edge>) {
    let Some(quarantine) = edge.quarantine.clone() else { return };
    for look in 0_usize.. {
        if look > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if look % LOOKS_PER_SWEEP != 0 && locked(&quarantine.rooms).left().is_empty() {
            continue;
        }
        let (quarantine, before) = (Arc::clone(&quarantine), edge.now().minus(quarantine.keeping()));
        let swept = tokio::task::spawn_blocking(move || {
            let expired = quarantine.expire(before)?;
            quarantine.recount().map(|()| expired)
        });
        match swept.await {
            Ok(Ok(0)) => {}
            Ok(Ok(messages)) => {
                edge.metrics.quarantine_expired.add(messages);
                edge.log.event(Event::QuarantineExpired { messages });
            }
            Ok(Err(error)) => {
                let dir =
                    edge.quarantine.as_ref().map(|quarantine| quarantine.shelf.dir().display().to_string());
                edge.log.event(Event::Diagnostic {
                    level: Level::Error,
                    target: module_path!().to_owned(),
                    message: format!("cannot sweep {}: {error}", dir.unwrap_or_default()),
                });
            }
            Err(fault) => worker::note_panic(&edge, Err(fault)),
        }
    }
}
