//! Which connection a transaction begins on: a kept one, a new one, another server's.

use std::net::SocketAddr;

use super::kept::Kept;
use super::{Patience, Upstream};
use crate::config::SERVERS_MAX;
use crate::engine::Edge;

/// The connections that a transaction may try, one after another, as long as nothing is at stake.
///
/// Of each server first one that was kept, then (should that have ended meanwhile) a new one, then the next server's:
/// those that answered the last time before those that did not.
#[derive(Debug)]
pub(crate) struct Attempts {
    servers: [Option<SocketAddr>; SERVERS_MAX],
    next: usize,
    /// A kept connection of the next server was tried.
    kept_tried: bool,
}

impl Attempts {
    pub(crate) fn new(edge: &Edge, servers: &[SocketAddr]) -> Self {
        let mut order = [None; SERVERS_MAX];
        let up = servers.iter().filter(|server| servers.len() == 1 || !edge.upstreams.is_down(**server));
        let mut count = 0;
        for server in up.chain(servers) {
            if count < order.len() && !order.contains(&Some(*server)) {
                order[count] = Some(*server);
                count += 1;
            }
        }
        Self { servers: order, next: 0, kept_tried: false }
    }

    /// The next connection, its EHLO done. `None`: no server is left. What went wrong before is logged.
    pub(crate) async fn next(&mut self, edge: &Edge, kept: &Kept) -> Option<Upstream> {
        loop {
            let address = (*self.servers.get(self.next)?)?;
            if !std::mem::replace(&mut self.kept_tried, true)
                && let Some(upstream) = kept.take(edge, address)
            {
                return Some(upstream);
            }
            self.next += 1;
            self.kept_tried = false;
            let patience = edge.upstream_patience();
            // The client waits meanwhile, and another server may be well.
            let is_last = self.servers.get(self.next).is_none_or(Option::is_none);
            let greeting = if is_last { patience.reply } else { patience.reply.min(patience.connect) };
            if let Ok(mut upstream) = edge.connect(address, Patience { reply: greeting, ..patience }).await {
                upstream.patience = patience;
                return Some(upstream);
            }
        }
    }
}
