//! The way out: the operator's own server hands its mail in, it is signed, and goes on to the one next hop.
//!
//! - Only the configured networks get in: this listener takes any recipient, and makes tokens. Everybody else would find
//!   an open relay and a signing oracle here.
//! - From networks that many share, only mail that brings the secret of a tenant ([`tenants`]) goes any further.
//! - Only envelope senders in the operator's own domains are signed; foreign and null ones go on as they are.
//! - MAIL, RCPT, DATA and the final dot go on one by one, and the next hop's replies are the replies. The edge has no
//!   queue: what the next hop did not take, the client keeps. A next hop that is lost is a 4xx.
//! - The message streams through; only its header section is collected first ([`message`]), because what is added
//!   depends on it.

mod envelope;
mod message;
pub(in crate::engine) mod tenants;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use edge_core::message::outgoing::ADDED_BYTES_MAX;
use edge_core::smtp::{Enhanced, Event, Limits, Offer, Reply, Session};

use self::envelope::Transaction;
use self::message::Message;
use self::tenants::Tenants;
use super::Edge;
use super::client::{Client, Read};
use super::clock::Deadline;
use super::doubt::Doubt;
use super::tls::NO_TLS_NOW;
use super::upstream::Upstream;
use super::upstream::attempts::Attempts;
use super::upstream::kept::Kept;
use crate::config;
use crate::telemetry::Direction;

/// How long a client that is turned away has to read why.
const GOODBYE: Duration = Duration::from_secs(10);

const NOT_YOU: Reply = Reply::new(550, Enhanced(5, 7, 1), "Your address may not hand mail in here");

/// One session.
struct Outbound {
    edge: Arc<Edge>,
    client: Client,
    session: Session,
    /// By when the first whole command must have come; `None` after it.
    greet_by: Option<Deadline>,
    /// From MAIL, accepted by the next hop, until its message is answered.
    transaction: Option<Transaction>,
    /// From 354 until the reply to the final dot.
    message: Option<Message>,
    /// Open only as long as a transaction is begun there.
    next_hop: Option<Upstream>,
    /// Where its connection comes from and goes to.
    kept: Arc<Kept>,
    /// Delivered messages whose reply the client does not have yet.
    doubts: Vec<Doubt>,
}

/// How a session ends.
enum Ending {
    /// The client is gone, or was told already.
    Done,
    /// The client was silent too long.
    Silent,
    /// The edge stops.
    Leave,
}

/// Serves one session.
pub(super) async fn run(edge: Arc<Edge>, mut client: Client, kept: Arc<Kept>) {
    let Some(settings) =
        edge.config.outbound.as_ref().filter(|settings| may_enter(&edge.tenants(), settings, &client))
    else {
        edge.metrics.refused_outsiders.add(1);
        NOT_YOU.write(&mut client.out);
        client.close(GOODBYE).await;
        return;
    };
    // A client that comes before the first health probe would be offered nothing, and might rewrite its mail for it.
    if !edge.upstreams.was_asked(settings.next_hop.first())
        && let Some(next_hop) = Attempts::new(&edge, &settings.next_hop).next(&edge, &kept).await
    {
        kept.give_back(&edge, next_hop);
    }
    let limits = &edge.config.limits;
    let starttls = settings.starttls && edge.acceptor.is_on();
    let (offer, size) = edge.upstreams.offer(Direction::Outbound);
    let offer = Offer { starttls, ..offer };
    let message_bytes_max = size.map_or(u64::MAX, |size| size.saturating_sub(ADDED_BYTES_MAX));
    let session = Session::new(
        edge.config.hostname.as_str().into(),
        Limits {
            line_bytes_max: limits.line_bytes_max,
            recipients_max: limits.recipients_max,
            errors_max: limits.errors_max,
            message_bytes_max: message_bytes_max.min(limits.message_bytes_max),
        },
        offer,
    );
    let greet_by = Some(Deadline::after(Duration::from_secs(limits.client_greet_secs)));
    let mut outbound = Outbound {
        edge,
        client,
        session,
        greet_by,
        transaction: None,
        message: None,
        next_hop: None,
        kept,
        doubts: Vec::new(),
    };
    outbound.session.greet(&mut outbound.client.out);
    let ending = outbound.converse().await;
    outbound.close(ending).await;
}

fn may_enter(tenants: &Tenants, settings: &config::Outbound, client: &Client) -> bool {
    let address = client.peer.ip().to_canonical();
    settings.networks.iter().any(|network| network.contains(&address)) || tenants.share(address)
}

impl Outbound {
    async fn converse(&mut self) -> Ending {
        loop {
            if self.client.must_flush() && self.flush().await.is_err() {
                return Ending::Done;
            }
            if let Some(ending) = self.step().await {
                return ending;
            }
        }
    }

    /// One event of the session. Its slices live in the read buffer: what is kept of them is copied here.
    async fn step(&mut self) -> Option<Ending> {
        let step = self.session.next(self.client.input.unread(), &mut self.client.out);
        let consumed = step.consumed;
        match step.event {
            Event::NeedMore => return self.more().await,
            Event::Body(piece) => {
                let range = self.client.input.place(piece);
                self.body(range).await;
                self.client.consume(consumed);
                return None;
            }
            Event::Close(_) => {
                self.client.consume(consumed);
                return Some(Ending::Done);
            }
            Event::Mail(mail) => {
                let transaction = Transaction::of(&self.edge, &mail);
                self.client.consume(consumed);
                self.mail(transaction).await;
            }
            Event::Rcpt(rcpt) => {
                let recipient = envelope::Recipient::of(&rcpt);
                self.client.consume(consumed);
                self.rcpt(recipient).await;
            }
            Event::Data => {
                self.client.consume(consumed);
                self.data().await;
            }
            Event::End(end) => {
                self.client.consume(consumed);
                self.end(end).await;
            }
            Event::Reset => {
                self.client.consume(consumed);
                self.forget_transaction().await;
            }
            Event::StartTls => {
                self.client.consume(consumed);
                if let Some(ending) = self.start_tls().await {
                    return Some(ending);
                }
            }
            Event::Answered => self.client.consume(consumed),
        }
        self.greet_by = None;
        None
    }

    /// Goes over to TLS. A handshake that fails ends the session: after the 220 nothing can be said in clear.
    async fn start_tls(&mut self) -> Option<Ending> {
        let Ok(handshake) = self.edge.acceptor.begin() else {
            self.edge.metrics.tls_deferred.add(1);
            self.session.refuse(&NO_TLS_NOW, &mut self.client.out);
            return None;
        };
        self.session.accept(&mut self.client.out);
        if self.flush().await.is_err() {
            return Some(Ending::Done);
        }
        let done = self.client.secure(handshake, self.edge.acceptor.patience).await;
        self.edge.note_handshake(&self.client, &done);
        if done.is_err() {
            return Some(Ending::Done);
        }
        self.session.secured();
        None
    }

    /// Writes what waits to be written.
    async fn flush(&mut self) -> std::io::Result<()> {
        self.client.flush(self.edge.client_patience()).await?;
        self.doubts.drain(..).for_each(Doubt::settle);
        Ok(())
    }

    /// Writes what waits to be written, and reads on.
    async fn more(&mut self) -> Option<Ending> {
        if self.flush().await.is_err() {
            return Some(Ending::Done);
        }
        let patience = self.greet_by.map_or(self.edge.client_patience(), Deadline::left);
        // A session in a transaction is not at a border: the client may finish what it began.
        let border = self.message.is_none();
        let read = self.client.read(Deadline::after(patience), border, None).await;
        self.edge.metrics.bytes_in.add(self.client.take_bytes_in());
        match read {
            Read::More => None,
            Read::Closed => Some(Ending::Done),
            Read::TimedOut => Some(Ending::Silent),
            // None is asked to make room: the operator's own.
            Read::Leave | Read::Abort | Read::MakeRoom => Some(Ending::Leave),
        }
    }

    async fn close(mut self, ending: Ending) {
        let last_word = match ending {
            Ending::Done => None,
            Ending::Silent => Some(Reply::new(421, Enhanced(4, 4, 2), "Silent too long, closing")),
            Ending::Leave => Some(Reply::new(421, Enhanced(4, 3, 2), "Closing, try again later")),
        };
        if let Some(reply) = last_word {
            reply.write(&mut self.client.out);
        }
        // In a message the connection is dropped: without a final dot nothing is delivered.
        let next_hop = self.next_hop.take().filter(|_| self.message.is_none());
        let patience = self.edge.client_patience().min(GOODBYE);
        if self.client.flush(patience).await.is_ok() {
            self.doubts.drain(..).for_each(Doubt::settle);
        }
        self.client.close(patience).await;
        if let Some(next_hop) = next_hop {
            self.kept.give_back_begun(&self.edge, next_hop).await;
        }
    }
}
