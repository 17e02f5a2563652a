//! The thread that brings the record to disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use crossbeam::channel::{self, RecvTimeoutError, Sender};
use edge_core::signature::record::{DayName, DaySet, PARTS, Unsaved};

use super::{files, read, written};
use crate::engine::Edge;

/// How far the disk may be behind.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// When the disk is tried again that took nothing: then all of the open days is written anew.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// The running thread. It ends, and writes a last time, when this is dropped.
#[derive(Debug)]
pub(in crate::engine) struct Keeper {
    thread: Option<JoinHandle<()>>,
    /// Dropped: the thread ends.
    stop: Option<Sender<()>>,
}

impl Keeper {
    /// Starts the thread; none where there is no state directory, or no record.
    ///
    /// # Errors
    /// It cannot be started.
    pub(in crate::engine) fn start(edge: Arc<Edge>) -> io::Result<Self> {
        if edge.state.is_none() || !edge.keeps_record() {
            return Ok(Self { thread: None, stop: None });
        }
        let (stop, stopped) = channel::bounded::<()>(0);
        let mut disk = Disk { failed: false };
        let thread = thread::Builder::new().name("record".into()).spawn(move || {
            loop {
                let patience = if disk.failed { RETRY_AFTER } else { SAVE_EVERY };
                let ended = stopped.recv_timeout(patience) != Err(RecvTimeoutError::Timeout);
                disk.save_or_say(&edge);
                if ended {
                    break;
                }
            }
        })?;
        Ok(Self { thread: Some(thread), stop: Some(stop) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that keeps the record of sent mail has panicked");
        }
    }
}

/// Where the record is written to.
#[derive(Debug)]
pub(super) struct Disk {
    /// It took the last one not: that is said once.
    pub(super) failed: bool,
}

impl Disk {
    fn save_or_say(&mut self, edge: &Edge) {
        match self.save(edge) {
            Ok(()) if std::mem::replace(&mut self.failed, false) => {
                tracing::warn!("the record of sent mail is on disk again, all of it");
            }
            Ok(()) => {}
            Err(error) => {
                written(&edge.record).unsaved_again();
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::error!(
                        "the record of sent mail is not on disk: {error:#}; it is kept in memory, and tried again every {} s",
                        RETRY_AFTER.as_secs()
                    );
                }
            }
        }
    }

    /// Writes what is new, and what is over.
    pub(super) fn save(&self, edge: &Edge) -> anyhow::Result<()> {
        let now = edge.now();
        // First: what is too old takes no memory, whatever the disk says.
        let forgotten = written(&edge.record).forget_old(now);
        let forgot = forgotten.has_days();
        drop(forgotten);
        let Some(state) = &edge.state else { return Ok(()) };
        // It may have been missing at the start, or be deleted since.
        let directory = &files::directory(state)?;
        let unsaved = written(&edge.record).take_unsaved();
        if unsaved.incomplete {
            let open = read(&edge.record).open_days();
            for (day, _) in open {
                files::rewrite(directory, day, &open_entries(edge, day).concat())?;
            }
        } else {
            for (day, entries) in by_day(unsaved) {
                files::append(directory, day, entries.into_iter())
                    .with_context(|| format!("cannot write in {}", directory.display()))?;
            }
        }
        let over = read(&edge.record).days_over(now);
        for day in over {
            let parts = open_entries(edge, day);
            let set = DaySet::of(parts.concat());
            files::seal(directory, day, &set)?;
            written(&edge.record).seal(day, set);
            for (part, entries) in parts.iter().enumerate() {
                let cleared = written(&edge.record).clear_sealed(day, part, entries.len());
                drop(cleared);
            }
            let open = read(&edge.record).open_days();
            if open.iter().all(|(name, _)| *name != day) {
                files::delete_log(directory, day)
                    .with_context(|| format!("cannot delete in {}", directory.display()))?;
            }
        }
        if forgot {
            let oldest = read(&edge.record).oldest(now);
            files::delete_old(directory, oldest);
        }
        Ok(())
    }
}

/// The entries of a day that are in no set, part by part: a day is large, and whoever sends a message waits for one part.
fn open_entries(edge: &Edge, day: DayName) -> Vec<Vec<u64>> {
    (0..PARTS).map(|part| read(&edge.record).open_entries(day, part)).collect()
}

fn by_day(unsaved: Unsaved) -> BTreeMap<DayName, Vec<u64>> {
    let mut days = BTreeMap::<_, Vec<_>>::new();
    for (day, entry) in unsaved.entries {
        days.entry(day).or_default().push(entry);
    }
    days
}
