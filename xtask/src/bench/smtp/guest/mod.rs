//! `--guest`: the rows `idle_clear` and `idle_tls`, the first with 100,000 connections: more than a process here may have
//! descriptors for. A guest has limits of its own, so they are held there: by a release's daemon on another kernel.
//!
//! The guest is emulated: each instruction takes many of this machine's. What is counted (memory) means the
//! same there; of times only ratios of what was measured side by side.

mod archive;
mod files;
mod qemu;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bench_smtp::guest::Told;
use bench_smtp::memory::Memory;
use lab::program::{Profile, Program, target};

use self::files::Task;
use self::qemu::{Boot, Guest, console_end};
use super::beside::{self, Beside, Figures, Turns};
use super::{Chosen, Options, idle, table};
use crate::setup::guest::Parts;

/// Connections at the last step. A handshake takes 8 ms of an emulated core's time: on a busy machine, there is none for
/// more of them.
const CLEAR_CONNECTIONS: usize = 100_000;
const TLS_CONNECTIONS: usize = 20_000;
/// Active sessions each time: fewer than on a machine that is not emulated.
const SESSIONS: u64 = 300;
/// How long one row may take.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// What a guest needs besides its connections, in octets: kernel, files, two servers.
const BESIDES_BYTES: u64 = 1 << 30;
/// What a connection takes of this machine's memory, in octets: both ends in the guest's kernel, and the server's own.
const CLEAR_BYTES: u64 = 14 << 10;
const TLS_BYTES: u64 = 34 << 10;
/// What the guest must seem to have for each session that the server has room for: Backstop does not start where all of
/// them could not be busy at once. It is never touched.
const BUSY_BYTES: u64 = 122 << 10;
/// The same for all else that its configuration bounds.
const TABLES_BYTES: u64 = 2 << 30;

/// Measures, and shows what came out.
pub(super) fn run(options: &Options, tell: &impl Fn(&str)) -> Result<ExitCode> {
    let rows = rows(options)?;
    // First, so that nobody waits for a build to hear it.
    let parts = Parts::unpacked()?;
    let profile = if options.dev { Profile::Dev } else { Profile::Release };
    tell("building backstop and the load");
    let backstop = Program::Backstop.build_aloud(profile)?;
    let bench = Program::BenchSmtp.build_aloud(profile)?;
    let mut figures = Vec::new();
    for row in rows {
        let measured = measure(row, options, &parts, [&backstop, &bench], tell);
        figures.push(measured.with_context(|| row.name().to_owned())?);
    }
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
    tell: &impl Fn(&str),
) -> Result<Figures> {
    let is_tls = row == Beside::IdleTls;
    let connections = if is_tls { TLS_CONNECTIONS } else { CLEAR_CONNECTIONS };
    let task = Task {
        is_tls,
        connections: options.connections.map_or(connections, |count| count as usize),
        pairs: options.pairs,
        sessions: options.sessions.unwrap_or(SESSIONS),
    };
    ensure_memory(&task)?;
    // Always the same, so that a run that is interrupted leaves no more than one of them.
    let work = target().join("lab/guest-run");
    std::fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let (files, console) = (work.join("files.cpio"), work.join("console"));
    std::fs::write(&files, files::archive(&task, parts, backstop, bench, &work)?)?;
    let memory_mib =
        (BESIDES_BYTES + TABLES_BYTES + idle::places(task.connections) as u64 * BUSY_BYTES) >> 20;
    tell(&format!("{}: booting a guest", row.name()));
    let boot = Boot { parts, files: &files, console: &console, memory_mib };
    let guest = Guest::boot(&boot, PATIENCE)?;
    let heard = listen(|| guest.line(), |line| tell(&format!("{}: {line}", row.name())))
        .with_context(|| format!("its console ended so:\n{}", console_end(&console)))?;
    guest.wait();
    std::fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    idle::figures(row, &heard.steps, &heard.turns)
}

/// What a guest told.
#[derive(Debug, Default)]
struct Heard {
    steps: Vec<(usize, Memory)>,
    turns: Turns,
}

/// Hears a guest out.
fn listen(mut next: impl FnMut() -> Result<Option<String>>, tell: impl Fn(&str)) -> Result<Heard> {
    let mut heard = Heard::default();
    loop {
        let line = next()?.context("the guest ended before it was done")?;
        match Told::read(&line)? {
            Told::Opened { connections, secs } => tell(&format!("{connections} connections ({secs:.0} s)")),
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

/// That this machine has the memory that the guest will use.
fn ensure_memory(task: &Task) -> Result<()> {
    let each = if task.is_tls { TLS_BYTES } else { CLEAR_BYTES };
    let needed = BESIDES_BYTES + task.connections as u64 * each;
    let text = std::fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let available = available(&text).context("/proc/meminfo names no MemAvailable")?;
    ensure!(
        needed <= available,
        "{} connections in a guest take {} MiB, and {} are available: fewer --connections would do",
        task.connections,
        needed >> 20,
        available >> 20
    );
    Ok(())
}

/// Octets that can be had, by `/proc/meminfo`.
fn available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
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
        listen(|| Ok(lines.next().map(ToString::to_string)), |_| {})
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

    #[test]
    fn the_available_memory_is_read() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
    }
}
