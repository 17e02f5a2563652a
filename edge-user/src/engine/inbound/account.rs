//! What is counted, logged and told to reputation when a message is over.

use edge_core::bounce::Kind;
use edge_core::message::Refusal;
use edge_core::policy::{Action, Reason, Verdict};
use edge_core::reputation::Event as Conduct;
use edge_core::signature::Proof;

use super::Inbound;
use super::envelope::TagUse;
use super::message::Outcome;
use crate::engine::watch::Delivered;
use crate::telemetry::{Direction, RECIPIENTS_NAMED_MAX, VerdictLine, Why};

impl Inbound {
    /// A message was answered.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        let null_sender = self.has_null_sender();
        let (proof, verdict) =
            self.message.as_ref().map_or((None, None), |message| (message.proof, message.verdict));
        if outcome.delivered {
            self.commit_use();
        } else {
            self.release_use();
        }
        if outcome.code / 100 == 4 {
            self.edge.metrics.deferred.add(1);
        } else if let Some(allowance) = self.message.as_mut().and_then(|message| message.allowance.take()) {
            allowance.spend();
        }
        let overused =
            self.message.as_ref().and_then(|message| message.token).is_some_and(|token| token.overused);
        match (null_sender, proof) {
            (false, _) => self.settle_mail(outcome),
            (true, Some(proof)) if !overused => self.settle_proven(outcome, proof),
            // A replayed token may be delivered, but it is a sign of a flood as any other unproven bounce.
            (true, Some(_) | None) => self.settle_unproven(outcome, verdict),
        }
        let kind = self.message.as_ref().and_then(|message| Some(message.reading.as_ref()?.kind));
        if let Some(kind) = kind.filter(|_| null_sender && outcome.delivered) {
            self.edge.metrics.delivered_of(kind).add(1);
        }
        self.log_verdict(verdict, proof, outcome);
    }

    fn settle_mail(&mut self, outcome: Outcome) {
        let metrics = &self.edge.metrics;
        if outcome.delivered {
            metrics.mail_delivered.add(1);
            self.observe(if self.is_from_correspondent() {
                Conduct::CorrespondentMail
            } else {
                Conduct::OtherMail
            });
        } else if outcome.code / 100 == 5 {
            metrics.mail_refused.add(1);
        }
    }

    /// Whether the source has credit: it may hold bounces where the room is short.
    pub(super) fn has_credit(&self) -> bool {
        self.edge.reputation.explain(self.client.source, self.edge.now()).credit > 0.0
    }

    /// Whether our users wrote to the sender's domain.
    fn is_from_correspondent(&self) -> bool {
        let sender = self.transaction.as_ref().and_then(|transaction| transaction.sender.mailbox());
        sender
            .is_some_and(|sender| self.edge.correspondents.knows(sender.domain().as_bytes(), self.edge.now()))
    }

    fn settle_proven(&mut self, outcome: Outcome, proof: Proof) {
        if outcome.delivered {
            match proof {
                Proof::Tag => self.edge.metrics.bounces_tag.add(1),
                Proof::Token => self.edge.metrics.bounces_token.add(1),
                // No credit for it: whoever knows a Message-ID of ours could earn protection from bans by it.
                Proof::Record => return self.edge.metrics.bounces_record.add(1),
            }
            self.observe(Conduct::ProvenBounce);
        }
    }

    fn settle_unproven(&mut self, outcome: Outcome, verdict: Option<Verdict>) {
        match outcome.refusal {
            // Nobody looked at all of it, or the disk failed: it comes again, and that is our fault.
            Some(Refusal::HoldExhausted | Refusal::NotKept) => return,
            Some(
                Refusal::Unproven
                | Refusal::ByUpstream
                | Refusal::UpstreamLost
                | Refusal::InDoubt
                | Refusal::Loop
                | Refusal::BareLineEnding
                | Refusal::TooBig
                // It comes again, but so may a flood: that it found no room must not hide it.
                | Refusal::QuarantineFull,
            )
            | None => {}
        }
        if verdict.is_some_and(|verdict| verdict.reason == Reason::ExemptRecipient) {
            if outcome.delivered {
                self.edge.metrics.bounces_unproven_delivered.add(1);
            }
            return;
        }
        if verdict.is_some_and(|verdict| verdict.reason == Reason::TrustedForwarder) {
            // The forwarder did what its user asked for: as good as any other mail of his.
            if outcome.delivered {
                self.edge.metrics.bounces_forwarded.add(1);
                self.observe(Conduct::OtherMail);
            }
            return;
        }
        if verdict.is_some_and(|verdict| verdict.by_kind_lets_through()) {
            if outcome.delivered {
                self.edge.metrics.kinds_let_through.add(1);
            }
            return;
        }
        self.edge.metrics.unproven.add(1);
        self.edge.unproven_came(self.edge.now());
        // What was deferred comes again.
        if let Some(verdict) = verdict.filter(|_| outcome.code / 100 != 4) {
            let sample = self.message.as_mut().and_then(|message| message.sample.take());
            self.edge.watch.look_at(sample, verdict);
        }
        // Refused before it was judged (a loop, broken lines): it proves nothing and costs the same.
        match verdict.map_or(Action::Reject, |verdict| verdict.action) {
            Action::Reject => {
                self.edge.metrics.bounces_rejected.add(1);
                self.observe(Conduct::UnprovenBounce);
            }
            Action::Quarantine if outcome.refusal.is_none() => {
                self.edge.metrics.bounces_quarantined.add(1);
                self.observe(Conduct::UnprovenBounce);
            }
            Action::Quarantine if outcome.refusal == Some(Refusal::QuarantineFull) => {
                self.observe(Conduct::UnprovenBounce);
            }
            // Broken lines, found after it was judged.
            Action::Quarantine => {
                self.edge.metrics.bounces_rejected.add(1);
                self.observe(Conduct::UnprovenBounce);
            }
            Action::Discard => {
                self.edge.metrics.bounces_discarded.add(1);
                self.observe(Conduct::UnprovenBounce);
            }
            Action::Monitor | Action::Deliver | Action::Mark => {
                if outcome.delivered {
                    self.edge.metrics.bounces_unproven_delivered.add(1);
                    self.note_let_through(verdict);
                }
                // Where the operator only looks on, the source is not held to account either.
                if verdict.is_some_and(|verdict| verdict.reason == Reason::Overused) {
                    self.observe(Conduct::UnprovenBounce);
                }
            }
        }
    }

    /// An unproven bounce was delivered: watching counts what enforcing would have stopped.
    fn note_let_through(&self, verdict: Option<Verdict>) {
        let Some(verdict) = verdict else { return };
        let edge = &self.edge;
        let policy = edge.policy();
        let reading = self.message.as_ref().and_then(|message| message.reading.as_ref());
        let kind = reading.map_or(Kind::Unknown, |reading| reading.kind);
        let bounce = Delivered { source: self.client.source, kind, verdict, policy: &policy };
        edge.watch.delivered(bounce, edge.now());
    }

    /// A bounce was refused in answer to DATA.
    pub(super) fn refused_at_data(&mut self, verdict: Verdict, code: u16) {
        self.edge.metrics.unproven.add(1);
        self.edge.metrics.bounces_rejected.add(1);
        self.edge.unproven_came(self.edge.now());
        self.observe(Conduct::UnprovenBounce);
        let refusal = Some(Refusal::Unproven);
        self.log_verdict(Some(verdict), None, Outcome { code, delivered: false, refusal, bytes: 0 });
    }

    fn commit_use(&mut self) {
        if let Some(found) =
            self.message.as_mut().and_then(|message| message.token.take_if(|token| !token.overused))
        {
            self.edge.uses.commit(&found.token.nonce);
        }
        if let Some(sent) = self.message.as_mut().and_then(|message| message.sent.take()) {
            sent.commit();
        }
        let recipients = self.transaction.iter_mut().flat_map(|transaction| &mut transaction.recipients);
        recipients.filter_map(|recipient| recipient.tag_use.take()).for_each(TagUse::commit);
    }

    /// What did not arrive used up nothing.
    pub(super) fn release_use(&mut self) {
        if let Some(found) =
            self.message.as_mut().and_then(|message| message.token.take_if(|token| !token.overused))
        {
            self.edge.uses.release(&found.token.nonce);
        }
    }

    /// The last thing that is asked of a transaction and its message.
    fn log_verdict(&mut self, verdict: Option<Verdict>, proof: Option<Proof>, outcome: Outcome) {
        let (quarantine, reading) = self.message.as_mut().map_or((None, None), |message| {
            // It is over: what is told of it is not needed any more.
            (message.quarantine.take(), message.reading.take())
        });
        // So is the transaction: the line has its memory.
        let Some(transaction) = &mut self.transaction else { return };
        let recipients = transaction.recipients.len();
        let mut named =
            transaction.recipients.iter_mut().take(RECIPIENTS_NAMED_MAX).map(|named| named.take_text());
        self.edge.log.verdict(VerdictLine {
            at: self.edge.now(),
            source: self.client.peer.ip(),
            sender: transaction.sender.take_text(),
            recipient: named.next().unwrap_or_default(),
            also_to: named.collect(),
            recipients,
            direction: Direction::Inbound,
            action: verdict.map(|verdict| verdict.action).or(proof.map(|_| Action::Deliver)),
            reason: why(verdict, proof, outcome.refusal),
            proof,
            filter: verdict.and_then(|verdict| verdict.filter),
            quarantine,
            reply: outcome.code,
            bytes: outcome.bytes,
            reading,
        });
    }
}

/// What is refused for another reason than the policy's is so whatever the policy said.
fn why(verdict: Option<Verdict>, proof: Option<Proof>, refusal: Option<Refusal>) -> Why {
    match (refusal, verdict, proof) {
        (None | Some(Refusal::Unproven), Some(verdict), _) => Why::Judged(verdict.reason),
        (Some(refusal), _, _) => Why::Refused(refusal),
        (None, None, Some(_)) => Why::Judged(Reason::Proven),
        (None, None, None) => Why::Accepted,
    }
}
