//! A message from 354 to the reply to its final dot. [`Fate`] decides; this carries out.

use std::ops::Range;

use edge_core::bounce::Reading;
use edge_core::message::{Fate, Happening, JudgeWhen, Order, Received, ReceivedCount, Refusal};
use edge_core::policy::{Action, Facts, Situation, Verdict};
use edge_core::signature::Proof;
use edge_core::smtp::EndOfData;

use super::Inbound;
use super::allowance::Allowance;
use super::evidence::{Evidence, SentUse, TokenProof};
use crate::engine::doubt::Doubt;
use crate::engine::passing::{Said, UPSTREAM_LOST, Words};
use crate::engine::pool::Held;
use crate::engine::quarantine::Draft;
use crate::engine::upstream::Stage;
use crate::engine::watch::Sample;

/// How far in, in octets, the proof of a real bounce may lie.
const PROOF_BYTES_MAX: usize = 64 << 10;

/// A message on its way.
pub(super) struct Message {
    pub(super) fate: Fate,
    pub(super) received: ReceivedCount,
    pub(super) evidence: Evidence,
    /// What is held of it.
    pub(super) held: Held,
    /// On its way into the quarantine.
    pub(super) draft: Option<Draft>,
    /// Its id there, once it is kept.
    pub(super) quarantine: Option<String>,
    /// Our fields, until they are sent in front of its first octets.
    pub(super) front: Vec<u8>,
    /// Its last octets, which are sent together with the final dot: where they stand in the read buffer, which is not
    /// read into before its end is answered.
    pub(super) last: Option<Range<usize>>,
    pub(super) words: Option<Words>,
    /// What proved it.
    pub(super) proof: Option<Proof>,
    /// The token that did, or that was used too often.
    pub(super) token: Option<TokenProof>,
    /// The message of the record that it answers, if that proved it.
    pub(super) sent: Option<SentUse>,
    /// Its place within the rate by which it is let through unproven.
    pub(super) allowance: Option<Allowance>,
    /// What the policy said, if it was asked.
    pub(super) verdict: Option<Verdict>,
    /// A copy, to be looked at when it is answered.
    pub(super) sample: Option<Sample>,
    /// What it says of itself; read when it is decided, from what is held then.
    pub(super) reading: Option<Reading>,
}

impl Message {
    fn is_undecided(&self) -> bool {
        matches!(self.fate, Fate::Deciding { .. })
    }
}

/// How a message ended, for the books.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// The code of the reply to the final dot.
    pub(super) code: u16,
    /// The upstream said 2xx.
    pub(super) delivered: bool,
    /// Why it was refused, if it was.
    pub(super) refusal: Option<Refusal>,
    /// Octets on the wire.
    pub(super) bytes: u64,
}

impl Inbound {
    /// A piece of the message: the octets `range` of the read buffer.
    pub(super) async fn body(&mut self, range: Range<usize>) {
        if let Some(happening) = self.look_at(range.clone()) {
            self.tell(happening).await;
        }
        let has_credit = self.edge.pool.is_nearly_full() && self.has_credit();
        loop {
            let Some(message) = &mut self.message else { return };
            match message.fate.on(Happening::Piece { bytes: range.len() }) {
                Order::Hold if message.held.hold(range.clone(), has_credit) => return,
                // Where the room is short, a bounce is held no further than its proof may lie, in one that is real.
                Order::Hold if message.held.bytes() >= PROOF_BYTES_MAX => {
                    let decision = self.decide(JudgeWhen::TooBigToProve);
                    self.tell(decision).await;
                }
                Order::Hold => {
                    let happening = self.proven_by_record().unwrap_or(Happening::HoldExhausted);
                    self.tell(happening).await;
                }
                Order::Judge(when) => {
                    let decision = self.decide(when);
                    self.tell(decision).await;
                }
                Order::Stream if self.ends_with(&range) => return,
                Order::Stream => return Box::pin(self.stream(range)).await,
                Order::KeepPiece => return Box::pin(self.keep_piece(range)).await,
                Order::Skip
                | Order::Nothing
                | Order::Open { .. }
                | Order::Keep
                | Order::Seal
                | Order::LetGo
                | Order::Finish
                | Order::Refuse(_)
                | Order::Accept => return,
            }
        }
    }

    /// What the octets themselves say, before they go anywhere.
    fn look_at(&mut self, range: Range<usize>) -> Option<Happening> {
        let message = self.message.as_mut()?;
        let piece = self.client.input.octets(range);
        if message.received.take(piece) {
            return Some(Happening::Loop);
        }
        if !message.is_undecided() {
            return None;
        }
        let recipient = self.transaction.as_ref()?.recipients.first()?;
        let found = message.evidence.look(&self.edge, &recipient.mailbox, piece)?;
        let held = message.held.pieces(self.client.input.buffer());
        message.reading = Some(self.edge.domains.reading_of(held.chain([piece])));
        Some(self.proven_by(found))
    }

    fn proven_by(&mut self, found: TokenProof) -> Happening {
        if let Some(message) = &mut self.message {
            message.proof = Some(Proof::Token);
            message.token = Some(found);
        }
        if found.overused { Happening::Ruled(self.judge(JudgeWhen::AtEnd)) } else { Happening::Proven }
    }

    /// No token proved it: the record may, or the policy rules.
    fn decide(&mut self, when: JudgeWhen) -> Happening {
        self.proven_by_record().unwrap_or_else(|| Happening::Ruled(self.judge(when)))
    }

    /// The record is asked only when the policy would be, at the end or where there is no more room: a token may come
    /// behind the Message-ID, and is the better proof. Nothing is lost by that: what is not proven waits in any case.
    fn proven_by_record(&mut self) -> Option<Happening> {
        let message = self.message.as_mut().filter(|message| message.proof.is_none())?;
        let recipient = self.transaction.as_ref()?.recipients.first()?;
        message.sent = Some(message.evidence.by_record(&self.edge, &recipient.mailbox)?);
        message.proof = Some(Proof::Record);
        let held = message.held.pieces(self.client.input.buffer());
        message.reading = Some(self.edge.domains.reading_of(held));
        Some(Happening::Proven)
    }

    /// Asks the policy.
    fn judge(&mut self, when: JudgeWhen) -> Action {
        let (Some(message), Some(recipient)) = (
            &mut self.message,
            self.transaction.as_ref().and_then(|transaction| transaction.recipients.first()),
        ) else {
            return Action::Deliver;
        };
        let Situation { flood, grace } = self.edge.situation();
        let policy = self.edge.policy();
        let forwarder = policy.trusted_forwarder(self.client.peer.ip(), &recipient.mailbox);
        message.allowance = forwarder
            .filter(|_| message.proof.is_none())
            .and_then(|forwarder| Allowance::forwarded(&self.edge, &recipient.mailbox, forwarder.per_hour));
        let held = || message.held.pieces(self.client.input.buffer());
        let reading = message.reading.get_or_insert_with(|| self.edge.domains.reading_of(held()));
        let mut facts = Facts {
            recipient: &recipient.mailbox,
            proof: message.proof,
            overused: message.token.is_some_and(|token| token.overused),
            too_big_to_prove: when == JudgeWhen::TooBigToProve,
            flood,
            grace,
            kind: reading.kind,
            over_rate: false,
            forwarded: message.allowance.is_some(),
        };
        let mut verdict = policy.judge(&facts);
        if verdict.by_kind_lets_through() {
            message.allowance =
                Allowance::by_kind(&self.edge, &recipient.mailbox, reading.kind, policy.kinds.per_hour);
            facts.over_rate = message.allowance.is_none();
            verdict = policy.judge(&facts);
        }
        message.sample = self.edge.watch.sample(self.client.peer.ip(), &recipient.mailbox, verdict, held());
        message.verdict = Some(verdict);
        verdict.action
    }

    /// Whether a piece that streams is the message's last: then it goes out with the final dot.
    fn ends_with(&mut self, range: &Range<usize>) -> bool {
        // A piece ends in front of this only where it is the end.
        let is_last =
            self.client.input.unread().get(range.len()..).is_some_and(|rest| rest.starts_with(b".\r\n"));
        let Some(message) = self.message.as_mut().filter(|_| is_last && self.upstream.is_some()) else {
            return false;
        };
        self.edge.metrics.bytes_upstream.add(range.len() as u64);
        message.last = Some(range.clone());
        true
    }

    /// Sends a piece to the upstream, straight from the read buffer.
    async fn stream(&mut self, range: Range<usize>) {
        let (Some(message), Some(upstream)) = (&mut self.message, &mut self.upstream) else { return };
        let sent = upstream.send(&[&message.front, self.client.input.octets(range.clone())]).await;
        self.edge.metrics.bytes_upstream.add(range.len() as u64);
        message.front = Vec::new();
        if let Err(error) = sent {
            let happening = self.lost_in_body(&error);
            self.tell(happening).await;
        }
    }

    /// The message is over: the reply to its final dot.
    pub(super) async fn end(&mut self, end: EndOfData) {
        if !end.bare_line_ending
            && !end.too_big
            && let Some(happening) = self.look_at_the_rest()
        {
            self.tell(happening).await;
        }
        let outcome = loop {
            let Some(message) = &mut self.message else { return };
            match message.fate.on(Happening::End(end)) {
                Order::Judge(when) => {
                    let decision = self.decide(when);
                    self.tell(decision).await;
                }
                Order::Finish => {
                    if let Some(outcome) = Box::pin(self.finish(end)).await {
                        break outcome;
                    }
                }
                Order::Seal => {
                    let happening = Box::pin(self.seal()).await;
                    self.tell(happening).await;
                }
                Order::Refuse(why) => break self.refuse(why, end),
                Order::Accept => {
                    self.session.accept(&mut self.client.out);
                    break Outcome { code: 250, delivered: false, refusal: None, bytes: end.bytes };
                }
                order @ (Order::Nothing
                | Order::Hold
                | Order::Stream
                | Order::Keep
                | Order::KeepPiece
                | Order::Skip
                | Order::Open { .. }
                | Order::LetGo) => {
                    debug_assert!(false, "no answer to the end of a message: {order:?}");
                    break self.refuse(Refusal::UpstreamLost, end);
                }
            }
        };
        self.settle(outcome);
        self.end_transaction();
        self.give_back();
    }

    /// The message and its transaction are over, and settled: the next ones have their memory.
    fn end_transaction(&mut self) {
        if let Some(message) = self.message.take() {
            message.end();
        }
        let recipients = self.transaction.take().map(|transaction| transaction.recipients);
        if let Some(last) = recipients.and_then(|mut recipients| recipients.pop()) {
            self.client.spare = last.into_spare();
        }
    }

    fn look_at_the_rest(&mut self) -> Option<Happening> {
        let message = self.message.as_mut().filter(|message| message.is_undecided())?;
        let recipient = self.transaction.as_ref()?.recipients.first()?;
        let found = message.evidence.finish(&self.edge, &recipient.mailbox)?;
        Some(self.proven_by(found))
    }

    /// Sends the final dot. `None`: the upstream was lost before it, and the fate knows.
    async fn finish(&mut self, end: EndOfData) -> Option<Outcome> {
        let (Some(message), Some(upstream)) = (&mut self.message, &mut self.upstream) else {
            self.tell(Happening::UpstreamLost).await;
            return None;
        };
        let front = std::mem::take(&mut message.front);
        let last = message.last.take().unwrap_or_default();
        let pieces = [front.as_slice(), self.client.input.octets(last)];
        let first = self.transaction.as_ref().and_then(|transaction| transaction.recipients.first());
        let recipient = first.map(|recipient| recipient.text()).unwrap_or_default();
        let doubt = Doubt::begin(&self.edge, upstream.address(), recipient);
        let happening = match upstream.finish(&pieces).await {
            Ok(reply) => match Said::of(Stage::FinalDot, &reply) {
                said @ (Said::Yes | Said::No) => {
                    let (code, delivered) = (reply.code, matches!(said, Said::Yes));
                    self.session.pass_on(reply, &mut self.client.out);
                    if delivered {
                        self.doubts.push(doubt);
                    } else {
                        doubt.settle();
                    }
                    let refusal = (!delivered).then_some(Refusal::ByUpstream);
                    return Some(Outcome { code, delivered, refusal, bytes: end.bytes });
                }
                // It says that it is closing: it did not take the message.
                Said::Lost => {
                    doubt.settle();
                    Happening::UpstreamLost
                }
            },
            Err(error) if error.in_doubt() => {
                drop(doubt);
                self.edge.upstream_is_down(&error);
                self.tell(Happening::UpstreamLostAtEnd).await;
                return Some(self.refuse(Refusal::InDoubt, end));
            }
            Err(error) => {
                doubt.settle();
                self.lost_in_body(&error)
            }
        };
        self.tell(happening).await;
        None
    }

    fn refuse(&mut self, why: Refusal, end: EndOfData) -> Outcome {
        self.drop_upstream();
        if let Some(message) = &mut self.message {
            message.draft = None;
        }
        let words = self.message.as_mut().and_then(|message| message.words.take());
        let code = match (why.reply(), words) {
            (None, Some(words)) => {
                self.session.pass_on(words.reply(), &mut self.client.out);
                words.code()
            }
            (Some(reply), _) => {
                self.session.refuse(&reply, &mut self.client.out);
                reply.code
            }
            (None, None) => {
                self.session.refuse(&UPSTREAM_LOST, &mut self.client.out);
                UPSTREAM_LOST.code
            }
        };
        Outcome { code, delivered: false, refusal: Some(why), bytes: end.bytes }
    }

    /// Drops the upstream's connection in the middle of a message: without the final dot it delivers nothing.
    pub(super) fn drop_upstream(&mut self) {
        self.upstream = None;
        if let Some(transaction) = &mut self.transaction {
            transaction.begun = None;
        }
    }

    /// Our `Received` field of the message `id`.
    pub(super) fn write_received(&self, id: u64, out: &mut Vec<u8>) {
        let (client_name, _) = self.session.client_name();
        let recipients = self.transaction.as_ref().map(|transaction| transaction.recipients.as_slice());
        let recipient = match recipients.unwrap_or_default() {
            [only] => Some(only.text()),
            _ => None,
        };
        let field = Received {
            client_name,
            client: self.client.peer.ip(),
            protocol: self.session.protocol(),
            hostname: &self.edge.config.hostname,
            id,
            recipient: recipient.as_deref(),
            at: self.edge.now(),
        };
        field.write(out);
    }
}
