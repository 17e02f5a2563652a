//! A worker's seats: each has a task that serves one session after the other, and what the session waits with.
//!
//! A seat is made when more sessions come than there are seats, and is kept for the next one: in steady state a session
//! allocates nothing, neither task nor timer nor buffers. The worker's own epoll set ([`super::reactor`]) tells a seat
//! what its socket may do, on the thread that the session runs on; so nothing here is locked by two cores, but for the
//! rare word from elsewhere that a session is to leave.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};

use super::locked;
use super::registry::{Leave, Ticket};
use super::socket::Seated;
use crate::telemetry::Direction;

/// The socket may have something to read, or has ended.
const READABLE: u8 = 1;
/// The socket may take octets.
const WRITABLE: u8 = 2;
/// The other side has closed its way, so that reading comes to its end: it stays readable.
const ENDED: u8 = 4;

/// A connection on its way to a seat.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) socket: Seated,
    pub(super) peer: SocketAddr,
    pub(super) direction: Direction,
    pub(super) ticket: Ticket,
}

/// A session waits for its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wait {
    /// When all the time is used up that the client has: milliseconds of the registry's own epoch. Of all sessions, the one
    /// with the least got the least done in the longest wait.
    pub(super) ends: u64,
    /// What came of a message is held meanwhile.
    pub(super) holds: bool,
}

impl Wait {
    const NONE: u64 = u64::MAX;

    fn number(self) -> u64 {
        self.ends << 1 | u64::from(self.holds)
    }

    fn from_number(number: u64) -> Option<Self> {
        (number != Self::NONE).then_some(Self { ends: number >> 1, holds: number & 1 == 1 })
    }
}

/// One seat.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Its number in its worker, and in the worker's epoll set.
    number: usize,
    /// What the socket may do, as far as is known. Wrong at most for the better: a try says so.
    ready: AtomicU8,
    leave: AtomicU8,
    /// How its session waits for its client: [`Wait`] as a number.
    wait: AtomicU64,
    /// Its task's, from when that waits for the first time: no other task ever waits here.
    waker: OnceLock<Waker>,
    arrival: Mutex<Option<Arrival>>,
}

impl Seat {
    /// An empty seat.
    pub(crate) fn new(number: usize) -> Arc<Self> {
        Arc::new(Self {
            number,
            ready: AtomicU8::new(0),
            leave: AtomicU8::new(Leave::Stay as u8),
            wait: AtomicU64::new(Wait::NONE),
            waker: OnceLock::new(),
            arrival: Mutex::default(),
        })
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// A new session takes it: of the one before nothing is left.
    pub(super) fn begin(&self) {
        self.ready.store(0, Ordering::Relaxed);
        self.leave.store(Leave::Stay as u8, Ordering::Release);
        self.wait.store(Wait::NONE, Ordering::Relaxed);
    }

    /// Brings a connection; its task serves it.
    pub(super) fn bring(&self, arrival: Arrival) {
        *locked(&self.arrival) = Some(arrival);
        self.wake();
    }

    /// Waits for the next connection.
    pub(super) async fn arrival(&self) -> Arrival {
        std::future::poll_fn(|context| {
            self.remember(context);
            locked(&self.arrival).take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// What the session that sits here is asked to do.
    pub(crate) fn leave(&self) -> Leave {
        Leave::ALL[usize::from(self.leave.load(Ordering::Acquire))]
    }

    /// How the session waits for its client: what it may be sent away from.
    pub(super) fn wait(&self) -> Option<Wait> {
        Wait::from_number(self.wait.load(Ordering::Relaxed))
    }

    /// The session waits for its client; or does not.
    pub(super) fn set_wait(&self, wait: Option<Wait>) {
        self.wait.store(wait.map_or(Wait::NONE, Wait::number), Ordering::Relaxed);
    }

    /// The session may stay after all, unless it was asked for more meanwhile.
    pub(super) fn spare(&self) {
        // Rare, and asked behind each command: a look costs less than to have the word for oneself.
        if self.leave() != Leave::MakeRoom {
            return;
        }
        let (crowded, stay) = (Leave::MakeRoom as u8, Leave::Stay as u8);
        let _ = self.leave.compare_exchange(crowded, stay, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Asks the session to leave; what it was asked before it is asked still.
    pub(crate) fn ask(&self, leave: Leave) {
        self.is_asked(leave);
        self.wake();
    }

    /// The same, for who wakes it afterwards.
    pub(super) fn is_asked(&self, leave: Leave) {
        self.leave.fetch_max(leave as u8, Ordering::AcqRel);
        // Another thread may ask while the task waits for the first time: one of both sees the other.
        fence(Ordering::SeqCst);
    }

    /// The epoll set reports.
    pub(super) fn report(&self, readable: bool, writable: bool, ended: bool) {
        let mut now = self.ready.load(Ordering::Relaxed);
        for (is, bit) in [(readable, READABLE), (writable, WRITABLE), (ended, ENDED | READABLE)] {
            if is {
                now |= bit;
            }
        }
        self.ready.store(now, Ordering::Relaxed);
        self.wake();
    }

    pub(super) fn may_read(&self) -> bool {
        self.ready.load(Ordering::Relaxed) & READABLE != 0
    }

    /// All that was there is read: until the epoll set says so again, there is nothing, unless it is the end.
    pub(super) fn drained(&self) {
        let now = self.ready.load(Ordering::Relaxed);
        if now & ENDED == 0 {
            self.ready.store(now & !READABLE, Ordering::Relaxed);
        }
    }

    /// A read found nothing.
    pub(super) fn would_block(&self) {
        self.ready.store(self.ready.load(Ordering::Relaxed) & !(READABLE | ENDED), Ordering::Relaxed);
    }

    /// A write found no room.
    pub(super) fn full(&self) {
        self.ready.store(self.ready.load(Ordering::Relaxed) & !WRITABLE, Ordering::Relaxed);
    }

    pub(super) fn poll_readable(&self, context: &Context<'_>) -> Poll<()> {
        self.poll_ready(READABLE, context)
    }

    pub(super) fn poll_writable(&self, context: &Context<'_>) -> Poll<()> {
        self.poll_ready(WRITABLE, context)
    }

    fn poll_ready(&self, bit: u8, context: &Context<'_>) -> Poll<()> {
        if self.ready.load(Ordering::Relaxed) & bit != 0 {
            return Poll::Ready(());
        }
        // Also the one that is told when the session is to leave.
        self.remember(context);
        Poll::Pending
    }

    fn remember(&self, context: &Context<'_>) {
        match self.waker.get() {
            Some(waker) => {
                debug_assert_eq!(waker.data(), context.waker().data(), "one task waits at a seat");
            }
            None => {
                let _ = self.waker.set(context.waker().clone());
                fence(Ordering::SeqCst);
            }
        }
    }

    /// Whatever the session waits for, it looks again.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_before_is_asked_still() {
        let seat = Seat::new(0);
        seat.ask(Leave::Now);
        seat.ask(Leave::AtBorder);
        assert_eq!(seat.leave(), Leave::Now);
        seat.begin();
        assert_eq!(seat.leave(), Leave::Stay, "the next session is not asked");
    }

    #[test]
    fn a_wait_is_known_until_it_ends_and_who_is_spared_stays() {
        let seat = Seat::new(0);
        assert_eq!(seat.wait(), None);
        for wait in [Wait { ends: 0, holds: false }, Wait { ends: 600_000, holds: true }] {
            seat.set_wait(Some(wait));
            assert_eq!(seat.wait(), Some(wait));
        }
        seat.set_wait(None);
        assert_eq!(seat.wait(), None);
        seat.ask(Leave::MakeRoom);
        seat.spare();
        assert_eq!(seat.leave(), Leave::Stay);
        seat.ask(Leave::AtBorder);
        seat.spare();
        assert_eq!(seat.leave(), Leave::AtBorder, "it was asked by another");
    }

    #[test]
    fn a_socket_at_its_end_stays_readable_until_a_read_says_otherwise() {
        let context = Context::from_waker(Waker::noop());
        let seat = Seat::new(0);
        assert!(seat.poll_readable(&context).is_pending() && seat.poll_writable(&context).is_pending());
        seat.report(true, false, false);
        assert!(seat.may_read());
        seat.drained();
        assert!(!seat.may_read());
        seat.report(true, false, true);
        seat.drained();
        assert!(seat.may_read(), "the end is still to be read");
        seat.would_block();
        assert!(!seat.may_read());
    }
}
