//! The edge's life: its threads begin, serve until they are told to stop, and end; and what is to be done beside the
//! sessions.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch as told;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::clock::Deadline;
use super::watch::Keeper;
use super::{Edge, Listeners, bans, flood, mailboxes, quarantine, record, upstreams, worker};

/// How long the first question to the upstreams may hold up the start.
const ASK_PATIENCE: Duration = Duration::from_secs(1);

/// How long a handover waits for sessions to end.
const HAND_OVER_WAIT: Duration = worker::DRAIN.saturating_add(worker::LAST_WORD);

/// Serves until `stop` says so: binds the listeners, starts one worker a core, and returns when all have ended.
/// To be called from a plain thread, not from within a runtime.
///
/// # Errors
/// A listener cannot be bound, or a thread cannot be started.
pub fn serve(edge: Arc<Edge>, stop: told::Receiver<bool>) -> anyhow::Result<()> {
    let listeners = Listeners::bind(&edge, workers())?;
    serve_at(edge, listeners, stop, || false)?.join()
}

/// How many workers this machine is worth: one a core.
#[must_use]
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The workers of an edge that serves no more. After a stop they have ended; after a handover some may wait on for an
/// upstream's reply to a final dot.
#[derive(Debug)]
#[must_use = "a message may still wait for its reply"]
pub struct Late(Vec<JoinHandle<io::Result<()>>>);

impl Late {
    /// Waits until all have ended.
    ///
    /// # Errors
    /// One could not serve, or panicked.
    pub fn join(self) -> anyhow::Result<()> {
        for worker in self.0 {
            match worker.join() {
                Ok(ended) => ended.context("a worker could not serve")?,
                Err(_) => anyhow::bail!("a worker's thread panicked"),
            }
        }
        Ok(())
    }

    /// Waits until all have ended, or until only those can be left that wait for a reply to a final dot.
    fn wait(&self) {
        let until = Deadline::after(HAND_OVER_WAIT);
        while !until.left().is_zero() && !self.0.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The same with listeners that are bound already (port 0 has a number then). Told to stop, it asks `hands_over`
/// whether another process waits for what this one has: then it does not wait for the last replies itself. It may be
/// called again afterwards.
///
/// # Errors
/// A thread cannot be started.
pub fn serve_at(
    edge: Arc<Edge>,
    listeners: Listeners,
    stop: told::Receiver<bool>,
    hands_over: impl FnOnce() -> bool,
) -> anyhow::Result<Late> {
    bans::adopt(&edge);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Clients wait in the listeners' backlog meanwhile. An upstream that is not there must not hold up the others' mail.
    let _ = runtime.block_on(async { timeout(ASK_PATIENCE, upstreams::ask_all(&edge)).await });
    let keeper =
        Keeper::start(Arc::clone(&edge)).context("cannot start the thread that keeps what watching found")?;
    let record = record::Keeper::start(Arc::clone(&edge))
        .context("cannot start the thread that keeps the record of sent mail")?;
    let workers = Late(listeners.start(&edge, &stop).context("cannot start a worker's thread")?);
    runtime.block_on(housekeeping(Arc::clone(&edge), stop));
    let late = if hands_over() {
        workers.wait();
        workers
    } else {
        workers.join()?;
        Late(Vec::new())
    };
    // The last messages are through (what waits for its reply is in the record): now they write a last time.
    drop((keeper, record));
    Ok(late)
}

/// What is to be done beside the sessions, until told to stop.
pub(super) async fn housekeeping(edge: Arc<Edge>, mut stop: told::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    tasks.spawn(edge.liveness.join("housekeeping").run());
    tasks.spawn(again(Arc::clone(&edge), bans::carry_out));
    tasks.spawn(again(Arc::clone(&edge), bans::attend_nic));
    tasks.spawn(again(Arc::clone(&edge), upstreams::watch_health));
    tasks.spawn(again(Arc::clone(&edge), flood::watch));
    tasks.spawn(again(Arc::clone(&edge), quarantine::sweep_hourly));
    mailboxes::start_probers(&edge, &mut tasks);
    // The sender is gone: nobody is left who could say stop, which says it too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Runs a task; one that panics is counted, logged and begun again.
async fn again<F: Future<Output = ()> + Send + 'static>(edge: Arc<Edge>, task: fn(Arc<Edge>) -> F) {
    loop {
        let mut only = JoinSet::new();
        only.spawn(task(Arc::clone(&edge)));
        let Some(Err(fault)) = only.join_next().await else { return };
        worker::note_panic(&edge, Err(fault));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
