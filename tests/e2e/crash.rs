//! Crashes under load: of the daemon, of the upstream. Nothing acknowledged is lost, bans stay in force.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab::mass::{Amounts, Mass, Outcome, settings};
use lab::program::Profile;
use lab::{EDGE, Host};
use load::ledger::{Fate, Record};
use load::plan::Kind;

/// A flood small enough for a test, with wanted mail all through it.
fn amounts() -> Amounts {
    Amounts {
        forged: 4000,
        forged_real_server: 0,
        reflectors: 20,
        bots: 60,
        knocks_per_sec: 500,
        honest: 200,
        honest_before: 20,
        real_bounces: 30,
        before_secs: 3,
        waves: 2,
        wave_secs: 8,
        wave_every_secs: 10,
        ..Amounts::default()
    }
}

/// In the middle of the first wave, by the load's clock.
const MIDDLE_SECS: f64 = 7.0;

#[test]
fn a_killed_daemon_leaves_its_bans_in_force_and_loses_nothing_it_acknowledged() -> Result<()> {
    // Bans that outlast the daemon's absence.
    let settings = settings().set("reputation.ban_first_secs", 120).set("reputation.ban_max_secs", 240);
    let mut mass = Mass::up("kill9", amounts(), &settings, Profile::Release)?;
    let mut flood = mass.start()?;
    flood.wait_until(MIDDLE_SECS)?;
    let deadline = Instant::now() + Duration::from_secs(60);
    let banned = loop {
        let banned = bans(&mass)?;
        if !banned.is_empty() {
            break banned;
        }
        assert!(Instant::now() < deadline, "nobody was banned in the flood");
    };

    mass.edge.kill9()?;
    let bot = banned.first().context("a ban")?.parse().context("a banned address")?;
    let unknown = lab::client(0x3000);
    let knock = |from, patience| mass.lab.connect(Host::Internet, Some(from), (EDGE, 25).into(), patience);
    let (long, short) = (Duration::from_secs(60), Duration::from_secs(2));
    // Nobody listens: who is not banned is told so by a reset, who is banned hears nothing.
    assert!(is_reset(&knock(unknown, long).unwrap_err()), "a source without a ban gets no answer");
    assert!(!is_reset(&knock(bot, short).unwrap_err()), "{bot} is banned, and yet answered");
    let left = bans(&mass)?;
    assert!(banned.is_subset(&left), "bans that were forgotten: {:?}", banned.difference(&left));

    mass.edge.start_again(&mass.lab)?;
    let status = mass.edge.json(&mass.lab, &["status"])?;
    assert_eq!(status["xdp"]["adopted"], true, "the pins were not adopted: {status}");
    let adopted = bans(&mass)?;
    assert!(banned.is_subset(&adopted), "bans not adopted: {:?}", banned.difference(&adopted));
    assert!(!is_reset(&knock(bot, short).unwrap_err()), "{bot} is no longer banned after the start");

    let outcome = mass.finish(flood, &mut |line| println!("{line}"))?;
    println!("{:#?}", outcome.ledger.summary);
    no_forged_bounce_arrived(&outcome);
    // Where the daemon died between the upstream's 250 and its own, the client must try again (RFC 1047).
    let in_doubt = |record: &Record| record.in_doubt;
    wanted_mail_arrived(&outcome, &mass, in_doubt)
}

#[test]
fn an_upstream_that_is_killed_and_restarted_loses_nothing_and_gets_nothing_twice() -> Result<()> {
    let mut mass = Mass::up("upstream", amounts(), &settings(), Profile::Release)?;
    let mut flood = mass.start()?;
    flood.wait_until(MIDDLE_SECS)?;
    mass.operator.kill9()?;
    flood.wait_until(MIDDLE_SECS + 3.0)?;
    mass.operator.start_again(&mass.lab)?;
    let outcome = mass.finish(flood, &mut |line| println!("{line}"))?;
    println!("{:#?}\n{}", outcome.ledger.summary, outcome.status);
    no_forged_bounce_arrived(&outcome);
    let deferred = outcome.status["counters"]["deferred"].as_u64().unwrap_or(0);
    assert!(deferred > 0, "no message met the upstream's absence: the test is too early or too late");
    // The edge counts every message whose upstream died between the final dot and its reply.
    let counted = outcome.status["counters"]["in_doubt"].as_u64().context("no counter in_doubt")?;
    let twice = mass.taken_by_upstream()?.values().filter(|queue_ids| queue_ids.len() > 1).count();
    assert!(twice as u64 <= counted, "{twice} messages came twice, {counted} are counted as in doubt");
    wanted_mail_arrived(&outcome, &mass, |_| counted > 0)
}

fn no_forged_bounce_arrived(outcome: &Outcome) {
    let forged: Vec<_> = outcome.arrived.keys().filter(|id| id.starts_with(['f', 'p'])).collect();
    assert!(forged.is_empty(), "{} forged bounces arrived: {:?}", forged.len(), forged.first());
}

/// Every wanted message ended with 250 (so no 5xx, and nobody gave up) and is there: once, or twice at most where its
/// sender had to try again after a final dot.
fn wanted_mail_arrived(outcome: &Outcome, mass: &Mass, may_be_twice: impl Fn(&Record) -> bool) -> Result<()> {
    let taken = mass.taken_by_upstream()?;
    let wanted = || {
        outcome.ledger.messages.iter().filter(|record| matches!(record.kind, Kind::Honest | Kind::RealBounce))
    };
    assert!(wanted().any(|record| record.tries > 1), "no wanted message met the crash");
    let mut wrong: BTreeMap<&str, String> = BTreeMap::new();
    for record in wanted() {
        let times = taken.get(&record.id).map_or(0, BTreeSet::len);
        let most = if may_be_twice(record) { 2 } else { 1 };
        if record.fate != Some(Fate::Delivered) || !(1..=most).contains(&times) {
            wrong.insert(&record.id, format!("arrived {times} times: {record:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// The sources of the bans in force; without a daemon, what the kernel holds.
fn bans(mass: &Mass) -> Result<BTreeSet<String>> {
    let list = mass.edge.json(&mass.lab, &["ban", "list"])?;
    let rows = list.as_array().or_else(|| list["bans"].as_array()).context("ban list is no array")?;
    rows.iter()
        .map(|row| row["source"].as_str().map(str::to_owned).with_context(|| format!("no source in {row}")))
        .collect()
}

fn is_reset(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}
