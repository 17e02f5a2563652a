//! Sources judged over time. Their lives as data are in `lives`; here is what takes several sources, or is counted.

mod lives;

use std::time::Duration;

use proptest::prelude::*;

use super::{Answer, Ban, BanRefused, Cause, Event, Limits, Reputation};
use crate::source::Source;
use crate::time::UnixMillis;

const START: u64 = 1_800_000_000;

/// Small numbers: 4 connections and 5 unproven bounces at once, 1 a second; bans of 10 seconds to 80.
const LIMITS: Limits = Limits {
    newcomers_max: 100,
    credited_max: 10,
    bans_max: 50,
    connections_per_sec: 1.0,
    connections_burst: 4.0,
    unproven_per_sec: 1.0,
    unproven_burst: 5.0,
    over_budget_strikes: 3,
    ban_first: Duration::from_secs(10),
    ban_max: Duration::from_secs(80),
    ban_flood_max: Duration::from_secs(20),
    flood_unproven_max: 3,
    credit_half_life: Duration::from_secs(14 * 86_400),
};

fn at(millis: u64) -> UnixMillis {
    UnixMillis(START * 1000 + millis)
}

fn source(text: &str) -> Source {
    text.parse().expect("the tests' sources are sources")
}

fn stranger() -> Source {
    source("198.18.0.7")
}

fn reputation() -> Reputation {
    Reputation::new(LIMITS, vec!["198.19.0.0/16".parse().unwrap()])
}

/// What happens to one source at a time.
#[derive(Clone, Copy, Debug)]
enum Act {
    Connect,
    Calm(Event),
    /// In a flood.
    Flood(Event),
    /// In another flood.
    Next(Event),
}
use Act::{Calm, Connect, Flood, Next};
use Answer::{Banned, Go, OverBudget};
use Event::{CorrespondentMail, HeldIdle, NotSmtp, OtherMail, ProvenBounce, Trap, UnprovenBounce, WrongTag};

fn act(reputation: &mut Reputation, source: Source, act: Act, now: UnixMillis) -> Answer {
    match act {
        Connect => reputation.connect(source, now),
        Calm(event) => reputation.observe(source, event, None, now),
        Flood(event) => reputation.observe(source, event, Some(at(0)), now),
        Next(event) => reputation.observe(source, event, Some(at(1)), now),
    }
}

#[test]
fn who_sent_wanted_mail_is_slowed_and_never_banned_however_much_it_reflects() {
    for good in [CorrespondentMail, ProvenBounce] {
        let mut reputation = reputation();
        assert_eq!(reputation.observe(stranger(), good, None, at(0)), Go);
        let mut answers = Vec::new();
        for tick in 0..20_000 {
            answers.push(reputation.connect(stranger(), at(tick * 100)));
            answers.push(reputation.observe(stranger(), UnprovenBounce, Some(at(0)), at(tick * 100)));
        }
        assert!(!answers.contains(&Banned), "{good:?}");
        assert!(answers.contains(&OverBudget) && answers.contains(&Go), "{good:?}");
        assert_eq!(reputation.explain(stranger(), at(0)).credit, 0.0, "it is all spent");
    }
}

/// The length of the ban that one offence at `now` brings.
fn ban_secs(reputation: &mut Reputation, event: Event, now: UnixMillis) -> u64 {
    assert_eq!(reputation.observe(stranger(), event, Some(at(0)), now), Banned);
    let ban = reputation.orders().pop().expect("an order");
    ban.until.since(now).as_secs()
}

#[test]
fn bans_double_up_to_the_longest_and_one_step_is_forgotten_for_each_longest_ban_of_peace() {
    let mut reputation = reputation();
    let mut now = at(0);
    for secs in [10, 20, 40, 80, 80] {
        assert_eq!(ban_secs(&mut reputation, NotSmtp, now), secs);
        now = now.plus(Duration::from_secs(secs));
    }
    assert_eq!(reputation.explain(stranger(), now).bans_before, 5);
    // Five steps: 10 * 2^5 is far over 80. Three of them are forgotten.
    now = now.plus(Duration::from_secs(3 * 80));
    assert_eq!(ban_secs(&mut reputation, NotSmtp, now), 40);
    now = now.plus(Duration::from_secs(40 + 80 * 9));
    assert_eq!(reputation.explain(stranger(), now).bans_before, 0);
    assert_eq!(ban_secs(&mut reputation, NotSmtp, now), 10);
}

#[test]
fn a_ban_for_a_floods_bounces_is_never_longer_than_its_own_longest() {
    let mut reputation = reputation();
    let mut now = at(0);
    for secs in [10, 20, 20, 20] {
        for _ in 0..3 {
            assert_eq!(reputation.observe(stranger(), UnprovenBounce, Some(at(0)), now), Go);
        }
        assert_eq!(ban_secs(&mut reputation, UnprovenBounce, now), secs);
        now = now.plus(Duration::from_secs(secs + 10));
    }
}

#[test]
fn who_lies_in_a_never_ban_prefix_is_slowed_and_never_banned() {
    let mut reputation = reputation();
    let big = source("198.19.3.4");
    for second in 0..100 {
        for what in
            [Connect, Calm(NotSmtp), Calm(Trap), Calm(HeldIdle), Flood(UnprovenBounce), Calm(WrongTag)]
        {
            assert_ne!(act(&mut reputation, big, what, at(second * 500)), Banned, "{what:?}");
        }
    }
    assert_eq!(reputation.observe(big, NotSmtp, None, at(50_000)), OverBudget);
    let refused = reputation.ban(big, at(99_999), Cause::Operator, at(50_000));
    let prefix = "198.19.0.0/16".parse().unwrap();
    assert_eq!(refused, Err(BanRefused::NeverBan { source_: big, prefix }));
    assert_eq!((reputation.bans(at(50_000)), reputation.orders()), (vec![], vec![]));
    assert!(reputation.explain(big, at(50_000)).never_ban);
}

#[test]
fn the_operators_word_is_ordered_once_and_lifting_a_ban_forgets_the_earlier_ones() {
    let mut reputation = reputation();
    assert_eq!(ban_secs(&mut reputation, NotSmtp, at(0)), 10);
    let ban = Ban { source: stranger(), until: at(3_600_000), cause: Cause::Operator };
    assert_eq!(reputation.ban(ban.source, ban.until, ban.cause, at(1)), Ok(()));
    assert_eq!(reputation.orders(), [ban]);
    assert_eq!(reputation.bans(at(2)), [ban]);
    assert_eq!(reputation.explain(stranger(), at(2)).ban, Some(ban));
    assert!(reputation.unban(stranger(), at(3)));
    assert!(!reputation.unban(stranger(), at(3)));
    assert_eq!(reputation.connect(stranger(), at(4)), Go);
    assert_eq!(ban_secs(&mut reputation, NotSmtp, at(5)), 10, "the first ban again");
}

#[test]
fn a_ban_that_is_lifted_before_it_was_written_is_not_ordered() {
    let mut reputation = reputation();
    reputation.observe(stranger(), NotSmtp, None, at(0));
    assert!(reputation.unban(stranger(), at(1)));
    assert_eq!(reputation.orders(), []);
}

#[test]
fn an_adopted_ban_is_in_force_and_not_ordered_again() {
    let mut reputation = reputation();
    let ban = Ban { source: stranger(), until: at(5000), cause: Cause::Trap };
    assert_eq!(reputation.restore(ban, at(0)), Ok(()));
    assert_eq!(reputation.ban(source("198.18.0.8"), at(5000), Cause::Adopted, at(0)), Ok(()));
    assert_eq!(reputation.orders(), []);
    assert_eq!(reputation.connect(stranger(), at(4999)), Banned);
    assert_eq!(reputation.connect(source("198.18.0.8"), at(4999)), Banned);
    assert_eq!(reputation.connect(stranger(), at(5000)), Go);
    assert_eq!(ban_secs(&mut reputation, NotSmtp, at(5001)), 20, "it counts as one before");
}

#[test]
fn all_addresses_of_an_ipv6_network_of_64_bits_share_their_budgets_and_bans() {
    let mut reputation = reputation();
    for host in 1..=4 {
        assert_eq!(reputation.connect(source(&format!("2001:2:0:9::{host}")), at(0)), Go);
    }
    assert_eq!(reputation.connect(source("2001:2:0:9::5"), at(0)), OverBudget);
    assert_eq!(reputation.connect(source("2001:2:0:a::5"), at(0)), Go, "the next network has its own");
    reputation.observe(source("2001:2:0:9::6"), NotSmtp, None, at(1));
    assert_eq!(reputation.connect(source("2001:2:0:9::7"), at(1)), Banned);
}

fn nth(n: u32) -> Source {
    std::net::IpAddr::from(std::net::Ipv4Addr::from_bits((198 << 24) + (18 << 16) + n)).into()
}

#[test]
fn newcomers_never_push_out_a_source_with_credit_nor_a_ban() {
    let mut reputation = reputation();
    reputation.observe(stranger(), CorrespondentMail, None, at(0));
    reputation.observe(source("203.0.113.9"), NotSmtp, None, at(0));
    for n in 100..60_000 {
        reputation.connect(nth(n), at(1));
    }
    assert_eq!(reputation.explain(stranger(), at(1)).wanted, 1);
    assert_eq!(reputation.connect(source("203.0.113.9"), at(1)), Banned);
    assert_eq!(reputation.sizes().newcomers, LIMITS.newcomers_max);
}

#[test]
fn who_earned_a_little_at_many_addresses_pushes_nobody_out_who_earned_much() {
    let mut reputation = reputation();
    for n in 0..10 {
        for _ in 0..5 {
            reputation.observe(nth(n), CorrespondentMail, None, at(0));
        }
    }
    for n in 1000..1090 {
        reputation.observe(nth(n), CorrespondentMail, None, at(1));
    }
    // Whoever lost its place is a newcomer now, and these push each other out.
    for n in 2000..3000 {
        reputation.connect(nth(n), at(2));
    }
    for n in 0..10 {
        assert_eq!(reputation.explain(nth(n), at(2)).wanted, 5, "source {n}");
    }
    // Who earns more than they have left takes a place, and the one that lost it is a newcomer, with its past.
    for _ in 0..6 {
        reputation.observe(nth(4000), CorrespondentMail, None, at(3));
    }
    assert_eq!(reputation.sizes().credited, LIMITS.credited_max);
    assert!((0..10).all(|n| reputation.explain(nth(n), at(4)).wanted == 5));
    for n in 5000..6000 {
        reputation.connect(nth(n), at(5));
    }
    assert_eq!(reputation.explain(nth(4000), at(6)).wanted, 6, "it stands where no newcomer reaches");
    assert_eq!((0..10).filter(|n| reputation.explain(nth(*n), at(6)).wanted == 5).count(), 9);
}

#[test]
fn the_operators_bans_outlast_any_number_of_others() {
    let mut reputation = reputation();
    for n in 0..20 {
        reputation.ban(nth(n), at(10_000), Cause::Operator, at(0)).unwrap();
    }
    for n in 1000..5000 {
        reputation.observe(nth(n), NotSmtp, None, at(1));
    }
    assert!((0..20).all(|n| reputation.explain(nth(n), at(2)).ban.is_some()));
    assert_eq!(reputation.sizes().bans, LIMITS.bans_max + 20);
    assert_eq!(reputation.bans(at(2)).len(), LIMITS.bans_max + 20);
    assert_eq!(reputation.orders().len(), LIMITS.bans_max, "the oldest orders are lost first");
}

#[derive(Clone, Copy, Debug)]
struct Happening {
    who: u32,
    what: Act,
    wait: u64,
}

fn happening() -> impl Strategy<Value = Happening> {
    let event = prop::sample::select(vec![
        ProvenBounce,
        CorrespondentMail,
        OtherMail,
        UnprovenBounce,
        UnprovenBounce,
        NotSmtp,
        Trap,
        HeldIdle,
        WrongTag,
    ]);
    let what = prop_oneof![
        Just(Connect),
        event.clone().prop_map(Calm),
        event.clone().prop_map(Flood),
        event.prop_map(Next),
    ];
    (0..12u32, what, prop_oneof![Just(0), 0..2000u64, 0..200_000u64])
        .prop_map(|(who, what, wait)| Happening { who, what, wait })
}

proptest! {
    #[test]
    fn whatever_happens_the_promises_hold(happenings in prop::collection::vec(happening(), 0..400)) {
        let credit_half_life = Duration::from_secs(300);
        let limits = Limits { newcomers_max: 6, credited_max: 4, bans_max: 5, credit_half_life, ..LIMITS };
        // Sources 0 and 1 are never banned.
        let mut reputation = Reputation::new(limits.clone(), vec!["198.18.0.0/31".parse().unwrap()]);
        let mut now = at(0);
        // When each last did something good: the bookkeeping done once more, by other means.
        let mut earned: [Option<UnixMillis>; 12] = [None; 12];
        for Happening { who, what, wait } in happenings {
            now = now.plus(Duration::from_millis(wait));
            let before = reputation.explain(nth(who), now);
            let answer = act(&mut reputation, nth(who), what, now);
            let after = reputation.explain(nth(who), now);
            let orders = reputation.orders();

            prop_assert_eq!(answer == Banned, after.ban.is_some());
            prop_assert!((0.0..=100.0).contains(&after.credit));
            if who < 2 {
                prop_assert_ne!(answer, Banned);
            }
            if before.ban.is_some() {
                prop_assert_eq!(before.ban, after.ban, "a ban in force is not changed by what comes");
                prop_assert!(orders.is_empty());
            }
            // What is forgotten of a source protects it no longer.
            let remembered = before.proven + before.wanted > 0;
            let protected = remembered
                && earned[who as usize].is_some_and(|at| now.since(at) < credit_half_life);
            let unproven = matches!(what, Calm(UnprovenBounce) | Flood(UnprovenBounce) | Next(UnprovenBounce));
            for ban in orders {
                let length = ban.until.since(now);
                prop_assert_eq!(ban.source, nth(who), "nobody is banned for what others do");
                prop_assert!(length >= limits.ban_first && length <= limits.ban_max);
                match ban.cause {
                    Cause::FloodOnly => {
                        prop_assert!(length <= limits.ban_flood_max);
                        prop_assert!(!protected && unproven && !matches!(what, Calm(_)));
                    }
                    Cause::OverBudget => prop_assert!(!protected && !unproven),
                    Cause::Trap | Cause::HeldIdle => prop_assert!(!protected && before.credit <= 0.5),
                    Cause::NotSmtp => prop_assert!(before.credit <= 0.5),
                    Cause::Operator | Cause::Adopted => prop_assert!(false, "nobody said so"),
                }
            }
            if let Calm(ProvenBounce | CorrespondentMail)
            | Flood(ProvenBounce | CorrespondentMail)
            | Next(ProvenBounce | CorrespondentMail) = what
            {
                earned[who as usize] = Some(now);
            }
            let sizes = reputation.sizes();
            prop_assert!(sizes.newcomers <= 6 && sizes.credited <= 4 && sizes.bans <= 5);
        }
    }
}
