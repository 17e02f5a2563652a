//! The search for a proof in a bounce, while it streams in.

use edge_core::bounce::{Found, Scanner};
use edge_core::mailbox::Mailbox;
use edge_core::signature::{Reservation, Token, tokens};

use crate::engine::{Edge, locked};

/// A token that proves the bounce.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenProof {
    /// What it says.
    pub(super) token: Token,
    /// Whether it was used too often. Else a use is reserved, to be committed or released.
    pub(super) overused: bool,
}

/// The scanner, and what it is to be believed for.
#[derive(Debug)]
pub(super) struct Evidence {
    scanner: Scanner,
}

impl Evidence {
    pub(super) fn new() -> Self {
        Self { scanner: Scanner::new() }
    }

    /// Looks through the next piece for a token that proves something for `mailbox`.
    pub(super) fn look(&mut self, edge: &Edge, mailbox: &Mailbox, piece: &[u8]) -> Option<TokenProof> {
        check(edge, mailbox, |found| self.scanner.scan(piece, found))
    }

    /// The message is over: what waited for more octets is looked at.
    pub(super) fn finish(&mut self, edge: &Edge, mailbox: &Mailbox) -> Option<TokenProof> {
        check(edge, mailbox, |found| self.scanner.finish(found))
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
    let overused = match locked(&edge.uses).reserve(&token, edge.now()) {
        Reservation::Reserved => false,
        Reservation::Overused => true,
    };
    Some(TokenProof { token, overused })
}
