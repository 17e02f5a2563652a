//! What takes long: a stop that may lawfully take a quarter of an hour, a program that hangs; and a way back that fails.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use lab::ssh::Fault;

use super::broken::passes_for_one;
use super::fleet::{Fleet, NAMES, good, is_healthy, of, release_of, shown, state};

/// The call that restarts the daemon.
const RESTART: &str = "timeout * systemctl restart backstop.service*";

#[test]
fn a_host_that_is_at_work_is_waited_for_after_the_connection_broke() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (one, two) = (good(folder.path(), "one")?, good(folder.path(), "two")?);
    let fleet = Fleet::with_release("deploywaits", &one, 1)?;
    let host = &fleet.hosts[0];
    let first = release_of(host)?;
    // The old daemon waits for replies, as long as this test wants.
    host.fault(Fault::Hangs, 0, RESTART)?;
    let mut deployer = fleet
        .command(&["mx1", "--binary", shown(&two.binary), "--units", shown(&two.units), "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(deployer.stderr.take().context("stderr is piped")?).lines();
    let mut heard = String::new();
    let mut until = |what: &str| -> Result<String> {
        for line in lines.by_ref() {
            let line = line?;
            heard += &format!("{line}\n");
            if line.contains(what) {
                return Ok(line);
            }
        }
        anyhow::bail!("{what:?} was not said, but\n{heard}")
    };
    until("restarting; the daemon waits")?;
    host.cut_connections()?;
    // The host says what it does, and how long that may take: twice a restart by the unit's times, and more.
    let progress = until("it is at work: restarting")?;
    let left = progress.split_once('(').and_then(|(_, rest)| rest.split_once(" s left at most"));
    let left: u64 = left.with_context(|| progress.clone())?.0.parse()?;
    assert!((2000..3000).contains(&left), "{progress}");
    host.go_on()?;
    let mut said = String::new();
    deployer.stdout.take().context("stdout is piped")?.read_to_string(&mut said)?;
    let mut rest = String::new();
    for line in lines {
        rest += &line?;
    }
    assert_eq!(deployer.wait()?.code(), Some(1), "{said}{rest}");
    let said: serde_json::Value = serde_json::from_str(&said)?;
    assert_eq!(said["hosts"][0]["outcome"], "deployed", "{said}{rest}");
    assert!(is_healthy(host)? && release_of(host)? != first);
    Ok(())
}

#[test]
fn an_operators_own_times_are_the_bounds_of_a_restart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (one, two) = (good(folder.path(), "one")?, good(folder.path(), "two")?);
    let fleet = Fleet::with_release("deploytimes", &one, 2)?;
    fleet.hosts[1].read(
        "mkdir /etc/systemd/system/backstop.service.d
         printf '[Service]\nTimeoutStopSec=2h\nTimeoutStartSec=190\n' \
             >/etc/systemd/system/backstop.service.d/override.conf",
    )?;
    for host in &fleet.hosts[..2] {
        host.fault(Fault::Fails, 0, "nothing is called so")?;
    }
    let (output, _) = fleet.deploy(&two, &["mx1", "mx2"], &[])?;
    assert!(output.status.success(), "{}", fleet.explain(&output));
    // TimeoutStopSec, TimeoutAbortSec, twice TimeoutStartSec, and a minute.
    for (host, secs) in fleet.hosts.iter().zip([900 + 30 + 2 * 90 + 60, 7200 + 30 + 2 * 190 + 60]) {
        let calls = host.calls()?;
        let wanted = format!("timeout {secs} systemctl restart backstop.service");
        assert!(calls.contains(&wanted), "{wanted} is not among {calls:#?}");
    }
    Ok(())
}

#[test]
fn a_program_that_hangs_is_ended_and_taken_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let passes_for_one = passes_for_one(folder.path())?;
    let fleet = Fleet::with_release("deployhangs", &good(folder.path(), "good")?, NAMES.len())?;
    let rows = [
        ("hangs-at-version", "the new program does not run here: it does not answer within"),
        ("hangs-at-check", "backstop check says no"),
        ("hangs-at-status", "backstop status says no: it does not answer within"),
    ];
    // Each on a host of its own, at the same time.
    std::thread::scope(|scope| {
        let rows = rows.iter().zip(&fleet.hosts).map(|((name, says), host)| {
            let (fleet, program) = (&fleet, &passes_for_one);
            let release = of(folder.path(), name, program);
            scope.spawn(move || -> Result<()> {
                let before = state(host)?;
                let (output, said) = fleet.deploy(&release?, &[host.name()], &[])?;
                let words = fleet.explain(&output);
                ensure!(output.status.code() == Some(1), "{name}: {words}");
                ensure!(said["hosts"][0]["outcome"] == "as_it_was", "{name}: {words}");
                ensure!(
                    words.contains(says) && words.contains("it does not answer within"),
                    "{name}: {words}"
                );
                ensure!(state(host)? == before && is_healthy(host)?, "{name}: {}\n{words}", state(host)?);
                Ok(())
            })
        });
        let rows: Vec<_> = rows.collect();
        rows.into_iter().try_for_each(|row| row.join().expect("no test thread panics"))
    })
}

#[test]
fn a_way_back_that_fails_is_named_with_what_to_do_and_taken_by_the_next_deployment() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (one, two) = (good(folder.path(), "one")?, good(folder.path(), "two")?);
    let bad = of(folder.path(), "exits-at-once", &passes_for_one(folder.path())?)?;
    let fleet = Fleet::with_release("deploynoway", &one, 2)?;
    let (host, untouched) = (&fleet.hosts[0], state(&fleet.hosts[1])?);
    // The first is the switch's own, the second the way back's.
    host.fault(Fault::Fails, 1, "systemctl daemon-reload*")?;
    let arguments = ["--binary", shown(&bad.binary), "--units", shown(&bad.units), "mx1", "mx2"];
    let output = fleet.command(&arguments).output()?;
    let (words, table) = (fleet.explain(&output), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(host.fault_happened(), "{words}");
    println!("{table}");
    for wanted in [
        "FAILED, NEEDS A LOOK",
        "could not be put back",
        "mx1: next: `ssh mx1 journalctl --unit backstop --lines 50` says more",
        "is taken back first by the next `cargo xtask deploy mx1`",
        "not touched",
    ] {
        assert!(table.contains(wanted), "{wanted:?} is not in {words}");
    }
    assert_eq!(state(&fleet.hosts[1])?, untouched);

    let (output, said) = fleet.deploy(&two, &["mx1", "mx2"], &[])?;
    assert!(output.status.success(), "{}", fleet.explain(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("was cut off: taking it back"), "{said}");
    assert!(is_healthy(host)?);
    Ok(())
}

#[test]
fn a_user_who_becomes_root_by_sudo_deploys_too_and_a_broken_connection_stops_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (one, two) = (good(folder.path(), "one")?, good(folder.path(), "two")?);
    let fleet = Fleet::up("deploysudo")?;
    let host = &fleet.hosts[0];
    // The search path is the one of the lab's faults; a terminal of sudo's own is what its newer versions take.
    host.read(
        "useradd --system --shell /bin/sh --home-dir / --password '*' deployer
         printf '%s\n' 'Defaults:deployer use_pty, secure_path=\"/run/lab/mx1/bin:/usr/sbin:/usr/bin:/sbin:/bin\"' \
             'deployer ALL=(root) NOPASSWD: ALL' >/etc/sudoers.d/deployer
         chmod 0440 /etc/sudoers.d/deployer && visudo --check --quiet",
    )?;
    let (output, _) = fleet.deploy(&one, &["deployer@mx1"], &[])?;
    assert_eq!(output.status.code(), Some(2), "{}", fleet.explain(&output));
    assert!(fleet.explain(&output).contains("give --sudo"), "{}", fleet.explain(&output));
    let (output, said) = fleet.deploy(&one, &["deployer@mx1"], &["--sudo"])?;
    assert!(output.status.success(), "{}", fleet.explain(&output));
    assert_eq!(said["hosts"][0]["outcome"], "deployed");
    assert!(is_healthy(host)?);
    let first = release_of(host)?;

    host.fault(Fault::ConnectionDies, 0, RESTART)?;
    let (output, said) = fleet.deploy(&two, &["deployer@mx1"], &["--sudo"])?;
    let words = fleet.explain(&output);
    assert!(host.fault_happened(), "{words}");
    assert_eq!(said["hosts"][0]["outcome"], "deployed", "{words}");
    assert_eq!(said["hosts"][0]["healthy"], true, "{words}");
    assert_ne!(release_of(host)?, first, "{words}");
    let (output, _) = fleet.xtask(&["--rollback", "deployer@mx1", "--sudo"])?;
    assert!(output.status.success(), "{}", fleet.explain(&output));
    assert_eq!(release_of(host)?, first);
    Ok(())
}
