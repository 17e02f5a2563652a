//! Instructions of Backstop's own code a session, counted by callgrind: between n and twice n sessions, so that its start
//! and its end do not count. The kernel's are not seen.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use bench_smtp::row::{MAILBOXES, Row};
use nix::sys::signal::Signal;

use super::measure::play;
use super::recorded::Recorded;
use super::subject::{Place, Subject};
use super::{Options, ensure_program};

/// Messages (or refusals) of the shorter run. The start of a daemon differs by a million instructions from one time to the
/// next; among so many sessions that is one in a hundred.
const MESSAGES: u64 = 4000;
/// Sessions at once: callgrind is 50 times slower, and nothing may time out.
const AT_ONCE: u32 = 10;
/// How long the daemon may take to end under callgrind.
const END: Duration = Duration::from_secs(60);

/// Counts, and prints.
pub(super) fn run(place: &Place, options: &Options, tell: &impl Fn(&str)) -> Result<ExitCode> {
    ensure_program("valgrind")?;
    let rows = if options.only.is_empty() { vec![Row::RefusedRcpt] } else { options.rows() };
    let mut recorded = Recorded::read()?;
    let mut all_hold = true;
    for row in rows {
        let sessions = options.sessions.unwrap_or(MESSAGES / u64::from(row.messages()));
        let mut counted = Vec::new();
        for sessions in [sessions, 2 * sessions] {
            tell(&format!("{}: {sessions} sessions under callgrind", row.name()));
            counted.push(collected(place, row, sessions).with_context(|| row.name())?);
        }
        let kept = lab::program::target().join(format!("bench/callgrind.{}.out", row.name()));
        keep(place, &kept)?;
        tell(&format!("what took them: callgrind_annotate {}", kept.display()));
        let each = (counted[1].saturating_sub(counted[0])) / sessions;
        let beside = recorded.beside(row.name(), each);
        if options.json {
            println!(
                "{}",
                serde_json::json!({ "row": row.name(), "instructions": each, "holds": beside.holds() })
            );
        }
        let told = beside.text(row.name(), each);
        let line = format!("{}: {each} instructions a session (user code); {told}", row.name());
        if options.json || !beside.holds() {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
        if options.record {
            recorded.put(row.name(), each)?;
        } else {
            all_hold &= beside.holds();
        }
    }
    Ok(if all_hold { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// All that a daemon's life took in which so many sessions came.
fn collected(place: &Place, row: Row, sessions: u64) -> Result<u64> {
    let mut server = place.start_under(
        Subject::Backstop,
        &["valgrind", "--tool=callgrind", "--callgrind-out-file=/run/lab/bench/callgrind.out"],
        "",
    )?;
    play(place, Subject::Backstop, row, u64::from(MAILBOXES), AT_ONCE)?;
    play(place, Subject::Backstop, row, sessions, AT_ONCE)?;
    let process = server.process();
    process.signal(Signal::SIGTERM)?;
    process.wait(END)?;
    let log = place.log(Subject::Backstop, &server);
    of_log(&log).with_context(|| format!("callgrind's last words:\n{log}"))
}

/// Callgrind's file goes with the lab: this one stays.
fn keep(place: &Place, kept: &Path) -> Result<()> {
    let copy = || {
        std::fs::create_dir_all(kept.parent().unwrap_or(kept))?;
        std::fs::copy(place.lab.path("bench/callgrind.out"), kept)
    };
    copy().map(drop).with_context(|| format!("cannot keep callgrind's file at {}", kept.display()))
}

/// `==123== Collected : 4567`
fn of_log(log: &str) -> Option<u64> {
    let line = log.lines().rev().find(|line| line.starts_with("==") && line.contains("Collected"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_other_lines() {
        let log = "==1== Callgrind\n2026 backstop: Collected : 3\n==1== Collected : 168841836\n==1== \n";
        assert_eq!(of_log(log), Some(168_841_836));
        assert_eq!(of_log("==1== Callgrind\n"), None);
    }
}
