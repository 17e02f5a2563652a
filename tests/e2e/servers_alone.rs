//! The mail servers by themselves, without an edge between them: what the other tests stand on.

use std::time::Duration;

use anyhow::Result;
use lab::client::{Client, submit};
use lab::mta::{FULL, Far, Operator, SUBMISSION, Software};
use lab::{Host, Lab};

use crate::message;

const PATIENCE: Duration = Duration::from_secs(90);

fn every_bounce_comes_back_and_returns_our_header(far: Far) -> Result<()> {
    let lab = Lab::up("alone")?;
    let operator = lab.operator(&Operator { behind_edge: false, ..Operator::default() })?;
    let _far = lab.far(far, lab::MTA_OUTSIDE.into())?;
    for user in ["nobody-here", FULL] {
        let to = format!("{user}@{}", far.domain());
        submit(&lab, Host::Mta, SUBMISSION, "alice@example.jp", &to, &message(user))?;
        let bounce =
            operator.mailbox("alice@example.jp").wait_for_one(&format!("X-Returned: {user}"), PATIENCE)?;
        assert!(bounce.starts_with("Return-Path: <>\n"), "not a bounce: {bounce}");
    }
    Ok(())
}

#[test]
fn postfix_bounces_and_returns_our_header() -> Result<()> {
    every_bounce_comes_back_and_returns_our_header(Far { software: Software::Postfix })
}

#[test]
fn exim_bounces_and_returns_our_header() -> Result<()> {
    every_bounce_comes_back_and_returns_our_header(Far { software: Software::Exim })
}

#[test]
fn opensmtpd_bounces_and_returns_our_header() -> Result<()> {
    every_bounce_comes_back_and_returns_our_header(Far { software: Software::OpenSmtpd })
}

/// What makes the edge's own rule necessary: a server of the default configuration relays for its own host.
fn relays_for_its_own_host(software: Software) -> Result<()> {
    let lab = Lab::up("relays")?;
    let server = lab.with_defaults(software)?;
    let mut client = Client::connect(&lab, Host::Edge, None, server.listens())?;
    assert_eq!(client.command("EHLO edge.example.jp")?.code, 250);
    for sender in ["", "alice@example.jp"] {
        assert_eq!(client.command(&format!("MAIL FROM:<{sender}>"))?.code, 250);
        let reply = client.command("RCPT TO:<victim@elsewhere.example>")?;
        assert_eq!(reply.code, 250, "it would not relay: {reply}\n{}", server.log());
        assert_eq!(client.command("RSET")?.code, 250);
    }
    Ok(())
}

#[test]
fn a_default_postfix_relays_for_its_own_host() -> Result<()> {
    relays_for_its_own_host(Software::Postfix)
}

#[test]
fn a_default_exim_relays_for_its_own_host() -> Result<()> {
    relays_for_its_own_host(Software::Exim)
}

#[test]
fn a_default_sendmail_relays_for_its_own_host() -> Result<()> {
    relays_for_its_own_host(Software::Sendmail)
}
