//! The systemd unit, where one is installed: whether it gives the edge what the configuration needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Subject;
use super::capabilities;
use super::finding::Findings;
use super::process::Capability;
use crate::config::{Config, Machine};

/// Where systemd looks, the first wins (systemd.unit(5)).
const PLACES: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
];
const NAME: &str = "backstop.service";
/// Descriptors that systemd allows where a unit does not say (the hard limit, since version 240).
const DESCRIPTORS_DEFAULT: u64 = 524_288;
/// `DefaultTimeoutStopSec`, in seconds.
const STOP_DEFAULT: u64 = 90;

/// The assignments in `[Service]`, by name, in their order; an empty one forgets those before it.
pub(super) type Settings = BTreeMap<String, Vec<String>>;

/// The user that an installed unit runs the edge as.
pub(super) fn user() -> Option<u32> {
    user_of(&installed()?.1)
}

/// The same of one that is read.
pub(super) fn user_of(settings: &Settings) -> Option<u32> {
    let name = settings.get("User")?.last()?;
    name.parse().ok().or_else(|| Some(nix::unistd::User::from_name(name).ok()??.uid.as_raw()))
}

pub(super) fn ask(subject: &Subject, findings: &mut Findings) {
    let has_systemd = Path::new("/run/systemd/system").exists();
    let needed = capabilities::needed(&subject.config);
    judge(&subject.config, &subject.file, &needed, has_systemd, installed(), findings);
}

/// The unit and its drop-ins, in systemd's order.
pub(super) fn installed() -> Option<(PathBuf, Settings)> {
    let path = PLACES.iter().map(|place| Path::new(place).join(NAME)).find(|path| path.exists())?;
    let mut texts = vec![fs::read_to_string(&path).ok()?];
    // A drop-in in an earlier place hides one of the same name in a later place.
    let mut more: BTreeMap<_, PathBuf> = BTreeMap::new();
    for place in PLACES.iter().rev() {
        let entries =
            fs::read_dir(Path::new(place).join(format!("{NAME}.d"))).into_iter().flatten().flatten();
        let drop_ins = entries.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "conf"));
        more.extend(drop_ins.map(|entry| (entry.file_name(), entry.path())));
    }
    texts.extend(more.values().filter_map(|path| fs::read_to_string(path).ok()));
    Some((path, service(&texts)))
}

pub(super) fn service(texts: &[String]) -> Settings {
    let mut settings = Settings::new();
    for text in texts {
        let mut section = String::new();
        for line in text.replace("\\\n", " ").lines().map(str::trim) {
            if line.starts_with(['#', ';']) || line.is_empty() {
                continue;
            }
            if line.starts_with('[') {
                section = line.to_owned();
            } else if section == "[Service]"
                && let Some((name, value)) = line.split_once('=')
            {
                let values = settings.entry(name.trim().to_owned()).or_default();
                match value.trim() {
                    "" => values.clear(),
                    value => values.push(value.to_owned()),
                }
            }
        }
    }
    settings
}

/// A time span in seconds (systemd.time(7)): `900`, `15min`, `1min 30s`, `infinity`.
fn seconds(text: &str) -> Option<u64> {
    if text == "infinity" {
        return Some(u64::MAX);
    }
    let mut sum: u64 = 0;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        let behind = rest[digits..].trim_start();
        let letters = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let unit = match &behind[..letters] {
            "" | "s" | "sec" | "second" | "seconds" => 1,
            "m" | "min" | "minute" | "minutes" => 60,
            "h" | "hr" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86_400,
            _ => return None,
        };
        sum = sum.checked_add(number.checked_mul(unit)?)?;
        rest = behind[letters..].trim_start();
    }
    Some(sum)
}

fn judge(
    config: &Config,
    file: &Path,
    needed: &[Capability],
    has_systemd: bool,
    unit: Option<(PathBuf, Settings)>,
    findings: &mut Findings,
) {
    let Some((path, settings)) = unit else {
        match has_systemd {
            true => findings.careful(
                "installed",
                format!("there is no {NAME}"),
                "contrib/systemd has one; without it the edge does not come back after a restart of this machine",
            ),
            false => findings.good("installed", "no systemd runs here"),
        }
        return;
    };
    let last = |name: &str| settings.get(name).and_then(|values| values.last()).map(String::as_str);
    findings.good("installed", path.display().to_string());
    let start = last("ExecStart").unwrap_or_default();
    let named = start.split_ascii_whitespace().skip_while(|word| *word != "--config").nth(1);
    let named =
        named.or_else(|| start.split_ascii_whitespace().find_map(|word| word.strip_prefix("--config=")));
    let named = named.unwrap_or(super::CONFIG_PATH);
    if Path::new(named) != file {
        findings.careful(
            "configuration",
            format!("the unit runs with {named}, and this is about {}", file.display()),
            format!("backstop doctor --config {named}"),
        );
    }
    descriptors(config, last("LimitNOFILE"), findings);
    rights(needed, last("User"), settings.get("AmbientCapabilities"), findings);
    let limits = &config.limits;
    let wanted = limits.upstream_reply_secs.saturating_mul(2).saturating_add(limits.client_idle_secs);
    let stop = last("TimeoutStopSec").or(last("TimeoutSec")).and_then(seconds).unwrap_or(STOP_DEFAULT);
    if stop >= wanted {
        findings.good("TimeoutStopSec", "long enough for replies to final dots");
    } else {
        findings.careful(
            "TimeoutStopSec",
            format!("{stop} s, and a reply to a final dot may take {wanted} s: a message may arrive twice"),
            format!("TimeoutStopSec={wanted}"),
        );
    }
    match last("WatchdogSec").and_then(seconds) {
        Some(1..) => findings.good("WatchdogSec", "a daemon that hangs is restarted"),
        Some(0) | None => findings.careful(
            "WatchdogSec",
            "none: a daemon that hangs stays so",
            "WatchdogSec=60, as in contrib/systemd",
        ),
    }
}

fn descriptors(config: &Config, limit: Option<&str>, findings: &mut Findings) {
    let hard = limit.map(|limit| limit.rsplit(':').next().unwrap_or(limit));
    let allowed = match hard {
        None => DESCRIPTORS_DEFAULT,
        Some("infinity") => u64::MAX,
        Some(number) => number.parse().unwrap_or(0),
    };
    let needed = Machine::descriptors_needed(config);
    let shown = hard.map_or_else(|| format!("not set, so {DESCRIPTORS_DEFAULT}"), str::to_owned);
    if allowed >= needed {
        findings.good("LimitNOFILE", format!("{shown}; {needed} may be needed"));
    } else {
        findings.bad(
            "LimitNOFILE",
            format!("{shown}; {needed} may be needed"),
            format!("LimitNOFILE={needed}, or a lower sessions_max in [limits]"),
        );
    }
}

fn rights(needed: &[Capability], user: Option<&str>, ambient: Option<&Vec<String>>, findings: &mut Findings) {
    let Some(user) = user.filter(|user| !["root", "0"].contains(user)) else {
        return findings.careful(
            "user",
            "root",
            "give it a user of its own: the unit in contrib/systemd does",
        );
    };
    let given: Vec<&str> =
        ambient.into_iter().flatten().flat_map(|line| line.split_ascii_whitespace()).collect();
    let missing: Vec<_> =
        needed.iter().filter(|capability| !given.contains(&capability.name)).copied().collect();
    if missing.is_empty() {
        findings.good("user", format!("{user}, with the capabilities that the configuration needs"));
    } else {
        let names = missing.iter().map(|capability| capability.name).collect::<Vec<_>>().join(" ");
        findings.bad(
            "user",
            format!("{user}, without {}", capabilities::words(&missing)),
            format!("AmbientCapabilities={names}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State::{self, Bad, Careful, Good};
    use super::super::process::{BPF, NET_ADMIN, NET_BIND_SERVICE, PERFMON};
    use super::*;

    const UNIT: &str = "[Unit]\nDescription=x\nTimeoutStopSec=1\n[Service]\nExecStart=/usr/local/bin/backstop run\n\
                        User=backstop\nAmbientCapabilities=CAP_BPF CAP_NET_ADMIN \\\n CAP_NET_BIND_SERVICE CAP_PERFMON\n\
                        LimitNOFILE=65536\nTimeoutStopSec=15min\nWatchdogSec=60\n[Install]\nWantedBy=x\n";

    #[test]
    fn a_unit_is_judged_with_its_drop_ins() {
        let config = super::super::sample("127.0.0.1:25", "");
        let all = ["installed", "LimitNOFILE", "user", "TimeoutStopSec", "WatchdogSec"];
        let but = |state: State, check: &str| {
            all.map(|one| (if one == check { state } else { Good }, one)).to_vec()
        };
        let rows = [
            ("", but(Good, "")),
            ("[Service]\nLimitNOFILE=1024\n", but(Bad, "LimitNOFILE")),
            ("[Service]\nLimitNOFILE=1024:infinity\n", but(Good, "")),
            ("[Service]\nLimitNOFILE=\n", but(Good, "")),
            ("[Service]\nUser=root\n", but(Careful, "user")),
            ("[Service]\nAmbientCapabilities=\nAmbientCapabilities=CAP_BPF\n", but(Bad, "user")),
            ("[Service]\nTimeoutStopSec=90\n", but(Careful, "TimeoutStopSec")),
            ("[Service]\nTimeoutStopSec=infinity\n", but(Good, "")),
            ("[Service]\nWatchdogSec=0\n", but(Careful, "WatchdogSec")),
            ("[Unit]\nWatchdogSec=0\n# [Service]\n; User=root\n", but(Good, "")),
        ];
        for (drop_in, expected) in rows {
            let mut findings = Findings::of("unit");
            let settings = service(&[UNIT.into(), drop_in.into()]);
            let needed = [NET_BIND_SERVICE, NET_ADMIN, BPF, PERFMON];
            let file = Path::new(super::super::CONFIG_PATH);
            judge(&config, file, &needed, true, Some(("/u".into(), settings)), &mut findings);
            assert_eq!(findings.states(), expected, "{drop_in}: {}", findings.text());
        }
        for (has_systemd, expected) in [(true, Careful), (false, Good)] {
            let mut findings = Findings::of("unit");
            judge(&config, Path::new("/x"), &[], has_systemd, None, &mut findings);
            assert_eq!(findings.states(), [(expected, "installed")]);
        }
    }

    #[test]
    fn time_spans_read_as_systemd_reads_them() {
        for (text, expected) in [
            ("900", Some(900)),
            ("15min", Some(900)),
            ("1min 30s", Some(90)),
            ("1h30m", Some(5400)),
            ("infinity", Some(u64::MAX)),
            ("0", Some(0)),
            ("soon", None),
            ("5 parsecs", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
