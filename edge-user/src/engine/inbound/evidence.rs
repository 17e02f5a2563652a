//! The search for a proof in a bounce, while it streams in.

use std::sync::Arc;

use edge_core::bounce::{Found, MessageIds, Scanner};
use edge_core::mailbox::Mailbox;
use edge_core::signature::record::Sent;
use edge_core::signature::{Reservation, Token, tokens};

use crate::engine::Edge;

/// A token that proves the bounce.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenProof {
    /// What it says.
    pub(super) token: Token,
    /// Whether it was used too often. Else a use is reserved, to be committed or released.
    pub(super) overused: bool,
}

/// A use of a message of the record, reserved: given back when dropped, unless the bounce arrived.
#[derive(Debug)]
pub(super) struct SentUse {
    edge: Arc<Edge>,
    sent: Option<Sent>,
}

impl SentUse {
    /// `None`: it was used as often as it may be.
    fn reserve(edge: &Arc<Edge>, sent: Sent) -> Option<Self> {
        match edge.uses.reserve_sent(&sent, edge.now()) {
            Reservation::Reserved => Some(Self { edge: Arc::clone(edge), sent: Some(sent) }),
            Reservation::Overused => None,
        }
    }

    /// The bounce arrived: the use counts.
    pub(super) fn commit(mut self) {
        if let Some(sent) = self.sent.take() {
            self.edge.uses.commit_sent(sent.hash);
        }
    }
}

impl Drop for SentUse {
    fn drop(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.edge.uses.release_sent(sent.hash);
        }
    }
}

/// The scanner, and what it is to be believed for.
#[derive(Debug)]
pub(super) struct Evidence {
    scanner: Scanner,
    /// None: no record is kept.
    message_ids: Option<MessageIds>,
    /// What it answers by the record; at most as many as [`MessageIds`] hands out.
    sent: Vec<Sent>,
}

impl Evidence {
    pub(super) fn new(edge: &Edge) -> Self {
        let message_ids = edge.keeps_record().then(MessageIds::new);
        Self { scanner: Scanner::new(), message_ids, sent: Vec::new() }
    }

    /// Begins anew, for the next message.
    pub(super) fn begin(&mut self, edge: &Edge) {
        self.scanner = Scanner::new();
        self.message_ids = edge.keeps_record().then(MessageIds::new);
    }

    /// The message is over: what it answers is forgotten.
    pub(super) fn end(&mut self) {
        self.message_ids = None;
        self.sent.clear();
    }

    /// Looks through the next piece for a token that proves something for `mailbox`.
    pub(super) fn look(&mut self, edge: &Edge, mailbox: &Mailbox, piece: &[u8]) -> Option<TokenProof> {
        let Self { message_ids, sent, .. } = self;
        if let Some(message_ids) = message_ids {
            message_ids.scan(piece, &mut |_, id| sent.extend(edge.find_sent(mailbox, id)));
        }
        check(edge, mailbox, |found| self.scanner.scan(piece, found))
    }

    /// The message is over: what waited for more octets is looked at.
    pub(super) fn finish(&mut self, edge: &Edge, mailbox: &Mailbox) -> Option<TokenProof> {
        let Self { message_ids, sent, .. } = self;
        if let Some(mut message_ids) = message_ids.take() {
            message_ids.finish(&mut |_, id| sent.extend(edge.find_sent(mailbox, id)));
        }
        check(edge, mailbox, |found| self.scanner.finish(found))
    }

    /// What the record proves, if anything it found may still be used. One that was used too often proves nothing, as
    /// with a tag and unlike a token: its Message-ID is no secret.
    pub(super) fn by_record(&mut self, edge: &Arc<Edge>, mailbox: &Mailbox) -> Option<SentUse> {
        if self.sent.is_empty() || !edge.policy().record_proves(mailbox) {
            return None;
        }
        self.sent.drain(..).find_map(|sent| SentUse::reserve(edge, sent))
    }
}

fn check(edge: &Edge, mailbox: &Mailbox, scan: impl FnOnce(&mut dyn FnMut(Found))) -> Option<TokenProof> {
    let (mut proof, mut keys) = (None, None);
    scan(&mut |found| {
        if proof.is_none() {
            let keys = keys.get_or_insert_with(|| edge.keys());
            // What proves nothing is most often a token of somebody else's, or of another mailbox: no event.
            proof = tokens::verify(keys, &found.candidate, mailbox, edge.now(), edge.max_age()).ok();
        }
    });
    let token = proof?;
    let overused = match edge.uses.reserve(&token, edge.now()) {
        Reservation::Reserved => false,
        Reservation::Overused => true,
    };
    Some(TokenProof { token, overused })
}
