//! Listeners and workers: one thread a core, each with a listener of its own on every address (SO_REUSEPORT).

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use edge_core::reputation::Answer;
use edge_core::smtp::{Enhanced, Reply};
use edge_core::source::Source;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::Client;
use super::liveness::Answering;
use super::registry::{Leave, NoPlace};
use super::stream::Stream;
use super::upstream::kept::{self, Kept};
use super::{Edge, inbound, locked, outbound};
use crate::telemetry::{Direction, Event, Level};

/// Connections that the kernel keeps waiting at each listener.
const BACKLOG: i32 = 1024;
/// How long open transactions may take to end after the edge was told to stop. Only messages between their final dot
/// and their reply have longer: as long as an upstream may take to reply, and a client to hear of it.
pub(crate) const DRAIN: Duration = Duration::from_secs(20);
/// How long to wait before accepting again after the kernel refused (no descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The bound listeners: one set for each worker.
#[derive(Debug)]
pub struct Listeners {
    workers: Vec<Vec<(StdListener, Direction)>>,
}

impl Listeners {
    /// Binds all addresses of the configuration, once for each of `workers`.
    ///
    /// # Errors
    /// An address cannot be bound; the error names it.
    pub fn bind(edge: &Edge, workers: usize) -> anyhow::Result<Self> {
        let inbound = edge.config.inbound.listen.iter().map(|address| (*address, Direction::Inbound));
        let outbound = edge.config.outbound.iter().flat_map(|side| &side.listen);
        let mut addresses: Vec<_> =
            inbound.chain(outbound.map(|address| (*address, Direction::Outbound))).collect();
        for (address, _) in &addresses {
            // With an edge that runs already, the kernel would share the port, and split the mail between both.
            bind(*address, false).with_context(|| format!("cannot listen at {address}"))?;
        }
        let mut all = Vec::new();
        for _ in 0..workers.max(1) {
            let mut listeners = Vec::new();
            for (address, direction) in &mut addresses {
                let listener =
                    listen(*address, workers > 1).with_context(|| format!("cannot listen at {address}"))?;
                // Port 0 means any: the further workers share the one that the first got.
                *address = listener.local_addr().context("cannot ask a listener for its address")?;
                listeners.push((listener, *direction));
            }
            all.push(listeners);
        }
        Ok(Self { workers: all })
    }

    /// Where one of the directions is listened at.
    #[must_use]
    pub fn addresses(&self, direction: Direction) -> Vec<SocketAddr> {
        let first = self.workers.first().into_iter().flatten();
        first
            .filter(|(_, d)| *d == direction)
            .filter_map(|(listener, _)| listener.local_addr().ok())
            .collect()
    }

    /// Starts the workers' threads.
    pub(super) fn start(
        self,
        edge: &Arc<Edge>,
        stop: &watch::Receiver<bool>,
    ) -> io::Result<Vec<JoinHandle<io::Result<()>>>> {
        let workers = self.workers.len();
        let start = |(number, listeners): (usize, Vec<_>)| {
            let (edge, stop) = (Arc::clone(edge), stop.clone());
            let kept = Kept::new(&edge.config.limits, workers);
            let name = format!("worker-{number}");
            let answering = edge.liveness.join(&name);
            std::thread::Builder::new()
                .name(name)
                .spawn(move || work(&edge, listeners, kept, answering, stop))
        };
        self.workers.into_iter().enumerate().map(start).collect()
    }
}

fn listen(address: SocketAddr, shared: bool) -> io::Result<StdListener> {
    let socket = bind(address, shared)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket at the address; `shared`: others listen there, too. Where nobody does, it is not said: the kernel may give
/// a shared port 0 the port of a stranger who shares his, too.
fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // [::] and 0.0.0.0 may both be configured.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn work(
    edge: &Arc<Edge>,
    listeners: Vec<(StdListener, Direction)>,
    kept: Arc<Kept>,
    answering: Answering,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.spawn(answering.run());
    runtime.block_on(accept_all(Arc::clone(edge), listeners, kept, stop))
}

async fn accept_all(
    edge: Arc<Edge>,
    listeners: Vec<(StdListener, Direction)>,
    kept: Arc<Kept>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut tending = JoinSet::new();
    tending.spawn(kept::tend(Arc::clone(&edge), Arc::clone(&kept)));
    let mut accepting = JoinSet::new();
    for (listener, direction) in listeners {
        let listener = TcpListener::from_std(listener)?;
        accepting.spawn(accept(Arc::clone(&edge), listener, direction, Arc::clone(&kept), stop.clone()));
    }
    while accepting.join_next().await.is_some() {}
    kept.close().await;
    Ok(())
}

/// One worker in the runtime that is there: what the tests run in.
#[cfg(test)]
pub(super) async fn serve_in_this_thread(edge: Arc<Edge>, listeners: Listeners, stop: watch::Receiver<bool>) {
    let only = listeners.workers.into_iter().flatten().collect();
    let kept = Kept::new(&edge.config.limits, 1);
    accept_all(edge, only, kept, stop).await.expect("the listeners are good");
}

/// Accepts until told to stop; then waits for the open sessions, as [`DRAIN`] says.
async fn accept(
    edge: Arc<Edge>,
    listener: TcpListener,
    direction: Direction,
    kept: Arc<Kept>,
    stop: watch::Receiver<bool>,
) {
    let mut told_to_stop = stop.clone();
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => welcome(&edge, &kept, &mut sessions, stream, peer, direction, &stop),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(ended) = sessions.join_next(), if !sessions.is_empty() => note_panic(&edge, ended),
            () = stopped(&mut told_to_stop) => break,
        }
    }
    drop(listener);
    let mut drain = std::pin::pin!(async {
        while let Some(ended) = sessions.join_next().await {
            note_panic(&edge, ended);
        }
    });
    if timeout(DRAIN, drain.as_mut()).await.is_ok() {
        return;
    }
    // What is still open is cut: its client got no reply and comes again. But a message that the upstream has may not
    // come again.
    edge.registry.ask_all(Leave::Now);
    let answered = async {
        tokio::select! {
            () = drain => {}
            () = edge.doubts.none() => {}
        }
    };
    let patience = edge.upstream_patience().final_dot() + edge.client_patience();
    let _ = timeout(patience, answered).await;
}

/// Waits for the word to stop. That nobody is left who could say it, says it too.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A session (or another task) that panicked is over, and only that one: its connection closes, its message was not acknowledged.
pub(super) fn note_panic(edge: &Edge, ended: Result<(), tokio::task::JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        edge.metrics.sessions_panicked.add(1);
        edge.log.event(Event::Diagnostic {
            level: Level::Error,
            target: module_path!().to_owned(),
            message: "a task ended by a fault of the program; a session's connection was closed".to_owned(),
        });
    }
}

/// A connection arrives: its budget and its place, then its session.
fn welcome(
    edge: &Arc<Edge>,
    kept: &Arc<Kept>,
    sessions: &mut JoinSet<()>,
    stream: TcpStream,
    peer: SocketAddr,
    direction: Direction,
    stop: &watch::Receiver<bool>,
) {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let source = Source::from(peer.ip());
    let counter = match direction {
        Direction::Inbound => &edge.metrics.connections_inbound,
        Direction::Outbound => &edge.metrics.connections_outbound,
    };
    counter.add(1);
    if direction == Direction::Inbound && edge.blocks.hold(peer.ip(), edge.dataplane.as_ref()) {
        edge.metrics.refused_blocked.add(1);
        turn_away(&stream, &Reply::new(421, Enhanced(4, 7, 1), "Your address is blocked here"));
        return;
    }
    if direction == Direction::Inbound {
        match locked(&edge.reputation).connect(source, edge.now()) {
            Answer::Go => {}
            Answer::OverBudget | Answer::Banned => {
                edge.metrics.refused_budget.add(1);
                edge.orders.notify_one();
                turn_away(
                    &stream,
                    &Reply::new(421, Enhanced(4, 7, 0), "Too much from your address, try again later"),
                );
                return;
            }
        }
    }
    let ticket = match edge.registry.enter(source, direction) {
        Ok(ticket) => ticket,
        Err(NoPlace::Full | NoPlace::SourceFull) => {
            edge.metrics.refused_full.add(1);
            turn_away(&stream, &Reply::new(421, Enhanced(4, 3, 2), "Too many sessions, try again later"));
            return;
        }
    };
    // Replies are small and the client waits for each. A socket without the option works, only slower.
    let _ = stream.set_nodelay(true);
    let client = Client::new(Stream::clear(stream), peer, Arc::clone(&edge.pool), ticket, stop.clone());
    let (edge, kept) = (Arc::clone(edge), Arc::clone(kept));
    match direction {
        Direction::Inbound => sessions.spawn(inbound::run(edge, client, kept)),
        Direction::Outbound => sessions.spawn(outbound::run(edge, client, kept)),
    };
}

/// Says why, if the socket takes it at once, and closes.
fn turn_away(stream: &TcpStream, reply: &Reply) {
    let mut line = Vec::new();
    reply.write(&mut line);
    // A new socket's buffer is empty: it takes a line. If not, the close alone must do.
    let _ = stream.try_write(&line);
}
