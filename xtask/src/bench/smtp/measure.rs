//! One row: its servers by turns, the CPU time of each before and after a number of sessions.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use bench_smtp::cpu;
use bench_smtp::load::Took;
use bench_smtp::row::{MAILBOXES, Row};
use lab::Host;

use super::Options;
use super::plan::{self, Goal, Plan};
use super::subject::{HONEST_PRIORITY, Place, Running, Subject, before_others};

/// One server in one row, a figure each time it was measured.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) row: Row,
    pub(super) subject: Subject,
    pub(super) goal: Goal,
    /// Its CPU time for a session, in milliseconds: seconds a thousand.
    pub(super) cost: Vec<f64>,
    /// The load's own for the same.
    pub(super) load: Vec<f64>,
    /// Sessions a second.
    pub(super) rate: Vec<f64>,
}

/// Measures a row.
pub(super) fn measure(
    place: &Place,
    row: Row,
    options: &Options,
    tell: &impl Fn(&str),
) -> Result<Vec<Measured>> {
    let mut plan = plan::of(row);
    if options.without_peers {
        plan.subjects.retain(|subject| matches!(subject, Subject::Floor | Subject::Backstop));
    }
    if options.against.is_some() {
        let behind = plan.subjects.iter().position(|subject| *subject == Subject::Backstop);
        plan.subjects.insert(behind.map_or(0, |place| place + 1), Subject::Other);
    }
    let (sessions, at_once) =
        (options.sessions.unwrap_or(plan.sessions), options.at_once.unwrap_or(plan.at_once));
    let plan = Plan { sessions, at_once, ..plan };
    let names: Vec<&str> = plan.subjects.iter().map(|subject| subject.name()).collect();
    tell(&format!(
        "{}: {} times {} sessions each of {}",
        row.name(),
        options.pairs,
        sessions,
        names.join(", ")
    ));
    let mut running = Vec::new();
    for subject in &plan.subjects {
        let server = place.start(*subject).with_context(|| subject.name())?;
        let plan = plan.clone().of(*subject);
        warm_up(place, *subject, row, &plan).with_context(|| {
            format!(
                "{} (warming up); it said:
{}
",
                subject.name(),
                place.log(*subject, &server)
            )
        })?;
        running.push((*subject, server));
    }
    let mut measured: Vec<Measured> =
        plan.subjects.iter().map(|subject| none_yet(row, *subject, plan.goal)).collect();
    for pair in 0..options.pairs {
        let mut turns: Vec<_> = running.iter().zip(&mut measured).collect();
        // What grows warmer or busier on the way favours nobody.
        if pair % 2 == 1 {
            turns.reverse();
        }
        for ((subject, server), into) in turns {
            let plan = plan.clone().of(*subject);
            once(place, *subject, server, row, &plan, into).with_context(|| {
                format!("{}; it said:\n{}\n", subject.name(), place.log(*subject, server))
            })?;
        }
    }
    for (subject, mut server) in running {
        ensure!(server.process().is_running(), "{} ended meanwhile", subject.name());
    }
    Ok(measured)
}

fn none_yet(row: Row, subject: Subject, goal: Goal) -> Measured {
    Measured { row, subject, goal, cost: Vec::new(), load: Vec::new(), rate: Vec::new() }
}

/// Each mailbox is asked for once, every table and pool has its entries, every page is touched.
pub(super) fn warm_up(place: &Place, subject: Subject, row: Row, plan: &Plan) -> Result<()> {
    let at_once = plan.at_once.min(20);
    play(place, subject, row, u64::from(MAILBOXES), at_once)?;
    play(place, subject, row, (plan.sessions / 4).max(1), plan.at_once).map(drop)
}

/// Sessions of a row, all of which went as they should.
pub(super) fn play(place: &Place, subject: Subject, row: Row, sessions: u64, at_once: u32) -> Result<Took> {
    run(place, &place.load(subject, row, sessions, at_once)?)
}

/// The same, and nothing else on the load's core keeps it waiting: for how long a session takes.
pub(super) fn play_first(
    place: &Place,
    subject: Subject,
    row: Row,
    sessions: u64,
    at_once: u32,
) -> Result<Took> {
    let load = place.load(subject, row, sessions, at_once)?;
    run(place, &[before_others(HONEST_PRIORITY), load].concat())
}

fn run(place: &Place, argv: &[String]) -> Result<Took> {
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let output = place.lab.run(Host::Edge, &argv)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    serde_json::from_slice(&output.stdout).context("the load's last line")
}

fn once(
    place: &Place,
    subject: Subject,
    server: &Running,
    row: Row,
    plan: &Plan,
    into: &mut Measured,
) -> Result<()> {
    let before = cpu::of_tree(server.pid())?;
    let took = play(place, subject, row, plan.sessions, plan.at_once)?;
    let used = cpu::of_tree(server.pid())?.saturating_sub(before);
    ensure!(took.sessions == plan.sessions, "{} of {} sessions", took.sessions, plan.sessions);
    let sessions = took.sessions as f64;
    into.cost.push(used.as_secs_f64() * 1000.0 / sessions);
    into.load.push(took.cpu_secs * 1000.0 / sessions);
    into.rate.push(sessions / took.secs);
    Ok(())
}

/// What each server of a row was measured at, by server.
pub(super) fn costs(measured: &[Measured], row: Row) -> HashMap<&'static str, &[f64]> {
    measured.iter().filter(|one| one.row == row).map(|one| (one.subject.name(), &one.cost[..])).collect()
}
