//! Mail with a sender, and bounces that their tag proved: each command goes on to the upstream, and its reply back.

use std::sync::Arc;

use edge_core::smtp::Reply;

use super::Inbound;
use super::envelope::Recipient;
use super::message::Message;
use crate::engine::mailboxes::{Asked as AskedFor, existence_by_reply};
use crate::engine::passing::{Said, UPSTREAM_LOST, Words, params_for};
use crate::engine::upstream::attempts::Attempts;
use crate::engine::upstream::{Stage, UpstreamError};

/// What became of the question whether the upstream takes a recipient.
pub(super) enum Asked {
    /// It takes it, in these words.
    Yes(Words),
    /// It said no, to MAIL or to RCPT.
    No(Words),
    /// It lacks what this mail needs.
    Unfit(Reply),
    /// Nobody answers who could say.
    Lost,
}

impl Inbound {
    /// Asks the upstream whether it takes `recipient`: RCPT, after MAIL where that was not said, and before DATA where
    /// that is known to follow.
    ///
    /// As long as no recipient was accepted nothing is at stake: a kept connection that ended is replaced by a new one,
    /// and a server that is lost by the next of the route.
    pub(super) async fn ask(&mut self, recipient: &Recipient, data_follows: bool) -> Asked {
        let edge = Arc::clone(&self.edge);
        let Some(transaction) = self.transaction.as_mut().filter(|transaction| !transaction.lost) else {
            return Asked::Lost;
        };
        // The upstream may have refused all that came before: then it is no reason that this one goes there too.
        if transaction.begun.take_if(|begun| *begun != recipient.route).is_some()
            && let Some(other) = self.upstream.take()
        {
            other.quit().await;
        }
        let mut attempts: Option<Attempts> = None;
        loop {
            if self.upstream.is_none() {
                let order = || Attempts::new(&edge, edge.domains.servers(recipient.route));
                match attempts.get_or_insert_with(order).next(&edge, &self.kept).await {
                    Some(upstream) => self.upstream = Some(upstream),
                    None => return Asked::Lost,
                }
            }
            let error = match self.ask_here(recipient, data_follows).await {
                Ok(asked) => return asked,
                Err(error) => error,
            };
            let is_reused = self.upstream.as_ref().is_some_and(|upstream| upstream.is_reused());
            let is_at_stake = self.lose_upstream();
            // That a connection ended which was kept says nothing of the upstream.
            if !is_reused || is_at_stake {
                edge.upstream_is_down(&error);
            }
            if is_at_stake {
                return Asked::Lost;
            }
        }
    }

    /// The same on the open connection.
    async fn ask_here(&mut self, recipient: &Recipient, data_follows: bool) -> Result<Asked, UpstreamError> {
        let (Some(upstream), Some(transaction)) = (&mut self.upstream, &mut self.transaction) else {
            return Ok(Asked::Lost);
        };
        let offered = upstream.capabilities();
        let is_begun = transaction.begun.is_some();
        if !is_begun {
            match params_for(offered, &transaction.sender.params) {
                Ok(params) => upstream.queue_mail(&transaction.sender.path, &params)?,
                Err(reply) => {
                    self.give_back();
                    return Ok(Asked::Unfit(reply));
                }
            }
        }
        // The parameters of RCPT can all be left out.
        upstream.queue_rcpt(&recipient.path, &params_for(offered, &recipient.params).unwrap_or_default())?;
        if data_follows {
            upstream.queue_data()?;
        }
        if !is_begun {
            let address = upstream.address();
            let reply = upstream.answer().await?;
            match Said::of(Stage::Mail, &reply) {
                Said::Yes => transaction.begun = Some(recipient.route),
                Said::No => {
                    let words = Words::of(&reply);
                    // What was said with it makes no sense without it, and is refused too; or the connection is of no use.
                    if upstream.take_back().await.is_ok_and(|refused| refused) {
                        self.give_back();
                    } else {
                        self.upstream = None;
                    }
                    return Ok(Asked::No(words));
                }
                Said::Lost => {
                    return Err(UpstreamError::unwilling(address, Stage::Mail, reply.code));
                }
            }
        }
        let address = upstream.address();
        let reply = upstream.answer().await?;
        let existence = existence_by_reply(AskedFor::ByMail, reply.code, reply.raw);
        self.edge.mailboxes.learn(&recipient.mailbox, &recipient.path, existence, self.edge.now());
        match Said::of(Stage::Rcpt, &reply) {
            Said::Yes => Ok(Asked::Yes(Words::of(&reply))),
            Said::No => {
                let words = Words::of(&reply);
                // No recipient, no message: who says 354 all the same waits for a body, and would have to get one.
                if transaction.recipients.is_empty()
                    && !upstream.take_back().await.is_ok_and(|refused| refused)
                {
                    self.upstream = None;
                    transaction.begun = None;
                }
                Ok(Asked::No(words))
            }
            Said::Lost => Err(UpstreamError::unwilling(address, Stage::Rcpt, reply.code)),
        }
    }

    /// RCPT goes on to the upstream.
    pub(super) async fn rcpt_through(&mut self, recipient: Recipient) {
        // What a client sends before it has the replies (RFC 2920) goes on as it came.
        let data_follows =
            self.client.input.unread().get(..6).is_some_and(|next| next.eq_ignore_ascii_case(b"DATA\r\n"));
        match self.ask(&recipient, data_follows).await {
            Asked::Yes(words) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.recipients.push(recipient);
                }
                self.session.pass_on(words.reply(), &mut self.client.out);
            }
            Asked::No(words) => {
                self.edge.metrics.recipients_refused.add(1);
                self.session.pass_on(words.reply(), &mut self.client.out);
            }
            Asked::Unfit(reply) => self.refuse_recipient(&reply),
            Asked::Lost => self.refuse_recipient(&UPSTREAM_LOST),
        }
    }

    /// DATA goes on to the upstream: 354 only when it said so.
    pub(super) async fn data_through(&mut self) {
        let (Some(upstream), Some(transaction)) =
            (&mut self.upstream, self.transaction.as_ref().filter(|transaction| transaction.begun.is_some()))
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

    /// The upstream is gone in a transaction. Whether it had accepted recipients: they are not on any other connection.
    fn lose_upstream(&mut self) -> bool {
        self.upstream = None;
        let Some(transaction) = &mut self.transaction else { return false };
        transaction.begun = None;
        transaction.lost = !transaction.recipients.is_empty();
        transaction.lost
    }

    /// The transaction is over: its connection serves the next one.
    pub(super) fn give_back(&mut self) {
        if let Some(upstream) = self.upstream.take() {
            self.kept.give_back(&self.edge, upstream);
        }
    }

    fn refuse_recipient(&mut self, reply: &Reply) {
        self.edge.metrics.recipients_refused.add(1);
        self.session.refuse(reply, &mut self.client.out);
    }
}
