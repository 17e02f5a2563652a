//! Connections between two transactions: kept for the next one, whoever brings it.
//!
//! Each worker has its own, because a connection belongs to its worker's runtime: no other core ever touches them. The
//! last one given back is the first to be taken, so there are never more than the mail of the moment needs.
//!
//! A server may end a connection that waits, at any time. Most of these are noticed while they wait, by their end or by
//! words that nobody asked for, and never taken; what is noticed only at MAIL is replaced by a new connection, since
//! nothing was accepted on it ([`Attempts`](super::attempts::Attempts)). So is one that says nothing to MAIL for as long as
//! a new one would be waited for: its server may be frozen, or its host gone without a word.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::timeout;

use super::{READ_BYTES, Upstream};
use crate::engine::clock::Deadline;
use crate::engine::{Edge, locked};

/// A connection with so many refusals since its last message is not kept: servers slow down who makes too many errors,
/// whoever made them (Postfix from 10 on, `smtpd_soft_error_limit`).
const REFUSALS_MAX: u32 = 5;

/// How often is looked for connections that waited long enough, or ended.
const SWEEP: Duration = Duration::from_secs(1);

/// How long a server may take to forget a transaction that its client left.
const RESET_PATIENCE: Duration = Duration::from_secs(5);

/// The kept connections of one worker.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Most of one upstream.
    per_upstream_max: usize,
    idle_max: Duration,
    age_max: Duration,
    messages_max: u32,
    /// Only this worker's sessions lock it, and for a moment who asks how many there are.
    waiting: Mutex<HashMap<SocketAddr, Vec<Waiting>>>,
}

#[derive(Debug)]
struct Waiting {
    upstream: Upstream,
    until: Deadline,
}

impl Kept {
    /// For one of `workers`, who share what may be kept.
    pub(crate) fn new(edge: &Edge, workers: usize) -> Arc<Self> {
        let limits = &edge.config.limits;
        let kept = Arc::new(Self {
            per_upstream_max: limits.upstream_idle_max.div_ceil(workers.max(1)),
            idle_max: Duration::from_secs(limits.upstream_idle_secs),
            age_max: Duration::from_secs(limits.upstream_age_secs),
            messages_max: limits.upstream_messages_max,
            waiting: Mutex::new(HashMap::new()),
        });
        edge.upstreams.keeper(&kept);
        kept
    }

    /// A connection to this upstream that seems to be alive.
    pub(super) fn take(&self, edge: &Edge, address: SocketAddr) -> Option<Upstream> {
        let mut all = locked(&self.waiting);
        let waiting = all.get_mut(&address)?;
        while let Some(Waiting { mut upstream, until }) = waiting.pop() {
            if !upstream.is_quiet() {
                edge.metrics.upstream_connections_ended.add(1);
            } else if until.left().is_zero() || upstream.settings != edge.upstreams.settings() {
                leave(upstream);
            } else {
                upstream.is_doubted = true;
                return Some(upstream);
            }
        }
        None
    }

    /// A transaction is over: keeps its connection, or ends it.
    pub(crate) fn give_back(&self, edge: &Edge, upstream: Upstream) {
        let is_good = upstream.is_between_transactions()
            && upstream.refusals < REFUSALS_MAX
            && upstream.messages < self.messages_max
            && upstream.since.passed() < self.age_max
            && upstream.settings == edge.upstreams.settings()
            && !edge.upstreams.is_waited_for(upstream.address);
        let mut all = locked(&self.waiting);
        let waiting = all.entry(upstream.address).or_default();
        if is_good && waiting.len() < self.per_upstream_max {
            waiting.push(Waiting { upstream, until: Deadline::after(self.idle_max) });
        } else {
            leave(upstream);
        }
    }

    /// How many wait to be taken.
    pub(crate) fn count(&self, address: SocketAddr) -> usize {
        locked(&self.waiting).get(&address).map_or(0, Vec::len)
    }

    /// A client left its transaction: the upstream forgets it, and its connection is kept.
    pub(crate) async fn give_back_begun(&self, edge: &Edge, mut upstream: Upstream) {
        // Of a body, or of a 354, nobody gets out but by ending the connection.
        if upstream.is_in_body() || !upstream.queue.is_empty() {
            return;
        }
        let forgotten = timeout(RESET_PATIENCE, upstream.reset()).await;
        if forgotten.is_ok_and(|reply| reply.is_ok_and(|reply| reply.code / 100 == 2)) {
            self.give_back(edge, upstream);
        }
    }

    /// Ends what waited long enough, or is wanted elsewhere, and drops what ended by itself.
    fn sweep(&self, edge: &Edge) {
        let settings = edge.upstreams.settings();
        for (address, waiting) in &mut *locked(&self.waiting) {
            let is_wanted = edge.upstreams.is_waited_for(*address);
            let before = std::mem::take(waiting);
            for Waiting { mut upstream, until } in before {
                if !upstream.is_quiet() {
                    edge.metrics.upstream_connections_ended.add(1);
                } else if is_wanted || until.left().is_zero() || upstream.settings != settings {
                    leave(upstream);
                } else {
                    waiting.push(Waiting { upstream, until });
                }
            }
        }
    }

    /// Says goodbye on all of them.
    pub(crate) async fn close(&self) {
        let all = std::mem::take(&mut *locked(&self.waiting));
        for Waiting { upstream, .. } in all.into_values().flatten() {
            upstream.quit().await;
        }
    }
}

/// Looks after one worker's kept connections, for ever.
pub(crate) async fn tend(edge: Arc<Edge>, kept: Arc<Kept>) {
    loop {
        // Either way it is time.
        let _ = timeout(SWEEP, edge.upstreams.wanted()).await;
        kept.sweep(&edge);
    }
}

/// Says goodbye, without holding anybody up.
fn leave(upstream: Upstream) {
    tokio::spawn(upstream.quit());
}

impl Upstream {
    /// Whether nothing is open or unread here.
    fn is_between_transactions(&self) -> bool {
        !self.in_body && self.queue.is_empty() && self.input.len() == self.replied
    }

    /// Whether the server neither ended the connection nor said anything, as far as the runtime knows: no call of the
    /// kernel where nothing happened.
    fn is_quiet(&mut self) -> bool {
        self.forget_reply();
        self.input.reserve(READ_BYTES);
        let read = self.stream.try_read_buf(&mut self.input);
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
