//! `cargo xtask test`: every test there is, and an honest count.
//!
//! The suites are read from the workspace itself, so none can be forgotten. Everything is built first; then each
//! suite runs by itself, with its full output in `target/test-logs/`. Where a test cannot run it fails: only
//! `--unprivileged` leaves suites out, by name. A test that is ignored counts as failed, for nobody ran it; so does
//! a suite that did not come to its end, or found no test.

mod count;
mod longest;
mod running;
mod suite;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;
use lab::program::{Profile, Program};

use count::Count;
use suite::{Needs, Programs, Suite};

/// `test`
#[derive(Args)]
pub(crate) struct Options {
    /// Run only what needs no root, XDP or mail server, and say what was left out.
    #[arg(long)]
    unprivileged: bool,
    /// Only tests whose name contains one of these.
    filters: Vec<String>,
}

/// How many lines of a failed build or suite are shown, from its beginning and its end; all of them are in its log.
const SHOWN_FIRST: usize = 25;
const SHOWN_LAST: usize = 35;

/// Runs the tests.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if !options.unprivileged {
        prepare()?;
    }
    let logs = lab::program::target().join("test-logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let suites = suite::all()?;
    let Some(programs) = build(&logs, !options.unprivileged)? else { return Ok(ExitCode::from(2)) };

    let started = Instant::now();
    let mut total = Count::default();
    let mut left_out = Vec::new();
    for suite in &suites {
        if options.unprivileged
            && let Some(why) = suite.needs.missing()
        {
            println!("{:28} left out: {why}", suite.name);
            left_out.push(suite.name.as_str());
            continue;
        }
        total.add(&one(suite, &programs, &options.filters, &logs)?);
    }
    if total.passed + total.failed() == 0 {
        println!("no test has such a name: {}", options.filters.join(" "));
        return Ok(ExitCode::from(1));
    }
    let left_out = if left_out.is_empty() {
        String::new()
    } else {
        format!(", left out: {} (run `cargo xtask test` as root for all)", left_out.join(", "))
    };
    println!(
        "{} passed, {} failed{left_out} (in {:.0} s, logs in {})",
        total.passed,
        total.failed(),
        started.elapsed().as_secs_f64(),
        logs.display()
    );
    Ok(ExitCode::from(u8::from(total.failed() > 0)))
}

/// Refuses to begin where tests could not run, and has installed what is missing.
fn prepare() -> Result<()> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "these tests make network namespaces and attach XDP programs: run `cargo xtask test` as root, or \
         `cargo xtask test --unprivileged` for the rest"
    );
    let xtask = std::env::current_exe().context("cannot find this program")?;
    let check = Command::new(&xtask).args(["setup", "--check"]).output().context("cannot run setup")?;
    if !check.status.success() {
        println!("something is missing here; running `cargo xtask setup` first");
        let setup = Command::new(&xtask).arg("setup").status().context("cannot run setup")?;
        anyhow::ensure!(setup.success(), "`cargo xtask setup` did not succeed; see above");
    }
    Ok(())
}

/// Builds all programs and tests. `None`: something does not build, and what was said.
fn build(logs: &Path, lab: bool) -> Result<Option<Programs>> {
    println!("building programs and tests ...");
    // Just as tests ask for them, so that no test's time is spent on it.
    let profiles: &[Profile] = if lab { &[Profile::Dev, Profile::Release] } else { &[] };
    for profile in profiles {
        for program in [Program::Backstop, Program::Load] {
            if let Err(error) = program.build(*profile) {
                show_ends(&format!("{error:#}"));
                return Ok(None);
            }
        }
    }
    let args = ["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"];
    let log = log_of(logs, "build");
    let output = suite::cargo().args(args).output().context("cannot run cargo")?;
    std::fs::write(&log, &output.stderr).with_context(|| format!("cannot write {}", log.display()))?;
    if !output.status.success() {
        show_ends(&String::from_utf8_lossy(&output.stderr));
        println!("`cargo {}` failed; all of it is in {}", args.join(" "), log.display());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    Ok(output.status.success().then(|| Programs::of(&messages)))
}

/// Runs one suite and says in a line how it went; in more where it failed.
fn one(suite: &Suite, programs: &Programs, filters: &[String], logs: &Path) -> Result<Count> {
    let started = Instant::now();
    let log = log_of(logs, &suite.name);
    // Suites in the lab take minutes: there, each test's end is shown as it comes.
    let show = suite.needs == Needs::Lab;
    if show {
        println!("{:28} ...", suite.name);
    }
    let ended = running::run(suite, programs, filters, &log, show)?;
    let mut count = count::read(&ended.output);
    count.close(ended.succeeded, filters.is_empty() && !suite.may_be_empty);
    if count.is_nothing() {
        return Ok(count);
    }
    println!(
        "{:28} {:4} passed {:4} failed  {:6.1} s",
        suite.name,
        count.passed,
        count.failed(),
        started.elapsed().as_secs_f64()
    );
    if count.failed() > 0 {
        show_ends(&count::failures(&ended.output));
        for name in &count.names {
            println!("  FAILED {name}");
        }
        println!("  all of it is in {}", log.display());
    }
    Ok(count)
}

fn log_of(logs: &Path, name: &str) -> PathBuf {
    logs.join(format!("{}.log", name.replace([' ', '/'], "-")))
}

/// Shows the first and the last lines of a text.
fn show_ends(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    let between = SHOWN_FIRST..lines.len().saturating_sub(SHOWN_LAST).max(SHOWN_FIRST);
    for (place, line) in lines.iter().enumerate() {
        if place == between.start && !between.is_empty() {
            println!("  ... {} lines ...", between.len());
        }
        if !between.contains(&place) {
            println!("  {line}");
        }
    }
}
