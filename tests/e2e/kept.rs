//! Connections to a real Postfix, kept between messages: it ends them when it likes, or is itself ended, and no message is
//! lost, doubled or refused for it.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::client::{Client, Stage};
use lab::edge::{Edge, Settings};
use lab::mta::{MailServer, Operator};
use lab::program::Profile;
use lab::{EDGE, Host, Lab};

use super::message;

const PATIENCE: Duration = Duration::from_secs(60);

/// One message from a client of its own; its final reply's code.
fn send(lab: &Lab, subject: &str) -> Result<(Stage, u16)> {
    let mut client = Client::connect(lab, Host::Internet, None, (EDGE, 25).into())?;
    client.command("EHLO client.lab.example")?;
    let (stage, reply) =
        client.transaction("bob@elsewhere.example", "alice@example.jp", &message(subject))?;
    client.command("QUIT")?;
    Ok((stage, reply.code))
}

/// The same, again and again while it is deferred, as a real server does.
fn send_until_taken(lab: &Lab, subject: &str) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match send(lab, subject)? {
            (Stage::Dot, 250) => return Ok(()),
            (stage, code) => ensure!(code / 100 == 4, "{subject}: {code} at {stage:?}"),
        }
        ensure!(Instant::now() < until, "{subject} was deferred for {PATIENCE:?}");
        sleep(Duration::from_millis(200));
    }
}

/// How often each of `count` messages arrived, once all are there.
fn arrived(server: &MailServer, count: usize) -> Result<BTreeMap<String, usize>> {
    let mailbox = server.mailbox("alice@example.jp");
    let until = Instant::now() + PATIENCE;
    loop {
        let mut times = BTreeMap::new();
        for text in mailbox.messages()? {
            let subject =
                text.lines().find_map(|line| line.strip_prefix("Subject: ")).context("no subject")?;
            *times.entry(subject.to_owned()).or_insert(0) += 1;
        }
        if times.len() >= count {
            return Ok(times);
        }
        ensure!(Instant::now() < until, "only {} of {count} arrived", times.len());
        sleep(Duration::from_millis(200));
    }
}

fn counter(edge: &Edge, lab: &Lab, name: &str) -> Result<u64> {
    let status = edge.json(lab, &["status"])?;
    status["counters"][name].as_u64().with_context(|| format!("no counter {name} in {status}"))
}

#[test]
fn a_postfix_that_ends_idle_connections_costs_no_message() -> Result<()> {
    let lab = Lab::up("kept")?;
    let server = lab.operator(&Operator::default())?;
    server.run("postconf -e smtpd_timeout=2s && postfix reload")?;
    // The edge would keep them longer: Postfix is first.
    let settings = Settings::default().set("limits.upstream_idle_secs", 60);
    let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
    const MESSAGES: usize = 12;
    for number in 0..MESSAGES {
        assert_eq!(send(&lab, &format!("idle-{number}"))?, (Stage::Dot, 250));
        // Some come while the connection is alive, some just when Postfix ends it, some after.
        sleep(Duration::from_millis([0, 1990, 2000, 2010, 2500, 100][number % 6]));
    }
    let times = arrived(&server, MESSAGES)?;
    assert!(times.len() == MESSAGES && times.values().all(|times| *times == 1), "{times:?}");
    let connections = counter(&edge, &lab, "upstream_connections")?;
    assert!((2..MESSAGES as u64).contains(&connections), "{connections} connections for {MESSAGES} messages");
    assert_eq!(counter(&edge, &lab, "in_doubt")?, 0);
    edge.stop()
}

#[test]
fn a_postfix_that_is_reloaded_and_killed_under_load_loses_and_doubles_nothing() -> Result<()> {
    let lab = Lab::up("kept-restart")?;
    let mut server = lab.operator(&Operator::default())?;
    // All senders have one address.
    let settings = Settings::default()
        .set("reputation.connections_per_sec", 1000.0)
        .set("reputation.connections_burst", 10_000.0)
        .set("xdp.syn_per_sec", 1000);
    let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
    const SENDERS: usize = 4;
    const EACH: usize = 40;
    std::thread::scope(|scope| -> Result<()> {
        let lab = &lab;
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                scope.spawn(move || -> Result<()> {
                    for number in 0..EACH {
                        send_until_taken(lab, &format!("load-{sender}-{number}"))?;
                        sleep(Duration::from_millis(50));
                    }
                    Ok(())
                })
            })
            .collect();
        for _ in 0..3 {
            sleep(Duration::from_millis(400));
            server.run("postfix reload")?;
        }
        sleep(Duration::from_millis(400));
        server.kill9()?;
        sleep(Duration::from_secs(1));
        server.start_again(lab)?;
        for sender in senders {
            sender.join().expect("no sender panics")?;
        }
        Ok(())
    })?;
    let times = arrived(&server, SENDERS * EACH)?;
    let twice = times.values().filter(|times| **times > 1).count() as u64;
    let in_doubt = counter(&edge, &lab, "in_doubt")?;
    assert!(twice <= in_doubt, "{twice} came twice, {in_doubt} are counted as in doubt");
    let connections = counter(&edge, &lab, "upstream_connections")?;
    assert!(connections < (SENDERS * EACH) as u64 / 2, "{connections} connections: they are not kept");
    edge.stop()
}
