//! The whole way from a text to a configuration, or to all that is wrong with it.

use std::path::Path;

use super::{Config, Level, Problem, parse};

/// The least that a file must say.
const LEAST: &str = r#"
hostname = "edge.example.jp"
[inbound]
listen = ["192.0.2.1:25"]
[[domain]]
name = "example.jp"
upstream = "127.0.0.1:10025"
[signature]
keys = "/etc/backstop/keys"
"#;

fn problems(text: &str) -> Vec<Problem> {
    match parse(text, Path::new("backstop.toml")) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems.problems,
    }
}

/// The problems as they are printed, without the file's name.
fn printed(text: &str) -> Vec<String> {
    problems(text).iter().map(|problem| problem.in_file(Path::new("f")).to_string()).collect()
}

fn config(text: &str) -> Config {
    parse(text, Path::new("backstop.toml")).unwrap_or_else(|problems| panic!("{problems}")).config
}

#[test]
fn the_least_file_is_enough_and_everything_else_has_its_default() {
    let config = config(LEAST);
    assert_eq!(config.limits.sessions_max, 10_000);
    assert_eq!(config.policy.exempt_recipients, ["postmaster@", "abuse@"]);
    assert!(config.outbound.is_none() && config.xdp.is_none() && config.filters.is_empty());
    assert_eq!(printed(LEAST), [""; 0]);
}

#[test]
fn every_problem_is_reported_with_its_place_and_what_was_expected() {
    let text = r#"
hostnam = "edge"
[inbound]
listen = ["192.0.2.1"]
[[domain]]
name = "example.jp"
upstream = 25
require_tag = "allways"
[[domain]]
name = "example.net"
upstrem = "127.0.0.1:10025"
[[filter]]
covers = ["*"]
action = "rejct"
syn_burst = 3
[limits]
sessions_max = -1
recipients_max = 2.5
[reputation]
never_ban = ["192.0.2.7/24"]
[lmits]
"#;
    let expected = [
        "f:1:1: error: `hostname` is missing; it is a text in quotes",
        "f:1:1: error: the section [signature] is missing",
        "f:2:1: error: hostnam: there is no such key at the top; did you mean `hostname`?",
        "f:4:11: error: inbound.listen[0]: expected an address with a port, like \"192.0.2.1:25\" or \"[2001:db8::1]:25\", found \"192.0.2.1\"",
        "f:7:12: error: domain[0].upstream: expected an address with a port, like \"192.0.2.1:25\" or \"[2001:db8::1]:25\", found 25",
        "f:8:15: error: domain[0].require_tag: expected `never`, `flood` or `always`, found \"allways\"; did you mean \"always\"?",
        "f:9:1: error: domain[1]: `upstream` is missing; it is an address with a port, like \"192.0.2.1:25\" or \"[2001:db8::1]:25\"",
        "f:11:1: error: domain[1].upstrem: there is no such key in [domain]; did you mean `upstream`?",
        "f:14:10: error: filter[0].action: expected `monitor`, `deliver`, `mark`, `reject` or `discard`, found \"rejct\"; did you mean \"reject\"?",
        "f:15:1: error: filter[0].syn_burst: there is no such key in [filter]; there is one in [xdp]",
        "f:17:16: error: limits.sessions_max: expected a whole number from 0 to 18446744073709551615, found -1",
        "f:18:18: error: limits.recipients_max: expected a whole number, found 2.5",
        "f:20:14: error: reputation.never_ban[0]: 192.0.2.7/24 has bits behind its prefix; did you mean \"192.0.2.0/24\"?",
        "f:21:2: error: lmits: there is no such key at the top; did you mean `limits`?",
    ];
    let printed = printed(text);
    for (printed, expected) in printed.iter().zip(expected) {
        assert_eq!(printed, expected);
    }
    assert_eq!(printed.len(), expected.len(), "{printed:#?}");
}

#[test]
fn what_is_no_toml_is_named_with_its_place() {
    let text = "hostname = \"edge\n[inbound]\nlisten = [\"192.0.2.1:25\"]\n";
    let problems = problems(text);
    assert_eq!((problems[0].level, problems[0].line), (Level::Error, 1), "{problems:?}");
    assert!(problems.iter().all(|problem| problem.text.starts_with("this is no TOML")), "{problems:?}");
}

#[test]
fn columns_count_characters_not_octets() {
    let text = LEAST.to_owned()
        + "[[filter]]\nmemo = \"転送の苦情\"\naction = \"mark\"\ncovers = [\"日本.example\", 3]\n";
    assert_eq!(printed(&text), ["f:13:25: error: filter[0].covers[1]: expected a text in quotes, found 3"],);
}
