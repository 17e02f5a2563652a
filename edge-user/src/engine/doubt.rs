//! Between the final dot and the client's having its reply, a message is in doubt (RFC 1047): who ends there leaves the
//! upstream with it and the client without an answer, and the client brings it again.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::Edge;
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
        edge.doubts.0.send_modify(|count| *count += 1);
        Self { edge: Arc::clone(edge), upstream, recipient, settled: false }
    }

    /// The upstream did not take the message, or the client knows that it did.
    pub(crate) fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        self.edge.doubts.0.send_modify(|count| *count -= 1);
        if !self.settled {
            self.edge.metrics.in_doubt.add(1);
            let recipient = std::mem::take(&mut self.recipient);
            self.edge.log.event(Event::InDoubt { upstream: self.upstream, recipient });
        }
    }
}

/// How many messages are in doubt.
#[derive(Debug)]
pub struct Doubts(watch::Sender<usize>);

impl Doubts {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// Waits until none is.
    pub(super) async fn none(&self) {
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}
