//! The daemon's ends: told to stop, or to hand over to another process; and the way back, where that one fails.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;

use crate::control::{EdgeDaemon, Listener, Server, Successor};
use crate::engine::{self, Edge, Listeners};

/// How often what was let go of is tried to be had again, and how long to wait between: a process that fails has it until
/// its last moment.
const HOLD_TRIES: u32 = 50;
const HOLD_PAUSE: Duration = Duration::from_millis(100);

/// The word to stop, and what a successor gets.
#[derive(Debug, Default)]
pub(super) struct Stop {
    word: watch::Sender<bool>,
    passing: Mutex<Passing>,
}

#[derive(Debug, Default)]
struct Passing {
    /// The listening sockets, as long as they may be passed on.
    sockets: Vec<TcpListener>,
    successor: Option<Successor>,
    /// A signal said stop: whatever becomes of the successor.
    stopping: bool,
}

impl Stop {
    /// The edge is to stop: nobody may connect any more.
    pub(super) fn now(&self) {
        let mut passing = self.passing();
        passing.sockets.clear();
        passing.stopping = true;
        drop(passing);
        self.word.send_replace(true);
    }

    /// The edge is to hand over. One that stops already, or hands over already, does not.
    pub(super) fn hand_over(&self, successor: Successor) {
        let mut passing = self.passing();
        if !self.is_told() {
            passing.successor = Some(successor);
            self.word.send_replace(true);
        }
    }

    /// The edge serves (again) with these.
    fn serving(&self, listeners: &Listeners) -> anyhow::Result<watch::Receiver<bool>> {
        let sockets: Result<_, _> = listeners.sockets().map(TcpListener::try_clone).collect();
        self.passing().sockets = sockets.context("cannot keep the listening sockets for a handover")?;
        Ok(self.word.subscribe())
    }

    /// Who is to come next, and what is for him.
    fn take(&self) -> Option<(Successor, Vec<TcpListener>)> {
        let mut passing = self.passing();
        let successor = passing.successor.take()?;
        Some((successor, std::mem::take(&mut passing.sockets)))
    }

    fn is_told(&self) -> bool {
        *self.word.borrow()
    }

    fn has_successor(&self) -> bool {
        self.passing().successor.is_some()
    }

    fn passing(&self) -> std::sync::MutexGuard<'_, Passing> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until told to stop, or until another process has taken over.
pub(super) fn serve_until_stopped(
    edge: &Arc<Edge>,
    mut listeners: Listeners,
    stop: &Stop,
    (daemon, mut control): (Arc<EdgeDaemon>, Server),
) -> anyhow::Result<()> {
    loop {
        let stopped = stop.serving(&listeners)?;
        let late = engine::serve_at(Arc::clone(edge), listeners, stopped, || stop.has_successor())?;
        let Some((successor, sockets)) = stop.take() else { return late.join() };
        drop(control);
        edge.let_go();
        tracing::info!("handed over: {} listening sockets", sockets.len());
        if successor.give(&sockets).is_ok() && successor.serves() {
            drop(sockets);
            // What they do is only the end of their sessions.
            return late.join();
        }
        if stop.passing().stopping {
            return late.join();
        }
        tracing::error!("the process that wanted to take over has failed: this one goes on");
        control = hold_again(edge, &daemon)?;
        listeners = Listeners::take_over(&edge.config, engine::workers(), sockets)?;
        stop.word.send_replace(false);
    }
}

/// Has everything again.
fn hold_again(edge: &Edge, daemon: &Arc<EdgeDaemon>) -> anyhow::Result<Server> {
    let hold = || -> anyhow::Result<Listener> {
        edge.hold_again()?;
        Ok(Listener::bind(&edge.config.control)?)
    };
    let mut tried = hold();
    for _ in 0..HOLD_TRIES {
        if tried.is_ok() {
            break;
        }
        edge.let_go();
        std::thread::sleep(HOLD_PAUSE);
        tried = hold();
    }
    let listener = tried.context("what was handed over cannot be had again")?;
    listener.serve(Arc::clone(daemon)).context("cannot start the control socket's thread")
}
