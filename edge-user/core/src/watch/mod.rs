//! From watching to enforcing: what was let through that enforcing would have stopped, what of it looks like ours, and
//! whether enough clean days have passed.
//!
//! In: each unproven bounce that only watching (or grace) let through, each that looks like ours, and beats while the
//! edge runs. Out: one [`Summary`]. A [`Ledger`] is bounded whatever comes, and is written as a whole; where and when is
//! the engine's concern.

mod days;
mod moment;
mod ours;
mod summary;
mod tally;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use days::{CLEAN_DAYS, DAYS_MAX, Day, Days};
pub use ours::{Evidence, Example, FINDINGS_MAX, FORWARDED_MIN, Finding, Findings, FirstSignature, Verified};
pub use summary::Summary;
pub use tally::{Row, Table, Tally};

use crate::bounce::Kind;
use crate::policy::Action;
use crate::source::Source;
use crate::time::UnixMillis;

/// Sources that have a row of their own.
pub const SOURCES_MAX: usize = 512;

/// Kinds that have one: all of them.
const KINDS_MAX: usize = 32;

/// Filters, and what they would do, that have one.
const FILTERS_MAX: usize = 64;

/// How long sources and findings are remembered that are seen no more.
const REMEMBERED: Duration = Duration::from_secs(30 * 86_400);

/// By which filter a bounce was let through, and what enforcing would have done with it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Decider {
    /// The filter's place in the configuration; none covers the recipient.
    pub filter: Option<usize>,
    /// Its memo at that time.
    pub memo: String,
    /// What it says, and grace kept it from doing. `None`: it only monitors, so nothing is chosen yet.
    pub would: Option<Action>,
}

/// One unproven bounce that only watching, or grace, let through.
#[derive(Clone, Debug)]
pub struct LetThrough {
    /// From where it came.
    pub source: Source,
    /// What it is.
    pub kind: Kind,
    /// Who let it through.
    pub decider: Decider,
}

/// Everything that is remembered of watching.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ledger {
    /// Since when.
    #[serde(with = "moment")]
    since: UnixMillis,
    /// `None`: nothing was signed yet.
    first_signature: Option<FirstSignature>,
    sources: Table<Source, SOURCES_MAX>,
    kinds: Table<Kind, KINDS_MAX>,
    deciders: Table<Decider, FILTERS_MAX>,
    findings: Findings,
    days: Days,
}

impl Ledger {
    /// Begins now, with nothing.
    #[must_use]
    pub fn begin(now: UnixMillis, first_signature: Option<FirstSignature>) -> Self {
        Self {
            since: now,
            first_signature,
            sources: Table::default(),
            kinds: Table::default(),
            deciders: Table::default(),
            findings: Findings::default(),
            days: Days::default(),
        }
    }

    /// The first signature, if there was one.
    #[must_use]
    pub fn first_signature(&self) -> Option<UnixMillis> {
        self.first_signature.map(|first| first.at)
    }

    /// Something was signed. Only the first counts, whatever the clock says later.
    pub fn signed(&mut self, now: UnixMillis) {
        self.first_signature.get_or_insert(FirstSignature { at: now, by_oldest_key: false });
    }

    /// A bounce was let through.
    pub fn let_through(&mut self, bounce: LetThrough, now: UnixMillis) {
        self.sources.note(bounce.source, now);
        self.kinds.note(bounce.kind, now);
        self.deciders.note(bounce.decider, now);
        self.days.day(now).let_through += 1;
    }

    /// So many were let through of which nobody kept what they were.
    pub fn others_let_through(&mut self, bounces: u64, now: UnixMillis) {
        self.sources.note_others(bounces);
        self.kinds.note_others(bounces);
        self.deciders.note_others(bounces);
        self.days.day(now).let_through += bounces;
    }

    /// An unproven message was looked at: nothing of it looks like ours.
    pub fn looks_foreign(&mut self, now: UnixMillis) {
        self.days.day(now).looked_at += 1;
    }

    /// An unproven message was looked at: it looks like ours.
    pub fn looks_like_ours(&mut self, evidence: Evidence, example: Example, now: UnixMillis) {
        let counts = self.findings.note(evidence, example, now);
        let day = self.days.day(now);
        day.looked_at += 1;
        day.ours += u64::from(counts);
    }

    /// It claims to be ours, and a fault of the DNS kept that from being told.
    pub fn unclear(&mut self, now: UnixMillis) {
        self.days.day(now).unclear += 1;
    }

    /// So many were not looked at.
    pub fn missed(&mut self, messages: u64, now: UnixMillis) {
        self.days.day(now).missed += messages;
    }

    /// The edge runs. To be called every minute or more often.
    pub fn beat(&mut self, now: UnixMillis) {
        self.days.beat(now);
        let before = now.minus(REMEMBERED);
        self.sources.forget(before);
        self.findings.forget(before);
    }
}
