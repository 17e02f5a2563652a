//! The envelope on its way out: MAIL, RCPT and DATA go on to the next hop, and its replies back.

use std::sync::Arc;

use edge_core::mailbox::Mailbox;
use edge_core::message::outgoing::{self, ADDED_BYTES_MAX, Signing};
use edge_core::smtp::{Address, Capabilities, Mail, Rcpt, Reply};

use super::Outbound;
use super::message::Message;
use crate::engine::Edge;
use crate::engine::passing::{Said, UPSTREAM_LOST, Words, params_for};
use crate::engine::upstream::attempts::Attempts;
use crate::engine::upstream::{Stage, Upstream, UpstreamError};
use crate::telemetry::RECIPIENTS_NAMED_MAX;

/// From MAIL until its message is answered.
pub(super) struct Transaction {
    /// What stands between MAIL's angle brackets for the next hop: the tag is in it.
    path: Vec<u8>,
    params: Vec<u8>,
    /// The mailbox that the message is signed for; `None`: a foreign or null sender, passed on as it is.
    pub(super) signer: Option<Mailbox>,
    /// Those that the next hop accepted: the first, and the next ones, as text for the log, how many, and every one's
    /// domain.
    pub(super) first_recipient: Option<String>,
    pub(super) also_to: Vec<String>,
    pub(super) recipients: usize,
    pub(super) domains: Vec<String>,
}

impl Transaction {
    pub(super) fn of(edge: &Edge, mail: &Mail<'_>) -> Self {
        let mailbox = mail.sender.as_ref().and_then(Mailbox::of);
        let signer = mailbox.filter(|mailbox| edge.domains.is_ours(mailbox.domain()));
        let tagged = signer
            .as_ref()
            .filter(|mailbox| edge.domains.tags(mailbox.domain()))
            .and_then(|_| outgoing::tagged_sender(&edge.keys(), mail.sender.as_ref()?, edge.now()));
        let path = match (tagged, &mail.sender) {
            (Some(tagged), _) => tagged.into_bytes(),
            (None, Some(sender)) => path(sender),
            (None, None) => Vec::new(),
        };
        Self {
            path,
            params: mail.params.to_vec(),
            signer,
            first_recipient: None,
            also_to: Vec::new(),
            recipients: 0,
            domains: Vec::new(),
        }
    }

    /// The sender without its tag, for the log.
    pub(super) fn sender(&self) -> String {
        match &self.signer {
            Some(mailbox) => mailbox.as_str().to_owned(),
            None => String::from_utf8_lossy(&self.path).into_owned(),
        }
    }

    /// The next hop accepted one more.
    fn note(&mut self, recipient: Recipient) {
        if self.recipients < RECIPIENTS_NAMED_MAX {
            let named = String::from_utf8_lossy(&recipient.path).into_owned();
            match &self.first_recipient {
                None => self.first_recipient = Some(named),
                Some(_) => self.also_to.push(named),
            }
        }
        self.recipients += 1;
        self.domains.extend(recipient.domain);
    }

    /// The parameters of MAIL for the next hop: only what it understands, the size with what we add, and the token as
    /// ENVID (RFC 3461 section 4.4) where it may be.
    fn params(&self, edge: &Edge, offered: Capabilities) -> Result<Vec<u8>, Reply> {
        let mut params = Vec::new();
        for param in params_for(offered, &self.params)?.split(|octet| *octet == b' ') {
            let size = param.split_at_checked(5).filter(|(name, _)| name.eq_ignore_ascii_case(b"SIZE="));
            let size = size.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse::<u64>().ok());
            if !params.is_empty() {
                params.push(b' ');
            }
            match size {
                Some(size) => params.extend(format!("SIZE={}", size.saturating_add(ADDED_BYTES_MAX)).bytes()),
                None => params.extend_from_slice(param),
            }
        }
        let has_envid = self.params.split(|octet| *octet == b' ').any(|param| {
            param.split_at_checked(6).is_some_and(|(name, _)| name.eq_ignore_ascii_case(b"ENVID="))
        });
        if let (Some(sender), true, false) = (&self.signer, offered.dsn, has_envid) {
            let signing = Signing {
                keys: &edge.keys(),
                sender,
                // How many there will be nobody knows yet: honest bounces come first.
                recipients: u32::try_from(edge.config.limits.recipients_max).unwrap_or(u32::MAX),
                is_ours: &|domain| edge.domains.is_ours(domain),
                now: edge.now(),
                nonces: rand::random(),
            };
            // No key signs: the message is refused for that when its header is there.
            if let Ok(envid) = signing.envid() {
                let space = if params.is_empty() { "" } else { " " };
                params.extend(format!("{space}ENVID={envid}").bytes());
            }
        }
        Ok(params)
    }
}

/// One recipient, whoever it is.
pub(super) struct Recipient {
    path: Vec<u8>,
    params: Vec<u8>,
    /// Its domain as a lowercase A-label; `None`: an address literal, or none.
    domain: Option<String>,
}

impl Recipient {
    pub(super) fn of(rcpt: &Rcpt<'_>) -> Self {
        let Rcpt { recipient, params } = rcpt;
        let path = if recipient.domain.is_empty() { recipient.local.to_vec() } else { path(recipient) };
        let domain = Mailbox::of(recipient).map(|mailbox| mailbox.domain().to_owned());
        Self { path, params: params.to_vec(), domain }
    }
}

fn path(address: &Address<'_>) -> Vec<u8> {
    [address.local, b"@", address.domain].concat()
}

/// How MAIL went at the next hop.
enum Begun {
    Yes,
    No(Words),
    /// Ours to say: it is lost, or lacks what this mail needs.
    Unfit(Reply),
}

impl Outbound {
    pub(super) async fn mail(&mut self, transaction: Transaction) {
        let edge = Arc::clone(&self.edge);
        match self.begin(&transaction, &mut attempts(&edge)).await {
            Begun::Yes => {
                self.transaction = Some(transaction);
                self.session.accept(&mut self.client.out);
            }
            Begun::No(words) => self.session.pass_on(words.reply(), &mut self.client.out),
            Begun::Unfit(reply) => {
                self.edge.metrics.deferred.add(1);
                self.session.refuse(&reply, &mut self.client.out);
            }
        }
    }

    /// Begins the transaction at the first next hop that can be had: on a connection that was kept, or a new one.
    async fn begin(&mut self, transaction: &Transaction, attempts: &mut Attempts) -> Begun {
        while let Some(mut next_hop) = attempts.next(&self.edge, &self.kept).await {
            let params = match transaction.params(&self.edge, next_hop.capabilities()) {
                Ok(params) => params,
                Err(reply) => {
                    self.kept.give_back(&self.edge, next_hop);
                    return Begun::Unfit(reply);
                }
            };
            let address = next_hop.address();
            let error = match next_hop.begin(&transaction.path, &params).await {
                Ok(reply) => match Said::of(Stage::Mail, &reply) {
                    Said::Yes => {
                        self.next_hop = Some(next_hop);
                        return Begun::Yes;
                    }
                    Said::No => {
                        let words = Words::of(&reply);
                        self.kept.give_back(&self.edge, next_hop);
                        return Begun::No(words);
                    }
                    Said::Lost => UpstreamError::unwilling(address, Stage::Mail, reply.code),
                },
                Err(error) => error,
            };
            // That a connection ended which was kept says nothing of the next hop.
            if !next_hop.is_reused() {
                self.edge.upstream_is_down(&error);
            }
        }
        Begun::Unfit(UPSTREAM_LOST)
    }

    pub(super) async fn rcpt(&mut self, recipient: Recipient) {
        let Some(mut transaction) = self.transaction.take() else {
            return self.refuse_recipient(&UPSTREAM_LOST);
        };
        self.ask(&mut transaction, recipient).await;
        self.transaction = Some(transaction);
    }

    /// RCPT goes on to the next hop. Where that is lost before it accepted any recipient, another takes its place.
    async fn ask(&mut self, transaction: &mut Transaction, recipient: Recipient) {
        let edge = Arc::clone(&self.edge);
        let mut others: Option<Attempts> = None;
        while let Some(next_hop) = &mut self.next_hop {
            // The parameters of RCPT can all be left out.
            let params = params_for(next_hop.capabilities(), &recipient.params).unwrap_or_default();
            let (address, is_reused) = (next_hop.address(), next_hop.is_reused());
            let error = match next_hop.rcpt(&recipient.path, &params).await {
                Ok(reply) => match Said::of(Stage::Rcpt, &reply) {
                    Said::Yes => {
                        transaction.note(recipient);
                        return self.session.pass_on(reply, &mut self.client.out);
                    }
                    Said::No => {
                        self.edge.metrics.recipients_refused.add(1);
                        return self.session.pass_on(reply, &mut self.client.out);
                    }
                    Said::Lost => UpstreamError::unwilling(address, Stage::Rcpt, reply.code),
                },
                Err(error) => error,
            };
            self.next_hop = None;
            let is_at_stake = transaction.recipients > 0;
            if !is_reused || is_at_stake {
                edge.upstream_is_down(&error);
            }
            if is_at_stake {
                break;
            }
            match self.begin(transaction, others.get_or_insert_with(|| attempts(&edge))).await {
                Begun::Yes => {}
                Begun::No(words) => {
                    self.edge.metrics.recipients_refused.add(1);
                    return self.session.pass_on(words.reply(), &mut self.client.out);
                }
                Begun::Unfit(reply) => return self.refuse_recipient(&reply),
            }
        }
        self.refuse_recipient(&UPSTREAM_LOST);
    }

    fn refuse_recipient(&mut self, reply: &Reply) {
        self.edge.metrics.recipients_refused.add(1);
        self.session.refuse(reply, &mut self.client.out);
    }

    /// 354 only when the next hop said so.
    pub(super) async fn data(&mut self) {
        let said = match &mut self.next_hop {
            None => Ok(Said::Lost),
            Some(next_hop) => data(next_hop, |words| self.session.pass_on(words, &mut self.client.out)).await,
        };
        let lost = match said {
            Ok(Said::Yes) => {
                self.message = Some(Message::new(self.edge.config.limits.header_bytes_max));
                return self.session.accept(&mut self.client.out);
            }
            // The session's transaction is over; the next hop's may not be.
            Ok(Said::No) => return self.forget_transaction().await,
            Ok(Said::Lost) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = lost {
            self.edge.upstream_is_down(&error);
        }
        self.next_hop = None;
        self.transaction = None;
        self.edge.metrics.deferred.add(1);
        self.session.refuse(&UPSTREAM_LOST, &mut self.client.out);
    }

    /// RSET, EHLO, HELO or a refused DATA: the transaction is forgotten, here and at the next hop.
    pub(super) async fn forget_transaction(&mut self) {
        self.transaction = None;
        if let Some(next_hop) = self.next_hop.take() {
            self.kept.give_back_begun(&self.edge, next_hop).await;
        }
    }
}

/// All next hops.
fn attempts(edge: &Edge) -> Attempts {
    Attempts::new(edge, edge.config.outbound.as_ref().map_or(&[], |side| &side.next_hop))
}

/// Asks for 354; a refusal is handed to `no`.
async fn data(
    next_hop: &mut Upstream,
    no: impl FnOnce(edge_core::smtp::UpstreamReply<'_>),
) -> Result<Said, UpstreamError> {
    let reply = next_hop.data().await?;
    let said = Said::of(Stage::Data, &reply);
    match said {
        Said::No => no(reply),
        Said::Yes | Said::Lost => {}
    }
    Ok(said)
}
