//! Case 2: a stranger sends mail with our user's address as sender; the far server bounces it to us. It must not
//! arrive, and each action does what it says.

use std::time::Duration;

use anyhow::{Context, Result};
use lab::client::{Client, submit};
use lab::edge::{Edge, Settings};
use lab::mta::{Far, MailServer, Operator, Software};
use lab::program::Profile;
use lab::{Host, Lab};
use serde_json::Value;

use crate::message;

const PATIENCE: Duration = Duration::from_secs(60);
/// How long a far server has to try again, which it must not: it would within 2 to 4 seconds.
const CALM: Duration = Duration::from_secs(5);

/// What becomes of an unproven bounce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// In the mailbox as it came.
    Delivered,
    /// In the mailbox with `Backstop-Verdict: unproven`.
    Marked,
    /// 550 after the final dot, for good.
    Refused,
    /// 550 in answer to DATA.
    RefusedUnread,
    /// 250, and nowhere.
    Gone,
}

fn forged_bounces_meet_their_fate(software: Software) -> Result<()> {
    let far = Far { software };
    let lab = Lab::up("forged-bounce")?;
    let operator = lab.operator(&Operator::default())?;
    let action = |action: &str| Settings::default().set("filter.0.action", action);
    for (name, settings, fate) in [
        ("monitor", action("monitor"), Fate::Delivered),
        ("deliver", action("deliver"), Fate::Delivered),
        ("mark", action("mark"), Fate::Marked),
        ("reject", action("reject"), Fate::Refused),
        ("discard", action("discard"), Fate::Gone),
        ("require-tag", action("deliver").set("domain.0.require_tag", "always"), Fate::RefusedUnread),
    ] {
        let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
        // Anew each time: OpenSMTPD keeps its session, and waits for minutes when the edge ends it.
        let far_server = lab.far(far, lab::EDGE.into())?;
        let there_before = operator.mailbox("alice@example.jp").count()?;
        let taken_before = bodies(&operator);

        // The stranger: one of the far server's own clients, anywhere on the Internet.
        let to = format!("nobody-{name}@{}", far.domain());
        submit(&lab, Host::Internet, far.socket(), "alice@example.jp", &to, &message(name))?;

        let verdict = edge
            .wait_for_verdict(|verdict| verdict["direction"] == "inbound", PATIENCE)
            .with_context(|| format!("{name}: the far server said:\n{}", far_server.log()))?;
        let context = format!("{name}: {verdict:#}\n{}", far_server.log());
        assert_eq!(verdict["proof"], Value::Null, "{context}");
        if fate == Fate::RefusedUnread {
            assert_eq!(
                (&verdict["action"], &verdict["reason"]),
                (&"reject".into(), &"tag_required".into()),
                "{context}"
            );
        } else {
            assert_eq!((&verdict["action"], &verdict["filter"]), (&name.into(), &0.into()), "{context}");
        }
        assert_eq!(verdict["source"], far.address().to_string(), "{context}");
        let mailbox = operator.mailbox("alice@example.jp");
        match fate {
            Fate::Delivered | Fate::Marked => {
                assert_eq!(verdict["reply"], 250, "{context}");
                let bounce = mailbox.wait_for_one(&format!("X-Returned: {name}"), PATIENCE)?;
                assert_eq!(
                    bounce.contains("\nBackstop-Verdict: unproven\n"),
                    fate == Fate::Marked,
                    "{bounce}"
                );
                assert_eq!(mailbox.count()?, there_before + 1, "{context}");
            }
            Fate::Refused | Fate::RefusedUnread | Fate::Gone => {
                let reply = if fate == Fate::Gone { 250 } else { 550 };
                assert_eq!(verdict["reply"], reply, "{context}");
                std::thread::sleep(CALM);
                assert_eq!(mailbox.count()?, there_before, "{context}");
                assert_eq!(bodies(&operator), taken_before, "the flood reached the mail server: {context}");
            }
        }
        if fate == Fate::RefusedUnread {
            let mut client =
                Client::connect(&lab, Host::Internet, Some(lab::client(1)), (lab::EDGE, 25).into())?;
            client.command("EHLO client.lab.example")?;
            client.command("MAIL FROM:<>")?;
            assert_eq!(client.command("RCPT TO:<alice@example.jp>")?.code, 250);
            let reply = client.command("DATA")?;
            assert!(reply.is("550 5.7.1"), "{reply}");
        }
        let tries =
            edge.verdicts()?.iter().filter(|verdict| verdict["source"] == far.address().to_string()).count();
        assert_eq!(tries, 1, "a refusal ends a bounce: {context}");
        edge.stop()?;
    }
    Ok(())
}

/// How many messages' bodies the operator's server was offered so far. (Health checks and probes for a mailbox connect to
/// it too, but never send DATA.)
fn bodies(operator: &MailServer) -> usize {
    operator.process().count("postfix/cleanup[")
}

#[test]
fn forged_bounces_of_exim_meet_their_fate() -> Result<()> {
    forged_bounces_meet_their_fate(Software::Exim)
}

#[test]
fn forged_bounces_of_postfix_meet_their_fate() -> Result<()> {
    forged_bounces_meet_their_fate(Software::Postfix)
}

#[test]
fn forged_bounces_of_opensmtpd_meet_their_fate() -> Result<()> {
    forged_bounces_meet_their_fate(Software::OpenSmtpd)
}
