//! Running one suite: its output goes to a log, its processes end at a deadline.

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::longest::{self, End};
use super::suite::{Programs, Runs, Suite, cargo};

/// How long a suite may take before it is ended and counts as failed.
const SUITE_DEADLINE: Duration = Duration::from_secs(35 * 60);

/// How a suite ended.
pub(super) struct Ended {
    /// By its exit code.
    pub(super) succeeded: bool,
    /// What it wrote to stdout.
    pub(super) output: String,
}

/// Runs it. `show`: each test's line is printed as it comes.
pub(super) fn run(
    suite: &Suite,
    programs: &Programs,
    filters: &[String],
    log: &Path,
    show: bool,
) -> Result<Ended> {
    let mut to_log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = match &suite.runs {
        Runs::Program(target) => {
            let mut command = Command::new(programs.get(target)?);
            command.current_dir(target.folder());
            command
        }
        Runs::Documentation => {
            let mut command = cargo();
            command.args(["test", "--workspace", "--doc", "--"]);
            command
        }
    };
    command.args(filters);
    if let Some(threads) = suite.threads {
        command.arg(format!("--test-threads={threads}"));
    }
    // A group of its own, so that at the deadline its servers end with it.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(to_log.try_clone()?).process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot run {}", suite.name))?;
    let (send, lines) = mpsc::channel();
    let stdout = child.stdout.take().context("stdout is piped")?;
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });

    let started = Instant::now();
    let deadline = started + SUITE_DEADLINE;
    let mut output = String::new();
    let mut ends: Vec<End> = Vec::new();
    let in_time = loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                writeln!(to_log, "{line}")?;
                let test = line.strip_prefix("test ").filter(|_| !line.starts_with("test result"));
                if let Some(test) = test.filter(|_| show) {
                    println!("    {test}");
                    let name = test.rsplit_once(" ... ").map_or(test, |(name, _)| name);
                    ends.push((name.to_owned(), started.elapsed()));
                }
                output.push_str(&line);
                output.push('\n');
            }
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) => break false,
        }
    };
    if let Some(longest) = suite.threads.and_then(|threads| longest::in_words(&ends, threads)) {
        println!("    longest: {longest}");
    }
    if !in_time {
        end(&mut child)?;
        let note = format!("ended after {} s: the suite's deadline", SUITE_DEADLINE.as_secs());
        writeln!(to_log, "{note}")?;
        println!("  {}: {note}", suite.name);
        return Ok(Ended { succeeded: false, output });
    }
    let status = child.wait()?;
    // It ended with the pipe.
    let _ = reader.join();
    Ok(Ended { succeeded: status.success(), output })
}

/// Ends a suite with all that it started.
fn end(child: &mut Child) -> Result<()> {
    let group = Pid::from_raw(i32::try_from(child.id()).context("a process id")?);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // Gone already is as good.
        let _ = killpg(group, signal);
        std::thread::sleep(Duration::from_secs(2));
    }
    child.wait()?;
    Ok(())
}
