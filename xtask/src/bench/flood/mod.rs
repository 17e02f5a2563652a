//! `cargo xtask bench flood`: what honest mail feels of a flood of forged bounces.
//!
//! Honest mail comes at a steady rate, calm first, then under so many times as many forged bounces, in waves; the same
//! messages at the same times to each subject. What is honest is sent by a process of its own, before all others on the
//! load's core: what its clock shows is the servers' time, not the load's. `benches/README.md` says more.

mod figures;
mod picture;
mod play;
mod subject;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use lab::mass::Amounts;
use lab::program::{Profile, Program};
use serde::{Deserialize, Serialize};

use self::figures::Figures;
use self::subject::Subject;
use super::cores;

/// So long after the last wave reflecting servers give up what they still have, and honest ones theirs.
const FLOOD_ENDS_AFTER_SECS: u32 = 15;
const HONEST_ENDS_AFTER_SECS: u32 = 75;

/// `bench flood`
#[derive(Args)]
pub(crate) struct Options {
    /// Only these subjects.
    #[arg(long, value_parser = subject)]
    only: Vec<Subject>,
    /// End with one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Draw latency over time into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Measure nothing: take what `--json` wrote into this file before.
    #[arg(long, value_name = "FILE", conflicts_with = "only")]
    from: Option<PathBuf>,
    /// Length of a wave, in seconds; the calm before the first is as long as all together.
    #[arg(long, default_value_t = 12, value_parser = bounded(120))]
    seconds: u32,
    /// Before the calm, in seconds: every honest source is seen once, and waits six seconds where it meets postscreen.
    #[arg(long, default_value_t = 20, value_parser = bounded(120))]
    warm_up_secs: u32,
    /// Waves.
    #[arg(long, default_value_t = 3, value_parser = bounded(10))]
    waves: u32,
    /// Honest messages a second.
    #[arg(long, default_value_t = 20, value_parser = bounded(1000))]
    rate: u32,
    /// Forged bounces for each honest message, in a wave.
    #[arg(long, default_value_t = 30, value_parser = bounded(1000))]
    times: u32,
    /// Servers that reflect them, an address each.
    #[arg(long, default_value_t = 240, value_parser = bounded(2000))]
    reflectors: u32,
    /// Bots besides, an address each; 0: none.
    #[arg(long, default_value_t = 36)]
    bots: u32,
    /// SYNs a second of the bots that knock.
    #[arg(long, default_value_t = 4000)]
    knocks_per_sec: u32,
    /// Debug builds: the figures mean little, but each message is followed.
    #[arg(long)]
    dev: bool,
}

fn bounded(most: u64) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=most)
}

fn subject(name: &str) -> Result<Subject, String> {
    let names = || Subject::ALL.map(Subject::name).join(", ");
    Subject::ALL.into_iter().find(|one| one.name() == name).ok_or_else(|| format!("one of {}", names()))
}

/// When is what, in seconds; and how much.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Schedule {
    /// Before the calm; nothing of it counts but that it arrives.
    warm_up_secs: u32,
    calm_secs: u32,
    waves: u32,
    wave_secs: u32,
    /// Between two waves.
    gap_secs: u32,
    /// Honest messages a second.
    honest_per_sec: u32,
    /// Forged bounces a second, in a wave.
    forged_per_sec: u32,
    reflectors: u32,
    bots: u32,
    knocks_per_sec: u32,
}

impl Schedule {
    fn of(options: &Options) -> Self {
        Self {
            warm_up_secs: options.warm_up_secs,
            calm_secs: options.seconds * options.waves,
            waves: options.waves,
            wave_secs: options.seconds,
            gap_secs: options.seconds.div_ceil(3),
            honest_per_sec: options.rate,
            forged_per_sec: options.rate * options.times,
            reflectors: options.reflectors,
            bots: options.bots,
            knocks_per_sec: options.knocks_per_sec,
        }
    }

    const fn before_secs(&self) -> u32 {
        self.warm_up_secs + self.calm_secs
    }

    /// From the first wave's begin to the last one's end.
    const fn flood_secs(&self) -> u32 {
        self.waves * (self.wave_secs + self.gap_secs) - self.gap_secs
    }

    /// When each wave begins and ends, from the calm's begin.
    pub(super) fn waves(&self) -> impl Iterator<Item = (f64, f64)> {
        let (calm, wave, every) = (self.calm_secs, self.wave_secs, self.wave_secs + self.gap_secs);
        (0..self.waves).map(move |n| (f64::from(calm + n * every), f64::from(calm + n * every + wave)))
    }

    /// What honest servers send, and what others do.
    fn amounts(&self) -> (Amounts, Amounts) {
        let all = Amounts {
            reflectors: self.reflectors,
            waves: self.waves,
            wave_secs: self.wave_secs,
            wave_every_secs: self.wave_secs + self.gap_secs,
            before_secs: self.before_secs(),
            forged_real_server: 0,
            ..Amounts::default()
        };
        let ends = self.before_secs() + self.flood_secs();
        let honest = Amounts {
            honest: self.honest_per_sec * self.flood_secs(),
            honest_before: self.honest_per_sec * self.before_secs(),
            forged: 0,
            bots: 0,
            knocks_per_sec: 0,
            deadline_secs: ends + HONEST_ENDS_AFTER_SECS,
            ..all.clone()
        };
        let flood = Amounts {
            forged: self.forged_per_sec * self.wave_secs * self.waves,
            bots: self.bots,
            knocks_per_sec: self.knocks_per_sec,
            honest: 0,
            honest_before: 0,
            real_bounces: 0,
            deadline_secs: ends + FLOOD_ENDS_AFTER_SECS,
            ..all
        };
        (honest, flood)
    }
}

/// What `--json` ends with.
#[derive(Serialize, Deserialize)]
pub(super) struct Object {
    bench: String,
    schedule: Schedule,
    rows: Vec<Figures>,
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    // Said before minutes are spent on it.
    if let Some(folder) =
        options.svg.as_deref().and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty())
    {
        ensure!(folder.is_dir(), "--svg: there is no folder {} to write to", folder.display());
    }
    let object = match &options.from {
        None => measure(options)?,
        Some(file) => {
            let written = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
            serde_json::from_slice(&written)
                .with_context(|| format!("{} is not what `bench flood --json` writes", file.display()))?
        }
    };
    if options.json {
        println!("{}", serde_json::to_string(&object)?);
    } else {
        print!("{}", table::render(&object));
    }
    if let Some(file) = &options.svg {
        std::fs::write(file, picture::draw(&object)).with_context(|| format!("write {}", file.display()))?;
    }
    let missed: Vec<_> = object.rows.iter().filter(|row| row.met == Some(false)).collect();
    for row in &missed {
        eprintln!("missed: {}", row.subject);
    }
    Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn measure(options: &Options) -> Result<Object> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the lab makes network namespaces and attaches an XDP program: run `cargo xtask bench flood` as root"
    );
    let begin = Instant::now();
    let tell = |line: &str| eprintln!("[{:6.1} s] {line}", begin.elapsed().as_secs_f64());
    let profile = if options.dev { Profile::Dev } else { Profile::Release };
    tell("building backstop and the load");
    Program::Backstop.build_aloud(profile)?;
    let load = Program::Load.build_aloud(profile)?;
    let schedule = Schedule::of(options);
    let (servers, last) = cores::all_and_last()?;
    cores::hold_this_thread_to(last)?;
    let mut rows = Vec::new();
    for subject in Subject::ALL {
        if options.only.is_empty() || options.only.contains(&subject) {
            tell(&format!("{}: {}", subject.name(), subject.what()));
            let place = subject.up(profile, &servers).context(subject.name())?;
            let played = play::play(place, &schedule, &load, last, &tell).context(subject.name())?;
            rows.push(Figures::of(subject, &schedule, &played));
        }
    }
    Ok(Object { bench: "flood".to_owned(), schedule, rows })
}
