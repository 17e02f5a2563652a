//! Mail with a sender, and bounces that their tag proved: each command goes on to the upstream, and its reply back.

use edge_core::smtp::Reply;

use super::Inbound;
use super::envelope::Recipient;
use super::message::Message;
use crate::engine::mailboxes::{Asked, existence_by_reply};
use crate::engine::passing::{Said, UPSTREAM_LOST, Words, params_for};
use crate::engine::upstream::{Stage, UpstreamError};

/// How MAIL went at the upstream.
pub(super) enum Begun {
    /// Its transaction is open.
    Yes,
    /// It said no, in these words.
    Refused(Words),
    /// It lacks what this mail needs.
    Unfit(Reply),
}

impl Inbound {
    /// Opens the upstream of `recipient` where it is not open, and begins the transaction there: anew, where one was
    /// begun that has no recipients.
    pub(super) async fn begin(&mut self, recipient: &Recipient) -> Result<Begun, UpstreamError> {
        if let Some(other) = self.upstream.take_if(|upstream| upstream.address() != recipient.upstream) {
            other.quit().await;
        }
        if self.transaction.as_mut().is_some_and(|transaction| std::mem::take(&mut transaction.begun)) {
            // It would be the second MAIL of one transaction (RFC 5321 section 4.1.4).
            self.reset_upstream().await;
        }
        let Some(transaction) = &mut self.transaction else {
            return Ok(Begun::Unfit(UPSTREAM_LOST));
        };
        loop {
            let upstream = match &mut self.upstream {
                Some(upstream) => upstream,
                None => self.upstream.insert(self.edge.open_upstream(recipient.upstream).await?),
            };
            let params = match params_for(upstream.capabilities(), &transaction.sender.params) {
                Ok(params) => params,
                Err(reply) => return Ok(Begun::Unfit(reply)),
            };
            let error = match upstream.begin(&transaction.sender.path, &params).await {
                Ok(reply) => match Said::of(Stage::Mail, &reply) {
                    Said::Yes => {
                        transaction.begun = true;
                        return Ok(Begun::Yes);
                    }
                    Said::No => return Ok(Begun::Refused(Words::of(&reply))),
                    Said::Lost => None,
                },
                Err(error) => Some(error),
            };
            // An upstream may end a connection that was kept: then a new one is asked, once.
            let kept = upstream.is_reused();
            self.upstream = None;
            match error {
                _ if kept => {}
                Some(error) => {
                    self.edge.upstream_is_down(&error);
                    return Err(error);
                }
                None => return Ok(Begun::Unfit(UPSTREAM_LOST)),
            }
        }
    }

    /// RCPT goes on to the upstream.
    pub(super) async fn rcpt_through(&mut self, recipient: Recipient) {
        let begun = self.transaction.as_ref().is_some_and(|transaction| transaction.begun);
        // The upstream may have refused all that came before: then it is no reason that this one goes there too.
        let begun =
            begun && self.upstream.as_ref().is_some_and(|there| there.address() == recipient.upstream);
        let lost = self.transaction.as_ref().is_none_or(|transaction| transaction.lost);
        if lost {
            return self.refuse_recipient(&UPSTREAM_LOST);
        }
        if !begun {
            match self.begin(&recipient).await {
                Ok(Begun::Yes) => {}
                Ok(Begun::Refused(words)) => {
                    self.edge.metrics.recipients_refused.add(1);
                    return self.session.pass_on(words.reply(), &mut self.client.out);
                }
                Ok(Begun::Unfit(reply)) => return self.refuse_recipient(&reply),
                Err(_) => return self.refuse_recipient(&UPSTREAM_LOST),
            }
        }
        let (Some(upstream), Some(transaction)) = (&mut self.upstream, &mut self.transaction) else {
            return self.refuse_recipient(&UPSTREAM_LOST);
        };
        // The parameters of RCPT can all be left out.
        let params = params_for(upstream.capabilities(), &recipient.params).unwrap_or_default();
        match upstream.rcpt(&recipient.path, &params).await {
            Ok(reply) => {
                let said = Said::of(Stage::Rcpt, &reply);
                let existence = existence_by_reply(Asked::ByMail, reply.code, reply.raw);
                let (mailbox, path) = (&recipient.mailbox, &recipient.path);
                self.edge.mailboxes.learn(mailbox, path, existence, self.edge.now());
                match said {
                    Said::Yes => {
                        transaction.recipients.push(recipient);
                        return self.session.pass_on(reply, &mut self.client.out);
                    }
                    Said::No => {
                        self.edge.metrics.recipients_refused.add(1);
                        return self.session.pass_on(reply, &mut self.client.out);
                    }
                    Said::Lost => {}
                }
            }
            Err(error) => self.edge.upstream_is_down(&error),
        }
        self.lose_upstream();
        self.refuse_recipient(&UPSTREAM_LOST);
    }

    /// DATA goes on to the upstream: 354 only when it said so.
    pub(super) async fn data_through(&mut self) {
        let (Some(upstream), Some(transaction)) =
            (&mut self.upstream, self.transaction.as_ref().filter(|transaction| transaction.begun))
        else {
            self.transaction = None;
            return self.session.refuse(&UPSTREAM_LOST, &mut self.client.out);
        };
        let said = match upstream.data().await {
            Ok(reply) => match Said::of(Stage::Data, &reply) {
                Said::No => {
                    self.session.pass_on(reply, &mut self.client.out);
                    Said::No
                }
                said @ (Said::Yes | Said::Lost) => said,
            },
            Err(error) => {
                self.edge.upstream_is_down(&error);
                Said::Lost
            }
        };
        match said {
            Said::Yes => {
                let mut message = Message::through(&self.edge, transaction);
                self.write_received(self.edge.next_id(), &mut message.front);
                self.message = Some(message);
                self.session.accept(&mut self.client.out);
            }
            Said::No => {
                // The session's transaction is over; the upstream's may not be.
                self.forget_transaction().await;
            }
            Said::Lost => {
                self.lose_upstream();
                self.transaction = None;
                self.edge.metrics.deferred.add(1);
                self.session.refuse(&UPSTREAM_LOST, &mut self.client.out);
            }
        }
    }

    /// The upstream is gone in a transaction: recipients that it accepted are not on any other connection.
    fn lose_upstream(&mut self) {
        self.upstream = None;
        if let Some(transaction) = &mut self.transaction {
            transaction.begun = false;
            transaction.lost = true;
        }
    }

    fn refuse_recipient(&mut self, reply: &Reply) {
        self.edge.metrics.recipients_refused.add(1);
        self.session.refuse(reply, &mut self.client.out);
    }
}
