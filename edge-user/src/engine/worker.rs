//! Workers: one thread a core, each with listeners of its own on every address.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use edge_core::reputation::Answer;
use edge_core::smtp::{Enhanced, Reply};
use edge_core::source::Source;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

use super::Edge;
use super::clock::Deadline;
use super::inbound::SLOW;
use super::listeners::Listeners;
use super::liveness::Answering;
use super::reactor::Reactor;
use super::registry::{Leave, NoPlace};
use super::seat::Arrival;
use super::seats::{Seats, Taken, sit};
use super::socket::Seated;
use super::upstream::kept::{self, Kept};
use crate::telemetry::{Direction, Event, Level, shard};

/// How long open transactions may take to end after the edge was told to stop. Only messages between their final dot
/// and their reply have longer: as long as an upstream may take to reply, and a client to hear of it.
pub(crate) const DRAIN: Duration = Duration::from_secs(20);
/// How long those that are cut then have to hear it.
pub(crate) const LAST_WORD: Duration = Duration::from_secs(1);
/// How long to wait before accepting again after the kernel refused (no descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that are accepted at once; then the sessions that are there have their turn. Each may make another session
/// leave, and both are work that those wait for.
const ACCEPT_BATCH: usize = 8;
/// Sessions that make room for each that comes, as long as few places are left.
const LEAVERS: usize = 2;
/// Listeners are known to the epoll set by the numbers from here on; seats by those below.
const LISTENERS_FROM: usize = usize::MAX / 2;

impl Listeners {
    /// Starts the workers' threads.
    pub(super) fn start(
        self,
        edge: &Arc<Edge>,
        stop: &watch::Receiver<bool>,
    ) -> io::Result<Vec<JoinHandle<io::Result<()>>>> {
        let sets = self.into_workers();
        let workers = sets.len();
        let cores = cores_of_their_own(workers);
        let start = |(number, listeners): (usize, Vec<_>)| {
            let (edge, stop) = (Arc::clone(edge), stop.clone());
            let kept = Kept::new(&edge, workers);
            let name = format!("worker-{number}");
            let answering = edge.liveness.join(&name);
            let core = cores.as_ref().map(|cores| cores[number]);
            std::thread::Builder::new().name(name).spawn(move || {
                shard::is_workers(number, workers);
                pin_to(core);
                work(&edge, listeners, kept, answering, stop)
            })
        };
        sets.into_iter().enumerate().map(start).collect()
    }
}

/// The cores of as many workers, if each can have one of its own.
fn cores_of_their_own(workers: usize) -> Option<Vec<CpuSet>> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).ok()?;
    let cores: Vec<CpuSet> = (0..CpuSet::count())
        .filter(|core| allowed.is_set(*core).unwrap_or(false))
        .filter_map(|core| {
            let mut only = CpuSet::new();
            only.set(core).ok().map(|()| only)
        })
        .collect();
    (cores.len() == workers).then_some(cores)
}

/// Keeps this thread on its core: its sessions' memory is in that core's caches. Where the kernel does not allow it, the
/// scheduler knows best.
fn pin_to(core: Option<CpuSet>) {
    if let Some(core) = core {
        let _ = sched_setaffinity(Pid::from_raw(0), &core);
    }
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
    runtime.block_on(serve(Arc::clone(edge), listeners, kept, stop))
}

/// One worker in the runtime that is there: what the tests run in.
#[cfg(test)]
pub(super) async fn serve_in_this_thread(edge: Arc<Edge>, listeners: Listeners, stop: watch::Receiver<bool>) {
    let only = listeners.into_workers().into_iter().flatten().collect();
    let kept = Kept::new(&edge, 1);
    serve(edge, only, kept, stop).await.expect("the listeners are good");
}

/// Accepts until told to stop; then waits for the open sessions, as [`DRAIN`] says.
async fn serve(
    edge: Arc<Edge>,
    listeners: Vec<(StdListener, Direction)>,
    kept: Arc<Kept>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut tending = JoinSet::new();
    tending.spawn(kept::tend(Arc::clone(&edge), Arc::clone(&kept)));
    let mut worker = Worker::new(edge, listeners, Arc::clone(&kept))?;
    // A task of its own: at its turns the worker asks this task, and not what all workers share.
    let mut told_to_stop = JoinSet::new();
    told_to_stop.spawn(stopped(stop));
    worker.run_until(told_to_stop.join_next()).await?;
    worker.drain().await?;
    kept.close().await;
    Ok(())
}

/// A worker: its listeners, its seats, and the epoll set that tells of them.
struct Worker {
    edge: Arc<Edge>,
    reactor: Reactor,
    listening: Vec<Listening>,
    seats: Seats,
    /// Its upstream connections.
    kept: Arc<Kept>,
    /// What sits there.
    tasks: JoinSet<()>,
    /// The kernel refused a connection: until then none is accepted.
    pause: Option<Pin<Box<Sleep>>>,
}

struct Listening {
    listener: TcpListener,
    direction: Direction,
    /// Connections may wait.
    waiting: bool,
}

impl Worker {
    fn new(edge: Arc<Edge>, listeners: Vec<(StdListener, Direction)>, kept: Arc<Kept>) -> io::Result<Self> {
        let reactor = Reactor::new()?;
        let mut listening = Vec::new();
        for (number, (listener, direction)) in listeners.into_iter().enumerate() {
            let mut listener = TcpListener::from_std(listener);
            reactor.registry().register(&mut listener, Token(LISTENERS_FROM + number), Interest::READABLE)?;
            listening.push(Listening { listener, direction, waiting: false });
        }
        Ok(Self {
            edge,
            reactor,
            listening,
            seats: Seats::default(),
            kept,
            tasks: JoinSet::new(),
            pause: None,
        })
    }

    /// Serves until `end` has ended.
    async fn run_until<F: Future>(&mut self, end: F) -> io::Result<F::Output> {
        let mut end = pin!(end);
        std::future::poll_fn(|context| {
            self.turn(context)?;
            end.as_mut().poll(context).map(Ok)
        })
        .await
    }

    /// Tells the seats and the listeners what the epoll set knows, and accepts what waits.
    fn turn(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while let Poll::Ready(Some(ended)) = self.tasks.poll_join_next(context) {
            note_panic(&self.edge, ended);
        }
        if self.pause.as_mut().is_some_and(|pause| pause.as_mut().poll(context).is_ready()) {
            self.pause = None;
        }
        while let Poll::Ready(events) = self.reactor.poll(context) {
            let events = events?;
            let of_listeners = |number: &usize| *number >= LISTENERS_FROM;
            for number in events.iter().map(|event| event.token().0).filter(of_listeners) {
                if let Some(listening) = self.listening.get_mut(number - LISTENERS_FROM) {
                    listening.waiting = true;
                }
            }
            self.seats.report(events.iter().filter(|event| !of_listeners(&event.token().0)).map(|event| {
                let ended = event.is_read_closed() || event.is_error();
                (event.token().0, [event.is_readable(), event.is_writable() || event.is_error(), ended])
            }));
        }
        for number in 0..self.listening.len() {
            if self.listening[number].waiting && self.pause.is_none() {
                self.accept(number, context);
            }
        }
        Ok(())
    }

    /// Accepts what waits at a listener, a batch at most.
    fn accept(&mut self, number: usize, context: &mut Context<'_>) {
        for _ in 0..ACCEPT_BATCH {
            let Listening { listener, direction, waiting } = &mut self.listening[number];
            let direction = *direction;
            match listener.accept() {
                Ok((socket, peer)) => self.welcome(socket, peer, direction),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *waiting = false;
                    return;
                }
                // This one was gone before it was accepted.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) => {}
                Err(_) => {
                    let mut pause = Box::pin(sleep(ACCEPT_PAUSE));
                    // It is new: it wakes this task when it is over.
                    let _ = pause.as_mut().poll(context);
                    self.pause = Some(pause);
                    return;
                }
            }
        }
        // The others come after those who are here.
        context.waker().wake_by_ref();
    }

    /// A connection arrives: its budget and its place, then its session.
    fn welcome(&mut self, socket: TcpStream, peer: SocketAddr, direction: Direction) {
        let edge = &self.edge;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let source = Source::from(peer.ip());
        let counter = match direction {
            Direction::Inbound => &edge.metrics.connections_inbound,
            Direction::Outbound => &edge.metrics.connections_outbound,
        };
        counter.add(1);
        if direction == Direction::Inbound && edge.blocks.hold(peer.ip(), edge.dataplane.as_ref()) {
            edge.metrics.refused_blocked.add(1);
            return turn_away(&socket, &BLOCKED);
        }
        if direction == Direction::Inbound {
            match edge.reputation.connect(source, edge.now()) {
                Answer::Go => {}
                Answer::OverBudget | Answer::Banned => {
                    edge.metrics.refused_budget.add(1);
                    edge.tell_orders();
                    return turn_away(&socket, &TOO_MUCH);
                }
            }
        }
        self.make_room(direction);
        let edge = &self.edge;
        let seat = match self.seats.take() {
            Taken::Empty(seat) => seat,
            Taken::New(seat) => {
                self.tasks.spawn(sit(
                    Arc::clone(edge),
                    Arc::clone(&self.kept),
                    self.seats.clone(),
                    Arc::clone(&seat),
                ));
                seat
            }
        };
        let ticket = match edge.registry.enter(source, direction, &seat) {
            Ok(ticket) => ticket,
            Err(NoPlace::Full | NoPlace::SourceFull) => {
                edge.metrics.refused_full.add(1);
                self.seats.give_back(seat);
                return turn_away(&socket, &NO_PLACE);
            }
        };
        match Seated::new(socket, Arc::clone(&seat), Arc::clone(self.reactor.registry())) {
            Ok(socket) => seat.bring(Arrival { socket, peer, direction, ticket }),
            // No memory for it in the kernel: the connection closes, and its client comes again.
            Err(_) => {
                drop(ticket);
                self.seats.give_back(seat);
            }
        }
    }

    /// Where places or memory run short, the sessions that got least done in the longest wait make room: where places do,
    /// [`LEAVERS`] for each that comes, so that some become free again also where all were taken before anybody was slow;
    /// where memory does, one. Who gets on with it is not sent away.
    fn make_room(&self, direction: Direction) {
        let edge = &self.edge;
        let is_short = edge.pool.is_nearly_full();
        let holding = !edge.registry.is_crowded(direction);
        if holding && !is_short {
            return;
        }
        let limits = &edge.config.limits;
        // One that waits for its client since just now has all its time but this.
        let most = Duration::from_secs(limits.progress_secs).saturating_sub(SLOW);
        let before = edge.registry.millis(Deadline::after(most));
        let leavers = if holding { 1 } else { LEAVERS };
        for seat in (0..leavers).map_while(|_| self.seats.slowest(before, holding)) {
            seat.ask(Leave::MakeRoom);
        }
    }

    /// No listener any more; the sessions end.
    async fn drain(mut self) -> io::Result<()> {
        self.listening.clear();
        self.seats.ask_all(Leave::AtBorder);
        let (edge, seats) = (Arc::clone(&self.edge), self.seats.clone());
        if self.run_until(timeout(DRAIN, seats.all_left())).await?.is_ok() {
            return Ok(());
        }
        // What is still open is cut: its client got no reply and comes again. But a message that the upstream has may
        // not come again.
        self.seats.ask_all(Leave::Now);
        // Their clients hear so (RFC 5321 section 3.8).
        if self.run_until(timeout(LAST_WORD, seats.all_left())).await?.is_ok() {
            return Ok(());
        }
        let answered = async {
            tokio::select! {
                () = seats.all_left() => {}
                () = edge.doubts.none() => {}
            }
        };
        let patience = edge.upstream_patience().final_dot() + edge.client_patience();
        let _ = self.run_until(timeout(patience, answered)).await?;
        Ok(())
    }
}

const BLOCKED: Reply = Reply::new(421, Enhanced(4, 7, 1), "Your address is blocked here");
const TOO_MUCH: Reply = Reply::new(421, Enhanced(4, 7, 0), "Too much from your address, try again later");
const NO_PLACE: Reply = Reply::new(421, Enhanced(4, 3, 2), "Too many sessions, try again later");

/// Waits for the word to stop. That nobody is left who could say it, says it too.
async fn stopped(mut stop: watch::Receiver<bool>) {
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

/// Says why, if the socket takes it at once, and closes.
fn turn_away(stream: &TcpStream, reply: &Reply) {
    let mut line = Vec::new();
    reply.write(&mut line);
    // A new socket's buffer is empty: it takes a line. If not, the close alone must do.
    let _ = (&mut &*stream).write(&line);
}
