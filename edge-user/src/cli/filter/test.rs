//! `filter test`: the verdict for a bounce that is only described.

use std::path::Path;

use anyhow::{Context as _, ensure};
use edge_core::bounce::Kind;
use edge_core::mailbox::Mailbox;
use edge_core::policy::{Facts, Reason, Situation};
use edge_core::signature::Proof;
use edge_core::time::UnixMillis;
use serde_json::json;

use super::word;
use crate::cli::{Answer, print, print_json};
use crate::config::{Config, load};

#[derive(clap::Args, Debug)]
pub(super) struct Test {
    /// The bounce's recipient.
    #[arg(long, value_name = "ADDRESS")]
    recipient: String,
    /// Its recipient has a valid tag.
    #[arg(long)]
    tag: bool,
    /// It holds a valid token.
    #[arg(long)]
    token: bool,
    /// It holds a Message-ID that is in the record.
    #[arg(long)]
    record: bool,
    /// The token was used too often.
    #[arg(long, requires = "token")]
    overused: bool,
    /// It is larger than what is held, without a proof before.
    #[arg(long, conflicts_with_all = ["tag", "token"])]
    too_big: bool,
    /// Its kind, as the log has it, like `auto_reply`.
    #[arg(long, value_name = "KIND", default_value = "unknown", value_parser = kind)]
    kind: Kind,
    /// The rules of kinds let through as much to this mailbox as they may.
    #[arg(long)]
    over_rate: bool,
    /// It comes from this address: a trusted forwarder's, perhaps.
    #[arg(long, value_name = "IP")]
    from: Option<std::net::IpAddr>,
    /// A flood is on.
    #[arg(long)]
    flood: bool,
    /// Mail from before the first signature can still bounce (`grace_days`).
    #[arg(long)]
    grace: bool,
}

pub(super) fn run(test: &Test, file: &Path, json: bool) -> anyhow::Result<Answer> {
    let config = load(file)?;
    let recipient = Mailbox::parse(&test.recipient)
        .with_context(|| format!("{} is no address like ann@example.com", test.recipient))?;
    ensure!(
        config.domains.iter().any(|domain| domain.name == recipient.domain()),
        "{} is no domain of {}: the edge refuses its recipients before anything else",
        recipient.domain(),
        file.display()
    );
    let outcome = Outcome::of(test, &recipient, &config);
    if json {
        print_json(&json!({
            "at": outcome.at, "action": outcome.action, "reason": outcome.reason, "filter": outcome.filter,
        }))?;
    } else {
        let by = match outcome.filter {
            Some(place) => format!(", by filter {place}: {}", super::line(&config.filters[place])),
            None => String::new(),
        };
        print(&format!("{} at {} ({}){by}", outcome.action, outcome.at, reason_word(outcome.reason)))?;
    }
    Ok(Answer::Yes)
}

/// What becomes of the bounce, and where in the dialogue.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    at: &'static str,
    action: &'static str,
    reason: Reason,
    filter: Option<usize>,
}

impl Outcome {
    fn of(test: &Test, recipient: &Mailbox, config: &Config) -> Self {
        let policy = config.policy();
        let tag = test.tag.then_some(Proof::Tag);
        let grace = test.grace && policy.grace.holds(None, UnixMillis::default(), test.flood);
        let now = Situation { flood: test.flood, grace };
        let forwarder = test.from.and_then(|client| policy.trusted_forwarder(client, recipient));
        if forwarder.is_none() && policy.refuses_at_data(recipient, tag, now) {
            return Self { at: "DATA", action: "reject", reason: Reason::TagRequired, filter: None };
        }
        let record = test.record && policy.record_proves(recipient);
        let proof = tag.or(test.token.then_some(Proof::Token)).or(record.then_some(Proof::Record));
        let verdict = policy.judge(&Facts {
            recipient,
            proof,
            overused: test.overused && !test.tag,
            too_big_to_prove: test.too_big,
            flood: test.flood,
            grace,
            kind: test.kind,
            over_rate: test.over_rate,
            // As long as the recipient got less than `per_hour` of it.
            forwarded: forwarder.is_some(),
        });
        Self { at: "its end", action: word(verdict.action), reason: verdict.reason, filter: verdict.filter }
    }
}

/// # Errors
/// There is no such kind; the text says which there are.
fn kind(text: &str) -> Result<Kind, String> {
    Kind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
        format!("no kind of null-sender mail; there are {}", Kind::ALL.map(Kind::name).join(", "))
    })
}

fn reason_word(reason: Reason) -> &'static str {
    match reason {
        Reason::Proven => "proven",
        Reason::Unproven => "unproven",
        Reason::TooBigToProve => "too big to prove",
        Reason::Overused => "its token was used too often",
        Reason::ExemptRecipient => "the recipient is exempt",
        Reason::TrustedForwarder => "a trusted forwarder passed it on",
        Reason::TagRequired => "the domain requires a tag",
        Reason::KindRule => "the rule of its kind",
        Reason::Grace => "mail that was sent before the first signature can still bounce",
        Reason::NoFilter => "no filter covers the recipient",
    }
}
