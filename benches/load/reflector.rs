//! A reflecting server: honest, and with a queue. What gets `4xx` or no answer is tried again by schedule, what
//! gets `5xx` is over, many messages go over one connection.
//!
//! Each has a temper of its own, by seed: how many connections it opens at once, how many messages it sends over
//! one. When a connection fails or ends with 421 the whole server waits, as real ones do for a host that is down:
//! the messages behind the first one are not tried in vain.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng;
use tokio::time::{Instant, sleep};

use crate::ledger::Ledger;
use crate::mass::Post;
use crate::plan::{self, Planned};
use crate::smtp::{Between, Outcome, Session};

/// How often an idle connection's worker looks for work; the connection is closed after [`IDLE`].
const LOOK_EVERY: Duration = Duration::from_millis(200);
const IDLE: Duration = Duration::from_secs(1);

/// How a server likes to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Temper {
    /// Connections at once.
    pub connections: u32,
    /// Messages over one connection.
    pub messages_per_connection: u32,
}

impl Temper {
    /// The temper of the server at `source`.
    #[must_use]
    pub fn of(seed: u64, source: IpAddr) -> Self {
        let mut rng = plan::rng(seed, &format!("temper {source}"));
        Self {
            connections: rng.random_range(1..=3),
            messages_per_connection: [20, 100, 1000][rng.random_range(0..3)],
        }
    }
}

/// One server and its queue.
#[derive(Debug)]
pub struct Reflector {
    source: IpAddr,
    temper: Temper,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    /// Indices into the plan, by when they are due (since the begin).
    waiting: BinaryHeap<Reverse<(Duration, usize)>>,
    in_hand: usize,
    /// No new connection before.
    down_until: Duration,
}

enum Next {
    Message(usize),
    /// Nothing to do for now.
    Wait,
    /// Nothing will ever be to do.
    Over,
}

impl Reflector {
    /// A server with its share of the plan: `(index, message)`.
    pub fn new<'a>(seed: u64, source: IpAddr, share: impl Iterator<Item = (usize, &'a Planned)>) -> Self {
        let waiting = share.map(|(index, message)| Reverse((message.due, index))).collect();
        let queue = Mutex::new(Queue { waiting, in_hand: 0, down_until: Duration::ZERO });
        Self { source, temper: Temper::of(seed, source), queue }
    }

    /// Sends everything. Returns when the queue is empty, or gives up at `deadline` (since the begin).
    pub async fn run(self, post: Rc<Post>, ledger: Rc<Ledger>, begin: Instant, deadline: Duration) {
        let connections = self.temper.connections;
        let server = Rc::new(self);
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let (server, post, ledger) = (server.clone(), post.clone(), ledger.clone());
            workers.spawn_local(async move { server.work(&post, &ledger, begin, deadline).await });
        }
        while workers.join_next().await.is_some() {}
        for Reverse((_, index)) in std::mem::take(&mut server.lock().waiting) {
            ledger.give_up(index);
        }
    }

    async fn work(&self, post: &Post, ledger: &Ledger, begin: Instant, deadline: Duration) {
        let mut open: Option<(Session, u32)> = None;
        let mut idle = Duration::ZERO;
        while begin.elapsed() < deadline {
            match self.next(begin.elapsed(), open.is_some()) {
                Next::Over => break,
                Next::Wait => {
                    sleep(LOOK_EVERY).await;
                    idle += LOOK_EVERY;
                    if idle >= IDLE
                        && let Some((session, _)) = open.take()
                    {
                        session.quit().await;
                    }
                }
                Next::Message(index) => {
                    idle = Duration::ZERO;
                    let began = begin.elapsed();
                    let outcome = self.deliver(&mut open, index, post, ledger).await;
                    let ended = begin.elapsed();
                    let wait = ledger.tried(index, outcome, began, ended, &post.backoff);
                    self.after(index, outcome, ended, wait, post);
                }
            }
        }
        if let Some((session, _)) = open {
            session.quit().await;
        }
    }

    async fn deliver(
        &self,
        open: &mut Option<(Session, u32)>,
        index: usize,
        post: &Post,
        ledger: &Ledger,
    ) -> Outcome {
        let spent = open.as_mut().is_some_and(|(session, sent)| match session.between_messages() {
            Between::Quiet => *sent >= self.temper.messages_per_connection,
            Between::Said(421) => {
                ledger.sent_away(self.source);
                true
            }
            Between::Said(_) | Between::Broken => true,
        });
        if spent
            && let Some((session, _)) = open.take()
            && session.usable()
        {
            session.quit().await;
        }
        if open.is_none() {
            match Session::open(self.source, post.target, &helo(self.source), post.patience).await {
                Ok(session) => *open = Some((session, 0)),
                Err(outcome) => return outcome,
            }
        }
        let Some((session, sent)) = open else { return Outcome::Deferred(421) };
        *sent += 1;
        let message = post.message(index);
        let outcome = session.send(&message.envelope, &message.wire).await;
        if outcome == Outcome::Deferred(421) {
            ledger.sent_away(self.source);
        }
        if !session.usable() {
            *open = None;
        }
        outcome
    }

    fn next(&self, now: Duration, connected: bool) -> Next {
        let mut queue = self.lock();
        match queue.waiting.peek() {
            None if queue.in_hand == 0 => Next::Over,
            Some(Reverse((due, index))) if *due <= now && (connected || queue.down_until <= now) => {
                let index = *index;
                queue.waiting.pop();
                queue.in_hand += 1;
                Next::Message(index)
            }
            None | Some(_) => Next::Wait,
        }
    }

    fn after(&self, index: usize, outcome: Outcome, now: Duration, wait: Option<Duration>, post: &Post) {
        let mut queue = self.lock();
        queue.in_hand -= 1;
        if let Some(wait) = wait {
            queue.waiting.push(Reverse((now + wait, index)));
        }
        if matches!(outcome, Outcome::NoAnswer(_) | Outcome::Deferred(421)) {
            queue.down_until = now + post.backoff.wait(1).unwrap_or(Duration::ZERO);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name that the host at `source` says in EHLO: an address literal (RFC 5321 section 4.1.3).
#[must_use]
pub fn helo(source: IpAddr) -> String {
    match source {
        IpAddr::V4(v4) => format!("[{v4}]"),
        IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
    }
}
