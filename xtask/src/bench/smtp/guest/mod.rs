//! `--guest`: the rows `idle_clear` and `idle_tls` with 100,000 connections: more than a process here may have
//! descriptors for. A guest has limits of its own, so they are held there: by a release's daemon on another kernel.
//!
//! The guest is emulated: each instruction takes many of this machine's. What is counted (memory) means the
//! same there; of times only ratios of what was measured side by side.

mod archive;
mod files;
mod needs;
mod qemu;
mod signals;
mod work;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bench_smtp::guest::Told;
use bench_smtp::memory::Memory;
use lab::program::{Profile, Program, target};

use self::files::Task;
use self::qemu::{Boot, Guest};
use self::signals::{Interrupted, Signals};
use self::work::Work;
use super::beside::{self, Beside, Figures, Turns};
use super::{Chosen, Options, idle, table};
use crate::setup::guest::Parts;

/// Connections at the last step.
const CONNECTIONS: usize = 100_000;
/// Active sessions each time: fewer than on a machine that is not emulated.
const SESSIONS: u64 = 300;
/// How long one row may take: where the machine does much else, an emulated core may do 70 handshakes a second.
const PATIENCE: Duration = Duration::from_secs(45 * 60);

/// Measures, and shows what came out.
pub(super) fn run(options: &Options, tell: &impl Fn(&str)) -> Result<ExitCode> {
    let rows = rows(options)?;
    needs::ensure_processor()?;
    // First, so that nobody waits for a build to hear it.
    let parts = Parts::unpacked()?;
    let profile = if options.dev { Profile::Dev } else { Profile::Release };
    tell("building backstop and the load");
    let backstop = Program::Backstop.build_aloud(profile)?;
    let bench = Program::BenchSmtp.build_aloud(profile)?;
    let mut figures = Vec::new();
    let signals = Signals::catch()?;
    for row in rows {
        let measured = measure(row, options, &parts, [&backstop, &bench], &signals, tell);
        figures.push(measured.with_context(|| row.name().to_owned())?);
    }
    drop(signals);
    if options.json {
        println!("{}", serde_json::to_string(&table::Object::new(options.conditions(), &[], &figures))?);
    } else {
        print!("In an emulated guest, where times mean little and ratios much:{}", beside::render(&figures));
    }
    Ok(super::verdict(figures.iter().filter(|row| !row.met).map(|row| row.row)))
}

/// The rows that a guest can measure.
fn rows(options: &Options) -> Result<Vec<Beside>> {
    let all = [Beside::IdleClear, Beside::IdleTls];
    let known = |row: &Chosen| all.into_iter().any(|known| *row == Chosen::Beside(known));
    ensure!(options.only.iter().all(known), "--guest measures {} only", all.map(Beside::name).join(" and "));
    Ok(all.into_iter().filter(|row| options.wants(Chosen::Beside(*row))).collect())
}

fn measure(
    row: Beside,
    options: &Options,
    parts: &Parts,
    [backstop, bench]: [&Path; 2],
    signals: &Signals,
    tell: &impl Fn(&str),
) -> Result<Figures> {
    let is_tls = row == Beside::IdleTls;
    let task = Task {
        is_tls,
        connections: options.connections.map_or(CONNECTIONS, |count| count as usize),
        pairs: options.pairs,
        sessions: options.sessions.unwrap_or(SESSIONS),
    };
    needs::ensure_memory(&task)?;
    let work = Work::begin(&target().join("lab"))?;
    let files = files::archive(&task, parts, backstop, bench, work.folder())?;
    let (files, console) = (work.write("files.cpio", &files)?, work.path("console"));
    signals.ensure_none_came()?;
    tell(&format!("{}: booting a guest, for {} minutes at most", row.name(), PATIENCE.as_secs() / 60));
    let boot = Boot {
        parts,
        files: &files,
        console: &console,
        memory_mib: needs::seen_mib(&task),
        comes_first: !options.dev,
    };
    let guest = Guest::boot(&boot, PATIENCE)?;
    let heard =
        listen(task.connections, || guest.line(signals), |line| tell(&format!("{}: {line}", row.name())));
    let heard = match heard {
        Err(error) if !error.is::<Interrupted>() => return Err(guest.failed(&error, &console)),
        heard => heard?,
    };
    guest.wait();
    idle::figures(row, &heard.steps, &heard.turns)
}

/// What a guest told.
#[derive(Debug, Default)]
struct Heard {
    steps: Vec<(usize, Memory)>,
    turns: Turns,
}

/// Hears a guest out.
fn listen(
    wanted: usize,
    mut next: impl FnMut() -> Result<Option<String>>,
    tell: impl Fn(&str),
) -> Result<Heard> {
    let mut heard = Heard::default();
    loop {
        let line = next()?.context("the guest ended before it was done")?;
        match Told::read(&line)? {
            Told::Opened { connections, secs } => {
                let left = secs * wanted.saturating_sub(connections) as f64 / connections.max(1) as f64;
                tell(&format!("{connections} of {wanted} connections; about {left:.0} s until all are open"));
            }
            Told::Step { connections, memory } => {
                tell(&format!("{connections} at rest: {} KiB of its own", memory.private >> 10));
                heard.steps.push((connections, memory));
            }
            Told::Alone(micros) => {
                tell(&format!("alone {:.1} ms", micros[0] / 1000.0));
                heard.turns.push_alone(micros);
            }
            Told::Beside(micros) => {
                tell(&format!("beside them {:.1} ms", micros[0] / 1000.0));
                heard.turns.push_beside(micros);
            }
            Told::Done => return Ok(heard),
            Told::Failed(why) => bail!("in the guest: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn asked(arguments: &[&str]) -> Result<Vec<Beside>> {
        rows(&Cli::try_parse_from([&["smtp", "--guest"], arguments].concat())?.options)
    }

    #[test]
    fn a_guest_measures_idle_connections_and_nothing_else() {
        assert_eq!(asked(&[]).unwrap(), [Beside::IdleClear, Beside::IdleTls]);
        assert_eq!(asked(&["--only", "idle_tls"]).unwrap(), [Beside::IdleTls]);
        for row in ["slow", "refused_rcpt"] {
            let error = asked(&["--only", "idle_tls", "--only", row]).unwrap_err().to_string();
            assert!(error.contains("idle_clear and idle_tls only"), "{error}");
        }
        assert!(asked(&["--trace"]).is_err() && asked(&["--instructions"]).is_err());
        assert!(asked(&["--against", "/bin/true"]).is_err());
    }

    fn heard(lines: &[&str]) -> Result<Heard> {
        let mut lines = lines.iter();
        listen(100_000, || Ok(lines.next().map(ToString::to_string)), |_| {})
    }

    const STEPS: [&str; 4] = [
        r#"{"opened":{"connections":5000,"secs":2.5}}"#,
        "{\"step\":{\"connections\":25000,\"memory\":{\"private\":100000000,\"proportional\":110000000}}}\r",
        r#"{"step":{"connections":100000,"memory":{"private":325000000,"proportional":335000000}}}"#,
        r#"{"alone":[5000.0,9000.0]}"#,
    ];

    #[test]
    fn what_the_guest_told_becomes_the_rows_figures() {
        let turns = [r#"{"beside":[5500.0,9000.0]}"#, r#""done""#];
        let heard = heard(&[&STEPS[..], &turns].concat()).unwrap();
        let figures = idle::figures(Beside::IdleClear, &heard.steps, &heard.turns).unwrap();
        assert!((figures.value - 3000.0).abs() < 1e-9 && figures.met && figures.connections == 100_000);
        assert!(figures.median.is_some_and(|median| (median.ratio - 1.1).abs() < 1e-9));
    }

    #[test]
    fn a_guest_that_ends_early_or_fails_is_no_result() {
        let error = format!("{:#}", heard(&STEPS).unwrap_err());
        assert!(error.contains("before it was done"), "{error}");
        let failed = [r#"{"failed":"idle connection 7: the connection ended"}"#];
        let error = format!("{:#}", heard(&[&STEPS[..], &failed].concat()).unwrap_err());
        assert!(error.contains("idle connection 7"), "{error}");
    }
}
