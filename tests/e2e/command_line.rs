//! The command line against a running edge, and against what it leaves behind: `status`, `ban`, `run`.

use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::edge::{Edge, Settings};
use lab::program::Profile;
use lab::{Host, Lab};

const PATIENCE: Duration = Duration::from_secs(90);
const BANNED: &str = "198.18.64.77";

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs `backstop` and insists on its exit code.
fn backstop(edge: &Edge, lab: &Lab, arguments: &[&str], code: i32) -> Result<String> {
    let output = edge.command(lab, arguments, b"")?;
    ensure!(
        output.status.code() == Some(code),
        "backstop {arguments:?} ended with {}, not {code}: {}",
        output.status,
        said(&output)
    );
    Ok(said(&output))
}

/// Waits until the network card drops a source, or does so no more.
fn wait_until_heard(lab: &Lab, source: &str, heard: bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let from = Some(source.parse()?);
        let connected =
            lab.connect(Host::Internet, from, (lab::EDGE, 25).into(), Duration::from_millis(500)).is_ok();
        if connected == heard {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{source} is {}heard", if heard { "not " } else { "still " });
    }
}

/// Waits until the log says that this happened to the source.
fn wait_for_event(edge: &Edge, name: &str, source: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !edge.events()?.iter().any(|event| event["event"] == name && event["source"] == source) {
        ensure!(Instant::now() < deadline, "no {name} of {source} in the log: {}", edge.process().tail(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn a_ban_holds_without_its_daemon_and_ends_when_it_is_lifted() -> Result<()> {
    let lab = Lab::up("ban")?;
    let mut edge = Edge::start(&lab, &Settings::default(), Profile::Dev)?;
    wait_until_heard(&lab, BANNED, true)?;
    backstop(&edge, &lab, &["ban", "explain", BANNED], 1)?;
    backstop(&edge, &lab, &["ban", "del", BANNED], 1)?;
    backstop(&edge, &lab, &["ban", "add", BANNED, "--for", "1h"], 0)?;
    wait_until_heard(&lab, BANNED, false)?;
    assert!(backstop(&edge, &lab, &["ban", "explain", BANNED], 0)?.contains("operator"));
    assert_eq!(edge.json(&lab, &["ban", "list"])?["bans"][0]["source"], BANNED);

    edge.kill9()?;
    wait_until_heard(&lab, "198.18.64.78", false)?; // Nobody listens.
    let status = backstop(&edge, &lab, &["status"], 1)?;
    assert!(status.contains("still enforces 1 bans"), "{status}");
    let list = backstop(&edge, &lab, &["ban", "list"], 0)?;
    assert!(
        list.contains(BANNED) && list.contains("operator") && list.contains("no daemon answers"),
        "{list}"
    );

    edge.start_again(&lab)?;
    assert_eq!(edge.json(&lab, &["status"])?["xdp"]["adopted"], true);
    wait_until_heard(&lab, BANNED, false)?;
    backstop(&edge, &lab, &["ban", "del", BANNED], 0)?;
    wait_until_heard(&lab, BANNED, true)?;
    wait_for_event(&edge, "ban_lifted", BANNED)?;
    edge.stop()
}

#[test]
fn who_cannot_be_banned_is_refused_with_the_reason() -> Result<()> {
    let lab = Lab::up("never-ban")?;
    let settings = Settings::default()
        .set("reputation.never_ban", vec!["198.18.65.0/24"])
        .set("xdp.allow", vec!["198.18.66.0/24"]);
    let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
    for (source, reason) in [("198.18.65.7", "never_ban"), ("198.18.66.7", "allow")] {
        let refused = backstop(&edge, &lab, &["ban", "add", source], 2)?;
        assert!(refused.contains(source) && refused.contains(reason), "{refused}");
    }
    assert_eq!(edge.json(&lab, &["ban", "list"])?["bans"].as_array().map(Vec::len), Some(0));
    edge.stop()
}

#[test]
fn own_and_upstream_addresses_cannot_be_banned_without_a_network_card_either() -> Result<()> {
    let lab = Lab::up("own")?;
    let mut edge = Edge::start(&lab, &Settings::default().without("xdp"), Profile::Dev)?;
    for (source, reason) in [
        ("127.0.0.1", "address of this host"),
        ("198.18.0.10", "own addresses"),
        ("0.0.0.0", "no host's address"),
        ("224.0.0.1", "no host's address"),
        ("ff02::/64", "no host's address"),
    ] {
        let refused = backstop(&edge, &lab, &["ban", "add", source], 2)?;
        assert!(refused.contains(source) && refused.contains(reason), "{refused}");
    }
    backstop(&edge, &lab, &["ban", "add", BANNED], 0)?;
    edge.stop()
}

#[test]
fn a_second_daemon_touches_nothing() -> Result<()> {
    let lab = Lab::up("second")?;
    let mut edge = Edge::start(&lab, &Settings::default(), Profile::Dev)?;
    let refused = backstop(&edge, &lab, &["run"], 2)?;
    assert!(refused.contains("another backstop (pid "), "{refused}");
    wait_until_heard(&lab, BANNED, true)?;
    edge.stop()
}

#[test]
fn the_program_is_not_taken_off_under_a_running_daemon_or_only_by_force_and_not_unnoticed() -> Result<()> {
    let lab = Lab::up("blind")?;
    let mut edge = Edge::start(&lab, &Settings::default(), Profile::Dev)?;
    for command in ["attach", "detach"] {
        let refused = backstop(&edge, &lab, &["xdp", command], 2)?;
        assert!(refused.contains("stop it first"), "{refused}");
    }
    assert_ne!(edge.json(&lab, &["status"])?["xdp"]["mode"], "off");

    backstop(&edge, &lab, &["xdp", "detach", "--force"], 0)?;
    assert_eq!(edge.json(&lab, &["status"])?["xdp"]["mode"], "off");
    assert!(backstop(&edge, &lab, &["status"], 0)?.contains("NOT PROTECTED"));
    let deadline = Instant::now() + PATIENCE;
    let told = |edge: &Edge| {
        let no_longer = |event: &serde_json::Value| event.to_string().contains("no longer at the interface");
        edge.events().map(|events| events.iter().any(no_longer))
    };
    while !told(&edge)? {
        ensure!(Instant::now() < deadline, "the daemon did not notice: {}", edge.process().tail(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    edge.stop()
}

/// A start that fails takes its program off the interface again, and says who to ask.
#[test]
fn a_port_that_is_taken_is_named_and_nothing_stays_behind() -> Result<()> {
    let lab = Lab::up("port")?;
    let mut edge = Edge::start(&lab, &Settings::default(), Profile::Dev)?;
    edge.stop()?;
    backstop(&edge, &lab, &["xdp", "status"], 0)?; // A stop leaves the protection in force.
    backstop(&edge, &lab, &["xdp", "detach"], 0)?;

    let _taken = lab.in_host(Host::Edge, || Ok(std::net::TcpListener::bind((lab::EDGE, 25))?))?;
    let refused = backstop(&edge, &lab, &["run"], 2)?;
    assert!(refused.contains("198.18.0.10:25") && refused.contains("ss -ltnp"), "{refused}");
    backstop(&edge, &lab, &["xdp", "status"], 1)?;
    Ok(())
}
