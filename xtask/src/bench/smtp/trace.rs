//! System calls a session, counted by strace: of the floor (over TLS: of nginx) and of Backstop.

use std::collections::BTreeMap;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::measure::{play, warm_up};
use super::subject::{Place, Subject};
use super::{Options, ensure_program, plan};

/// Sessions that are counted: enough that what goes on beside them is little.
const SESSIONS_MAX: u64 = 2000;
/// How long strace may take to attach or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Calls of one kind, and how many of them failed (EAGAIN, mostly).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Calls {
    all: u64,
    failed: u64,
}

/// Counts, and prints the table.
pub(super) fn run(place: &Place, options: &Options, tell: &impl Fn(&str)) -> Result<ExitCode> {
    ensure_program("strace")?;
    for row in options.rows() {
        let mut plan = plan::of(row);
        plan.sessions = options.sessions.unwrap_or(plan.sessions).min(SESSIONS_MAX);
        plan.at_once = options.at_once.unwrap_or(plan.at_once);
        let mut columns = Vec::new();
        // The floor has no TLS.
        let beside = if row.is_over_tls() { Subject::Nginx } else { Subject::Floor };
        for subject in [beside, Subject::Backstop] {
            tell(&format!("{}: {} sessions of {} under strace", row.name(), plan.sessions, subject.name()));
            let server = place.start(subject)?;
            warm_up(place, subject, row, &plan)?;
            let file = place.lab.path(format!("bench/{}.calls", subject.name()));
            let mut command = Command::new("strace");
            command.args(["-c", "-f", "-U", "calls,errors,name", "-o"]).arg(&file);
            let mut strace = command
                .arg(format!("--attach={}", server.pid()))
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("cannot run strace")?;
            wait_until_attached(&mut strace, server.pid())?;
            play(place, subject, row, plan.sessions, plan.at_once)?;
            end(&mut strace)?;
            let text = std::fs::read_to_string(&file).context("what strace counted")?;
            columns.push(parse(&text).with_context(|| format!("what strace counted:\n{text}"))?);
        }
        print!("{}", render(row.name(), plan.sessions, beside.name(), &columns[0], &columns[1]));
    }
    Ok(ExitCode::SUCCESS)
}

fn wait_until_attached(strace: &mut Child, pid: u32) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).context("the server is gone")?;
        let is_traced = |thread: std::fs::DirEntry| {
            let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|id| id.trim() != "0"))
        };
        if threads.flatten().all(is_traced) {
            return Ok(());
        }
        if let Some(status) = strace.try_wait()? {
            bail!("strace ended at once ({status}): does something else trace process {pid}?");
        }
        if Instant::now() > deadline {
            bail!("strace does not attach to process {pid}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn end(strace: &mut Child) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(strace.id())?), Signal::SIGINT).context("cannot end strace")?;
    let deadline = Instant::now() + PATIENCE;
    while strace.try_wait()?.is_none() {
        if Instant::now() > deadline {
            let _ = strace.kill();
            bail!("strace did not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The table that `strace -c -U calls,errors,name` writes; the column of errors is empty where there are none.
fn parse(text: &str) -> Option<BTreeMap<String, Calls>> {
    let mut calls = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (all, failed, name) = match words[..] {
            [all, failed, name] => (all, failed, name),
            [all, name] => (all, "0", name),
            _ => continue,
        };
        let (Ok(all), Ok(failed)) = (all.parse(), failed.parse()) else { continue };
        if name != "total" {
            calls.insert(name.to_owned(), Calls { all, failed });
        }
    }
    (!calls.is_empty()).then_some(calls)
}

fn render(
    row: &str,
    sessions: u64,
    beside: &str,
    floor: &BTreeMap<String, Calls>,
    ours: &BTreeMap<String, Calls>,
) -> String {
    use std::fmt::Write as _;
    let each = |count: u64| count as f64 / sessions as f64;
    let mut text = format!(
        "{row}: system calls a session, {sessions} sessions\n  {:<18} {:>8} {:>8} {:>8}\n",
        "", beside, "backstop", "(failed)"
    );
    let mut names: Vec<&String> = floor.keys().chain(ours.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let of = |calls: &BTreeMap<String, Calls>, name: &String| calls.get(name).copied().unwrap_or_default();
    names.sort_by_key(|name| std::cmp::Reverse(of(ours, name).all.max(of(floor, name).all)));
    let total = |calls: &BTreeMap<String, Calls>| calls.values().map(|calls| calls.all).sum::<u64>();
    let failed = ours.values().map(|calls| calls.failed).sum::<u64>();
    let mut line = |name: &str, floor, ours, failed| {
        let _ = writeln!(text, "  {name:<18} {:>8.2} {:>8.2} {:>8.2}", each(floor), each(ours), each(failed));
    };
    line("all", total(floor), total(ours), failed);
    for name in names {
        let (floor, ours) = (of(floor, name), of(ours, name));
        // Once in a hundred sessions is what goes on beside them.
        if each(floor.all.max(ours.all)) >= 0.01 {
            line(name, floor.all, ours.all, ours.failed);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTED: &str = "    calls    errors syscall\n--------- --------- ----------------\n    25000           sendto\n    40937     15937 recvfrom\n--------- --------- ----------------\n    65937     15937 total\n";

    #[test]
    fn what_strace_counted_is_read_with_and_without_errors() {
        let calls = parse(COUNTED).unwrap();
        assert_eq!(calls["sendto"], Calls { all: 25_000, failed: 0 });
        assert_eq!(calls["recvfrom"], Calls { all: 40_937, failed: 15_937 });
        assert_eq!(calls.len(), 2);
        assert_eq!(parse("strace: attached\n"), None);
    }

    #[test]
    fn the_table_has_every_call_of_either() {
        let text = render("refused_rcpt", 5000, "floor", &parse(COUNTED).unwrap(), &BTreeMap::new());
        assert!(text.contains("recvfrom") && text.contains("8.19"), "{text}");
    }
}
