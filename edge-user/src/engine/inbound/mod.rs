//! The way in: one session from the Internet.
//!
//! - [`envelope`]: who may be written to;
//! - [`through`]: mail with a sender, and bounces that their tag proved: each command goes on to the upstream;
//! - [`beginning`]: the memory of a message, from one to the next;
//! - [`message`]: a message from 354 to its end, as [`edge_core::message::Fate`] decides;
//! - [`telling`]: carries out what that orders;
//! - [`opening`]: the upstream is opened for a bounce that was held;
//! - [`keeping`]: a bounce goes to the quarantine;
//! - [`patience`]: how long a client may keep its place;
//! - [`evidence`]: the search for a proof in a bounce;
//! - [`securing`]: answers STARTTLS;
//! - [`account`]: what is counted, logged and told to reputation when a message is over;
//! - [`closing`]: the last word.
//!
//! A session that waits for its client is most of what a flood, or a crowd of idle clients, makes the edge keep: so
//! what only a transaction needs (a message, a way to the upstream) is in boxes that are there only while it lasts.

mod account;
mod allowance;
mod beginning;
mod closing;
mod envelope;
mod evidence;
mod keeping;
mod message;
mod opening;
mod patience;
mod securing;
mod telling;
mod through;

use std::sync::Arc;
use std::time::Duration;

use edge_core::message::Received;
use edge_core::policy::{Reason, Verdict};
use edge_core::reputation::{Answer, Event as Conduct};
use edge_core::signature::Proof;
use edge_core::smtp::{CloseCause, Enhanced, Event, Limits, Offer, Reply, Session};

use self::envelope::{Recipient, Sender, Tag};
use self::message::Message;
use self::patience::Patience;
pub(super) use self::patience::SLOW;
use super::client::{Client, Kit};
use super::clock::Deadline;
use super::doubt::Doubt;
use super::mailboxes::Existence;
use super::upstream::Upstream;
use super::upstream::kept::Kept;
use super::{Edge, Route};
use crate::telemetry::Direction;

/// Most octets that are added to a message: the SIZE offered is that much less than the upstream's.
const ADDED_BYTES_MAX: u64 = (Received::BYTES_MAX + opening::MARK.len()) as u64;

const NOBODY: Reply = Reply::new(550, Enhanced(5, 1, 1), "No such mailbox here");

/// One session.
pub(super) struct Inbound {
    edge: Arc<Edge>,
    client: Client,
    session: Session,
    /// By when the next whole command, or piece of a message, must have come: a trickle of octets does not move it. `None`:
    /// `client_idle_secs` from when it is next waited for.
    by: Option<Deadline>,
    /// How much longer it may stay without getting anything done.
    patience: Patience,
    /// A whole command has come.
    has_spoken: bool,
    transaction: Option<Transaction>,
    /// From 354 until the reply to the final dot.
    message: Option<Box<Message>>,
    /// Open only as long as a transaction is begun there.
    upstream: Option<Upstream>,
    /// Where its connection comes from and goes to.
    kept: Arc<Kept>,
    /// Delivered messages whose reply the client does not have yet.
    doubts: Vec<Doubt>,
    /// Reputation says that it is enough.
    enough: bool,
}

/// From MAIL until its message is answered.
struct Transaction {
    sender: Sender,
    /// Those accepted so far.
    recipients: Vec<Recipient>,
    /// MAIL was accepted by an upstream of this route.
    begun: Option<Route>,
    /// The upstream was lost after it had accepted recipients: the transaction cannot be completed.
    lost: bool,
}

/// How a session ends.
enum Ending {
    /// The client is gone.
    Gone,
    /// As the session said.
    Said(CloseCause),
    /// The client was silent too long, or got nothing done for too long.
    Silent,
    /// It waited longest for its client, and others need the room.
    Crowded,
    /// Its source is over a budget or banned.
    Enough,
    /// The source is being banned, or the edge stops.
    Leave,
}

impl Inbound {
    /// A session begins.
    pub(super) fn new(edge: Arc<Edge>, client: Client, kept: Arc<Kept>) -> Self {
        let (offer, size) = edge.upstreams.offer(Direction::Inbound);
        let offer = Offer { starttls: edge.acceptor.is_on(), ..offer };
        let limits = edge.config.session_limits();
        let session = Session::new(
            Arc::clone(&edge.hostname),
            Limits {
                message_bytes_max: size.map_or(limits.message_bytes_max, |size| {
                    size.saturating_sub(ADDED_BYTES_MAX).min(limits.message_bytes_max)
                }),
                ..limits
            },
            offer,
        );
        let by = Some(Deadline::after(Duration::from_secs(edge.config.limits.client_greet_secs)));
        let patience = Patience::new(&edge.config.limits);
        Self {
            edge,
            client,
            session,
            by,
            patience,
            has_spoken: false,
            transaction: None,
            message: None,
            upstream: None,
            kept,
            doubts: Vec::new(),
            enough: false,
        }
    }

    /// Serves it, to its end.
    pub(super) async fn serve(&mut self) {
        self.session.greet(&mut self.client.out);
        let ending = self.converse().await;
        self.close(ending).await;
    }

    /// It is served, and its connection ends: what others can use, with an upstream where a transaction may be begun.
    pub(super) fn into_parts(self) -> (Arc<Edge>, Kit, Option<Upstream>) {
        (self.edge, self.client.into_kit(), self.upstream)
    }

    async fn converse(&mut self) -> Ending {
        loop {
            if self.message.is_none() && self.enough {
                return Ending::Enough;
            }
            if self.client.must_flush() && self.flush().await.is_err() {
                return Ending::Gone;
            }
            if let Some(ending) = self.step().await {
                return ending;
            }
        }
    }

    /// One event of the session. Its slices live in the read buffer: what is kept of them is copied here.
    async fn step(&mut self) -> Option<Ending> {
        let step = self.session.next(self.client.input.unread(), &mut self.client.out);
        match step.event {
            Event::NeedMore => {
                self.client.consume(step.consumed);
                return self.more().await;
            }
            Event::Body(piece) => {
                let (range, consumed) = (self.client.input.place(piece), step.consumed);
                self.patience.octets_came(consumed);
                self.body(range).await;
                self.client.consume(consumed);
                self.has_spoken = true;
                self.by = None;
                // An octet of a message is no progress: what it gives back of the time says how much it is.
                if self.patience.is_slow() {
                    return None;
                }
            }
            Event::Close(cause) => {
                self.client.consume(step.consumed);
                return Some(Ending::Said(cause));
            }
            Event::Mail(mail) => {
                let sender = Sender::of(&mail);
                self.client.consume(step.consumed);
                // Who it is for is not known yet, so no upstream is asked: what it says comes as the reply to RCPT.
                self.transaction =
                    Some(Transaction { sender, recipients: Vec::new(), begun: None, lost: false });
                self.session.accept(&mut self.client.out);
            }
            Event::Rcpt(rcpt) => {
                let null_sender = self.has_null_sender();
                let recipient = Recipient::of(&self.edge, &rcpt, null_sender, &mut self.client.spare);
                self.client.consume(step.consumed);
                let recipient = recipient.and_then(|recipient| self.admit(recipient));
                self.rcpt(recipient).await;
            }
            Event::Data => {
                self.client.consume(step.consumed);
                self.data().await;
            }
            Event::End(end) => {
                self.client.consume(step.consumed);
                self.end(end).await;
                self.patience.message_answered();
            }
            Event::Reset => {
                self.client.consume(step.consumed);
                self.forget_transaction().await;
            }
            Event::StartTls => {
                self.client.consume(step.consumed);
                if let Some(ending) = Box::pin(self.start_tls()).await {
                    return Some(ending);
                }
            }
            Event::Answered => self.client.consume(step.consumed),
        }
        self.has_spoken = true;
        self.by = None;
        // Who was asked to make room got on with it meanwhile.
        self.client.ticket.stays();
        None
    }

    fn has_null_sender(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.sender.is_null())
    }

    /// Traps, wrong tags, and what one transaction may hold: all that can be said without asking anybody.
    fn admit(&mut self, recipient: Recipient) -> Result<Recipient, Reply> {
        let null_sender = self.has_null_sender();
        if self.edge.domains.is_trap(&recipient.mailbox) {
            // Who forges senders at random hits traps: the honest server that bounces to one is a victim.
            if !null_sender {
                self.observe(Conduct::Trap);
            }
            return Err(NOBODY);
        }
        // Whatever the sender: the upstream's reply to mail tells too whether the tag was guessed.
        if recipient.tag == Tag::Wrong {
            self.observe(Conduct::WrongTag);
        }
        let Some(first) = self.transaction.as_ref().and_then(|transaction| transaction.recipients.first())
        else {
            return Ok(recipient);
        };
        if null_sender {
            // One verdict, one reply: a bounce returns to one mailbox.
            return Err(Reply::new(452, Enhanced(4, 5, 3), "A bounce has one recipient, send another one"));
        }
        if first.route != recipient.route {
            return Err(Reply::new(452, Enhanced(4, 5, 3), "This recipient needs a transaction of its own"));
        }
        Ok(recipient)
    }

    async fn rcpt(&mut self, recipient: Result<Recipient, Reply>) {
        let mut recipient = match recipient {
            Ok(recipient) => recipient,
            Err(reply) => return self.refuse_rcpt(&reply),
        };
        if self.has_null_sender() {
            recipient.use_tag(&self.edge);
        }
        if !self.has_null_sender() || recipient.tag == Tag::Valid {
            return Box::pin(self.rcpt_through(recipient)).await;
        }
        match self.rcpt_of_bounce(&recipient).await {
            Ok(()) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.recipients.push(recipient);
                }
                self.session.accept(&mut self.client.out);
            }
            Err(reply) => {
                self.client.spare = recipient.into_spare();
                self.refuse_rcpt(&reply);
            }
        }
    }

    fn refuse_rcpt(&mut self, reply: &Reply) {
        self.edge.metrics.recipients_refused.add(1);
        self.session.refuse(reply, &mut self.client.out);
        if self.has_null_sender() && *reply == NOBODY {
            // Forged senders are often made up: the honest server that bounces to one made no error. It pays as for
            // any bounce that nothing proves.
            self.session.forgive();
            self.edge.unproven_came(self.edge.now());
            self.observe(Conduct::UnprovenBounce);
        }
    }

    /// A bounce without a proof opens no upstream: what is remembered, or a probe, says whether the mailbox exists.
    async fn rcpt_of_bounce(&self, recipient: &Recipient) -> Result<(), Reply> {
        let edge = &self.edge;
        let look = edge.mailboxes.look(edge, &recipient.mailbox, &recipient.path, recipient.route);
        match look.await {
            // Unknown refuses nobody: what cannot be delivered is refused when it is proven, or not at all.
            Existence::Yes | Existence::Unknown => Ok(()),
            Existence::No => Err(NOBODY),
        }
    }

    async fn data(&mut self) {
        let Some(transaction) = &self.transaction else {
            let reply = Reply::new(503, Enhanced(5, 5, 1), "MAIL first");
            return self.session.refuse(&reply, &mut self.client.out);
        };
        let Some(first) = transaction.recipients.first().filter(|_| transaction.sender.is_null()) else {
            return Box::pin(self.data_through()).await;
        };
        if first.tag == Tag::Valid {
            return Box::pin(self.data_through()).await;
        }
        let policy = self.edge.policy();
        // What a trusted forwarder passes on has no tag of ours: it is looked at, and judged at its end.
        let forwarder = || policy.trusted_forwarder(self.client.peer.ip(), &first.mailbox);
        if policy.may_require_tag(first.mailbox.domain())
            && forwarder().is_none()
            && policy.refuses_at_data(&first.mailbox, None::<Proof>, self.edge.situation())
        {
            let reply =
                Reply::new(550, Enhanced(5, 7, 1), "This bounce answers no mail that was sent from here");
            self.session.refuse(&reply, &mut self.client.out);
            let verdict = Verdict {
                action: edge_core::policy::Action::Reject,
                reason: Reason::TagRequired,
                filter: None,
            };
            self.refused_at_data(verdict, reply.code);
            self.transaction = None;
            return;
        }
        self.message = Some(Message::bounce(&self.edge));
        self.session.accept(&mut self.client.out);
    }

    /// RSET, EHLO or HELO: the transaction is forgotten, here and at the upstream.
    async fn forget_transaction(&mut self) {
        self.transaction = None;
        if let Some(upstream) = self.upstream.take() {
            Box::pin(self.kept.give_back_begun(&self.edge, upstream)).await;
        }
    }

    /// Something happened that reputation should know.
    fn observe(&mut self, conduct: Conduct) {
        let edge = &self.edge;
        let answer = edge.reputation.observe(self.client.source, conduct, edge.in_flood_since(), edge.now());
        match answer {
            Answer::Go => {}
            Answer::OverBudget => self.enough = true,
            Answer::Banned => {
                self.enough = true;
                edge.tell_orders();
            }
        }
    }
}
