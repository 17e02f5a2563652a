//! Case 1: a user writes to an address that does not exist (or is over quota); the bounce must arrive, once.
//!
//! The way out: a real Postfix hands the message through `content_filter` to the edge, which signs it and hands it
//! back, and Postfix delivers it to the far server. The way back: the far server's own bounce comes in at the edge,
//! from its own address, through XDP in native mode.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab::client::submit;
use lab::edge::{Edge, Settings};
use lab::mta::{FULL, Far, Operator, SUBMISSION, Software};
use lab::program::Profile;
use lab::{Host, Lab};

use crate::message;

const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the sender's address is tagged on its way out. Where it is, untagged bounces are not even read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tags {
    Without,
    With,
}

fn a_real_bounce_comes_back(software: Software, tags: Tags) -> Result<()> {
    let far = Far { software };
    let lab = Lab::up("real-bounce")?;
    let operator = lab.operator(&Operator::default())?;
    let far_server = lab.far(far, lab::EDGE.into())?;
    let settings = match tags {
        Tags::Without => Settings::default(),
        Tags::With => Settings::default().set("domain.0.tag", true).set("domain.0.require_tag", "always"),
    };
    let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
    let mailbox = operator.mailbox("alice@example.jp");

    for (sent, user) in (1..).zip(["nobody-here", FULL]) {
        let to = format!("{user}@{}", far.domain());
        submit(&lab, Host::Mta, SUBMISSION, "alice@example.jp", &to, &message(user))?;

        let bounce = mailbox.wait_for_one(&format!("X-Returned: {user}"), PATIENCE).with_context(|| {
            let (edge, operator, far) = (edge.process().tail(40), operator.log(), far_server.log());
            format!("the edge said:\n{edge}\nthe operator's server:\n{operator}\nthe far server:\n{far}")
        })?;
        assert!(bounce.starts_with("Return-Path: <>\n"), "not a bounce: {bounce}");
        assert!(bounce.contains("\nBackstop-Token: bs1."), "it was not signed: {bounce}");
        assert!(
            bounce.contains("\nX-Original-To: alice@example.jp\n"),
            "the tag was not taken off: {bounce}"
        );

        assert_eq!(mailbox.count()?, sent, "one message each");
    }

    let inbound = || -> Result<Vec<_>> {
        let verdicts = edge.verdicts()?.into_iter().filter(|verdict| verdict["direction"] == "inbound");
        Ok(verdicts.map(|verdict| verdict["proof"].clone()).collect())
    };
    // The log is written beside the sessions.
    let deadline = Instant::now() + PATIENCE;
    while inbound()?.len() < 2 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let proofs = inbound()?;
    let expected = match tags {
        Tags::Without => "token",
        Tags::With => "tag",
    };
    assert_eq!(proofs, [expected, expected], "{:#?}", edge.verdicts()?);
    edge.stop()
}

#[test]
fn a_bounce_of_exim_comes_back() -> Result<()> {
    a_real_bounce_comes_back(Software::Exim, Tags::Without)
}

#[test]
fn a_bounce_of_exim_comes_back_to_a_tagged_sender() -> Result<()> {
    a_real_bounce_comes_back(Software::Exim, Tags::With)
}

#[test]
fn a_bounce_of_postfix_comes_back() -> Result<()> {
    a_real_bounce_comes_back(Software::Postfix, Tags::Without)
}

#[test]
fn a_bounce_of_postfix_comes_back_to_a_tagged_sender() -> Result<()> {
    a_real_bounce_comes_back(Software::Postfix, Tags::With)
}

#[test]
fn a_bounce_of_opensmtpd_comes_back() -> Result<()> {
    a_real_bounce_comes_back(Software::OpenSmtpd, Tags::Without)
}

#[test]
fn a_bounce_of_opensmtpd_comes_back_to_a_tagged_sender() -> Result<()> {
    a_real_bounce_comes_back(Software::OpenSmtpd, Tags::With)
}
