//! The cases as rows of a table: how many messages were sent, and what became of them.
//!
//! `sent = delivered + stopped_smtp + dropped_nic`, by the final fate of each, as its sender saw it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use load::ledger::{Fate, Record};
use load::plan::{Kind, Phase};
use serde::Serialize;

use crate::client::submit;
use crate::mass::{Mass, Outcome};
use crate::mta::{Far, SUBMISSION};
use crate::{Host, Lab};

/// How long real servers may take for their bounces.
const PATIENCE: Duration = Duration::from_secs(60);
/// For how long a forged bounce that was refused may not show up all the same.
const CALM: Duration = Duration::from_secs(2);

/// One row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Case {
    /// What was sent.
    pub name: &'static str,
    /// How many.
    pub sent: u64,
    /// In a mailbox, or taken by `250`.
    pub delivered: u64,
    /// Refused in the session.
    pub stopped_smtp: u64,
    /// Never answered.
    pub dropped_nic: u64,
}

impl Case {
    /// Of the mass: wanted mail and forged bounces of the reflectors, the real one too, and the bots' connections.
    #[must_use]
    pub fn of_the_mass(outcome: &Outcome) -> Vec<Self> {
        let during =
            |kind| outcome.ledger.messages.iter().filter(move |r| r.kind == kind && r.phase == Phase::During);
        let mut forged = Self::count("mass: forged bounces", during(Kind::Forged));
        let real_reflector = outcome.real_reflector;
        forged.sent += real_reflector.refused + real_reflector.taken;
        forged.stopped_smtp += real_reflector.refused;
        forged.delivered += real_reflector.taken;
        let bots = outcome.ledger.summary.bots;
        let bots = Self {
            name: "mass: bots' connections",
            sent: bots.attempts,
            delivered: bots.delivered,
            stopped_smtp: bots.answered - bots.delivered,
            dropped_nic: bots.unanswered,
        };
        let real = Self::count("mass: real bounces", during(Kind::RealBounce));
        let honest = Self::count("mass: honest mail", during(Kind::Honest));
        vec![forged, bots, real, honest]
    }

    fn count<'a>(name: &'static str, records: impl Iterator<Item = &'a Record>) -> Self {
        let mut case = Self { name, sent: 0, delivered: 0, stopped_smtp: 0, dropped_nic: 0 };
        for record in records {
            match record.fate {
                // Planned, but never tried.
                None => continue,
                Some(Fate::Delivered) => case.delivered += 1,
                Some(Fate::StoppedSmtp) => case.stopped_smtp += 1,
                Some(Fate::DroppedNic) => case.dropped_nic += 1,
            }
            case.sent += 1;
        }
        case
    }
}

/// A user's mail to unknown addresses at real far servers: it leaves through the edge, and the servers' own bounces
/// come back. `each` messages to each server.
///
/// # Errors
/// When a message cannot be handed in.
pub fn real_bounces(mass: &Mass, fars: &[Far], each: u32) -> Result<Case> {
    play(mass, "real bounce", fars, each, |lab, far, id| {
        let to = format!("nobody-{id}@{}", far.domain());
        submit(lab, Host::Mta, SUBMISSION, "alice@example.jp", &to, &message(id))
    })
}

/// A stranger's mail in a user's name to the same servers: their bounces answer mail that the edge never saw.
///
/// # Errors
/// When a message cannot be handed in.
pub fn forged_bounces(mass: &Mass, fars: &[Far], each: u32) -> Result<Case> {
    play(mass, "forged bounce", fars, each, |lab, far, id| {
        let to = format!("nobody-{id}@{}", far.domain());
        submit(lab, Host::Internet, far.socket(), "alice@example.jp", &to, &message(id))
    })
}

/// Sends, and waits until the edge has decided on every bounce.
fn play(
    mass: &Mass,
    name: &'static str,
    fars: &[Far],
    each: u32,
    send: impl Fn(&Lab, Far, &str) -> Result<()>,
) -> Result<Case> {
    let refused_before = refused(mass)?;
    let mut ids = Vec::new();
    for far in fars {
        for number in 1..=each {
            let id = format!("{}-{}-{number}", name.replace(' ', "-"), far.software.name());
            send(&mass.lab, *far, &id).with_context(|| format!("{name} by {}", far.software.name()))?;
            ids.push(id);
        }
    }
    let sent = ids.len() as u64;
    let mailbox = mass.operator.mailbox("alice@example.jp");
    let mut calm_since = None;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let messages = mailbox.messages()?;
        // An id may begin another one's: the line's end belongs to it.
        let there = |id: &&String| messages.iter().any(|text| text.contains(&format!("X-Returned: {id}\n")));
        let delivered = ids.iter().filter(there).count() as u64;
        let stopped_smtp = (refused(mass)? - refused_before).min(sent - delivered);
        if delivered + stopped_smtp == sent {
            calm_since.get_or_insert_with(Instant::now);
        }
        let calm = calm_since.is_some_and(|since| since.elapsed() > CALM);
        if calm || Instant::now() > deadline {
            let dropped_nic = sent - delivered - stopped_smtp;
            return Ok(Case { name, sent, delivered, stopped_smtp, dropped_nic });
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// How many unproven bounces the edge refused so far.
fn refused(mass: &Mass) -> Result<u64> {
    let status = mass.edge.json(&mass.lab, &["status"])?;
    status["counters"]["bounces_rejected"]
        .as_u64()
        .context("no counter bounces_rejected in the edge's status")
}

fn message(id: &str) -> String {
    format!(
        "From: Alice <alice@example.jp>\nTo: Somebody <somebody@elsewhere.example>\nSubject: {id}\n\
         Message-ID: <{id}@example.jp>\nX-Returned: {id}\n\nHello.\n"
    )
}
