//! The mass: a flood of forged bounces is stopped, honest mail does not feel it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use lab::mass::{Amounts, FLOOD_UNPROVEN_MAX, Mass, Outcome, UNPROVEN_BURST, settings};
use lab::program::Profile;
use load::plan::Kind;

/// Tries of a hundred forged bounces: one each; the few more are for connections that budgets delayed.
const TRIES_PER_100_FORGED_MAX: u64 = 105;
/// Half of the bots meet silence this soon, in milliseconds: the slowest habit is to hold connections until the edge's
/// patience (3 s here) is over.
const SHUT_OUT_P50_MS_MAX: u64 = 10_000;

#[test]
fn a_flood_of_forged_bounces_is_stopped_and_honest_mail_does_not_feel_it() -> Result<()> {
    let amounts = Amounts::default();
    let mut mass = Mass::up("mass", amounts.clone(), &settings(), Profile::Release)?;
    let began = std::time::Instant::now();
    let outcome = mass.play(&mut |line| println!("[{:5.1}] {line}", began.elapsed().as_secs_f64()))?;
    println!("{:#?}", outcome.ledger.summary);
    println!("{:#?}\n{}", outcome.real_reflector, outcome.status);

    wanted_mail_arrives_exactly_once(&outcome);
    no_forged_bounce_arrives(&outcome);
    a_forged_bounce_costs_one_try(&outcome, &amounts);
    the_bots_end_at_the_nic(&outcome, &amounts);
    who_reflects_most_is_slowed(&outcome);
    no_reflector_is_banned(&outcome);
    Ok(())
}

fn wanted_mail_arrives_exactly_once(outcome: &Outcome) {
    let summary = &outcome.ledger.summary;
    for (name, sum) in [("honest", summary.honest), ("real bounces", summary.real_bounces)] {
        assert_eq!((sum.unsent, sum.given_up), (0, 0), "{name}: {sum:?}");
        assert_eq!(sum.sent, sum.delivered, "{name}: {sum:?}");
    }
    let wrong: BTreeMap<_, _> = outcome
        .ledger
        .messages
        .iter()
        .filter(|record| matches!(record.kind, Kind::Honest | Kind::RealBounce))
        .map(|record| (&record.id, outcome.arrived.get(&record.id).copied().unwrap_or(0)))
        .filter(|(_, times)| *times != 1)
        .collect();
    assert!(wrong.is_empty(), "arrived not once but so often: {wrong:?}");
}

fn no_forged_bounce_arrives(outcome: &Outcome) {
    let forged: Vec<_> = outcome.arrived.keys().filter(|id| id.starts_with(['f', 'p'])).collect();
    assert!(forged.is_empty(), "{} forged bounces arrived: {:?}", forged.len(), forged.first());
    assert_eq!(outcome.ledger.summary.forged.delivered, 0);
    assert_eq!(outcome.ledger.summary.bots.delivered, 0);
    assert_eq!(outcome.real_reflector.taken, 0);
}

fn a_forged_bounce_costs_one_try(outcome: &Outcome, amounts: &Amounts) {
    let forged = outcome.ledger.summary.forged;
    assert_eq!(forged.sent, u64::from(amounts.forged));
    assert_eq!((forged.stopped_smtp, forged.given_up), (forged.sent, 0), "every queue is empty: {forged:?}");
    let real = outcome.real_reflector;
    assert_eq!(real.refused, u64::from(amounts.forged_real_server));
    let (tries, sent) = (forged.tries + real.refused + real.deferred, forged.sent + real.refused);
    assert!(
        tries * 100 <= sent * TRIES_PER_100_FORGED_MAX,
        "{tries} tries for {sent} forged bounces: {forged:?}, {real:?}"
    );
}

fn the_bots_end_at_the_nic(outcome: &Outcome, amounts: &Amounts) {
    assert_eq!(outcome.status["xdp"]["mode"], "native");
    let bots = outcome.ledger.summary.bots;
    let still_in: Vec<_> = outcome.ledger.bots.iter().filter(|bot| bot.shut_out_after_ms.is_none()).collect();
    assert!(still_in.is_empty(), "{} of {} bots never met silence: {still_in:#?}", still_in.len(), bots.bots);
    assert!(bots.shut_out_p50_ms <= SHUT_OUT_P50_MS_MAX, "{bots:?}");
    assert_eq!(bots.bots, u64::from(amounts.bots));
    // Everything that the bots sent, and the reflectors and honest hosts besides: dropped are still the most.
    let (dropped, passed) = (outcome.packets_dropped(), outcome.packets("pass"));
    assert!(dropped > passed, "{dropped} packets dropped, {passed} passed");
}

/// A server over its budget of bounces hears 421 between two of them; that each still costs one try is asserted above.
fn who_reflects_most_is_slowed(outcome: &Outcome) {
    let over: BTreeSet<_> = sources_of_more_than(outcome, UNPROVEN_BURST);
    let sent_away: BTreeSet<_> = outcome.ledger.sent_away.keys().map(ToString::to_string).collect();
    assert!(!sent_away.is_empty(), "none of {over:?} was sent away");
    assert!(
        sent_away.is_subset(&over),
        "within their budget and sent away: {:?}",
        sent_away.difference(&over)
    );
    assert!(over.len() * 3 < outcome.reflectors.len(), "most servers keep within their budget: {over:?}");
}

/// Sources of more forged bounces than so many.
fn sources_of_more_than(outcome: &Outcome, bounces: u32) -> BTreeSet<String> {
    let mut sent: BTreeMap<_, u32> = BTreeMap::new();
    for record in outcome.ledger.messages.iter().filter(|record| record.kind == Kind::Forged) {
        *sent.entry(record.source.to_string()).or_default() += 1;
    }
    sent.into_iter().filter(|(_, sent)| *sent > bounces).map(|(source, _)| source).collect()
}

/// Not those that sent wanted mail too, however much they reflect, and not the others, which reflect less: each forged bounce of theirs was refused, and that was all.
fn no_reflector_is_banned(outcome: &Outcome) {
    let wanted: BTreeSet<_> = sources_of_wanted(outcome);
    let most = sources_of_more_than(outcome, FLOOD_UNPROVEN_MAX);
    assert!(!most.is_empty(), "nobody sends so much that only its wanted mail protects it");
    assert!(most.is_subset(&wanted), "the amounts: {:?} sent no wanted mail", most.difference(&wanted));
    for source in outcome.reflectors.iter().chain(&wanted) {
        assert!(!outcome.banned.contains_key(source), "{source} was banned: {:?}", outcome.banned[source]);
    }
    let bots_banned = outcome.banned.keys().filter(|source| outcome.bots.contains(*source)).count();
    assert!(bots_banned > 0, "the log names no ban of a bot: is it read right?");
}

/// Where honest mail and real bounces came from.
fn sources_of_wanted(outcome: &Outcome) -> BTreeSet<String> {
    let wanted = |kind| matches!(kind, Kind::Honest | Kind::RealBounce);
    let wanted = outcome.ledger.messages.iter().filter(|record| wanted(record.kind));
    wanted.map(|record| record.source.to_string()).collect()
}
