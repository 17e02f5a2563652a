//! What only the record proves: a bounce whose header section lost our field on its way, a real Exim's automatic reply,
//! a receipt. And what it does not prove, nor forget.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::client::{Client, Stage, submit};
use lab::edge::{Edge, Settings};
use lab::mta::{AWAY, Far, GATEWAY, Operator, SUBMISSION, Software};
use lab::program::Profile;
use lab::{Host, Lab};
use serde_json::Value;

use crate::message;

const PATIENCE: Duration = Duration::from_secs(60);
const EXIM: Far = Far { software: Software::Exim };

/// A receipt (RFC 8098) for the message with this Message-ID.
fn receipt(id: &str) -> String {
    format!(
        "From: Somebody <somebody@exim.example>\nTo: alice@example.jp\nSubject: Read: hello\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=disposition-notification; boundary=b\n\n--b\n\
         Content-Type: text/plain\n\nIt was read.\n--b\n\
         Content-Type: message/disposition-notification\n\nFinal-Recipient: rfc822;somebody@exim.example\n\
         Original-Message-ID: <{id}>\n\
         Disposition: manual-action/MDN-sent-manually; displayed\n\n--b--\n"
    )
}

/// What comes from anywhere on the Internet with a null sender: the reply to its final dot.
fn null_sender(lab: &Lab, recipient: &str, message: &str) -> Result<u16> {
    let mut client = Client::connect(lab, Host::Internet, Some(lab::client(1)), (lab::EDGE, 25).into())?;
    client.command("EHLO client.lab.example")?;
    let (stage, reply) = client.transaction("", recipient, message)?;
    ensure!(stage == Stage::Dot, "{stage:?}: {reply}");
    client.command("QUIT")?;
    Ok(reply.code)
}

/// What `verify` says, once the message that is answered has reached the disk.
fn verify(lab: &Lab, edge: &Edge, recipient: &str, bounce: &str) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said =
            edge.command(lab, &["verify", "--json", "--recipient", recipient, "-"], bounce.as_bytes())?;
        let finding: Value = serde_json::from_slice(&said.stdout)
            .with_context(|| format!("{}", String::from_utf8_lossy(&said.stderr)))?;
        if finding["proven"] == true || Instant::now() > deadline {
            return Ok(finding);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_answers_mail_that_was_sent_arrives_by_the_record_also_after_a_crash() -> Result<()> {
    let lab = Lab::up("record")?;
    let operator = lab.operator(&Operator::default())?;
    let far_server = lab.far(EXIM, lab::EDGE.into())?;
    // Else an automatic reply and a receipt need no proof.
    let settings = Settings::default().set("kinds.auto_reply", "bounce").set("kinds.receipt", "bounce");
    let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
    let alice = operator.mailbox("alice@example.jp");
    let said = |edge: &Edge| {
        format!("the edge said:\n{}\nthe far server:\n{}", edge.process().tail(40), far_server.log())
    };

    // A bounce, and a reply: each by a real Exim.
    for (user, text) in [(GATEWAY, "X-Returned: gateway"), (AWAY, "In-Reply-To: <away@example.jp>")] {
        let to = format!("{user}@{}", EXIM.domain());
        submit(&lab, Host::Mta, SUBMISSION, "alice@example.jp", &to, &message(user))?;
        let arrived = alice.wait_for_one(text, PATIENCE).with_context(|| said(&edge))?;
        assert!(!arrived.contains("bs1."), "a token came back: {arrived}");
    }
    let proofs = |edge: &Edge| -> Result<Vec<Value>> {
        let inbound = edge.verdicts()?.into_iter().filter(|verdict| verdict["direction"] == "inbound");
        Ok(inbound.map(|verdict| verdict["proof"].clone()).collect())
    };
    // The log is written beside the sessions.
    let deadline = Instant::now() + PATIENCE;
    while proofs(&edge)?.len() < 2 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(proofs(&edge)?, ["record", "record"], "{}", said(&edge));

    // A stranger's mail in their names: one that she never sent, and one of hers in bob's name.
    for (sender, subject) in [("alice@example.jp", "never-sent"), ("bob@example.jp", GATEWAY)] {
        let seen = proofs(&edge)?.len();
        let to = format!("{GATEWAY}@{}", EXIM.domain());
        submit(&lab, Host::Internet, EXIM.socket(), sender, &to, &message(subject))?;
        edge.wait_for_verdict(
            |verdict| {
                verdict["direction"] == "inbound" && verdict["recipient"] == sender && verdict["reply"] == 550
            },
            PATIENCE,
        )
        .with_context(|| said(&edge))?;
        assert_eq!(proofs(&edge)?[seen..], [Value::Null]);
    }
    assert_eq!(operator.mailbox("bob@example.jp").count()?, 0);
    assert_eq!(alice.count()?, 2);

    // Receipts: of a message of hers, of none, and of hers to bob.
    assert_eq!(null_sender(&lab, "alice@example.jp", &receipt("gateway@example.jp"))?, 250);
    assert_eq!(null_sender(&lab, "alice@example.jp", &receipt("never-sent@example.jp"))?, 550);
    assert_eq!(null_sender(&lab, "bob@example.jp", &receipt("gateway@example.jp"))?, 550);

    // Who only looks sees the same, while the daemon runs.
    let finding = verify(&lab, &edge, "alice@example.jp", &receipt("gateway@example.jp"))?;
    assert_eq!((&finding["proven"], &finding["proof"]), (&true.into(), &"record".into()), "{finding}");
    assert_eq!(finding["where"], "Original-Message-ID", "{finding}");

    // What is to be known after the crash is on disk, too.
    let finding = verify(&lab, &edge, "alice@example.jp", &receipt("away@example.jp"))?;
    assert_eq!(finding["proven"], true, "{finding}");
    edge.kill9()?;
    edge.start_again(&lab)?;
    assert_eq!(null_sender(&lab, "alice@example.jp", &receipt("away@example.jp"))?, 250, "{}", said(&edge));
    assert_eq!(null_sender(&lab, "bob@example.jp", &receipt("away@example.jp"))?, 550);
    edge.stop()?;
    edge.start_again(&lab)?;
    assert_eq!(null_sender(&lab, "alice@example.jp", &receipt("away@example.jp"))?, 250, "{}", said(&edge));
    let status = edge.json(&lab, &["status"])?;
    assert_eq!(status["counters"]["bounces_record"], 1, "{status}");
    edge.stop()
}
