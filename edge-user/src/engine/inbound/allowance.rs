//! A message's place within the rate of its mailbox.

use std::sync::Arc;

use edge_core::bounce::Kind;
use edge_core::mailbox::Mailbox;

use crate::engine::Edge;
use crate::engine::decided::{Allowances, TakenFrom};

/// A place that a message took: given back when dropped, unless the message was answered for good. What was deferred,
/// or never ended, comes again, and takes it then.
#[derive(Debug)]
pub(super) struct Allowance {
    edge: Arc<Edge>,
    of: fn(&Edge) -> &Allowances,
    taken: Option<TakenFrom>,
}

impl Allowance {
    /// Of what a trusted forwarder passes on to `mailbox`. `None`: it had that much.
    pub(super) fn forwarded(edge: &Arc<Edge>, mailbox: &Mailbox, per_hour: u32) -> Option<Self> {
        let taken = edge.forwarded.take(mailbox, per_hour, edge.now())?;
        Some(Self { edge: Arc::clone(edge), of: |edge| &edge.forwarded, taken: Some(taken) })
    }

    /// Of what the rule of `kind` lets through to `mailbox`. `None`: it had that much.
    pub(super) fn by_kind(edge: &Arc<Edge>, mailbox: &Mailbox, kind: Kind, per_hour: u32) -> Option<Self> {
        let taken = edge.by_kind.take(&(mailbox, kind), per_hour, edge.now())?;
        Some(Self { edge: Arc::clone(edge), of: |edge| &edge.by_kind, taken: Some(taken) })
    }

    /// The message was answered for good.
    pub(super) fn spend(mut self) {
        self.taken = None;
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            (self.of)(&self.edge).give_back(&taken);
        }
    }
}
