//! Who sends what when: made whole from the seed before the first packet, so that two runs send the same.

use std::net::IpAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A bounce that answers mail which the domain never sent.
    Forged,
    /// A bounce that answers the domain's own mail: it returns a signed original.
    RealBounce,
    /// Wanted mail with a sender.
    Honest,
    /// A forged original, given to a real server that will bounce it.
    Original,
}

impl Kind {
    /// The letter that a message's id begins with.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Forged => 'f',
            Self::RealBounce => 'r',
            Self::Honest => 'h',
            Self::Original => 'p',
        }
    }
}

/// Before the flood, or during it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The measure of a quiet day.
    Before,
    /// Within the waves.
    During,
}

/// Consecutive source addresses, one for each host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Sources {
    /// The first.
    pub first: IpAddr,
    /// How many.
    pub count: u32,
}

impl Sources {
    /// The address of host `index`, which wraps at `count`.
    #[must_use]
    pub fn address(&self, index: u32) -> IpAddr {
        let offset = index % self.count.max(1);
        match self.first {
            IpAddr::V4(v4) => IpAddr::V4((v4.to_bits().wrapping_add(offset)).into()),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits().wrapping_add(offset.into())).into()),
        }
    }

    /// Every address.
    pub fn all(&self) -> impl Iterator<Item = IpAddr> {
        (0..self.count).map(|index| self.address(index))
    }
}

/// How much of everything.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Amounts {
    /// Makes everything.
    pub seed: u64,
    /// Forged bounces in all waves.
    pub forged: u32,
    /// Waves.
    pub waves: u32,
    /// How long a wave lasts.
    pub wave: Duration,
    /// From one wave's begin to the next one's.
    pub wave_every: Duration,
    /// Honest messages during the waves.
    pub honest: u32,
    /// Honest messages before the first wave.
    pub honest_before: u32,
    /// How long the quiet before the first wave lasts.
    pub before: Duration,
    /// Real bounces: one for each signed original.
    pub real_bounces: u32,
}

impl Amounts {
    /// When the last wave is over.
    #[must_use]
    pub fn last_wave_ends(&self) -> Duration {
        self.before + self.wave_every * self.waves.saturating_sub(1) + self.wave
    }
}

/// One message that will be sent.
#[derive(Clone, PartialEq, Debug)]
pub struct Planned {
    /// What it is.
    pub kind: Kind,
    /// Its number among its kind.
    pub number: u32,
    /// Before or during the flood.
    pub phase: Phase,
    /// Where it comes from.
    pub source: IpAddr,
    /// When it enters its server's queue, from the begin.
    pub due: Duration,
}

/// The id of a message: it stands in the message's header, and is counted where the message arrives.
#[must_use]
pub fn id(kind: Kind, number: u32, seed: u64) -> String {
    format!("{}{number:06}.{seed}", kind.letter())
}

/// A generator for one purpose: the same seed and purpose make the same numbers, whatever else was drawn.
#[must_use]
pub fn rng(seed: u64, purpose: &str) -> StdRng {
    // FNV-1a: a stable mix is all that is asked; std's hasher may change between versions.
    let mixed = purpose.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    });
    StdRng::seed_from_u64(mixed)
}

/// All messages, in the order they are due.
///
/// Reflectors are of different sizes, as organisations are: the largest makes about four times what the smallest
/// does. Every fourth honest message comes from one of the first quarter of the reflectors, real bounces from any.
#[must_use]
pub fn plan(amounts: &Amounts, reflectors: Sources, hosts: Sources) -> Vec<Planned> {
    let mut rng = rng(amounts.seed, "plan");
    let mut planned = Vec::new();
    let weights: Vec<u32> = (0..reflectors.count).map(|_| rng.random_range(50..=200)).collect();
    let total: u32 = weights.iter().sum();
    let waves = amounts.waves.max(1);
    for number in 0..amounts.forged {
        let wave =
            u32::try_from(u64::from(number) * u64::from(waves) / u64::from(amounts.forged)).unwrap_or(0);
        planned.push(Planned {
            kind: Kind::Forged,
            number,
            phase: Phase::During,
            source: reflectors.address(pick(&weights, rng.random_range(0..total.max(1)))),
            due: amounts.before + amounts.wave_every * wave + amounts.wave.mul_f64(rng.random()),
        });
    }
    let flood = amounts.last_wave_ends().saturating_sub(amounts.before);
    for number in 0..amounts.real_bounces {
        planned.push(Planned {
            kind: Kind::RealBounce,
            number,
            phase: Phase::During,
            source: reflectors.address(rng.random_range(0..reflectors.count.max(1))),
            due: amounts.before + flood.mul_f64(rng.random()),
        });
    }
    let quarter = Sources { first: reflectors.first, count: reflectors.count.div_ceil(4) };
    for number in 0..amounts.honest_before + amounts.honest {
        let (phase, start, within, place, of) = match number.checked_sub(amounts.honest_before) {
            None => (Phase::Before, Duration::ZERO, amounts.before, number, amounts.honest_before),
            Some(place) => (Phase::During, amounts.before, flood, place, amounts.honest),
        };
        let source = if number % 4 == 0 && quarter.count > 0 {
            quarter.address(number / 4)
        } else {
            hosts.address(number)
        };
        let due = start + within.mul_f64(f64::from(place) / f64::from(of));
        planned.push(Planned { kind: Kind::Honest, number, phase, source, due });
    }
    planned.sort_by_key(|message| (message.due, message.kind, message.number));
    planned
}

/// The place that `at` of the weights' sum falls in.
fn pick(weights: &[u32], mut at: u32) -> u32 {
    for (place, weight) in (0..).zip(weights) {
        match at.checked_sub(*weight) {
            Some(rest) => at = rest,
            None => return place,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMOUNTS: Amounts = Amounts {
        seed: 7,
        forged: 2000,
        waves: 3,
        wave: Duration::from_secs(8),
        wave_every: Duration::from_secs(14),
        honest: 20,
        honest_before: 10,
        before: Duration::from_secs(5),
        real_bounces: 5,
    };

    fn sources(last: u8, count: u32) -> Sources {
        Sources { first: IpAddr::from([127, 0, last, 1]), count }
    }

    #[test]
    fn the_same_seed_makes_the_same_plan_and_another_seed_another() {
        let made = |seed| plan(&Amounts { seed, ..AMOUNTS }, sources(1, 40), sources(2, 20));
        assert_eq!(made(7), made(7));
        assert_ne!(made(7), made(8));
    }

    #[test]
    fn every_message_is_planned_within_its_phase() {
        let planned = plan(&AMOUNTS, sources(1, 40), sources(2, 20));
        let count = |kind| planned.iter().filter(|message| message.kind == kind).count();
        assert_eq!((count(Kind::Forged), count(Kind::RealBounce), count(Kind::Honest)), (2000, 5, 30));
        for message in &planned {
            match message.phase {
                Phase::Before => assert!(message.due < AMOUNTS.before),
                Phase::During => {
                    assert!((AMOUNTS.before..=AMOUNTS.last_wave_ends()).contains(&message.due));
                }
            }
        }
    }

    #[test]
    fn waves_have_quiet_between_them() {
        let planned = plan(&AMOUNTS, sources(1, 40), sources(2, 20));
        let quiet = AMOUNTS.before + AMOUNTS.wave..AMOUNTS.before + AMOUNTS.wave_every;
        assert!(!planned.iter().any(|m| m.kind == Kind::Forged && quiet.contains(&m.due)));
    }

    #[test]
    fn every_reflector_has_its_share() {
        let planned = plan(&AMOUNTS, sources(1, 40), sources(2, 20));
        for address in sources(1, 40).all() {
            let share = planned.iter().filter(|m| m.kind == Kind::Forged && m.source == address).count();
            assert!((10..=150).contains(&share), "{address} has {share}");
        }
    }
}
