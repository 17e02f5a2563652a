//! `cargo xtask bench flood` in small: every subject gets the same mail, and each message is followed to its mailbox. No
//! speed is asked for: these are debug builds, on whatever machine.

use std::process::{Command, Output};

use lab::program::{Profile, Program};
use serde_json::Value;

const HONEST_PER_SEC: u64 = 4;
const TIMES: u64 = 30;
const WAVES: u64 = 2;
const WAVE_SECS: u64 = 3;

fn bench(arguments: &[&str]) -> Output {
    let xtask = Program::Xtask.build(Profile::Dev).unwrap();
    Command::new(xtask).args(["bench", "flood"]).args(arguments).output().unwrap()
}

fn read(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    // 1 says that a goal was missed, which a debug build may.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {said}", output.status);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn each_subject_gets_the_same_mail_and_backstop_lets_the_wanted_through_once() {
    let number = |n: u64| n.to_string();
    let (rate, times, waves, seconds) =
        (number(HONEST_PER_SEC), number(TIMES), number(WAVES), number(WAVE_SECS));
    let folder = tempfile::tempdir().unwrap();
    let (json, svg) = (folder.path().join("figures.json"), folder.path().join("flood.svg"));
    let output = bench(&[
        "--dev",
        "--json",
        "--warm-up-secs=9",
        "--bots=6",
        "--knocks-per-sec=100",
        "--reflectors=20",
        &format!("--rate={rate}"),
        &format!("--times={times}"),
        &format!("--waves={waves}"),
        &format!("--seconds={seconds}"),
    ]);
    let object = read(&output);
    let rows = object["rows"].as_array().unwrap();
    let subjects: Vec<_> = rows.iter().map(|row| row["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["backstop", "backstop_no_xdp", "postscreen", "postfix"]);
    for row in rows {
        let subject = row["subject"].as_str().unwrap();
        let count = |part: &str, field: &str| row[part][field].as_u64().unwrap();
        assert_eq!(count("forged", "planned"), HONEST_PER_SEC * TIMES * WAVES * WAVE_SECS, "{subject}");
        // The calm, two waves and what lies between: more than as many seconds as the waves have twice.
        let sent = count("honest", "sent");
        assert!(sent >= HONEST_PER_SEC * WAVES * WAVE_SECS * 2 && count("real_bounces", "sent") > 0, "{row}");
        for wanted in ["honest", "real_bounces"] {
            assert_eq!(count(wanted, "missing"), 0, "{subject}: {}", row[wanted]);
            // Without an edge a server that is overrun may answer too late, and hear the same again.
            let twice = count(wanted, "more_than_once");
            assert!(twice == 0 || !subject.starts_with("backstop"), "{subject}: {}", row[wanted]);
        }
        let arrived = count("forged", "in_mailboxes");
        assert_eq!(
            arrived > 0,
            !subject.starts_with("backstop"),
            "{subject}: {arrived} forged bounces arrived"
        );
        assert_eq!(row["xdp_dropped"].is_u64(), subject == "backstop", "{subject}");
        assert_eq!(row["met"].is_boolean(), subject == "backstop", "{subject}");
    }
    // The same figures draw the picture again.
    std::fs::write(&json, &output.stdout).unwrap();
    let (from, into) = (format!("--from={}", json.display()), format!("--svg={}", svg.display()));
    read(&bench(&["--json", &from, &into]));
    let svg = std::fs::read_to_string(svg).unwrap();
    for row in rows {
        assert!(svg.contains(row["what"].as_str().unwrap()), "{}", row["what"]);
    }
}

#[test]
fn figures_that_are_none_are_named() {
    let output = bench(&["--from", "/proc/self/cmdline"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("/proc/self/cmdline"), "{said}");
}
