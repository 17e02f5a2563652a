//! Lives of a source, told as data.

use super::{Act, act, at, reputation, stranger};
use crate::reputation::{Answer, Cause, Event};

use Act::{Calm, Connect, Flood, Next};
use Answer::{Banned, Go, OverBudget};
use Event::{CorrespondentMail, HeldIdle, NotSmtp, OtherMail, ProvenBounce, Trap, UnprovenBounce, WrongTag};

/// `(milliseconds, how often, what, the answer to each)`.
type Step = (u64, usize, Act, Answer);

/// Lives of a source: a name, what happens, and the causes of the bans ordered.
const LIVES: &[(&str, &[Step], &[Cause])] = &[
    (
        "who keeps within its budgets is never slowed",
        &[
            (0, 4, Connect, Go),
            (1000, 1, Connect, Go),
            (2000, 1, Connect, Go),
            (2000, 5, Calm(UnprovenBounce), Go),
        ],
        &[],
    ),
    (
        "one burst over the budget is one strike, however many connections it has",
        &[(0, 4, Connect, Go), (0, 50, Connect, OverBudget), (499, 50, Connect, OverBudget)],
        &[],
    ),
    (
        "who knocks on and on is banned, and let in when the ban is over",
        &[
            (0, 4, Connect, Go),
            (0, 1, Connect, OverBudget),
            (500, 1, Connect, OverBudget),
            (900, 1, Connect, OverBudget),
            (999, 1, Connect, OverBudget),
            (1000, 1, Connect, Go),
            (1000, 1, Connect, Banned),
            (10_999, 9, Connect, Banned),
            (11_000, 4, Connect, Go),
        ],
        &[Cause::OverBudget],
    ),
    (
        "strikes further apart than a minute are no ban",
        &[
            (0, 4, Connect, Go),
            (0, 1, Connect, OverBudget),
            (600, 1, Connect, OverBudget),
            (61_000, 4, Connect, Go),
            (61_000, 1, Connect, OverBudget),
            (61_600, 1, Connect, OverBudget),
        ],
        &[],
    ),
    (
        "over the budget of bounces is slowed for ever and never banned",
        &[
            (0, 5, Calm(UnprovenBounce), Go),
            (0, 9, Calm(UnprovenBounce), OverBudget),
            (500, 9, Calm(UnprovenBounce), OverBudget),
            (1000, 1, Calm(UnprovenBounce), Go),
            (1000, 99, Calm(UnprovenBounce), OverBudget),
            (1500, 99, Calm(UnprovenBounce), OverBudget),
        ],
        &[],
    ),
    (
        "refused bounces are no strikes for a few connections too many",
        &[
            (0, 5, Calm(UnprovenBounce), Go),
            (0, 4, Connect, Go),
            (500, 50, Calm(UnprovenBounce), OverBudget),
            (500, 1, Connect, OverBudget),
            (999, 50, Calm(UnprovenBounce), OverBudget),
            (999, 1, Connect, OverBudget),
        ],
        &[],
    ),
    (
        "wanted mail doubles the budget",
        &[
            (0, 1, Calm(CorrespondentMail), Go),
            (0, 9, Calm(UnprovenBounce), Go),
            (0, 1, Calm(UnprovenBounce), OverBudget),
        ],
        &[],
    ),
    (
        "credit widens the budget of connections",
        &[(0, 2, Calm(ProvenBounce), Go), (0, 12, Connect, Go), (0, 3, Connect, OverBudget)],
        &[],
    ),
    (
        "in a flood, nothing but unproven bounces and too many of them is a ban",
        &[
            (0, 3, Flood(UnprovenBounce), Go),
            (1, 1, Flood(UnprovenBounce), Banned),
            (2, 1, Connect, Banned),
            (10_001, 1, Connect, Go),
        ],
        &[Cause::FloodOnly],
    ),
    (
        "outside a flood the same is none, and does not count when one comes",
        &[(0, 5, Calm(UnprovenBounce), Go), (4000, 3, Flood(UnprovenBounce), Go)],
        &[],
    ),
    (
        "each flood is counted by itself",
        &[
            (0, 3, Flood(UnprovenBounce), Go),
            (9000, 3, Next(UnprovenBounce), Go),
            (9000, 1, Next(UnprovenBounce), Banned),
        ],
        &[Cause::FloodOnly],
    ),
    (
        "one proven bounce protects from it",
        &[
            (0, 3, Flood(UnprovenBounce), Go),
            (0, 1, Flood(ProvenBounce), Go),
            (9000, 5, Flood(UnprovenBounce), Go),
        ],
        &[],
    ),
    (
        "what was proven a half-life ago protects no more",
        &[
            (0, 9, Calm(ProvenBounce), Go),
            (14 * 86_400_000 - 1, 4, Flood(UnprovenBounce), Go),
            (14 * 86_400_000, 1, Flood(UnprovenBounce), Banned),
        ],
        &[Cause::FloodOnly],
    ),
    (
        "other accepted mail protects for a day, without credit",
        &[
            (0, 1, Calm(OtherMail), Go),
            (0, 5, Flood(UnprovenBounce), Go),
            (0, 1, Flood(UnprovenBounce), OverBudget),
            (86_399_000, 4, Flood(UnprovenBounce), Go),
            (86_400_000, 1, Flood(UnprovenBounce), Banned),
        ],
        &[Cause::FloodOnly],
    ),
    (
        "who speaks no SMTP is banned",
        &[(0, 1, Connect, Go), (5, 1, Calm(NotSmtp), Banned)],
        &[Cause::NotSmtp],
    ),
    (
        "who writes to a trap is banned",
        &[(0, 1, Calm(OtherMail), Go), (5, 1, Calm(Trap), Banned)],
        &[Cause::Trap],
    ),
    (
        "credit pays for what is no SMTP, once for each wanted message",
        &[
            (0, 2, Calm(CorrespondentMail), Go),
            (0, 2, Calm(NotSmtp), OverBudget),
            (0, 1, Calm(NotSmtp), Banned),
        ],
        &[Cause::NotSmtp],
    ),
    (
        "wanted mail protects from bans for traps and silence, until it is a half-life ago",
        &[
            (0, 1, Calm(CorrespondentMail), Go),
            (0, 9, Calm(Trap), OverBudget),
            (1, 2, Calm(HeldIdle), Go),
            (1, 9, Calm(HeldIdle), OverBudget),
            (14 * 86_400_000 - 1, 1, Calm(Trap), OverBudget),
            (14 * 86_400_000, 1, Calm(Trap), Banned),
        ],
        &[Cause::Trap],
    ),
    (
        "credit that halved pays for nothing",
        &[(0, 1, Calm(CorrespondentMail), Go), (14 * 86_400_000, 1, Calm(NotSmtp), Banned)],
        &[Cause::NotSmtp],
    ),
    (
        "who holds connections in silence again and again is banned",
        &[(0, 2, Calm(HeldIdle), Go), (299_999, 1, Calm(HeldIdle), Banned)],
        &[Cause::HeldIdle],
    ),
    (
        "who does so now and then is not",
        &[(0, 2, Calm(HeldIdle), Go), (300_000, 2, Calm(HeldIdle), Go), (600_000, 2, Calm(HeldIdle), Go)],
        &[],
    ),
    (
        "a hundred wrong tags are a mistake, more are guesses",
        &[
            (0, 100, Calm(WrongTag), Go),
            (0, 9, Calm(WrongTag), OverBudget),
            (500, 9, Calm(WrongTag), OverBudget),
            (1000, 1, Calm(WrongTag), Banned),
        ],
        &[Cause::OverBudget],
    ),
    (
        "what a banned source does while its sessions end is not held against it, but earns",
        &[
            (0, 1, Calm(NotSmtp), Banned),
            (1, 9, Calm(NotSmtp), Banned),
            (1, 9, Flood(UnprovenBounce), Banned),
            (1, 3, Flood(ProvenBounce), Banned),
            (10_000, 1, Connect, Go),
            (10_000, 3, Calm(Trap), OverBudget),
        ],
        &[Cause::NotSmtp],
    ),
    (
        "a clock that goes backwards opens and closes nothing",
        &[
            (60_000, 4, Connect, Go),
            (0, 1, Connect, OverBudget),
            (500, 1, Connect, OverBudget),
            (1000, 1, Connect, Go),
        ],
        &[],
    ),
];

#[test]
fn every_life_of_a_source_goes_as_it_is_told() {
    for (name, steps, bans) in LIVES {
        let mut reputation = reputation();
        for (nth, &(millis, times, what, answer)) in steps.iter().enumerate() {
            for time in 0..times {
                let given = act(&mut reputation, stranger(), what, at(millis));
                assert_eq!(given, answer, "{name}: step {nth}, {what:?}, time {time}");
            }
        }
        let ordered: Vec<Cause> = reputation.orders().iter().map(|ban| ban.cause).collect();
        assert_eq!(ordered, *bans, "{name}");
        assert!(reputation.orders().is_empty(), "{name}: an order is given once");
    }
}
