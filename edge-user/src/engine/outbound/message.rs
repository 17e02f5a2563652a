//! A message on its way out, from 354 to the reply to its final dot.
//!
//! Its header section is collected, at most `header_bytes_max` octets; then our fields, the header section and
//! all that follows go to the next hop as they come. The reply to the final dot is the next hop's; where it can give
//! none, it is a 4xx of ours.

use std::ops::Range;

use edge_core::message::header::{Collector, Section};
use edge_core::message::outgoing::{Signing, Unsigned, is_loop};
use edge_core::message::{Received, Refusal};
use edge_core::smtp::{EndOfData, Enhanced, Reply};

use super::Outbound;
use crate::engine::doubt::Doubt;
use crate::engine::passing::{Said, UPSTREAM_LOST, Words};
use crate::engine::upstream::{Stage, UpstreamError};
use crate::telemetry::{Direction, VerdictLine, Why};

const HEADER_TOO_LONG: Reply = Reply::new(552, Enhanced(5, 3, 4), "Header section too long");
const CANNOT_SIGN: Reply = Reply::new(451, Enhanced(4, 3, 5), "No key to sign with, try again later");

const NOT_YOUR_TENANT: Reply = Reply::new(
    550,
    Enhanced(5, 7, 1),
    "Many share your network, and this message does not bring the header field that tells who may send here",
);

/// Where a message is.
pub(super) enum Message {
    /// Its header section is being collected.
    Header(Collector),
    /// Each piece goes to the next hop as it comes. What the log says of it when the next hop takes it.
    Streaming(Why),
    /// Read on, keep nothing, and answer so at the end.
    Refused(Answer, Why),
}

/// What a refused message is answered.
pub(super) enum Answer {
    /// Our own words.
    Ours(Reply),
    /// The next hop's.
    Theirs(Words),
}

impl Message {
    pub(super) fn new(header_bytes_max: usize) -> Self {
        Self::Header(Collector::new(header_bytes_max))
    }
}

impl Outbound {
    /// A piece of the message: the octets `range` of the read buffer.
    pub(super) async fn body(&mut self, range: Range<usize>) {
        let piece = self.client.input.octets(range);
        match &mut self.message {
            Some(Message::Header(collector)) => match collector.take(piece) {
                Section::More => {}
                Section::Ends(len) => self.header_is_there(Some(len)).await,
                Section::TooLong => {
                    self.refuse_message(Answer::Ours(HEADER_TOO_LONG), Why::HeaderTooLong);
                }
            },
            Some(Message::Streaming(_)) => {
                let Some(next_hop) = &mut self.next_hop else { return };
                let sent = next_hop.send(&[piece]).await;
                self.edge.metrics.bytes_upstream.add(piece.len() as u64);
                if let Err(error) = sent {
                    self.lost_in_body(&error);
                }
            }
            Some(Message::Refused(..)) | None => {}
        }
    }

    /// The header section is whole: the first `len` octets collected, or all of them. What belongs in front of it is
    /// sent, and it, and what was collected behind it.
    async fn header_is_there(&mut self, len: Option<usize>) {
        let Some(Message::Header(collector)) =
            self.message.take_if(|message| matches!(message, Message::Header(_)))
        else {
            return;
        };
        let (section, body) = collector.octets().split_at(len.unwrap_or(collector.octets().len()));
        let tenants = self.edge.tenants();
        // Whoever came in as a tenant's neighbour is no more at home here when a reload took the tenant away.
        let may_enter = self
            .edge
            .config
            .outbound
            .as_ref()
            .is_some_and(|settings| super::may_enter(&tenants, settings, &self.client));
        if !may_enter || !tenants.own(self.client.peer.ip().to_canonical(), section) {
            self.edge.metrics.refused_tenants.add(1);
            return self.refuse_message(Answer::Ours(NOT_YOUR_TENANT), Why::ForeignTenant);
        }
        let section = &*tenants.without_secrets(section);
        let front = match self.fields_in_front(section) {
            Ok((front, why)) => {
                self.message = Some(Message::Streaming(why));
                front
            }
            Err((reply, why)) => return self.refuse_message(Answer::Ours(reply), why),
        };
        let Some(next_hop) = &mut self.next_hop else {
            return self.refuse_as(Refusal::UpstreamLost);
        };
        let sent = next_hop.send(&[&front, section, body]).await;
        self.edge.metrics.bytes_upstream.add((front.len() + section.len() + body.len()) as u64);
        if let Err(error) = sent {
            self.lost_in_body(&error);
        }
    }

    /// `Received`, and for our own senders the tokens and a missing Message-ID; or why it goes no further.
    fn fields_in_front(&self, section: &[u8]) -> Result<(Vec<u8>, Why), (Reply, Why)> {
        let refusal = |why: Refusal| (why.reply().unwrap_or(UPSTREAM_LOST), Why::Refused(why));
        let transaction = self.transaction.as_ref().ok_or_else(|| refusal(Refusal::UpstreamLost))?;
        let mut front = Vec::new();
        let (client_name, _) = self.session.client_name();
        let only_one = transaction.first_recipient.as_deref().filter(|_| self.session.recipients() == 1);
        Received {
            client_name,
            client: self.client.peer.ip(),
            protocol: self.session.protocol(),
            hostname: &self.edge.config.hostname,
            id: self.edge.next_id(),
            recipient: only_one,
            at: self.edge.now(),
        }
        .write(&mut front);
        let Some(sender) = &transaction.signer else {
            return if is_loop(section) {
                Err(refusal(Refusal::Loop))
            } else {
                Ok((front, Why::RelayedUnsigned))
            };
        };
        let keys = self.edge.keys();
        let recipients = u32::try_from(self.session.recipients()).unwrap_or(u32::MAX);
        let signing = Signing {
            keys: &keys,
            sender,
            recipients,
            is_ours: &|domain| self.edge.domains.is_ours(domain),
            now: self.edge.now(),
            nonces: rand::random(),
        };
        match signing.fields(section) {
            Ok(added) => {
                // Before anything of it is sent: its bounce may be here before the reply to its final dot.
                self.edge.remember(&keys, sender, &added, recipients);
                front.extend_from_slice(added.fields.as_bytes());
                Ok((front, if added.tokens > 0 { Why::Signed } else { Why::AlreadySigned }))
            }
            Err(Unsigned::Loop) => Err(refusal(Refusal::Loop)),
            Err(Unsigned::NoKey) => Err((CANNOT_SIGN, Why::NoKey)),
        }
    }

    /// The message must not arrive: without a final dot the next hop delivers nothing.
    fn refuse_message(&mut self, answer: Answer, why: Why) {
        self.next_hop = None;
        self.message = Some(Message::Refused(answer, why));
    }

    /// The same, in the words that go with `refusal`.
    fn refuse_as(&mut self, refusal: Refusal) {
        let reply = refusal.reply().unwrap_or(UPSTREAM_LOST);
        self.refuse_message(Answer::Ours(reply), Why::Refused(refusal));
    }

    /// The next hop takes no more of the body: perhaps it said why.
    fn lost_in_body(&mut self, error: &UpstreamError) {
        let words = self.next_hop.as_mut().and_then(|next_hop| {
            let reply = next_hop.last_words()?;
            matches!(Said::of(Stage::Body, &reply), Said::No).then(|| Words::of(&reply))
        });
        if let Some(words) = words {
            return self.refuse_message(Answer::Theirs(words), Why::Refused(Refusal::ByUpstream));
        }
        self.edge.upstream_is_down(error);
        self.refuse_as(Refusal::UpstreamLost);
    }

    /// The message is over: the reply to its final dot.
    pub(super) async fn end(&mut self, end: EndOfData) {
        let flag = match end {
            EndOfData { bare_line_ending: true, .. } => Some(Refusal::BareLineEnding),
            EndOfData { too_big: true, .. } => Some(Refusal::TooBig),
            EndOfData { bare_line_ending: false, too_big: false, .. } => None,
        };
        if let Some(refusal) = flag {
            self.refuse_as(refusal);
        } else if matches!(self.message, Some(Message::Header(_))) {
            self.header_is_there(None).await;
        }
        if let Some(Message::Streaming(why)) = self.message
            && !self.finish(end, why).await
        {
            return self.settled();
        }
        let (code, why) = match self.message.take() {
            Some(Message::Refused(Answer::Theirs(words), why)) => {
                self.session.pass_on(words.reply(), &mut self.client.out);
                (words.code(), why)
            }
            Some(Message::Refused(Answer::Ours(reply), why)) => {
                self.session.refuse(&reply, &mut self.client.out);
                (reply.code, why)
            }
            Some(Message::Header(_) | Message::Streaming(_)) | None => {
                self.session.refuse(&UPSTREAM_LOST, &mut self.client.out);
                (UPSTREAM_LOST.code, Why::Refused(Refusal::UpstreamLost))
            }
        };
        self.account(code, why, end);
        self.settled();
    }

    /// Sends the final dot; `why` is for the log when the next hop takes it. Whether the message is still to be answered:
    /// the next hop gave no reply to pass on.
    async fn finish(&mut self, end: EndOfData, why: Why) -> bool {
        let Some(next_hop) = &mut self.next_hop else { return true };
        let recipient = self.transaction.as_ref().and_then(|transaction| transaction.first_recipient.clone());
        let doubt = Doubt::begin(&self.edge, next_hop.address(), recipient.unwrap_or_default());
        match next_hop.finish(&[]).await {
            Ok(reply) => match Said::of(Stage::FinalDot, &reply) {
                said @ (Said::Yes | Said::No) => {
                    let code = reply.code;
                    self.session.pass_on(reply, &mut self.client.out);
                    let why = if matches!(said, Said::Yes) {
                        self.doubts.push(doubt);
                        why
                    } else {
                        doubt.settle();
                        Why::Refused(Refusal::ByUpstream)
                    };
                    self.account(code, why, end);
                    return false;
                }
                // It says that it is closing: it did not take the message.
                Said::Lost => {
                    doubt.settle();
                    self.refuse_as(Refusal::UpstreamLost);
                }
            },
            Err(error) if error.in_doubt() => {
                drop(doubt);
                self.edge.upstream_is_down(&error);
                self.refuse_as(Refusal::InDoubt);
            }
            Err(error) => {
                doubt.settle();
                self.lost_in_body(&error);
            }
        }
        true
    }

    fn settled(&mut self) {
        self.message = None;
        self.transaction = None;
        if let Some(next_hop) = self.next_hop.take() {
            self.kept.give_back(&self.edge, next_hop);
        }
    }

    /// What is counted, logged and remembered of an answered message.
    fn account(&self, code: u16, why: Why, end: EndOfData) {
        let Some(transaction) = &self.transaction else { return };
        let metrics = &self.edge.metrics;
        match (code / 100, &transaction.signer) {
            (2, Some(_)) => {
                metrics.signed.add(1);
                self.edge.watch.signed(self.edge.now());
                let now = self.edge.now();
                for domain in &transaction.domains {
                    self.edge.correspondents.note(domain.as_bytes(), now);
                }
            }
            (2, None) => metrics.relayed_unsigned.add(1),
            (4, _) => metrics.deferred.add(1),
            (_, _) => {}
        }
        self.edge.log.verdict(VerdictLine {
            quarantine: None,
            at: self.edge.now(),
            source: self.client.peer.ip(),
            sender: transaction.sender(),
            recipient: transaction.first_recipient.clone().unwrap_or_default(),
            also_to: transaction.also_to.clone(),
            recipients: transaction.recipients,
            direction: Direction::Outbound,
            action: None,
            reason: why,
            proof: None,
            filter: None,
            reply: code,
            bytes: end.bytes,
            reading: None,
        });
    }
}
