//! The clock: tags and tokens are dated, and believed for days; logs want better than that.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use edge_core::time::UnixMillis;

use super::Subject;
use super::finding::Findings;
use super::process;
use crate::engine::clock::system_now;

/// What systemd-timesyncd touches whenever it has set the clock (systemd-timesyncd.service(8)).
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";
/// Programs that keep a clock right, by `/proc/PID/comm`, and how each is asked.
const KEEPERS: [(&str, &str); 5] = [
    ("chronyd", "chronyc tracking"),
    ("ntpd", "ntpq -p"),
    ("openntpd", "ntpctl -s status"),
    ("ptp4l", "pmc -u -b 0 'GET TIME_STATUS_NP'"),
    ("phc2sys", "journalctl -u phc2sys"),
];
const TIMESYNCD: &str = "systemd-timesyn";

struct Facts {
    /// Whether systemd-timesyncd has set it.
    synchronized: bool,
    /// Names of running programs.
    running: Vec<String>,
    /// By how many seconds the clock is behind the configuration file's date.
    behind_secs: u64,
}

pub(super) fn ask(subject: &Subject, findings: &mut Findings) {
    let written = fs::metadata(&subject.file).ok().and_then(|file| u64::try_from(file.mtime()).ok());
    let written = written.map(UnixMillis::from_secs);
    let facts = Facts {
        synchronized: Path::new(SYNCHRONIZED).exists(),
        running: process::all().into_iter().map(|process| process.name).collect(),
        behind_secs: written.map_or(0, |written| written.since(system_now()).as_secs()),
    };
    judge(&facts, findings);
}

fn judge(facts: &Facts, findings: &mut Findings) {
    let check = "synchronised";
    if facts.behind_secs > 60 {
        findings.bad(
            check,
            format!(
                "the clock is {} behind the date of the configuration file",
                super::super::words::duration(facts.behind_secs)
            ),
            "set it, and let a time daemon keep it (chrony, systemd-timesyncd): proofs are dated",
        );
        return;
    }
    let keeper = KEEPERS.iter().find(|(name, _)| facts.running.iter().any(|running| running == name));
    match (facts.synchronized, keeper) {
        (true, _) => findings.good(check, "systemd-timesyncd has set it"),
        (false, Some((name, how))) => findings.good(check, format!("{name} runs; `{how}` says how well")),
        (false, None) if facts.running.iter().any(|running| running == TIMESYNCD) => findings.careful(
            check,
            "systemd-timesyncd runs and has not set it yet",
            "timedatectl timesync-status says which server it asks, and what came of it",
        ),
        (false, None) => findings.careful(
            check,
            "no time daemon is to be seen here (a container has its host's clock)",
            "where this is no container: install chrony or systemd-timesyncd; proofs are dated",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State::{Bad, Careful, Good};
    use super::*;

    #[test]
    fn a_clock_is_judged_by_who_keeps_it() {
        let rows = [
            (true, vec![], 0, Good),
            (false, vec!["bash", "chronyd"], 0, Good),
            (false, vec![TIMESYNCD], 0, Careful),
            (true, vec![TIMESYNCD], 0, Good),
            (false, vec!["bash"], 0, Careful),
            (true, vec!["chronyd"], 86_400, Bad),
        ];
        for (synchronized, running, behind_secs, expected) in rows {
            let mut findings = Findings::of("clock");
            let running = running.into_iter().map(String::from).collect();
            judge(&Facts { synchronized, running, behind_secs }, &mut findings);
            assert_eq!(findings.states(), [(expected, "synchronised")], "{}", findings.text());
        }
    }
}
