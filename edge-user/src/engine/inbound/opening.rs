//! A held bounce goes to the upstream: nothing of it went there before.

use std::sync::Arc;

use edge_core::message::Happening;

use super::Inbound;
use super::through::Asked;
use crate::engine::passing::{Said, Words};
use crate::engine::upstream::{Stage, UpstreamError};

/// The field in front of a bounce that is delivered marked.
pub(super) const MARK: &[u8] = b"Backstop-Verdict: unproven\r\n";

/// The upstream is lost; what is to be known of it is known already.
struct Lost;

impl Inbound {
    /// A held bounce goes to the upstream: MAIL, RCPT, DATA, our fields and all that is held.
    pub(super) async fn open(&mut self, mark: bool) -> Option<Happening> {
        match self.open_with_held(mark).await {
            Ok(None) => None,
            Ok(Some(words)) => {
                // It waits for no body: it is told goodbye.
                if let Some(upstream) = self.upstream.take_if(|upstream| !upstream.is_in_body()) {
                    upstream.quit().await;
                }
                self.message.as_mut()?.words = Some(words);
                Some(Happening::UpstreamRefused)
            }
            Err(Lost) => Some(Happening::UpstreamLost),
        }
    }

    /// `Some`: the upstream's refusal.
    async fn open_with_held(&mut self, mark: bool) -> Result<Option<Words>, Lost> {
        let edge = Arc::clone(&self.edge);
        let recipient =
            self.transaction.as_mut().and_then(|transaction| transaction.recipients.pop()).ok_or(Lost)?;
        let asked = self.ask(&recipient, true).await;
        if let Some(transaction) = &mut self.transaction {
            transaction.recipients.push(recipient);
        }
        match asked {
            Asked::Yes(_) => {}
            Asked::No(words) => return Ok(Some(words)),
            // Of `Unfit`: what is offered changed, the client comes again and is offered less.
            Asked::Unfit(_) | Asked::Lost => return Err(Lost),
        }
        let lost = |error: UpstreamError| {
            edge.upstream_is_down(&error);
            Lost
        };
        let upstream = self.upstream.as_mut().ok_or(Lost)?;
        let reply = upstream.data().await.map_err(lost)?;
        match Said::of(Stage::Data, &reply) {
            Said::Yes => {}
            Said::No => return Ok(Some(Words::of(&reply))),
            Said::Lost => return Err(Lost),
        }
        let mut front = Vec::new();
        self.write_received(edge.next_id(), &mut front);
        if mark {
            front.extend_from_slice(MARK);
        }
        let (Some(message), Some(upstream)) = (&mut self.message, &mut self.upstream) else {
            return Err(Lost);
        };
        let mut pieces = vec![front.as_slice()];
        pieces.extend(message.held.pieces(self.client.input.buffer()));
        let sent = upstream.send(&pieces).await;
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        edge.metrics.bytes_upstream.add(bytes as u64);
        drop(pieces);
        message.held.let_go();
        match sent {
            Ok(()) => Ok(None),
            Err(error) => match self.last_words() {
                Some(words) => Ok(Some(words)),
                None => Err(lost(error)),
            },
        }
    }

    /// What an upstream that takes no more of the body said of it, if it did.
    fn last_words(&mut self) -> Option<Words> {
        let reply = self.upstream.as_mut()?.last_words()?;
        matches!(Said::of(Stage::Body, &reply), Said::No).then(|| Words::of(&reply))
    }

    /// The upstream takes no more of the body: perhaps it said why.
    pub(super) fn lost_in_body(&mut self, error: &UpstreamError) -> Happening {
        let words = self.last_words();
        match (words, &mut self.message) {
            (Some(words), Some(message)) => {
                message.words = Some(words);
                Happening::UpstreamRefused
            }
            (_, _) => {
                self.edge.upstream_is_down(error);
                Happening::UpstreamLost
            }
        }
    }
}
