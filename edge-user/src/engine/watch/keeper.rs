//! The thread beside the workers that keeps the ledger: it beats, and writes what changed. What it writes is at most
//! [`SAVE_EVERY`] behind, so that `kill -9` loses no more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{self, Sender};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::super::Edge;
use super::book;
use super::dkim::Verifier;
use super::look::{Looking, Seen};
use super::samples::Sample;

/// How far the file may be behind.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// How long it rests after each sample; and where more of them wait than will be looked at soon, as in a flood: then it must
/// take nothing from the workers that anybody feels. What comes faster is counted as not looked at.
const PACE: Duration = Duration::from_millis(10);
const PACE_CROWDED: Duration = Duration::from_millis(50);

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
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("watch".into()).spawn(move || {
            let ticks = channel::tick(SAVE_EVERY);
            let (mut rounds, mut eyes) = (Rounds::default(), Eyes::new(runtime));
            loop {
                channel::select! {
                    recv(stopped) -> _ => break,
                    recv(ticks) -> _ => rounds.next(&edge),
                    recv(edge.watch.told.many) -> _ => drop(edge.watch.ledger()),
                    recv(edge.watch.samples.waiting) -> sample => {
                        if let Ok(sample) = sample {
                            eyes.look(&edge, sample);
                        }
                        let is_crowded = edge.watch.samples.are_crowded();
                        thread::sleep(if is_crowded { PACE_CROWDED } else { PACE });
                    }
                }
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

/// Looks at samples, one after the other.
pub(super) struct Eyes {
    runtime: Runtime,
    verifier: Arc<tokio::sync::Mutex<Verifier>>,
}

impl Eyes {
    pub(super) fn new(runtime: Runtime) -> Self {
        Self { runtime, verifier: Arc::default() }
    }

    /// Looks at one, and notes what it saw. A message so strange that a parser panics is one that was not looked at.
    pub(super) fn look(&mut self, edge: &Arc<Edge>, sample: Sample) {
        let (shared, verifier) = (Arc::clone(edge), Arc::clone(&self.verifier));
        let looked = self.runtime.block_on(async {
            let mut only = JoinSet::new();
            only.spawn(async move {
                let watch = &shared.watch;
                let looking = Looking {
                    domains: &shared.domains,
                    hosts: &watch.hosts(),
                    keys: &shared.keys(),
                    max_age: shared.max_age(),
                    now: shared.now(),
                    hasher: watch.hasher.as_ref(),
                };
                looking.look(&sample, &mut *verifier.lock().await).await
            });
            only.join_next().await
        });
        let mut ledger = edge.watch.ledger();
        match looked {
            Some(Ok(Seen::Nothing)) => ledger.looks_foreign(edge.now()),
            Some(Ok(Seen::Unclear)) => ledger.unclear(edge.now()),
            Some(Ok(Seen::Ours(evidence, example))) => ledger.looks_like_ours(evidence, example, edge.now()),
            Some(Ok(Seen::NotAsked) | Err(_)) | None => ledger.missed(1, edge.now()),
        }
        edge.watch.changed.store(true, Ordering::Relaxed);
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
        beat(edge);
        self.quiet += 1;
        if edge.watch.changed.load(Ordering::Relaxed) || self.quiet >= QUIET_ROUNDS_MAX {
            self.save(edge);
        }
    }

    fn last(&mut self, edge: &Edge) {
        beat(edge);
        self.save(edge);
    }

    fn save(&mut self, edge: &Edge) {
        let Some(state) = &edge.state else { return };
        self.quiet = 0;
        edge.watch.changed.store(false, Ordering::Relaxed);
        // A copy: who asks for the ledger does not wait for the disk.
        let ledger = edge.watch.ledger().clone();
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

fn beat(edge: &Edge) {
    let mut ledger = edge.watch.ledger();
    ledger.beat(edge.now());
    let missed = edge.watch.samples.take_missed();
    if missed > 0 {
        ledger.missed(missed, edge.now());
        edge.watch.changed.store(true, Ordering::Relaxed);
    }
}
