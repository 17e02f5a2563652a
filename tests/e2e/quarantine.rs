//! The quarantine with real servers and a real disk: killed right behind a 250, full to the last octet, and released.

use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::client::{Client, Stage, submit};
use lab::edge::{Edge, Settings};
use lab::mta::{Far, Operator, Software};
use lab::program::Profile;
use lab::{EDGE, Host, Lab};
use serde_json::Value;

use crate::message;

const PATIENCE: Duration = Duration::from_secs(60);
/// Where the quarantine is, as seen inside the lab.
const DIR: &str = "/run/lab/edge/state/quarantine";

fn settings() -> Settings {
    // The lab's disks are small; what is to be full here is filled.
    Settings::default()
        .without("xdp")
        .set("filter.0.action", "quarantine")
        .set("quarantine.free_bytes_min", 0)
}

/// What a bounce looks like; its lines end in LF here, and one begins with a dot.
fn bounce(subject: &str) -> String {
    format!(
        "From: MAILER-DAEMON@far.example\nTo: alice@example.jp\nSubject: {subject}\n\n.dot\n..two\n\nIt failed.\n"
    )
}

/// Hands a bounce to the edge; the reply to its final dot.
fn send(lab: &Lab, recipient: &str, subject: &str) -> Result<lab::client::Reply> {
    let mut client = Client::connect(lab, Host::Internet, None, (EDGE, 25).into())?;
    client.command("EHLO far.example")?;
    let (stage, reply) = client.transaction("", recipient, &bounce(subject))?;
    ensure!(stage == Stage::Dot, "{subject}: {stage:?}: {reply}");
    Ok(reply)
}

/// Runs `backstop quarantine` and insists on its exit code; what it printed.
fn quarantine(edge: &Edge, lab: &Lab, arguments: &[&str], code: i32) -> Result<String> {
    let output = edge.command(lab, &[&["quarantine"], arguments].concat(), b"")?;
    ensure!(
        output.status.code() == Some(code),
        "backstop quarantine {arguments:?} ended with {}, not {code}: {}",
        output.status,
        said(&output)
    );
    Ok(said(&output))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn list(edge: &Edge, lab: &Lab, more: &[&str]) -> Result<Vec<Value>> {
    let listed = edge.json(lab, &[&["quarantine", "list"], more].concat())?;
    listed["messages"].as_array().cloned().with_context(|| format!("no messages in {listed}"))
}

fn id(message: &Value) -> Result<&str> {
    message["id"].as_str().with_context(|| format!("no id in {message}"))
}

#[test]
fn what_got_its_250_is_there_after_kill_9_and_is_released_to_the_mail_server() -> Result<()> {
    let lab = Lab::up("quarantine")?;
    let mut operator = lab.operator(&Operator::default())?;
    let mut edge = Edge::start(&lab, &settings(), Profile::Dev)?;
    let reply = send(&lab, "alice@example.jp", "kept")?;
    edge.kill9()?;
    ensure!(reply.code == 250, "{reply}");

    // Without a daemon, from disk; only a release needs one.
    let messages = list(&edge, &lab, &[])?;
    ensure!(messages.len() == 1, "{messages:#?}");
    let kept = id(&messages[0])?;
    assert_eq!(messages[0]["head"]["recipient"], "alice@example.jp");
    let shown = quarantine(&edge, &lab, &["show", kept], 0)?;
    ensure!(shown.contains("Subject: kept") && shown.contains("no daemon answers"), "{shown}");
    quarantine(&edge, &lab, &["release", kept], 2)?;
    quarantine(&edge, &lab, &["expire", "--older-than", "1h"], 0)?;

    edge.start_again(&lab)?;
    ensure!(send(&lab, "bob@example.jp", "other")?.code == 250);
    ensure!(list(&edge, &lab, &[])?.len() == 2);
    ensure!(list(&edge, &lab, &["--recipient", "Alice@example.jp"])? == messages, "the restart changed it");
    ensure!(list(&edge, &lab, &["--recipient", "example.jp", "--since", "1h"])?.len() == 2);
    ensure!(list(&edge, &lab, &["--since", "2999-01-01T00:00:00Z"])?.is_empty());
    let raw = quarantine(&edge, &lab, &["show", "--raw", kept], 0)?;
    ensure!(raw.starts_with("Received: from far.example") && raw.ends_with(&bounce("kept")), "{raw}");

    // What the mail server does not take stays.
    operator.kill9()?;
    let lost = quarantine(&edge, &lab, &["release", kept], 1)?;
    ensure!(lost.contains("NOT delivered"), "{lost}");
    ensure!(list(&edge, &lab, &[])?.len() == 2);
    operator.start_again(&lab)?;

    let released = quarantine(&edge, &lab, &["release", kept], 0)?;
    ensure!(released.contains("250 2.0.0"), "{released}");
    let arrived = operator.mailbox("alice@example.jp").wait_for_one("Subject: kept", PATIENCE)?;
    ensure!(arrived.ends_with(&raw), "the mailbox has another message:\n{arrived}\nand not\n{raw}");
    ensure!(arrived.starts_with("Return-Path: <>"), "the sender was not the null one:\n{arrived}");
    ensure!(!arrived.contains("Backstop-Quarantine"), "{arrived}");
    quarantine(&edge, &lab, &["release", kept], 1)?;
    quarantine(&edge, &lab, &["show", kept], 1)?;
    quarantine(&edge, &lab, &["show", "../../etc/passwd"], 2)?;

    // Two who are faster than one another: one message arrives.
    let last = list(&edge, &lab, &[])?;
    let last = id(&last[0])?;
    std::thread::scope(|scope| {
        let release = || edge.command(&lab, &["quarantine", "release", last], b"");
        let other = scope.spawn(release);
        let codes = [release()?, other.join().expect("no panic")?].map(|output| output.status.code());
        ensure!(codes.contains(&Some(0)) && codes.contains(&Some(1)), "{codes:?}");
        Ok(())
    })?;
    operator.mailbox("bob@example.jp").wait_for_one("Subject: other", PATIENCE)?;

    ensure!(send(&lab, "alice@example.jp", "unwanted")?.code == 250);
    let unwanted = list(&edge, &lab, &[])?;
    quarantine(&edge, &lab, &["delete", id(&unwanted[0])?], 0)?;
    quarantine(&edge, &lab, &["delete", id(&unwanted[0])?], 1)?;
    ensure!(send(&lab, "alice@example.jp", "old")?.code == 250);
    std::thread::sleep(Duration::from_millis(2100));
    ensure!(quarantine(&edge, &lab, &["expire", "--older-than", "1s"], 0)?.starts_with("1 deleted"));

    // The log is written beside the answers; this is its last line.
    edge.process().wait_for_line("quarantine expire", PATIENCE)?;
    let changes: Vec<String> = edge
        .events()?
        .iter()
        .filter(|event| event["event"] == "control")
        .map(|event| format!("{} by {}: {}", event["request"], event["uid"], event["outcome"]))
        .collect();
    let logged = |what: &str, outcome: &str| {
        changes
            .iter()
            .any(|change| change.contains(what) && change.contains("by 0") && change.contains(outcome))
    };
    for (what, outcome) in [
        (format!("quarantine release {kept}"), "not delivered"),
        (format!("quarantine release {kept}"), "done: 250"),
        (format!("quarantine delete {}", id(&unwanted[0])?), "done: 1 deleted"),
        ("quarantine expire, older than 1 s".to_owned(), "done: 1 deleted"),
    ] {
        ensure!(logged(&what, outcome), "{what} with {outcome} is not in {changes:#?}");
    }
    edge.stop()
}

/// Shell in the edge's host, as its daemon sees the file system.
fn shell(lab: &Lab, script: &str) -> Result<String> {
    let output = lab.run(Host::Edge, &["sh", "-c", script])?;
    ensure!(output.status.success(), "{script}: {}", said(&output));
    Ok(said(&output))
}

#[test]
fn on_a_full_disk_a_bounce_is_deferred_and_comes_again_when_there_is_room() -> Result<()> {
    let lab = Lab::up("quarantine-full")?;
    let _operator = lab.operator(&Operator::default())?;
    shell(&lab, &format!("mkdir -p {DIR} && mount -t tmpfs -o size=256k tmpfs {DIR}"))?;
    let mut edge = Edge::start(&lab, &settings(), Profile::Dev)?;
    // To the last octet: only the kernel says no.
    shell(&lab, &format!("cat /dev/zero >{DIR}/filler 2>/dev/null || true"))?;

    let far = Far { software: Software::Postfix };
    let far_server = lab.far(far, EDGE.into())?;
    let to = format!("nobody-there@{}", far.domain());
    submit(&lab, Host::Internet, far.socket(), "alice@example.jp", &to, &message("full"))?;
    let deferred = edge
        .wait_for_verdict(|verdict| verdict["action"] == "quarantine", PATIENCE)
        .with_context(|| format!("the far server said:\n{}", far_server.log()))?;
    assert_eq!((&deferred["reply"], &deferred["reason"]), (&452.into(), &"not_kept".into()), "{deferred}");
    let failed = edge.events()?.into_iter().find(|event| event["event"] == "quarantine_failed");
    let failed = failed.context("the log does not say that the disk is full")?;
    ensure!(failed["error"].as_str().is_some_and(|error| error.contains("No space left")), "{failed}");
    let status = said(&edge.command(&lab, &["status"], b"")?);
    ensure!(status.contains("IT TAKES NO MORE") && status.contains("No space left"), "{status}");
    ensure!(list(&edge, &lab, &[])?.is_empty());
    assert_eq!(shell(&lab, &format!("ls {DIR}/tmp {DIR}/new | grep -c '^[0-9]' || true"))?.trim(), "0");

    // A larger one, whose first pieces find room: the disk is full in the middle of it.
    shell(&lab, &format!("truncate -s 180k {DIR}/filler"))?;
    let mut client = Client::connect(&lab, Host::Internet, None, (EDGE, 25).into())?;
    client.command("EHLO far.example")?;
    let long = bounce("long") + &"A line that is not short, and not long either.\n".repeat(8000);
    let (stage, reply) = client.transaction("", "alice@example.jp", &long)?;
    ensure!(stage == Stage::Dot && reply.is("452 4.3.1"), "{stage:?}: {reply}");
    shell(&lab, &format!("rm {DIR}/filler"))?;

    // The far server's bounce waits in its queue, and comes again by itself.
    let deadline = Instant::now() + PATIENCE;
    while list(&edge, &lab, &[])?.is_empty() {
        ensure!(
            Instant::now() < deadline,
            "it did not come again; the far server said:\n{}",
            far_server.log()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let messages = list(&edge, &lab, &[])?;
    let raw = quarantine(&edge, &lab, &["show", "--raw", id(&messages[0])?], 0)?;
    ensure!(messages.len() == 1 && raw.contains("X-Returned: full"), "{messages:#?}\n{raw}");
    // It is there before its session is over.
    edge.process().wait_for_line("\"quarantine_recovered\"", PATIENCE)?;
    let status = edge.json(&lab, &["status"])?;
    assert_eq!(
        (&status["quarantine"]["messages"], &status["quarantine"]["trouble"]),
        (&1.into(), &Value::Null)
    );
    edge.stop()
}
