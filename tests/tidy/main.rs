//! Rules about the code itself: the shape of the house, as far as a program can check it.

mod documents;
mod source;

use source::{Source, files};

/// A file says one thing, in about this many lines.
const LINES_MAX: usize = 440;

/// Files that are longer, each with its own limit and its reason. None is.
const LONGER: [(&str, usize, &str); 0] = [];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 9] =
    ["common", "helper", "helpers", "manager", "misc", "shared", "util", "utils", "stuff"];

/// The parts of `edge-user`, from the top down: `use` points downwards only.
const PARTS: [&str; 7] = ["cli", "control", "engine", "telemetry", "dataplane", "state", "config"];

/// What the core may not name: clocks, I/O, randomness, threads. (`std::io::Write` is how text is put into a `Vec`.)
const NOT_IN_CORE: [&str; 18] = [
    "SystemTime",
    "Instant",
    "std::env",
    "std::fs",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::io::Read",
    "std::io::BufRead",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os",
    "std::process",
    "std::thread",
    "tokio",
    "rand::",
    "println!",
    "unsafe",
];

/// What the core may depend on: nothing that does I/O, reads a clock or rolls dice.
const CORE_DEPENDENCIES: [&str; 15] = [
    "aho-corasick",
    "base64",
    "edge_octets",
    "hmac",
    "idna",
    "ipnet",
    "jiff",
    "mail-parser",
    "memchr",
    "serde",
    "sha1",
    "sha2",
    "subtle",
    "thiserror",
    "zeroize",
];

/// What stays in no file: reminders, prints for debugging, tests that nobody runs.
const LEFT_BEHIND: [&str; 6] = ["todo!(", "unimplemented!(", "dbg!(", "TODO", "FIXME", "#[ignore"];

fn fail_on(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn a_file_says_one_thing_in_about_400_lines() {
    let allowed =
        |path: &str| LONGER.iter().find(|(name, ..)| *name == path).map_or(LINES_MAX, |(_, max, _)| *max);
    let found: Vec<String> = files("rs")
        .iter()
        .filter(|file| file.text.lines().count() > allowed(&file.path))
        .map(|file| format!("{}: {} lines", file.path, file.text.lines().count()))
        .collect();
    fail_on("split these by meaning, or give a reason in LONGER", &found);
}

#[test]
fn an_exception_that_is_needed_no_more_is_removed() {
    let sources = files("rs");
    let lines =
        |path: &str| sources.iter().find(|file| file.path == path).map(|file| file.text.lines().count());
    for (path, _, reason) in LONGER {
        assert!(!reason.is_empty(), "{path}");
        assert!(lines(path).is_some_and(|lines| lines > LINES_MAX), "{path} needs no exception any more");
    }
}

#[test]
fn every_file_says_at_its_top_what_it_is_for() {
    let found: Vec<String> = files("rs")
        .into_iter()
        .filter(|file| !file.text.trim_start_matches("#![no_std]\n").starts_with("//!"))
        .map(|file| file.path)
        .collect();
    fail_on("begin these with `//!` and what they decide or do", &found);
}

#[test]
fn names_say_what_is_inside() {
    let found: Vec<String> = files("rs")
        .into_iter()
        .map(|file| file.path)
        .filter(|path| {
            path.trim_end_matches(".rs").split('/').any(|name| EMPTY_NAMES.contains(&name) && name != "tests")
        })
        .collect();
    fail_on("these names say nothing", &found);
}

#[test]
fn nothing_is_left_behind() {
    let found: Vec<String> = files("rs")
        .iter()
        .filter(|file| !file.path.starts_with("tests/tidy/"))
        .flat_map(|file| file.naming(&LEFT_BEHIND))
        .collect();
    fail_on("finish or remove", &found);
}

#[test]
fn the_core_has_no_clock_no_io_and_no_dice() {
    let sources = files("rs");
    let tests = source::test_modules(&sources);
    let found: Vec<String> = sources
        .iter()
        .filter(|file| file.path.starts_with("edge-user/core/src/"))
        .filter(|file| !tests.iter().any(|module| file.path.starts_with(module)))
        .flat_map(|file| file.code_without_tests().naming(&NOT_IN_CORE))
        .filter(|line| !line.ends_with("#![forbid(unsafe_code)]"))
        .collect();
    fail_on("the core decides by what it is given", &found);
}

#[test]
fn the_core_depends_on_nothing_that_does_io() {
    let manifest = source::read("edge-user/core/Cargo.toml");
    let manifest: toml::Table = manifest.parse().expect("a manifest is TOML");
    let dependencies = manifest["dependencies"].as_table().expect("a table");
    let found: Vec<String> =
        dependencies.keys().filter(|name| !CORE_DEPENDENCIES.contains(&name.as_str())).cloned().collect();
    fail_on("if it does no I/O, reads no clock and rolls no dice, add it to CORE_DEPENDENCIES", &found);
}

#[test]
fn use_points_downwards_only() {
    let place = |part: &str| PARTS.iter().position(|name| *name == part);
    let mut found = Vec::new();
    let mut arrows = 0;
    let sources = files("rs");
    for file in &sources {
        let Some(own) = file.path.strip_prefix("edge-user/src/").and_then(|path| path.split('/').next())
        else {
            continue;
        };
        let Some(own) = place(own) else { continue };
        for (line, used) in file.code_without_tests().parts_used() {
            arrows += 1;
            if place(&used).is_some_and(|used| used < own) {
                found.push(format!("{}:{line}: {} uses {used}", file.path, PARTS[own]));
            }
        }
    }
    assert!(arrows > 50, "only {arrows} arrows found: the test looks at the wrong place");
    fail_on("what both need belongs into the lower one", &found);
}

#[test]
fn every_part_has_its_place() {
    let lib = source::read("edge-user/src/lib.rs");
    for part in lib.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        assert!(PARTS.contains(&part.trim_end_matches(';')), "{part} stands not in PARTS");
    }
}

#[test]
fn no_text_names_a_machine() {
    let kinds = ["rs", "md", "toml", "sh"];
    let found: Vec<String> = kinds
        .iter()
        .flat_map(|kind| files(kind))
        .filter(|file| !file.path.starts_with("tests/tidy/"))
        .flat_map(|file| file.naming(&["/root/.", "/work/", "/home/"]))
        .collect();
    fail_on("a path of one machine is of no use on another", &found);
}

/// The checks can fail: each is shown a text that breaks its rule.
#[test]
fn broken_rules_are_seen() {
    let bad = Source { path: "x.rs".into(), text: "use crate::cli::x;\nlet now = Instant::now();\n".into() };
    assert_eq!(bad.naming(&NOT_IN_CORE), ["x.rs:2: let now = Instant::now();"]);
    assert_eq!(bad.parts_used(), [(1, "cli".to_owned())]);
    let tested =
        Source { path: "x.rs".into(), text: "fn a() {}\n#[cfg(test)]\nmod tests { Instant }\n".into() };
    assert!(tested.code_without_tests().naming(&NOT_IN_CORE).is_empty());
}
