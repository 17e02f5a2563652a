//! A message begins, in the memory of the one before it.

use std::cell::Cell;
use std::sync::Arc;

use edge_core::message::{Fate, ReceivedCount};
use edge_core::signature::Proof;

use super::Transaction;
use super::envelope::Tag;
use super::evidence::Evidence;
use super::message::Message;
use crate::engine::Edge;
use crate::engine::pool::Held;

thread_local! {
    /// The memory of the message that was over last on this thread: it is warm, and the next one has it. One a thread.
    static AT_HAND: Cell<Option<Box<Message>>> = const { Cell::new(None) };
}

impl Message {
    /// A bounce that nothing proved so far.
    pub(super) fn bounce(edge: &Edge) -> Box<Self> {
        Self::begin(edge, Fate::deciding(edge.config.limits.hold_bytes_max))
    }

    /// Mail with a sender, or a bounce that its tag proved.
    pub(super) fn through(edge: &Edge, transaction: &Transaction) -> Box<Self> {
        let tagged = transaction.recipients.first().is_some_and(|recipient| recipient.tag == Tag::Valid);
        let mut message = Self::begin(edge, Fate::streaming());
        message.proof = (tagged && transaction.sender.is_null()).then_some(Proof::Tag);
        message
    }

    fn begin(edge: &Edge, fate: Fate) -> Box<Self> {
        let Some(mut message) = AT_HAND.take() else { return Box::new(Self::new(edge, fate)) };
        message.fate = fate;
        message.received = ReceivedCount::new();
        message.evidence.begin(edge);
        message.held.begin(&edge.pool);
        message
    }

    /// It is over: nothing is left of it but its memory.
    pub(super) fn end(mut self: Box<Self>) {
        // What begins anew is made anew then; the rest goes now, with what it has reserved.
        let Self {
            fate: _,
            received: _,
            evidence,
            held,
            draft,
            quarantine,
            front,
            last,
            words,
            proof,
            token,
            sent,
            allowance,
            verdict,
            sample,
            reading,
        } = &mut *self;
        evidence.end();
        held.let_go();
        *draft = None;
        *quarantine = None;
        *front = Vec::new();
        *last = None;
        *words = None;
        *proof = None;
        *token = None;
        *sent = None;
        *allowance = None;
        *verdict = None;
        *sample = None;
        *reading = None;
        AT_HAND.set(Some(self));
    }

    fn new(edge: &Edge, fate: Fate) -> Self {
        Self {
            fate,
            received: ReceivedCount::new(),
            evidence: Evidence::new(edge),
            held: Held::new(Arc::clone(&edge.pool)),
            draft: None,
            quarantine: None,
            front: Vec::new(),
            last: None,
            words: None,
            proof: None,
            token: None,
            sent: None,
            allowance: None,
            verdict: None,
            sample: None,
            reading: None,
        }
    }
}
