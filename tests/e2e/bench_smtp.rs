//! `cargo xtask bench smtp` with a few sessions a row: whoever is measured answers every dialogue as it must. No speed is
//! asked for: these are debug builds, on whatever machine.

use std::process::{Command, Output};

use lab::program::{Profile, Program};
use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    let xtask = Program::Xtask.build(Profile::Dev).unwrap();
    let mut command = Command::new(xtask);
    command.args([
        "bench",
        "smtp",
        "--dev",
        "--json",
        "--sessions",
        "10",
        "--at-once",
        "4",
        "--connections",
        "80",
    ]);
    command.args(arguments);
    command.output().unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    let said = String::from_utf8_lossy(&output.stderr);
    // 1 says that a goal was missed, which a debug build may.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {said}", output.status);
    let object: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(object["bench"], "smtp");
    object["rows"].as_array().unwrap().clone()
}

#[test]
fn every_server_of_every_row_answers_as_it_must() {
    let rows = rows(&bench(&["--pairs", "1"]));
    let measured: Vec<_> =
        rows.iter().map(|row| (row["row"].as_str().unwrap(), row["subject"].as_str().unwrap())).collect();
    for row in
        ["refused_rcpt", "refused_data", "scanned_discarded", "proxied_4k", "pipelined_20", "proxied_10m"]
    {
        for subject in ["floor", "backstop", "haproxy"] {
            assert!(measured.contains(&(row, subject)), "{subject} is missing in {row}: {measured:?}");
        }
    }
    for subject in ["backstop", "nginx"] {
        assert!(measured.contains(&("tls_4k", subject)), "{subject} is missing in tls_4k: {measured:?}");
    }
    let (beside, rows): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row["connections"].is_number());
    let names: Vec<_> = beside.iter().map(|row| row["row"].as_str().unwrap()).collect();
    assert_eq!(names, ["idle_clear", "idle_tls", "slow"]);
    for row in beside {
        assert!(row["met"].is_boolean() && row["median"]["alone_us"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["connections"].as_u64().unwrap() > 0, "{row}");
    }
    for row in rows {
        assert!(row["value"].as_f64().unwrap() > 0.0 && row["load"].as_f64().unwrap() > 0.0, "{row}");
        let is_ours = row["subject"] == "backstop";
        assert_eq!((row["goal"].is_string(), row["met"].is_boolean()), (is_ours, is_ours), "{row}");
    }
}

#[test]
fn a_build_that_is_none_fails_the_run_and_is_named() {
    let output = bench(&["--only", "refused_rcpt", "--without-peers", "--against", "/bin/true"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("other"), "{said}");
}

/// The guard over what a session costs: the release's own instructions, which depend on no clock and no other load.
#[test]
fn a_refused_session_takes_no_more_instructions_than_are_on_record() {
    let xtask = Program::Xtask.build(Profile::Dev).unwrap();
    let output = Command::new(xtask)
        .args(["bench", "smtp", "--instructions", "--json", "--only", "refused_rcpt"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let counted: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(counted["holds"], true, "{said}");
    // A session reads four commands and writes five replies: fewer would mean that nothing was counted.
    assert!(counted["instructions"].as_u64().unwrap() > 2000, "{said}");
}
