//! Mail through forwarders, with real ones between, the edge in enforce mode: nothing honest is lost, and what cannot
//! be proven is refused in the session, where its sender hears of it.
//!
//! Each scenario is a file. At its end the books are closed: all that was sent, signed and bounced is accounted for, and
//! no mail server of them all has anything left in its queue.

mod alias;
mod dot_forward;
mod list;
mod other_mailbox;
mod passed_on;
mod sieve;
mod srs;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::client::submit;
use lab::edge::{Edge, Settings};
use lab::mta::{FORWARD_DOMAIN, Far, Forwarder, MailServer, Operator, SUBMISSION, Software};
use lab::program::Profile;
use lab::{Host, Lab};
use serde_json::Value;

use crate::message;

const PATIENCE: Duration = Duration::from_secs(90);
/// The server that the forwarder passes mail on to, and that bounces it: it knows no user.
const FAR: Far = Far { software: Software::Postfix };

/// Everybody: our user's server, the edge, the forwarder, the server behind it.
struct World {
    lab: Lab,
    operator: MailServer,
    forwarder: MailServer,
    far: MailServer,
    edge: Edge,
}

impl World {
    fn up(name: &str, forwarder: &Forwarder) -> Result<Self> {
        Self::with(name, forwarder, Operator::default(), &Settings::default())
    }

    fn with(name: &str, forwarder: &Forwarder, mut operator: Operator, settings: &Settings) -> Result<Self> {
        let lab = Lab::up(name)?;
        operator.routes.push((FORWARD_DOMAIN.to_owned(), Forwarder::socket()));
        let operator = lab.operator(&operator)?;
        let forwarder = lab.forwarder(forwarder)?;
        let far = lab.far(FAR, lab::EDGE.into())?;
        let edge = Edge::start(&lab, settings, Profile::Dev)?;
        Ok(Self { lab, operator, forwarder, far, edge })
    }

    /// Our user Alice writes to somebody.
    fn alice_writes_to(&self, to: &str, subject: &str) -> Result<()> {
        submit(&self.lab, Host::Mta, SUBMISSION, "alice@example.jp", to, &message(subject))
    }

    /// Waits until the edge has judged so many messages with a null sender, and returns them.
    fn wait_for_bounces(&self, count: usize) -> Result<Vec<Value>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let bounces = self.bounces()?;
            if bounces.len() >= count {
                return Ok(bounces);
            }
            ensure!(
                Instant::now() < deadline,
                "{} of {count} bounces came: {bounces:#?}\n{}",
                bounces.len(),
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the edge said of messages with a null sender that came in.
    fn bounces(&self) -> Result<Vec<Value>> {
        let verdicts = self.edge.verdicts()?;
        Ok(verdicts
            .into_iter()
            .filter(|line| line["direction"] == "inbound" && line["sender"] == "")
            .collect())
    }

    /// What everybody said.
    fn said(&self) -> String {
        format!(
            "the edge:\n{}\nthe operator's server:\n{}\nthe forwarder:\n{}\nthe far server:\n{}",
            self.edge.process().tail(40),
            self.operator.log(),
            self.forwarder.log(),
            self.far.log()
        )
    }

    /// Closes the books: nobody has anything left to send, `bounces` with a null sender came in and were taken, each of
    /// `mailboxes` holds so many messages, and nobody was refused anything by the edge.
    fn close(mut self, bounces: usize, mailboxes: &[(&str, usize)]) -> Result<()> {
        self.wait_until_idle()?;
        let came = self.bounces()?;
        ensure!(came.len() == bounces, "{} bounces, not {bounces}: {came:#?}\n{}", came.len(), self.said());
        for line in self.edge.verdicts()? {
            ensure!(line["reply"] == 250, "this was refused: {line}\n{}", self.said());
        }
        let refused = self.edge.json(&self.lab, &["status"])?["counters"]["recipients_refused"].clone();
        ensure!(refused == 0, "{refused} recipients were refused\n{}", self.said());
        for (mailbox, count) in mailboxes {
            let there = self.operator.mailbox(mailbox).count()?;
            ensure!(there == *count, "{mailbox} holds {there} messages, not {count}\n{}", self.said());
        }
        self.edge.stop()
    }

    /// Waits until no server has anything left in its queue. One may hand a message on while another is looked at: so
    /// all must be empty twice in a row.
    fn wait_until_idle(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut empty = 0;
        while empty < 2 {
            let mut queued = 0;
            for server in [&self.operator, &self.forwarder, &self.far] {
                queued += server.queued()?;
            }
            empty = if queued == 0 { empty + 1 } else { 0 };
            ensure!(Instant::now() < deadline, "{queued} messages stay in queues\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Insists that each line has this proof and this recipient.
fn all_are(lines: &[Value], proof: &str, recipient: &str) {
    for line in lines {
        assert_eq!(
            (&line["proof"], &line["recipient"], &line["reason"]),
            (&proof.into(), &recipient.into(), &"proven".into()),
            "{line}"
        );
    }
}
