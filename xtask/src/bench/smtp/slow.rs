//! `slow`: more slow senders than there are places, and honest sessions beside them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bench_smtp::row::Row;
use bench_smtp::slow::{Plan, Slow};

use super::Options;
use super::beside::{Beside, Figures, Sessions, Turns};
use super::subject::{Place, SLOW_FIRST, SLOW_SOURCES, Subject};

/// Slow senders; as many places as there are by default are fewer.
const SENDERS: usize = 10_000;
/// Honest sessions each time, and at once: mail of 4 KB that is passed on.
const SESSIONS: u64 = 1000;
const AT_ONCE: u32 = 4;
/// By when all places must be taken.
const BEGIN: Duration = Duration::from_secs(60);
/// How long the slow ones go on before honest ones are measured beside them.
const GO_ON: Duration = Duration::from_secs(2);
/// So many times as long as without the slow ones an honest session may take: the median, and its 99th percentile.
const MEDIAN_MAX: f64 = 1.5;
const P99_MAX: f64 = 2.0;

/// Measures.
pub(super) fn measure(place: &Place, options: &Options, tell: &impl Fn(&str)) -> Result<Figures> {
    let senders = options.connections.map_or(SENDERS, |count| count as usize);
    // As many of them as by default, where it is not less that is tried.
    let places = senders * 8192 / SENDERS;
    let config = format!("[limits]\nsessions_max = {places}\n");
    let (mut server, mut calm) =
        (place.start_with(Subject::Backstop, &config)?, place.start_with(Subject::Calm, &config)?);
    let sessions =
        Sessions { row: Row::Proxied4k, each: options.sessions.unwrap_or(SESSIONS), at_once: AT_ONCE };
    sessions.warm_up(place)?;
    tell(&format!("slow: {senders} slow senders for {places} places"));
    let target = Subject::Backstop.address();
    let sources = (SLOW_FIRST.parse().context("an address")?, SLOW_SOURCES);
    let slow = place.on_last_core(|| Slow::begin(Plan { target, senders, sources }))?;
    wait_until_there(&slow, places)?;
    tell(&format!("slow: {} times {} sessions beside them and alone", options.pairs, sessions.each));
    let mut turns = Turns::default();
    let (mut there, mut failed) = (usize::MAX, None);
    for _ in 0..options.pairs {
        slow.rest(true);
        turns.alone(place, &sessions)?;
        slow.rest(false);
        std::thread::sleep(GO_ON);
        if let Err(error) = turns.beside(place, &sessions) {
            failed = Some(error);
            break;
        }
        there = there.min(slow.greeted());
    }
    let ended = slow.ended();
    ensure!(server.process().is_running() && calm.process().is_running(), "a server ended meanwhile");
    slow.end()?;
    if let Some(error) = &failed {
        tell(&format!("slow: an honest session was not answered as it must be: {error:#}"));
    }
    let goal = format!("100 % answered, median <= {MEDIAN_MAX}, p99 <= {P99_MAX} alone");
    let counted = BTreeMap::from([("places", places as f64), ("slow ones sent away", ended as f64)]);
    let (row, subject, connections) = (Beside::Slow.name(), Subject::Backstop.name(), there.min(senders));
    let (value, unit) = (if failed.is_some() { 0.0 } else { 100.0 }, "% of honest answered");
    if failed.is_some() {
        let (median, p99, met) = (None, None, false);
        return Ok(Figures { row, subject, value, unit, connections, counted, median, p99, goal, met });
    }
    let [median, p99] = turns.latencies()?;
    let met = median.ratio <= MEDIAN_MAX && p99.ratio <= P99_MAX;
    let (median, p99) = (Some(median), Some(p99));
    Ok(Figures { row, subject, value, unit, connections, counted, median, p99, goal, met })
}

/// Waits until the slow ones have nearly all places.
fn wait_until_there(slow: &Slow, places: usize) -> Result<()> {
    let deadline = Instant::now() + BEGIN;
    while slow.greeted() < places * 8 / 10 {
        if Instant::now() > deadline {
            bail!("{} slow senders were greeted, and there are {places} places", slow.greeted());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
