//! `cargo xtask bench smtp`: CPU time of SMTP sessions.
//!
//! Everything runs in one host of a lab, over its loopback: no packet leaves, and what is started ends with the lab. The
//! server that is measured has the first core, with one worker; load and sink have the last. A row's servers are measured
//! by turns, pair after pair, forward and backward, so that whatever else the machine does hits all alike. What counts is
//! the median of the pairs' ratios. `benches/README.md` says more.

mod beside;
mod guest;
mod idle;
mod instructions;
mod measure;
mod peers;
mod plan;
mod recorded;
mod slow;
mod subject;
mod table;
mod trace;

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bench_smtp::row::Row;
use clap::Args;
use lab::program::{Profile, Program};

use self::beside::{Beside, Figures};
use self::measure::{Measured, measure};
use self::subject::{Place, Programs};
use self::table::Conditions;

/// `bench smtp`
#[derive(Args)]
pub(crate) struct Options {
    /// Only these rows.
    #[arg(long, value_parser = chosen)]
    only: Vec<Chosen>,
    /// End with one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// How often each server of a row is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    pairs: u32,
    /// Sessions each time, instead of the row's own number.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    sessions: Option<u64>,
    /// Sessions at once, instead of the row's own number.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    at_once: Option<u32>,
    /// Connections beside the active session, instead of the row's own number: idle or slow ones.
    #[arg(long, value_parser = clap::value_parser!(u32).range(8..=1_000_000))]
    connections: Option<u32>,
    /// Leave out Debian's servers, and the goals that are held against them.
    #[arg(long)]
    without_peers: bool,
    /// Another build of Backstop, to be measured in the same pairs.
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// Instead: system calls a session, of the floor and of Backstop (strace).
    #[arg(long, conflicts_with_all = ["instructions", "json", "against"])]
    trace: bool,
    /// Instead: instructions of Backstop's own code a session (callgrind), beside what is on record of them.
    #[arg(long, conflicts_with = "dev")]
    instructions: bool,
    /// With --instructions: put them on record, from which they may not grow by more than a tenth.
    #[arg(long, requires = "instructions")]
    record: bool,
    /// Hold the idle connections in an emulated guest, which has room for 100,000 of them: `idle_clear` and `idle_tls`
    /// only, no root needed (`cargo xtask setup --guest` unpacks what it boots).
    #[arg(long, conflicts_with_all = ["trace", "instructions", "against", "at_once"])]
    guest: bool,
    /// Debug builds: the figures mean nothing, but every reply is checked.
    #[arg(long)]
    dev: bool,
}

/// A row that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Chosen {
    /// What a session costs.
    Cost(Row),
    /// What is beside it.
    Beside(Beside),
}

fn chosen(name: &str) -> Result<Chosen, String> {
    let beside = Beside::ALL.into_iter().find(|row| row.name() == name);
    Row::named(name).map(Chosen::Cost).or(beside.map(Chosen::Beside)).ok_or_else(|| {
        let names = Row::ALL.map(Row::name).into_iter().chain(Beside::ALL.map(Beside::name));
        format!("one of {}", names.collect::<Vec<_>>().join(", "))
    })
}

impl Options {
    fn rows(&self) -> Vec<Row> {
        Row::ALL.into_iter().filter(|row| self.wants(Chosen::Cost(*row))).collect()
    }

    fn conditions(&self) -> Conditions {
        let build = if self.dev { "dev" } else { "release" };
        Conditions { version: env!("CARGO_PKG_VERSION"), build, pairs: self.pairs }
    }

    fn beside(&self) -> impl Iterator<Item = Beside> {
        Beside::ALL.into_iter().filter(|row| self.wants(Chosen::Beside(*row)))
    }

    fn wants(&self, row: Chosen) -> bool {
        self.only.is_empty() || self.only.contains(&row)
    }
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let begin = Instant::now();
    let tell = |line: &str| eprintln!("[{:6.1} s] {line}", begin.elapsed().as_secs_f64());
    if options.guest {
        return guest::run(options, &tell);
    }
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the lab makes network namespaces: run `cargo xtask bench smtp` as root"
    );
    let profile = if options.dev { Profile::Dev } else { Profile::Release };
    let other = options.against.as_ref().map(|path| {
        path.canonicalize().with_context(|| format!("--against {}: no such program", path.display()))
    });
    let other = other.transpose()?;
    if options.instructions || options.trace {
        let names = Row::ALL.map(Row::name).join(", ");
        ensure!(!options.rows().is_empty(), "--only: calls and instructions are counted of {names}");
    }
    tell("building backstop, the floor and the load");
    // Instructions are counted of Backstop alone: for these any load will do, and tests have built this one.
    let profile_of_load = if options.instructions { Profile::Dev } else { profile };
    let place = Place::up(Programs {
        backstop: Program::Backstop.build_aloud(profile)?,
        bench: Program::BenchSmtp.build_aloud(profile_of_load)?,
        other,
    })?;
    if options.instructions {
        return instructions::run(&place, options, &tell);
    }
    if options.trace {
        return trace::run(&place, options, &tell);
    }
    let (mut measured, mut beside) = (Vec::new(), Vec::new());
    let done = measure_all(&place, options, &tell, (&mut measured, &mut beside));
    let rows = table::rows(&measured);
    if options.json {
        done?;
        println!("{}", serde_json::to_string(&table::Object::new(options.conditions(), &rows, &beside))?);
    } else {
        // Also of a run that failed later on.
        print!("{}{}", table::render(&rows, place.cores()), beside::render(&beside));
        done?;
    }
    let of_cost = rows.iter().filter(|row| row.met == Some(false)).map(|row| row.row);
    Ok(verdict(of_cost.chain(beside.iter().filter(|row| !row.met).map(|row| row.row))))
}

/// Measures what is asked for, row by row.
fn measure_all(
    place: &Place,
    options: &Options,
    tell: &impl Fn(&str),
    (measured, beside): (&mut Vec<Measured>, &mut Vec<Figures>),
) -> Result<()> {
    for row in options.rows() {
        measured.extend(measure(place, row, options, tell).with_context(|| row.name().to_owned())?);
    }
    for row in options.beside() {
        beside.push(row.measure(place, options, tell).with_context(|| row.name().to_owned())?);
    }
    Ok(())
}

/// Names the rows that missed their goal.
fn verdict(missed: impl Iterator<Item = &'static str>) -> ExitCode {
    let rows: Vec<_> = missed.inspect(|row| eprintln!("missed: {row}")).collect();
    if rows.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Whether a program of `setup` is there, for what not every run needs.
fn ensure_program(program: &str) -> Result<()> {
    let found = std::process::Command::new(program).arg("--version").stdout(Stdio::null()).status();
    ensure!(found.is_ok_and(|status| status.success()), "no {program}: run `cargo xtask setup`");
    Ok(())
}
