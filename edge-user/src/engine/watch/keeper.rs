//! The thread beside the workers that keeps the ledger: it beats, and writes what changed. What it writes is at most
//! [`SAVE_EVERY`] behind, so that `kill -9` loses no more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{self, RecvTimeoutError, Sender};

use super::super::{Edge, locked};
use super::book;

/// How far the file may be behind.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Beats alone are written this much more seldom.
const QUIET_ROUNDS_MAX: u32 = 12;

/// The running thread. It ends, and writes a last time, when this is dropped.
#[derive(Debug)]
pub(in crate::engine) struct Keeper {
    thread: Option<JoinHandle<()>>,
    /// Dropped: the thread ends.
    stop: Option<Sender<()>>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be started.
    pub(in crate::engine) fn start(edge: Arc<Edge>) -> io::Result<Self> {
        let (stop, stopped) = channel::bounded::<()>(0);
        let thread = thread::Builder::new().name("watch".into()).spawn(move || {
            let mut rounds = Rounds::default();
            while stopped.recv_timeout(SAVE_EVERY) == Err(RecvTimeoutError::Timeout) {
                rounds.next(&edge);
            }
            rounds.last(&edge);
        })?;
        Ok(Self { thread: Some(thread), stop: Some(stop) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that keeps what watching found has panicked");
        }
    }
}

/// What is done again and again.
#[derive(Debug, Default)]
struct Rounds {
    quiet: u32,
    /// The disk took the last one not: it is said once, not every few seconds.
    failed: bool,
}

impl Rounds {
    fn next(&mut self, edge: &Edge) {
        locked(&edge.watch.ledger).beat(edge.now());
        self.quiet += 1;
        if edge.watch.changed.load(Ordering::Relaxed) || self.quiet >= QUIET_ROUNDS_MAX {
            self.save(edge);
        }
    }

    fn last(&mut self, edge: &Edge) {
        locked(&edge.watch.ledger).beat(edge.now());
        self.save(edge);
    }

    fn save(&mut self, edge: &Edge) {
        let Some(state) = &edge.state else { return };
        self.quiet = 0;
        edge.watch.changed.store(false, Ordering::Relaxed);
        // A copy: nobody waits for the disk.
        let ledger = locked(&edge.watch.ledger).clone();
        match book::save(state, &ledger) {
            Ok(()) => self.failed = false,
            Err(error) => {
                edge.watch.changed.store(true, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::error!("what watching found is not on disk: {error}");
                }
            }
        }
    }
}
