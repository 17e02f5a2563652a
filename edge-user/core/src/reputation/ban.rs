//! Bans: one table in the daemon, each with its cause; the kernel's map is a projection of it.

use std::collections::VecDeque;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Limits;
use super::table::Table;
use crate::source::Source;
use crate::time::UnixMillis;

/// How many of the oldest entries are compared when one must make room.
const COMPARED: usize = 8;

/// Why a source is banned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Again and again over its budget of connections, or of wrong tags.
    OverBudget,
    /// Speaks no SMTP.
    NotSmtp,
    /// Hit a trap.
    Trap,
    /// Too many unproven bounces in a flood, and nothing good.
    FloodOnly,
    /// Holds connections open and says nothing.
    HeldIdle,
    /// The operator's word.
    Operator,
    /// Found in the kernel's map at start; its cause was forgotten.
    Adopted,
}

/// A ban.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ban {
    /// Who.
    pub source: Source,
    /// Until when.
    pub until: UnixMillis,
    /// Why.
    pub cause: Cause,
}

/// Why a ban cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BanRefused {
    /// The source lies in a prefix that is never banned.
    #[error("{source_} lies in the never-ban prefix {prefix}")]
    NeverBan {
        /// The source.
        source_: Source,
        /// The prefix.
        prefix: ipnet::IpNet,
    },
}

impl Cause {
    /// All causes, in the order of their numbers in the kernel's map.
    pub const ALL: [Self; 7] = [
        Self::OverBudget,
        Self::NotSmtp,
        Self::Trap,
        Self::FloodOnly,
        Self::HeldIdle,
        Self::Operator,
        Self::Adopted,
    ];

    /// Its number in the kernel's map.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The cause that a number of the kernel's map stands for; a number that nobody knows is `Adopted`.
    #[must_use]
    pub fn of_number(number: u32) -> Self {
        Self::ALL.into_iter().find(|cause| cause.number() == number).unwrap_or(Self::Adopted)
    }
}

/// A source's bans: the last one, and how often it was banned before.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// The last ban's end and cause; `None` after it was lifted.
    last: Option<(UnixMillis, Cause)>,
    /// Each step doubles the next ban.
    steps: u32,
}

impl Entry {
    fn in_force(&self, source: Source, now: UnixMillis) -> Option<Ban> {
        let (until, cause) = self.last?;
        (now < until).then_some(Ban { source, until, cause })
    }

    /// The steps still remembered: one is forgotten for each `forget` since the last ban ended.
    fn steps_left(&self, forget: Duration, now: UnixMillis) -> u32 {
        let Some((until, _)) = self.last else { return 0 };
        let forgotten = now.since(until).as_millis() / forget.as_millis().max(1);
        self.steps.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }

    /// What makes room first weighs least: what ended first or ends soonest.
    fn weight(&self) -> f64 {
        self.last.map_or(0.0, |(until, _)| until.0 as f64)
    }
}

#[derive(Debug)]
pub(super) struct Bans {
    /// What was decided here.
    entries: Table<Source, Entry>,
    /// The operator's own bans and their ends, in a table of their own: no flood of others pushes them out.
    operators: Table<Source, UnixMillis>,
    /// Decided and not yet handed out; at most `orders_max`, the oldest are lost first.
    orders: VecDeque<Ban>,
    orders_max: usize,
    never: Vec<IpNet>,
}

impl Bans {
    pub(super) fn new(entries_max: usize, never: Vec<IpNet>) -> Self {
        Self {
            entries: Table::new(entries_max),
            operators: Table::new(entries_max),
            orders: VecDeque::new(),
            orders_max: entries_max.max(1),
            never,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.operators.len()
    }

    /// The prefix for which the source can never be banned.
    pub(super) fn never_prefix(&self, source: Source) -> Option<IpNet> {
        self.never.iter().find(|prefix| overlaps(prefix, source)).copied()
    }

    /// The ban in force; where there is one of each kind, the one that ends later.
    pub(super) fn in_force(&self, source: Source, now: UnixMillis) -> Option<Ban> {
        let decided = self.entries.peek(&source).and_then(|entry| entry.in_force(source, now));
        let operators = self.operators.peek(&source).filter(|until| now < **until);
        let operators = operators.map(|&until| Ban { source, until, cause: Cause::Operator });
        decided.into_iter().chain(operators).max_by_key(|ban| ban.until)
    }

    pub(super) fn steps(&self, source: Source, limits: &Limits, now: UnixMillis) -> u32 {
        self.entries.peek(&source).map_or(0, |entry| entry.steps_left(limits.ban_max, now))
    }

    /// Bans a source for as long as its past says, at most `longest`. `None`: it can never be banned.
    pub(super) fn escalate(
        &mut self,
        source: Source,
        cause: Cause,
        longest: Duration,
        limits: &Limits,
        now: UnixMillis,
    ) -> Option<Ban> {
        self.never_prefix(source).is_none().then(|| {
            let steps = self.steps(source, limits, now);
            let doubled = limits.ban_first.saturating_mul(1 << steps.min(31));
            let ban = Ban { source, until: now.plus(doubled.min(longest)), cause };
            self.write(ban, steps.saturating_add(1));
            self.order(ban);
            ban
        })
    }

    /// Takes a ban over as it is, and orders it to be enforced.
    pub(super) fn set(&mut self, ban: Ban, limits: &Limits, now: UnixMillis) -> Result<(), BanRefused> {
        self.restore(ban, limits, now)?;
        self.order(self.in_force(ban.source, now).unwrap_or(ban));
        Ok(())
    }

    /// The same for a ban that is enforced already.
    pub(super) fn restore(&mut self, ban: Ban, limits: &Limits, now: UnixMillis) -> Result<(), BanRefused> {
        if let Some(prefix) = self.never_prefix(ban.source) {
            return Err(BanRefused::NeverBan { source_: ban.source, prefix });
        }
        match ban.cause {
            Cause::Operator => drop(self.operators.insert(ban.source, ban.until)),
            Cause::OverBudget
            | Cause::NotSmtp
            | Cause::Trap
            | Cause::FloodOnly
            | Cause::HeldIdle
            | Cause::Adopted => self.write(ban, self.steps(ban.source, limits, now).max(1)),
        }
        Ok(())
    }

    /// Lifts a ban and forgets the earlier ones.
    pub(super) fn lift(&mut self, source: Source, now: UnixMillis) -> bool {
        let was_banned = self.in_force(source, now).is_some();
        self.orders.retain(|ban| ban.source != source);
        self.entries.remove(&source);
        self.operators.remove(&source);
        was_banned
    }

    pub(super) fn has_orders(&self) -> bool {
        !self.orders.is_empty()
    }

    pub(super) fn take_orders(&mut self) -> Vec<Ban> {
        std::mem::take(&mut self.orders).into()
    }

    /// All bans in force, by source.
    pub(super) fn all_in_force(&self, now: UnixMillis) -> Vec<Ban> {
        let decided = self.entries.oldest_first().map(|(source, _)| *source);
        let operators = self.operators.oldest_first().map(|(source, _)| *source);
        let mut bans: Vec<Ban> =
            decided.chain(operators).filter_map(|source| self.in_force(source, now)).collect();
        bans.sort_by_key(|ban| ban.source);
        bans.dedup_by_key(|ban| ban.source);
        bans
    }

    fn write(&mut self, ban: Ban, steps: u32) {
        if self.entries.peek(&ban.source).is_none() && self.entries.is_full() {
            self.entries.make_room(COMPARED, f64::INFINITY, Entry::weight);
        }
        self.entries.insert(ban.source, Entry { last: Some((ban.until, ban.cause)), steps });
    }

    fn order(&mut self, ban: Ban) {
        if self.orders.len() >= self.orders_max {
            self.orders.pop_front();
        }
        self.orders.push_back(ban);
    }
}

/// Whether a ban of `source` would touch the prefix: an IPv6 source is a whole /64, so one that holds only a part of
/// the prefix does too.
fn overlaps(prefix: &IpNet, source: Source) -> bool {
    prefix.contains(&source.address()) || Source::from(prefix.network()) == source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_reads_back_from_its_number_in_the_kernel() {
        for (number, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause.number() as usize, number);
            assert_eq!(Cause::of_number(cause.number()), cause);
        }
        assert_eq!(Cause::of_number(99), Cause::Adopted);
    }

    #[test]
    fn a_prefix_inside_an_ipv6_source_keeps_the_source_from_being_banned() {
        let rows = [
            ("198.18.0.0/15", "198.19.1.1", true),
            ("198.18.0.7/32", "198.18.0.7", true),
            ("198.18.0.7/32", "198.18.0.8", false),
            ("2001:2::/48", "2001:2:0:9::/64", true),
            ("2001:2:0:9::25/128", "2001:2:0:9::/64", true),
            ("2001:2:0:9::25/128", "2001:2:0:a::/64", false),
            ("0.0.0.0/0", "2001:2::/64", false),
        ];
        for (prefix, source, touched) in rows {
            let answer = overlaps(&prefix.parse().unwrap(), source.parse().unwrap());
            assert_eq!(answer, touched, "{prefix} and {source}");
        }
    }
}
