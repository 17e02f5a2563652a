//! `cargo xtask demo`: the three cases of backscatter, played through in the lab with real mail servers.
//!
//! Progress goes to stderr while it works, the table or the JSON object to stdout at the end. The lab ends within
//! seconds of this process, however that ends, Ctrl-C and kill -9 included, and everything in it with the lab
//! ([`lab::Lab`]).
//! Exit code 1: the cases were played, but something promised does not hold; stderr names it.

mod table;

pub(crate) use self::table::number;

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use lab::cases::{self, Case};
use lab::mass::{Amounts, Mass, Outcome, settings};
use lab::mta::{Far, Software};
use lab::program::{Profile, Program};
use load::summary::Latency;
use serde::Serialize;

/// Real messages to each of the real far servers.
const EACH: u32 = 5;

/// `demo`
#[derive(Args)]
pub(crate) struct Options {
    /// End with one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// What `--json` ends with.
#[derive(Serialize)]
struct Object<'a> {
    cases: &'a [Case],
    honest_ms: HonestMillis,
    xdp_mode: &'a str,
}

#[derive(Serialize)]
struct HonestMillis {
    before: Percentiles,
    during: Percentiles,
}

#[derive(Serialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
}

impl From<Latency> for Percentiles {
    fn from(latency: Latency) -> Self {
        Self { p50: latency.p50, p99: latency.p99 }
    }
}

/// Plays the three cases.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the demo makes network namespaces and attaches an XDP program: run `cargo xtask demo` as root"
    );
    let begin = Instant::now();
    let tell = |line: &str| eprintln!("[{:6.1} s] {line}", begin.elapsed().as_secs_f64());
    tell("setting up what is missing");
    set_up()?;
    tell("building backstop and its load (release)");
    Program::Backstop.build_aloud(Profile::Release)?;
    Program::Load.build_aloud(Profile::Release)?;
    let (cases, outcome) = play(&tell)?;
    let mode = outcome.status["xdp"]["mode"].as_str().unwrap_or("none");
    if options.json {
        let honest = outcome.ledger.summary.honest_ms;
        let honest_ms = HonestMillis { before: honest.before.into(), during: honest.during.into() };
        println!("{}", serde_json::to_string(&Object { cases: &cases, honest_ms, xdp_mode: mode })?);
    } else {
        print!("{}", table::render(&cases, &outcome, mode));
    }
    let faults = faults(&cases, &outcome, mode);
    for fault in &faults {
        eprintln!("does not hold: {fault}");
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// `cargo xtask setup`, by this very program: what it prints belongs to the progress.
fn set_up() -> Result<()> {
    let own = std::env::current_exe().context("cannot find this program again")?;
    let status = Command::new(own)
        .arg("setup")
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("cannot run setup")?;
    ensure!(status.success(), "setup did not succeed ({status}): what it said stands above");
    Ok(())
}

fn play(tell: &impl Fn(&str)) -> Result<(Vec<Case>, Outcome)> {
    tell(
        "starting the lab: the operator's Postfix, the edge with XDP, far servers with Postfix, Exim, OpenSMTPD",
    );
    let mut mass = Mass::up("demo", Amounts::default(), &settings(), Profile::Release)?;
    // The mass has its real Postfix; the other two join for the first two cases.
    let others = [Software::Exim, Software::OpenSmtpd].map(|software| Far { software });
    let servers: Vec<_> =
        others.iter().map(|far| mass.lab.far(*far, lab::EDGE.into())).collect::<Result<_>>()?;
    tell("case 1: our user writes to unknown addresses; the far servers bounce");
    let mut rows = vec![cases::real_bounces(&mass, &Far::ALL, EACH)?];
    tell("case 2: a stranger writes in our user's name; the far servers bounce that to us");
    rows.push(cases::forged_bounces(&mass, &Far::ALL, EACH)?);
    drop(servers);
    tell(
        "case 3: the same in mass: 20,000 forged bounces in three waves, 400 bots, and honest mail all the while",
    );
    let outcome = mass.play(&mut |line| tell(line))?;
    rows.extend(Case::of_the_mass(&outcome));
    Ok((rows, outcome))
}

/// What was promised and does not hold.
fn faults(cases: &[Case], outcome: &Outcome, mode: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for case in cases {
        let Case { name, sent, delivered, .. } = case;
        let wanted = !name.contains("forged") && !name.contains("bots");
        if wanted && delivered != sent {
            faults.push(format!("{name}: {} of {sent} did not arrive", sent - delivered));
        }
        if !wanted && *delivered > 0 {
            faults.push(format!("{name}: {delivered} of {sent} arrived"));
        }
        if *sent == 0 {
            faults.push(format!("{name}: nothing was sent"));
        }
    }
    let not_once = outcome.arrived.values().filter(|times| **times != 1).count();
    if not_once > 0 {
        faults.push(format!("{not_once} messages arrived more than once"));
    }
    let banned = outcome.reflectors.iter().filter(|source| outcome.banned.contains_key(*source));
    faults.extend(banned.map(|source| format!("the reflecting server {source} was banned")));
    if mode != "native" {
        faults.push(format!("XDP is attached in mode {mode}, not native"));
    }
    faults
}
