//! Between the final dot and the client's having its reply, a message is in doubt (RFC 1047): who ends there leaves the
//! upstream with it and the client without an answer, and the client brings it again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::utils::CachePadded;
use tokio::sync::Notify;

use super::Edge;
use super::registry::Counted;
use crate::telemetry::Event;

/// One message in doubt; counted and logged when dropped, unless it was settled before.
#[derive(Debug)]
pub(crate) struct Doubt {
    edge: Arc<Edge>,
    upstream: SocketAddr,
    recipient: String,
    settled: bool,
}

impl Doubt {
    /// The final dot is about to go to `upstream`.
    pub(crate) fn begin(edge: &Arc<Edge>, upstream: SocketAddr, recipient: String) -> Self {
        edge.doubts.count.fetch_add(1, Ordering::SeqCst);
        Self { edge: Arc::clone(edge), upstream, recipient, settled: false }
    }

    /// The upstream did not take the message, or the client knows that it did.
    pub(crate) fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        self.edge.doubts.one_less();
        if !self.settled {
            self.edge.metrics.in_doubt.add(1);
            let recipient = std::mem::take(&mut self.recipient);
            self.edge.log.event(Event::InDoubt { upstream: self.upstream, recipient });
        }
    }
}

/// How many messages are in doubt: one number, that sessions count up and down without a lock.
#[derive(Debug)]
pub struct Doubts {
    count: CachePadded<AtomicUsize>,
    /// Who waits until there is none, which only workers do that were told to stop.
    awaited: AtomicUsize,
    settled: Notify,
}

impl Doubts {
    pub(super) fn new() -> Self {
        Self { count: CachePadded::default(), awaited: AtomicUsize::new(0), settled: Notify::new() }
    }

    fn one_less(&self) {
        let was_last = self.count.fetch_sub(1, Ordering::SeqCst) == 1;
        // Who waits says so before it looks at the count: one of both sees the other.
        if was_last && self.awaited.load(Ordering::SeqCst) > 0 {
            self.settled.notify_waiters();
        }
    }

    /// Waits until none is.
    pub(super) async fn none(&self) {
        let _waiting = Counted::among(&self.awaited);
        loop {
            let settled = self.settled.notified();
            if self.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            settled.await;
        }
    }
}
