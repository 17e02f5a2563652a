//! The flood against one subject: two processes of load that begin together, and what everybody saw.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench_smtp::cpu;
use lab::mass::{banned, originals, recipients};
use lab::{Host, Process};
use load::ledger::{Fate, Report, unix_time};
use load::message::arrivals;

use super::Schedule;
use super::subject::Place;

/// From the loads' start to their common begin: they make their plans meanwhile.
const START: Duration = Duration::from_secs(3);
/// How often CPU time is read.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long what was taken may be on its way to a mailbox, and for how long nothing more may come then.
const SETTLE: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_millis(1500);
/// The honest senders' priority (SCHED_FIFO): above all that is not real-time. They need little.
const PRIORITY: &str = "10";

/// What everybody saw.
pub(super) struct Played {
    /// The honest senders' ledger.
    pub(super) honest: Report,
    /// The others'.
    pub(super) flood: Report,
    /// When each message came into a mailbox, in microseconds since 1970: once for each time.
    pub(super) arrived: BTreeMap<String, Vec<u64>>,
    /// CPU time so far, at times from the loads' begin.
    pub(super) cpu: Vec<Used>,
    /// `backstop status --json`, where there is an edge.
    pub(super) status: Option<serde_json::Value>,
    /// Sources that were banned.
    pub(super) banned: usize,
}

/// CPU time so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    /// When, from the loads' begin, in seconds.
    pub(super) at: f64,
    /// Of the edge, where there is one, and of Postfix.
    pub(super) servers: Duration,
    /// Of the load.
    pub(super) load: Duration,
}

/// Plays it to its end.
pub(super) fn play(
    mut place: Place,
    schedule: &Schedule,
    load: &Path,
    core: usize,
    tell: &impl Fn(&str),
) -> Result<Played> {
    let (honest, flood) = schedule.amounts();
    let signed = originals(honest.real_bounces, |sender, original| match &place.edge {
        Some(edge) => edge.sign(&place.lab, sender, original),
        None => Ok(original.to_owned()),
    })?;
    place.lab.write("load/originals", signed)?;
    let begin = unix_time() + START;
    let start = |name: &str, outer: &[&str], amounts: &lab::mass::Amounts, own: &[&str]| {
        let load = load.to_str().context("the target folder's path is not UTF-8")?;
        let core = core.to_string();
        let mut argv: Vec<_> =
            ["taskset", "-c", &core].iter().chain(outer).map(ToString::to_string).collect();
        argv.extend([load.to_owned(), "mass".to_owned()]);
        argv.extend(amounts.schedule());
        argv.extend(amounts.load(place.target()));
        argv.extend([
            format!("--begin-at={}", begin.as_millis()),
            format!("--ledger=/run/lab/load/{name}.json"),
            "--connect-secs=30".to_owned(),
            "--reply-secs=60".to_owned(),
        ]);
        argv.extend(own.iter().map(ToString::to_string));
        let argv: Vec<_> = argv.iter().map(String::as_str).collect();
        place.lab.spawn(name, Host::Internet, &argv)
    };
    let own = ["--real-bounces=/run/lab/load/originals"];
    let mut loads =
        [start("honest", &["chrt", "--fifo", PRIORITY], &honest, &own)?, start("flood", &[], &flood, &[])?];
    let cpu = watch(&place, &mut loads, begin, tell)?;
    for load in &mut loads {
        let status = load.wait(Duration::from_secs(1))?;
        ensure!(status.success(), "the load failed ({status}):\n{}", load.tail(20));
    }
    let (honest, flood) = (report(&place, "honest")?, report(&place, "flood")?);
    tell("waiting for the last deliveries");
    let arrived = arrived(&place, &honest)?;
    let (status, banned) = match &mut place.edge {
        None => (None, 0),
        Some(edge) => {
            ensure!(
                edge.process().count("panicked at") == 0,
                "the edge panicked:\n{}",
                edge.process().tail(40)
            );
            (Some(edge.json(&place.lab, &["status"])?), banned(&edge.process().lines()).len())
        }
    };
    Ok(Played { honest, flood, arrived, cpu, status, banned })
}

/// Reads CPU time until the loads have ended, which they do by themselves at their deadline.
fn watch(
    place: &Place,
    loads: &mut [Process; 2],
    begin: Duration,
    tell: &impl Fn(&str),
) -> Result<Vec<Used>> {
    let mut cpu = Vec::new();
    let mut told = 0;
    let mut servers = Duration::ZERO;
    let mut load = [Duration::ZERO; 2];
    while loads.iter_mut().any(Process::is_running) {
        std::thread::sleep(LOOK_EVERY);
        let Some(at) = unix_time().checked_sub(begin) else { continue };
        servers = place.servers().iter().map(|pid| cpu::of_tree(*pid)).sum::<Result<_>>().unwrap_or(servers);
        for (last, process) in load.iter_mut().zip(loads.iter()) {
            // What has ended keeps what it had.
            *last = cpu::of_tree(process.pid()).unwrap_or(*last);
        }
        cpu.push(Used { at: at.as_secs_f64(), servers, load: load.iter().sum() });
        if at.as_secs() / 10 > told {
            told = at.as_secs() / 10;
            for load in loads.iter_mut().filter_map(|load| load.is_running().then_some(load)) {
                tell(&load.tail(1));
            }
        }
    }
    Ok(cpu)
}

fn report(place: &Place, name: &str) -> Result<Report> {
    let file = place.lab.path(format!("load/{name}.json"));
    let written = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&written).with_context(|| format!("the ledger {}", file.display()))
}

/// Reads the mailboxes until all that was taken of honest servers is there, and for a while nothing more came. What is
/// missing then is missing.
fn arrived(place: &Place, honest: &Report) -> Result<BTreeMap<String, Vec<u64>>> {
    let taken: BTreeSet<&str> = honest
        .messages
        .iter()
        .filter(|record| record.fate == Some(Fate::Delivered))
        .map(|record| record.id.as_str())
        .collect();
    let deadline = Instant::now() + SETTLE;
    let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
    let mut arrived: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut last_came = Instant::now();
    loop {
        for recipient in recipients() {
            for file in place.operator.mailbox(&recipient).files()? {
                if seen.contains(&file) {
                    continue;
                }
                let read = || anyhow::Ok((std::fs::metadata(&file)?, std::fs::read(&file)?));
                let (metadata, message) = read().with_context(|| format!("read {}", file.display()))?;
                // The last change of the file itself is its way from `tmp` to `new`.
                let at = u64::try_from(metadata.ctime() * 1_000_000 + metadata.ctime_nsec() / 1000)?;
                for id in arrivals(&message).into_keys() {
                    if id.starts_with(['h', 'r']) {
                        last_came = Instant::now();
                    }
                    arrived.entry(id).or_default().push(at);
                }
                seen.insert(file);
            }
        }
        let complete = taken.iter().all(|id| arrived.contains_key(*id));
        if (complete && last_came.elapsed() > QUIET) || Instant::now() > deadline {
            return Ok(arrived);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
