//! Releases that are broken, each in its way: the first host is as it was, and the second was not touched.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lab::ssh::Fault;

use super::fleet::{Fleet, Made, good, is_healthy, of, program, state};

/// A release, what deploy must say of it, and its exit code.
struct Row {
    name: &'static str,
    release: Made,
    says: &'static str,
    code: i32,
}

#[test]
fn a_broken_release_is_taken_back_on_the_first_host_and_reaches_no_other() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    let passes_for_one = passes_for_one(path)?;
    let real = std::fs::read(program()?)?;

    let row = |name, program: &[u8], says, code| -> Result<Row> {
        Ok(Row { name, release: of(path, name, program)?, says, code })
    };
    let mut rows = vec![
        row("exits-at-once", &passes_for_one, "systemctl restart backstop.service failed", 1)?,
        row("check-says-no", &passes_for_one, "backstop check says no", 1)?,
        row("never-healthy", &passes_for_one, "backstop status says no", 1)?,
        row("dies-soon", &passes_for_one, "the unit is failed", 1)?,
        row(
            "other-machine",
            &patched(&real, 18, &[183, 0])?,
            "is built for aarch64, and this host is x86_64",
            2,
        )?,
        row("no-program", b"#!/bin/sh\nexit 0\n", "it is no ELF program", 2)?,
    ];
    let loader = b"/lib64/ld-linux-x86-64.so.2";
    let at = real.windows(loader.len()).position(|part| part == loader).context("it has a loader")?;
    rows.push(row("no-loader", &patched(&real, at, b"/lib64/xx-")?, "the new program does not run here", 1)?);

    let fleet = Fleet::with_release("deploybroken", &good(path, "good")?, 2)?;
    let before = fleet.hosts[..2].iter().map(state).collect::<Result<Vec<_>>>()?;
    println!("| release | deploy says | exit code | first host |\n| --- | --- | ---: | --- |");
    for Row { name, release, says, code } in &rows {
        expect(&fleet, &before, release, says, *code).with_context(|| (*name).to_owned())?;
        println!("| {name} | {says} | {code} | as before, healthy |");
    }

    // A good release, damaged on its way; and one that the host's own configuration does not fit.
    let other = good(path, "other")?;
    fleet.hosts[0].fault(Fault::Damages, 0, "cat ")?;
    expect(&fleet, &before, &other, "backstop arrived damaged: its SHA-256 is", 1)?;
    assert!(fleet.hosts[0].fault_happened());
    println!("| damaged on its way | arrived damaged | 1 | as before, healthy |");
    fleet.hosts[0]
        .read("cp /etc/backstop/backstop.toml /tmp && echo 'listne = 1' >>/etc/backstop/backstop.toml")?;
    let before = fleet.hosts[..2].iter().map(state).collect::<Result<Vec<_>>>()?;
    let output = fleet.deploy(&other, &["mx1", "mx2"], &[])?.0;
    assert_eq!(output.status.code(), Some(1), "{}", fleet.explain(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("listne"), "{}", fleet.explain(&output));
    assert_eq!(state(&fleet.hosts[0])?, before[0]);
    fleet.hosts[0].read("cp /tmp/backstop.toml /etc/backstop/backstop.toml")?;
    println!("| good, for another configuration | backstop check says no | 1 | as before, healthy |");

    // And where there was nothing before, nothing is left.
    let fresh = &fleet.hosts[2];
    fresh.read("systemd-sysusers /dev/null")?;
    for release in rows.iter().take(3).map(|row| &row.release) {
        let (output, said) = fleet.deploy(release, &["mx3"], &[])?;
        assert_eq!(output.status.code(), Some(1), "{}", fleet.explain(&output));
        assert_eq!(said["hosts"][0]["outcome"], "as_it_was", "{said}");
        let left = fresh.read(
            "ls -A /usr/local/lib/backstop /usr/local/bin/backstop /etc/systemd/system/backstop.service \
             /etc/backstop/backstop.toml /etc/backstop/keys/*.key 2>/dev/null; true",
        )?;
        assert_eq!(left, "", "left on a fresh host");
    }
    Ok(())
}

/// Deploys to two hosts, and compares both with what they were.
fn expect(fleet: &Fleet, before: &[String], release: &Made, says: &str, code: i32) -> Result<()> {
    let output = fleet
        .command(&[
            "--binary",
            super::fleet::shown(&release.binary),
            "--units",
            super::fleet::shown(&release.units),
            "--wait",
            "4",
            "--json",
            "mx1",
            "mx2",
        ])
        .output()?;
    let words = fleet.explain(&output);
    ensure!(output.status.code() == Some(code), "exit code {code} was expected: {words}");
    ensure!(words.contains(says), "{says:?} was expected: {words}");
    if code == 1 {
        let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        ensure!(said["hosts"][0]["outcome"] == "as_it_was", "{words}");
        ensure!(said["hosts"][1]["outcome"] == "untouched", "{words}");
    }
    for (host, before) in fleet.hosts.iter().zip(before) {
        let after = state(host)?;
        ensure!(after == *before, "{} was\n{before}\nand is\n{after}\n{words}", host.name());
        ensure!(is_healthy(host)?, "{} is not healthy: {words}", host.name());
    }
    Ok(())
}

/// The program that passes for Backstop at a first look; its last octets may name what is broken.
pub(crate) fn passes_for_one(folder: &Path) -> Result<Vec<u8>> {
    let program = folder.join("passes-for-one");
    let source = lab::program::root().join("tests/e2e/deploy/broken_program.rs");
    let compiled =
        Command::new("rustc").args(["--edition", "2024", "-o"]).arg(&program).arg(source).output()?;
    ensure!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    std::fs::read(program).context("rustc made no program")
}

/// The same octets but for some.
fn patched(program: &[u8], at: usize, with: &[u8]) -> Result<Vec<u8>> {
    let mut program = program.to_vec();
    program.get_mut(at..at + with.len()).context("within the program")?.copy_from_slice(with);
    Ok(program)
}
