//! `docs/limits.md` beside the program: its defaults, and what a machine that is too small hears.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/limits.md");
    std::fs::read_to_string(path).unwrap()
}

/// A configuration and a key; `backstop COMMAND` with it, under another program.
struct Setup(tempfile::TempDir);

impl Setup {
    fn new() -> Self {
        let setup = Self(tempfile::tempdir().unwrap());
        let dir = setup.0.path().display();
        let config = format!(
            "hostname = \"edge.example.jp\"\ninbound.listen = [\"127.0.0.1:2525\"]\nsignature.keys = \"{dir}/keys\"\n\
             state.dir = \"{dir}/state\"\n[[domain]]\nname = \"example.jp\"\nupstream = \"127.0.0.1:25\"\n"
        );
        std::fs::write(setup.0.path().join("backstop.toml"), config).unwrap();
        let keys = setup.0.path().join("keys");
        let made = backstop(&[]).args(["key", "new", "--dir"]).arg(keys).output().unwrap();
        assert!(made.status.success(), "{}", said(&made));
        setup
    }

    fn command(&self, outer: &[&str], command: &[&str]) -> Output {
        let config = self.0.path().join("backstop.toml");
        backstop(outer).args(command).arg("--config").arg(config).output().unwrap()
    }
}

fn backstop(outer: &[&str]) -> Command {
    let words = [outer, &[env!("CARGO_BIN_EXE_backstop")]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The number that a cell begins with.
fn number(cell: &str) -> Option<u64> {
    cell.split(' ').next()?.parse().ok()
}

#[test]
fn the_page_has_every_limit_with_its_default() {
    let checked = Setup::new().command(&[], &["check", "--json"]);
    let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let limits = checked["config"]["limits"].as_object().unwrap();
    let mut missing: Vec<&String> = limits.keys().collect();
    let mut compared = 0;
    for line in page().lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let named = |cell: &&str| {
            let (before, key) =
                cell.split_once('`').map(|(before, key)| (before.trim(), key.trim_end_matches('`')))?;
            let times = match before {
                "" => 1,
                "twice" => 2,
                _ => return None,
            };
            limits.get(key).map(|value| (key.to_owned(), value.as_u64().unwrap() * times))
        };
        let Some((place, (key, value))) =
            cells.iter().enumerate().find_map(|(place, cell)| Some((place, named(cell)?)))
        else {
            continue;
        };
        assert_eq!(number(cells[place + 1]), Some(value), "{line}");
        missing.retain(|known| **known != key);
        compared += 1;
    }
    assert_eq!(missing, [""; 0], "not on the page");
    assert!(compared > limits.len(), "{compared}");
}

#[test]
fn a_machine_that_is_too_small_is_told_before_anybody_is_served() {
    let setup = Setup::new();
    let wanted = page().lines().find(|line| line.starts_with("limits.sessions_max: ")).unwrap().to_owned();
    let small = ["prlimit", "--nofile=1024:1024"];
    let checked = setup.command(&small, &["check"]);
    assert_eq!(checked.status.code(), Some(1), "{}", said(&checked));
    let (_, text) = wanted.split_once(": ").unwrap();
    assert!(said(&checked).contains(text), "{}", said(&checked));
    let started = setup.command(&small, &["run", "--no-xdp"]);
    assert_eq!(started.status.code(), Some(2), "{}", said(&started));
    assert!(said(&started).contains(&wanted), "{}", said(&started));
    // What it was told to do helps.
    let (_, needed) = wanted.split_once("LimitNOFILE=").unwrap();
    let needed = number(needed).unwrap();
    let enough = setup.command(&["prlimit", &format!("--nofile={needed}:{needed}")], &["check"]);
    assert_eq!(enough.status.code(), Some(0), "{}", said(&enough));
}
