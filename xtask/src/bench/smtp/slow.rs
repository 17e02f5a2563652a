//! `slow`: more slow senders than there are places, and honest sessions beside them.
//!
//! What is measured is the server, so the load keeps itself waiting nowhere: the slow senders are a process of their own,
//! spread evenly over each second; honest senders and sink come before them on the core that they share.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bench_smtp::row::Row;
use bench_smtp::slow::Told;
use lab::Process;

use super::Options;
use super::beside::{Beside, Figures, Sessions, Turns};
use super::subject::{Place, SLOW_REST, Subject};

/// Slow senders; as many places as there are by default are fewer.
const SENDERS: usize = 10_000;
/// Honest sessions each time, and at once: mail of 4 KB that is passed on. About half a second of it.
const SESSIONS: u64 = 4000;
const AT_ONCE: u32 = 4;
/// By when all places must be taken.
const BEGIN: Duration = Duration::from_secs(60);
/// Within this they look whether they are to rest, and tell how they are.
const TELL: Duration = Duration::from_millis(200);
/// How long the slow ones go on before honest ones are measured beside them.
const GO_ON: Duration = Duration::from_secs(2);
/// So many times as long as without the slow ones an honest session may take: the median, and its 99th percentile.
const MEDIAN_MAX: f64 = 1.5;
const P99_MAX: f64 = 2.0;

/// Slow senders.
struct Slow(Process);

impl Slow {
    /// How they were when they last told: a few times a second they do.
    fn told(&mut self) -> Result<Told> {
        ensure!(self.0.is_running(), "the slow senders ended: {}", self.0.tail(5));
        let last = self.0.tail(1);
        if last.is_empty() { Ok(Told::default()) } else { Ok(serde_json::from_str(&last)?) }
    }

    /// They say nothing, and keep their places; or go on.
    fn rest(place: &Place, rest: bool) -> Result<()> {
        if rest {
            place.lab.write(SLOW_REST, "")?;
        } else {
            std::fs::remove_file(place.lab.path(SLOW_REST))?;
        }
        // They look a few times a second.
        std::thread::sleep(TELL);
        Ok(())
    }
}

/// Measures.
pub(super) fn measure(place: &Place, options: &Options, tell: &impl Fn(&str)) -> Result<Figures> {
    let senders = options.connections.map_or(SENDERS, |count| count as usize);
    // As many of them as by default, where it is not less that is tried.
    let places = senders * 8192 / SENDERS;
    let reserved = senders * 64 / SENDERS;
    let config = format!("[limits]\nsessions_max = {places}\nsessions_outbound_reserved = {reserved}\n");
    let (mut server, mut calm) =
        (place.start_with(Subject::Backstop, &config)?, place.start_with(Subject::Calm, &config)?);
    place.put_sink_first(true)?;
    let sessions =
        Sessions { row: Row::Proxied4k, each: options.sessions.unwrap_or(SESSIONS), at_once: AT_ONCE };
    sessions.warm_up(place)?;
    tell(&format!("slow: {senders} slow senders for {places} places"));
    let mut slow = Slow(place.slow_senders(Subject::Backstop, senders)?);
    wait_until_there(&mut slow, places)?;
    tell(&format!("slow: {} times {} sessions beside them and alone", options.pairs, sessions.each));
    let mut turns = Turns::default();
    let (mut there, mut failed) = (usize::MAX, None);
    let (mut took, mut slow_turns) = (Duration::ZERO, 0);
    for _ in 0..options.pairs {
        Slow::rest(place, true)?;
        turns.alone(place, &sessions)?;
        Slow::rest(place, false)?;
        let (begin, before) = (Instant::now(), slow.told()?);
        std::thread::sleep(GO_ON);
        if let Err(error) = turns.beside(place, &sessions) {
            failed = Some(error);
            break;
        }
        let after = slow.told()?;
        there = there.min(after.greeted);
        (took, slow_turns) = (took + begin.elapsed(), slow_turns + (after.turns - before.turns));
    }
    let ended = slow.told()?.ended;
    ensure!(server.process().is_running() && calm.process().is_running(), "a server ended meanwhile");
    drop(slow);
    place.put_sink_first(false)?;
    if let Some(error) = &failed {
        tell(&format!("slow: an honest session was not answered as it must be: {error:#}"));
    }
    let goal = format!("100 % answered, median <= {MEDIAN_MAX}, p99 <= {P99_MAX} alone");
    let counted = BTreeMap::from([
        ("places", places as f64),
        ("slow ones sent away", ended as f64),
        ("slow ones' turns a second", slow_turns as f64 / took.as_secs_f64().max(1.0)),
    ]);
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

/// Waits until the slow ones have most places: who was just let in is not counted before its next turn.
fn wait_until_there(slow: &mut Slow, places: usize) -> Result<()> {
    let deadline = Instant::now() + BEGIN;
    loop {
        let greeted = slow.told()?.greeted;
        if greeted >= places * 6 / 10 {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{greeted} slow senders were greeted, and there are {places} places");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
