//! A reload while mail flows: no session notices, in whatever place it is; new sessions go by the new settings.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::client::Client;
use lab::edge::{Edge, Settings};
use lab::mta::Operator;
use lab::program::Profile;
use lab::{EDGE, Host, Lab};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::load::CALM;
use super::{HANDOVERS, PATIENCE, load, nothing_was_lost, settings};

/// Settings under which a bounce without a tag is refused at DATA, or only when its end came and nothing proved it.
fn with_tags(required: bool) -> Settings {
    settings().set("domain.0.require_tag", if required { "always" } else { "never" })
}

/// What a new session hears to DATA in a bounce that has no tag.
fn answer_to_untagged(lab: &Lab) -> Result<u16> {
    let mut client = greeted(lab)?;
    client.command("MAIL FROM:<>")?;
    client.command("RCPT TO:<alice@example.jp>")?;
    Ok(client.command("DATA")?.code)
}

fn greeted(lab: &Lab) -> Result<Client> {
    let mut client = Client::connect(lab, Host::Internet, Some(lab::client(200)), (EDGE, 25).into())?;
    ensure!(client.greeting.code == 220, "{}", client.greeting);
    client.command("EHLO far.example")?;
    Ok(client)
}

/// `systemctl reload`, until the edge says that it is done.
fn reload(lab: &Lab, edge: &Edge, settings: &Settings) -> Result<()> {
    const DONE: &str = "\"event\":\"reloaded\"";
    Edge::prepare(lab, settings, Profile::Dev)?;
    let before = edge.process().count(DONE);
    kill(Pid::from_raw(edge.process().pid().cast_signed()), Signal::SIGHUP)?;
    let deadline = Instant::now() + PATIENCE;
    while edge.process().count(DONE) == before {
        ensure!(Instant::now() < deadline, "no reload:\n{}", edge.process().tail(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A message with this id, all but its final dot, after a 354.
fn begun(lab: &Lab, id: &str) -> Result<Client> {
    let mut client = greeted(lab)?;
    for (line, wanted) in
        [(&*format!("MAIL FROM:<{id}@far.example>"), 250), ("RCPT TO:<alice@example.jp>", 250), ("DATA", 354)]
    {
        let reply = client.command(line)?;
        ensure!(reply.code == wanted, "{line}: {reply}");
    }
    client.send(format!("From: {id}@far.example\r\nTo: alice@example.jp\r\nSubject: {id}\r\n").as_bytes())?;
    Ok(client)
}

#[test]
fn a_reload_under_load_is_noticed_by_no_session_that_is_open() -> Result<()> {
    let lab = Lab::up("reload")?;
    let operator = lab.operator(&Operator::default())?;
    let mut edge = Edge::start(&lab, &with_tags(false), Profile::Dev)?;
    let (mut in_data, mut idle) = (begun(&lab, "in-data")?, greeted(&lab)?);
    let mut seen = load::during(&lab, |load| {
        for round in 0..HANDOVERS {
            load.calm()?;
            let required = round % 2 == 0;
            assert_eq!(answer_to_untagged(&lab)?, if required { 354 } else { 550 }, "before reload {round}");
            // One that begins before this reload, too, and ends behind it.
            let mut last = begun(&lab, &format!("before-{round}"))?;
            reload(&lab, &edge, &with_tags(required))?;
            assert_eq!(answer_to_untagged(&lab)?, if required { 550 } else { 354 }, "after reload {round}");
            let reply = last.message(&format!("X-Handover: before-{round}\n\nHello.\n"))?;
            ensure!(reply.code == 250, "{reply}");
            in_data.send(format!("X-Reload: {round}\r\n").as_bytes())?;
            let reply = idle.command("NOOP")?;
            ensure!(reply.code == 250, "{reply}");
        }
        // A file with a fault changes nothing, and nobody hears of it.
        lab.write("edge/backstop.toml", "hostname = 5\n")?;
        kill(Pid::from_raw(edge.process().pid().cast_signed()), Signal::SIGHUP)?;
        edge.process().wait_for_line("\"event\":\"reload_failed\"", PATIENCE)?;
        assert_eq!(answer_to_untagged(&lab)?, 550, "the settings before are in force");
        Edge::prepare(&lab, &with_tags(true), Profile::Dev)?;
        load.calm()?;
        Ok(())
    })?;
    // Those that were open all the while end as they should.
    let reply = in_data.message("X-Handover: in-data\n\nHello.\n")?;
    ensure!(reply.code == 250, "the session in the middle of DATA: {reply}");
    let (_, reply) = idle.transaction(
        "idle@far.example",
        "alice@example.jp",
        "From: idle@far.example\nTo: alice@example.jp\nSubject: idle\nX-Handover: idle\n\nHello.\n",
    )?;
    ensure!(reply.code == 250, "the idle session: {reply}");
    assert_eq!(idle.command("QUIT")?.code, 221);
    assert_eq!(seen.sent_away, 0, "a reload sends nobody away");
    seen.delivered.extend((0..HANDOVERS).map(|round| format!("before-{round}")));
    seen.delivered.extend(["in-data".to_owned(), "idle".to_owned()]);
    nothing_was_lost(&seen, &operator.mailbox("alice@example.jp"))?;
    let status = edge.json(&lab, &["status"])?;
    let uptime = status["uptime_secs"].as_u64().context("uptime")?;
    assert!(uptime >= HANDOVERS as u64 * CALM.as_secs(), "the same process all the while: {status}");
    edge.stop()
}
