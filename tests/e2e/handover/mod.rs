//! An edge that is replaced while mail flows: no connection is refused or reset, no message is lost or comes twice.

mod load;
mod reload;
mod systemd;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::edge::{CONFIG, Edge, Settings};
use lab::mailbox::Maildir;
use lab::mta::Operator;
use lab::program::Profile;
use lab::{EDGE, EDGE_INSIDE, Host, Lab, Process};

use self::load::Seen;
use self::systemd::Systemd;

const PATIENCE: Duration = Duration::from_secs(120);
const HANDOVERS: usize = 5;

/// Nobody is over a budget, and no handover is near the time that a transaction may take.
fn settings() -> Settings {
    Settings::default()
        .set("reputation.connections_per_sec", 1000.0)
        .set("reputation.connections_burst", 100_000)
        .set("xdp.syn_per_sec", 100_000)
        .set("xdp.syn_burst", 100_000)
}

/// All that was acknowledged arrived, once; nothing went wrong.
fn nothing_was_lost(seen: &Seen, mailbox: &Maildir) -> Result<()> {
    assert!(seen.faults.is_empty(), "{} faults, {:#?}", seen.faults.len(), seen.faults.first());
    // However slow the machine: each calm lasts until its share of these came.
    assert!(seen.delivered.len() > 500, "hardly any mail: {}", seen.delivered.len());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let arrived = load::arrived(&mailbox.messages()?);
        let once: BTreeSet<String> = arrived.iter().cloned().collect();
        ensure!(once.len() == arrived.len(), "{} messages came twice", arrived.len() - once.len());
        let strangers: Vec<_> = once.difference(&seen.delivered).collect();
        ensure!(strangers.is_empty(), "came without a 250: {strangers:?}");
        if once.len() == seen.delivered.len() {
            println!("{} messages, once each; {} sessions heard 421", once.len(), seen.sent_away);
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{} of {} arrived", once.len(), seen.delivered.len());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn successor(lab: &Lab, binary: &str) -> Result<Process> {
    lab.spawn("backstop", Host::Edge, &[binary, "run", "--config", CONFIG, "--take-over"])
}

#[test]
fn a_new_process_takes_the_sockets_over_without_one_refused_connection() -> Result<()> {
    let lab = Lab::up("take-over")?;
    let operator = lab.operator(&Operator::default())?;
    let binary = Edge::prepare(&lab, &settings(), Profile::Dev)?;
    let binary = binary.to_str().context("a path is UTF-8")?;
    // Nobody is there yet: it just starts.
    let mut edge = successor(&lab, binary)?;
    edge.wait_for_line("\"started\"", PATIENCE)?;
    let seen = load::during(&lab, |load| {
        for _ in 0..HANDOVERS {
            load.calm()?;
            let next = successor(&lab, binary)?;
            next.wait_for_line("\"started\"", PATIENCE)?;
            let ended = edge.wait(PATIENCE)?;
            ensure!(ended.success(), "the one before ended with {ended}:\n{}", edge.tail(20));
            edge = next;
        }
        // One that cannot listen where it should: the one before goes on, as if nothing had been.
        Edge::prepare(&lab, &settings().set("inbound.listen", vec!["203.0.113.99:25"]), Profile::Dev)?;
        let mut failing = successor(&lab, binary)?;
        let ended = failing.wait(PATIENCE)?;
        ensure!(ended.code() == Some(2), "{ended}: {}", failing.tail(5));
        edge.wait_for_line("this one goes on", PATIENCE)?;
        Edge::prepare(&lab, &settings(), Profile::Dev)?;
        load.calm()?;
        let next = successor(&lab, binary)?;
        next.wait_for_line("\"started\"", PATIENCE)?;
        ensure!(edge.wait(PATIENCE)?.success(), "{}", edge.tail(20));
        edge = next;
        load.calm()?;
        Ok(())
    })?;
    nothing_was_lost(&seen, &operator.mailbox("alice@example.jp"))?;
    edge.stop(PATIENCE).map(drop)
}

#[test]
fn a_restart_by_systemd_refuses_no_connection() -> Result<()> {
    let lab = Lab::up("restart")?;
    let operator = lab.operator(&Operator::default())?;
    let binary = Edge::prepare(&lab, &settings(), Profile::Dev)?;
    let binary = binary.to_str().context("a path is UTF-8")?;
    let mut systemd = Systemd::new(&lab)?;
    let mut edge = systemd.start(&lab, binary)?;
    let sockets = systemd.kept.0.len();
    assert!(sockets >= 3, "two addresses inbound, one outbound: {:?}", systemd.kept);
    let seen = load::during(&lab, |load| {
        for _ in 0..HANDOVERS {
            load.calm()?;
            systemd.restart(&lab, binary, &mut edge)?;
            assert_eq!(systemd.kept.0.len(), sockets, "the same sockets, not others: {:?}", systemd.kept);
        }
        load.calm()?;
        Ok(())
    })?;
    nothing_was_lost(&seen, &operator.mailbox("alice@example.jp"))?;

    // An address that the configuration no longer has is closed, for systemd too.
    Edge::prepare(&lab, &settings().set("inbound.listen", vec![format!("{EDGE}:25")]), Profile::Dev)?;
    systemd.restart(&lab, binary, &mut edge)?;
    edge.wait_for_line("no longer in the configuration", PATIENCE)?;
    edge.stop(PATIENCE)?;
    systemd.hear_until("STOPPING=1")?;
    let names: BTreeSet<_> = systemd.kept.0.values().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, [format!("smtp-{EDGE}.25"), format!("smtp-{EDGE_INSIDE}.10025")].into());
    Ok(())
}
