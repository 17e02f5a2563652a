//! What is known of a source: from SMTP events to credit, throttling and bans. Pure: time is passed in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::source::Source;
use crate::time::UnixMillis;

/// The bounds and rates of a [`Reputation`].
#[derive(Clone, PartialEq, Debug)]
pub struct Limits {
    /// Sources without credit that are remembered; the longest unseen make room.
    pub newcomers_max: usize,
    /// Sources with credit that are remembered; newcomers never push them out.
    pub credited_max: usize,
    /// Connections a source may make: tokens a second.
    pub connections_per_sec: f64,
    /// Connections at once before the rate counts.
    pub connections_burst: f64,
    /// Unproven bounces a source may send: tokens a second.
    pub unproven_per_sec: f64,
    /// Unproven bounces before the rate counts.
    pub unproven_burst: f64,
    /// Refusals over budget (421) within a minute after which the source is banned.
    pub over_budget_strikes: u32,
    /// The first ban.
    pub ban_first: Duration,
    /// The longest ban; each doubles the one before.
    pub ban_max: Duration,
    /// The longest ban for nothing but unproven bounces during a flood.
    pub ban_flood_max: Duration,
    /// Unproven bounces during a flood, nothing else and no credit, after which the source is banned.
    pub flood_unproven_max: u32,
    /// How fast credit halves.
    pub credit_half_life: Duration,
}

/// What happened with a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// It sent a bounce that was proven and delivered.
    ProvenBounce,
    /// Mail from a domain that our users wrote to was accepted.
    CorrespondentMail,
    /// Other mail was accepted by the upstream.
    OtherMail,
    /// It sent a bounce that nothing proved.
    UnprovenBounce,
    /// It speaks no SMTP.
    NotSmtp,
    /// It wrote to a trap.
    Trap,
    /// It held a connection without a whole command until it timed out.
    HeldIdle,
    /// It guessed at a tag and was wrong.
    WrongTag,
}

/// What to do with the source now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Go on.
    Go,
    /// Over a budget: 421 and close.
    OverBudget,
    /// Banned: 421 and close; the ban's order is waiting in [`Reputation::orders`].
    Banned,
}

/// Why a source is banned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Again and again over its budget.
    OverBudget,
    /// Speaks no SMTP.
    NotSmtp,
    /// Hit a trap.
    Trap,
    /// Nothing but unproven bounces in a flood.
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

/// What a source looks like from inside, for `ban explain`.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation {
    /// Who.
    pub source: Source,
    /// The ban in force, if any.
    pub ban: Option<Ban>,
    /// Credit at this time.
    pub credit: f64,
    /// How often it was banned within memory.
    pub bans_before: u32,
    /// Proven bounces seen.
    pub proven: u64,
    /// Unproven bounces seen.
    pub unproven: u64,
    /// Wanted mail seen.
    pub wanted: u64,
    /// Tokens left in its connection budget.
    pub connections_left: f64,
    /// Tokens left in its budget of unproven bounces.
    pub unproven_left: f64,
    /// Why it cannot be banned: it lies in a `never_ban` prefix.
    pub never_ban: bool,
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

/// All sources.
#[derive(Debug)]
pub struct Reputation {}

impl Reputation {
    /// Nobody is known yet.
    #[must_use]
    pub fn new(_limits: Limits, _never_ban: Vec<ipnet::IpNet>) -> Self {
        todo!()
    }

    /// A connection arrives.
    pub fn connect(&mut self, _source: Source, _now: UnixMillis) -> Answer {
        todo!()
    }

    /// Something happened with a source.
    pub fn observe(&mut self, _source: Source, _event: Event, _flood: bool, _now: UnixMillis) -> Answer {
        todo!()
    }

    /// The operator bans a source.
    ///
    /// # Errors
    /// It lies in a never-ban prefix.
    pub fn ban(&mut self, _source: Source, _until: UnixMillis, _cause: Cause) -> Result<(), BanRefused> {
        todo!()
    }

    /// The operator lifts a ban. `false`: there was none.
    pub fn unban(&mut self, _source: Source, _now: UnixMillis) -> bool {
        todo!()
    }

    /// The bans decided since the last call, each once: to be written to the kernel.
    pub fn orders(&mut self) -> Vec<Ban> {
        todo!()
    }

    /// All bans in force.
    #[must_use]
    pub fn bans(&self, _now: UnixMillis) -> Vec<Ban> {
        todo!()
    }

    /// What is known of a source.
    #[must_use]
    pub fn explain(&self, _source: Source, _now: UnixMillis) -> Explanation {
        todo!()
    }
}
