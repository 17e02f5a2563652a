//! The whole way from a text to a configuration, or to all that is wrong with it.

mod waits;

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
    assert_eq!(config.limits.sessions_max, 8192);
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
        "f:14:10: error: filter[0].action: expected `monitor`, `deliver`, `mark`, `reject`, `quarantine` or `discard`, found \"rejct\"; did you mean \"reject\"?",
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

/// A contradiction: lines added to the least file's sections, and the problem they make.
struct Row {
    /// Put in front of `[inbound]`'s, `[[domain]]`'s and `[signature]`'s own lines.
    inbound: &'static str,
    domain: &'static str,
    signature: &'static str,
    /// Sections put behind.
    more: &'static str,
    /// The printed problems, without place: `level: key: beginning of the text`.
    problems: &'static [&'static str],
}

const NOTHING: Row = Row { inbound: "", domain: "", signature: "", more: "", problems: &[] };

const CONTRADICTIONS: &[Row] = &[
    Row {
        more: "[outbound]\nlisten = [\"0.0.0.0:25\"]\nnetworks = [\"127.0.0.0/8\"]\nnext_hop = \"127.0.0.1:25\"",
        problems: &[
            "error: outbound.listen[0]: 0.0.0.0:25 is listened at already by inbound.listen[0]",
            "error: outbound.next_hop: 127.0.0.1:25 is the edge's own outbound.listen[0]: mail would go in a circle",
        ],
        ..NOTHING
    },
    Row {
        more: "[outbound]\nlisten = []\nnetworks = [\"0.0.0.0/0\"]\nnext_hop = \"192.0.2.1:25\"",
        problems: &[
            "error: outbound.listen: expected at least one",
            "error: outbound.networks[0]: 0.0.0.0/0 is everybody: this would make an open relay",
            "error: outbound.next_hop: 192.0.2.1:25 is the edge's own inbound.listen[0]",
        ],
        ..NOTHING
    },
    Row {
        more: "[outbound]\nlisten = [\"192.0.2.1:10025\"]\nnetworks = [\"192.0.2.9\"]\nnext_hop = \"192.0.2.9:25\"\n\
               [[outbound.tenant]]\nnetworks = []\nheader = \"Received\"\nsecret_file = \"/x\"",
        problems: &[
            "error: outbound.tenant[0].header: expected a header field of your own, like \"Backstop-Tenant\"",
            "error: outbound.tenant[0].networks: expected at least one network that you share",
        ],
        ..NOTHING
    },
    Row {
        domain: "require_tag = \"flood\"\n",
        more: "[[domain]]\nname = \"Example.JP\"\nupstream = \"192.0.2.1:25\"",
        problems: &[
            "warning: domain[0].require_tag: bounces without a tag are refused, but tag = false",
            "error: domain[1].name: example.jp stands in domain[0] already",
            "error: domain[1].upstream: 192.0.2.1:25 is the edge's own inbound.listen[0]",
        ],
        ..NOTHING
    },
    Row {
        more: "[[domain]]\nname = \"[192.0.2.1]\"\nupstream = \"0.0.0.0:0\"",
        problems: &[
            "error: domain[1].name: expected a domain name, like \"example.com\", found \"[192.0.2.1]\"",
            "error: domain[1].upstream: expected a port from 1 to 65535, found 0",
            "error: domain[1].upstream: 0.0.0.0:0 is no server's address",
        ],
        ..NOTHING
    },
    Row {
        signature: "max_age_days = 366\n",
        problems: &["error: signature.max_age_days: 366 is more than a year, which is 365"],
        ..NOTHING
    },
    Row {
        signature: "max_age_days = 0\nuses_max = 0\n",
        problems: &[
            "error: signature.max_age_days: expected 1 or more, found 0",
            "warning: signature.max_age_days: a bounce may come after",
            "error: signature.uses_max: expected 1 or more, found 0",
        ],
        ..NOTHING
    },
    Row {
        more: "[[filter]]\naction = \"mark\"\ncovers = [\"*\", \"exampel.jp\", \"ann@example.net\", \"a b\"]\n\
               memo = \"123456789 123456789 123456789 123456789 123456789 123456789 123456789 123456789 日\"\n\
               [[filter]]\naction = \"reject\"\ncovers = []",
        problems: &[
            "error: filter[0].covers[1]: no section [[domain]] has the name exampel.jp; did you mean example.jp?",
            "error: filter[0].covers[2]: no section [[domain]] has the name example.net",
            "error: filter[0].covers[3]: expected \"*\", a domain or an address like \"ann@example.com\", found \"a b\"",
            "error: filter[0].memo: expected at most 80 characters, found 81",
            "warning: filter[1]: it never decides: filter[0] stands before it, is on and covers everybody",
            "error: filter[1].covers: expected at least one domain or address",
        ],
        ..NOTHING
    },
    Row {
        more: "[[trusted_forwarder]]\nmemo = \"a\\tb\"\nnetworks = [\"192.0.2.1\", \"::/0\"]\nper_hour = 0\n\
               recipients = [\"Ann@Example.JP\", \"*\", \"example.jp\", \"ann@exampel.jp\", \"ann@\"]\n\
               [[trusted_forwarder]]\nnetworks = []\nrecipients = []",
        problems: &[
            "error: trusted_forwarder[0].memo: expected one line of text",
            "error: trusted_forwarder[0].networks[1]: ::/0 is everybody",
            "error: trusted_forwarder[0].per_hour: expected 1 or more, found 0",
            "error: trusted_forwarder[0].recipients[1]: \"*\" is everybody",
            "error: trusted_forwarder[0].recipients[3]: no section [[domain]] has the name exampel.jp; did you",
            "error: trusted_forwarder[0].recipients[4]: expected an address like \"ann@example.com\", or a domain",
            "error: trusted_forwarder[1].networks: expected at least one network",
            "error: trusted_forwarder[1].recipients: expected at least one address",
        ],
        ..NOTHING
    },
    Row {
        more: "[policy]\nexempt_recipients = [\"help@example.jp\", \"@\", \"help@example.net\"]\n\
               [reputation]\ntraps = [\"Help@Example.jp\", \"trap@example.net\", \"trap\", \"trap@example.jp\"]",
        problems: &[
            "error: policy.exempt_recipients[1]: expected \"postmaster@\" (in every domain) or an address, found \"@\"",
            "error: policy.exempt_recipients[2]: no section [[domain]] has the name example.net",
            "error: reputation.traps[0]: help@example.jp is an exempt recipient",
            "error: reputation.traps[1]: no section [[domain]] has the name example.net",
            "error: reputation.traps[2]: expected an address like \"trap@example.com\", found \"trap\"",
        ],
        ..NOTHING
    },
    Row {
        more: "[xdp]\ninterface = \"an/interface\"\nports = [0, 22]\nsyn_burst = 0\npin_dir = \"pins\"\n\
               block = [\"198.18.0.0/16\", \"203.0.113.0/24\"]\nallow = [\"203.0.113.0/24\"]\n\
               [reputation]\nnever_ban = [\"198.18.7.0/24\"]\ntrusted_relays = [\"::/0\"]",
        problems: &[
            "warning: inbound.listen[0]: port 25 is not protected; add it to xdp.ports",
            "error: xdp.interface: expected an interface's name, like \"eth0\", found \"an/interface\"",
            "error: xdp.ports[0]: expected a port from 1 to 65535, found 0",
            "warning: xdp.ports[1]: 22 is SSH's port",
            "error: xdp.syn_burst: expected 1 or more, found 0",
            "error: xdp.pin_dir: expected an absolute path",
            "error: xdp.block[0]: 198.18.0.0/16 would block 198.18.7.0/24, which is never banned",
            "warning: xdp.block[1]: it never drops anything: 203.0.113.0/24 is allowed",
            "warning: reputation.trusted_relays[0]: ::/0 is everybody: nobody is ever banned",
        ],
        ..NOTHING
    },
    Row {
        more: "[watch]\nown_hosts = [\"::/0\", \"a b\", \"web.example.jp\"]\n\
               forged_hosts = [\"pc.example.jp\", \"*.dyn.example.jp\", \"*\", \"192.0.2.7\", \"Web.example.jp\"]",
        problems: &[
            "error: watch.own_hosts[0]: ::/0 is everybody: every message would look like yours",
            "error: watch.own_hosts[1]: expected a host's name, an address or a prefix, found \"a b\"",
            "error: watch.forged_hosts[2]: expected a host's name, or `*.` and a domain for all below it, found \"*\"",
            "error: watch.forged_hosts[3]: expected a host's name, or `*.` and a domain for all below it, found \"192.0.2.7\"",
            "error: watch.forged_hosts[4]: Web.example.jp is among `own_hosts` too: it is yours or it is not",
        ],
        ..NOTHING
    },
    Row {
        more: "[reputation]\nban_first_secs = 20\nban_max_secs = 5\nconnections_per_sec = nan\nunproven_burst = 0.5\n\
               over_budget_strikes = 0\nnewcomers_max = 0\n[flood]\nfactor = inf\nwindow_secs = 0",
        problems: &[
            "error: reputation.ban_first_secs: 20 is more than reputation.ban_max_secs, which is 5",
            "error: reputation.connections_per_sec: expected a finite number of 0.001 or more, found NaN",
            "error: reputation.unproven_burst: expected a finite number of 1 or more, found 0.5",
            "error: reputation.over_budget_strikes: expected 1 or more, found 0",
            "error: reputation.newcomers_max: expected 1 or more, found 0",
            "error: flood.factor: expected a finite number of 1 or more, found inf",
            "error: flood.window_secs: expected 1 or more, found 0",
        ],
        ..NOTHING
    },
    Row {
        more: "[limits]\nrecipients_max = 0\nsessions_max = 0\nline_bytes_max = 80\nhold_total_bytes_max = 65536\n\
               message_bytes_max = 1000\nclient_idle_secs = 0\n[control]\nsocket = \"control.sock\"\n\
               [state]\ndir = \"state\"\n[log]\nqueue_lines_max = 0",
        problems: &[
            "error: limits.hold_bytes_max: 262144 is more than limits.hold_total_bytes_max, which is 65536",
            "error: limits.recipients_max: expected 1 or more, found 0",
            "error: limits.sessions_max: expected 1 or more, found 0",
            "error: limits.line_bytes_max: expected 512 or more, found 80",
            "error: limits.message_bytes_max: expected 65536 or more, found 1000",
            "error: limits.client_idle_secs: expected 1 or more, found 0",
            "error: control.socket: expected an absolute path",
            "error: state.dir: expected an absolute path",
            "error: log.queue_lines_max: expected 1 or more, found 0",
        ],
        ..NOTHING
    },
    Row {
        more: "[limits]\nline_bytes_max = 16385",
        problems: &[
            "error: limits.line_bytes_max: 16385 is more than the read buffer that a line must fit into, which is 16384",
        ],
        ..NOTHING
    },
    Row { more: "[limits]\nline_bytes_max = 16384", problems: &[], ..NOTHING },
    Row {
        inbound: "listen = []\n#",
        more: "[limits]\nrecipients_max = 50\nhold_bytes_max = 4096",
        problems: &[
            "error: inbound.listen: expected at least one address with a port",
            "warning: limits.recipients_max: RFC 5321 (4.5.3.1.8) asks for at least 100",
            "warning: limits.hold_bytes_max: in real bounces the proof may lie up to 65 KB in",
        ],
        ..NOTHING
    },
];

#[test]
fn every_contradiction_is_named_and_nothing_else_is() {
    for row in CONTRADICTIONS {
        let text = LEAST
            .replace("[inbound]\n", &format!("[inbound]\n{}", row.inbound))
            .replace("[[domain]]\n", &format!("[[domain]]\n{}", row.domain))
            .replace("[signature]\n", &format!("[signature]\n{}", row.signature))
            + row.more;
        let found = problems(&text);
        let printed: Vec<String> = found
            .iter()
            .map(|problem| {
                assert!(problem.line > 0 && problem.column > 0, "{problem:?}");
                let printed = problem.in_file(Path::new("f")).to_string();
                printed.splitn(4, ':').nth(3).map_or(printed.clone(), |rest| rest.trim_start().to_owned())
            })
            .collect();
        for expected in row.problems {
            assert!(printed.iter().any(|p| p.starts_with(expected)), "{expected} is not in {printed:#?}");
        }
        assert_eq!(printed.len(), row.problems.len(), "{printed:#?}");
    }
}

#[test]
fn names_come_out_in_canonical_form() {
    let config = config(
        &(LEAST
            .replace("example.jp\"\nup", "日本語.Example\"\nup")
            .replace("edge.example.jp", "EDGE.日本語.example")
            + "[[filter]]\naction = \"reject\"\ncovers = [\"日本語.example\", \"\\\"Ann\\\"@日本語.EXAMPLE\", \"*\"]\n\
           [policy]\nexempt_recipients = [\"PostMaster@\"]\n[reputation]\ntraps = [\"Trap@日本語.example\"]"),
    );
    assert_eq!(config.hostname, "edge.xn--wgv71a119e.example");
    assert_eq!(config.domains[0].name, "xn--wgv71a119e.example");
    assert_eq!(config.filters[0].covers, ["xn--wgv71a119e.example", "ann@xn--wgv71a119e.example", "*"]);
    assert_eq!(config.policy().exempt_recipients, ["postmaster@"]);
    assert_eq!(config.traps().len(), 1);
    assert!(config.domains_by_name().contains_key("xn--wgv71a119e.example"));
}

#[test]
fn a_laboratory_may_have_short_bans_and_short_waits() {
    let config = config(
        &(LEAST.to_owned()
            + "[reputation]\nban_first_secs = 5\nban_max_secs = 20\nban_flood_max_secs = 20\ntraps = [\"trap@example.jp\"]\n\
           [limits]\nclient_idle_secs = 2\nclient_greet_secs = 1\nhold_bytes_max = 65536\nhold_total_bytes_max = 1048576\n\
           sessions_max = 20"),
    );
    assert_eq!(config.reputation_limits().ban_max.as_secs(), 20);
    assert_eq!(config.limits.client_greet_secs, 1);
}

#[test]
fn what_the_machine_does_not_allow_is_an_error_that_says_what_to_do() {
    let config = config(LEAST);
    // A client each, an upstream's connections, those that are kept, and what is besides.
    let enough = super::Machine { descriptors: 8192 + (500 + 40) + 256, memory_bytes: Some(8 << 30) };
    assert_eq!(enough.problems(&config), []);
    let short = super::Machine { descriptors: 1024, memory_bytes: Some(512 << 20) };
    let problems = short.problems(&config);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].text.contains("8988 descriptors, and this machine allows 1024"), "{problems:?}");
    assert!(problems[0].text.contains("sessions_max to 364"), "{problems:?}");
    let tight = super::Machine { memory_bytes: Some(3 << 29), ..enough };
    assert_eq!(tight.problems(&config)[0].level, Level::Warning);
}

#[test]
fn descriptors_are_counted_by_what_a_session_may_have_open() {
    let needed = |more: &str| super::Machine::descriptors_needed(&config(&(LEAST.to_owned() + more)));
    assert_eq!(needed(""), 8192 + 500 + 40 + 256);
    assert_eq!(
        needed("[limits]\nupstream_connections_max = 9000\n"),
        2 * 8192 + 40 + 256,
        "no more than sessions"
    );
    // A message on its way into the quarantine is a file, and any session may have one.
    let filter = "[[filter]]\ncovers = [\"*\"]\naction = \"quarantine\"\n";
    for more in
        [filter, "[kinds]\nunknown = \"quarantine\"\n", "[policy]\noverused_in_flood = \"quarantine\"\n"]
    {
        assert_eq!(needed(more), 2 * 8192 + 40 + 256, "{more}");
    }
}

#[test]
fn drafts_searches_samples_and_rates_count_in_the_machines_memory() {
    let needed = |more: &str| super::Machine::memory_needed(&config(&(LEAST.to_owned() + more)));
    let least = needed("");
    // A session: its buffers, what it searches, and a piece on its way to the disk.
    assert_eq!(least - needed("[limits]\nsessions_max = 8191\n"), (40 + 20 + 16) << 10);
    assert_eq!(needed("[kinds]\nmailboxes_max = 100001\n") - least, 64);
    // What TLS adds, on either side.
    let one = "[limits]\nsessions_max = 1\n";
    let tls = |more: &str| needed(&format!("{one}{more}")) - needed(one);
    assert_eq!(tls("[[tls.certificate]]\nchain = \"/c\"\nkey = \"/k\"\n"), 44 << 10);
    assert_eq!(tls("[[tls.upstream]]\naddress = \"127.0.0.1:10025\"\nmode = \"verified\"\n"), 44 << 10);
    // What is known of a quarantined message and of its source, and its row in the lists of sixteen callers.
    assert_eq!(needed("[quarantine]\nmessages_max = 10001\n") - least, 160 + 16 * 1024);
}

#[test]
fn header_sections_of_outgoing_mail_count_in_the_machines_memory() {
    let machine = super::Machine { descriptors: 16_720, memory_bytes: Some(3 << 30) };
    assert_eq!(machine.problems(&config(LEAST)), []);
    let outbound =
        "[outbound]\nlisten = [\"[::1]:10025\"]\nnetworks = [\"::1/128\"]\nnext_hop = \"127.0.0.1:26\"\n";
    let problems = machine.problems(&config(&(LEAST.to_owned() + outbound)));
    // 8192 sessions of 256 KiB are 2 GiB. Only the operator's own servers can fill them: no reason not to start.
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!((problems[0].level, &*problems[0].key), (Level::Warning, "limits.header_bytes_max"));
    let fewer = LEAST.to_owned() + outbound + "[limits]\nheader_bytes_max = 4096\n";
    assert_eq!(machine.problems(&config(&fewer)), []);
}

#[test]
fn a_file_cut_anywhere_is_read_or_refused_with_places_inside_it() {
    let whole = LEAST.to_owned()
        + "[[filter]]\nmemo = \"転送\"\ncovers = [\"*\"]\naction = \"reject\"\n[xdp]\ninterface = \"eth0\"\nports = [25, 0x19]\n\
           [limits]\nrecipients_max = 1_000\n[outbound]\nlisten = [\"[::1]:10025\"]\nnetworks = [\"::1/128\"]\n\
           next_hop = \"127.0.0.1:26\"\n";
    config(&whole);
    for (cut, _) in whole.char_indices() {
        let (head, tail) = whole.split_at(cut);
        for text in
            [head, tail, &format!("{head}\"{tail}"), &format!("{head}[{tail}"), &format!("{head}9{tail}")]
        {
            for problem in problems(text) {
                let line = text.split('\n').nth(problem.line - 1);
                let line = line.unwrap_or_else(|| panic!("line {} of\n{text}", problem.line));
                assert!(problem.column - 1 <= line.chars().count(), "{problem:?} of\n{text}");
            }
        }
    }
}
