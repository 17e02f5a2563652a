//! What the operator is shown of watching, and whether it speaks for enforcing.

use serde::{Deserialize, Serialize};

use super::days::{CLEAN_DAYS, Day};
use super::{Decider, Finding, FirstSignature, Ledger, Row, moment};
use crate::bounce::Kind;
use crate::policy::Grace;
use crate::source::Source;
use crate::time::UnixMillis;

/// What watching found.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Since when it is counted.
    #[serde(with = "moment")]
    pub since: UnixMillis,
    /// The first signature; none: nothing was signed yet, and nothing can be proven.
    pub first_signature: Option<FirstSignature>,
    /// Whether unproven bounces are delivered now because mail from before the first signature can still bounce.
    pub grace: bool,
    /// Until when, where there is grace and something was signed.
    #[serde(with = "moment::option")]
    pub grace_until: Option<UnixMillis>,
    /// Unproven bounces that were let through and that enforcing would have stopped.
    pub would_be_stopped: u64,
    /// From where, the most frequent first.
    pub sources: Vec<Row<Source>>,
    /// From sources that are not listed.
    pub other_sources: u64,
    /// What they are.
    pub kinds: Vec<Row<Kind>>,
    /// By which filter, and what it would have done.
    pub filters: Vec<Row<Decider>>,
    /// What looks like ours, the strongest evidence first.
    pub ours: Vec<Finding>,
    /// Clean days since the first signature, and since the last on which something looked like ours.
    pub clean_days: u32,
    /// How many are wanted.
    pub clean_days_wanted: u32,
    /// The last days, the oldest first.
    pub days: Vec<Day>,
}

impl Ledger {
    /// What is to be shown `now`, with at most `sources_max` sources.
    #[must_use]
    pub fn summary(&self, now: UnixMillis, grace: Grace, flood: bool, sources_max: usize) -> Summary {
        let (sources, other_sources) = self.sources.top(sources_max);
        let first_signature = self.first_signature();
        let grace_until = grace.until(first_signature).filter(|_| !grace.length.is_zero());
        Summary {
            since: self.since,
            first_signature: self.first_signature,
            grace: grace.holds(first_signature, now, flood),
            grace_until,
            would_be_stopped: self.deciders.total(),
            sources,
            other_sources,
            kinds: self.kinds.top(usize::MAX).0,
            filters: self.deciders.top(usize::MAX).0,
            ours: self.findings.list(),
            clean_days: self.days.clean(first_signature, now),
            clean_days_wanted: CLEAN_DAYS,
            days: self.days.iter().copied().collect(),
        }
    }
}

impl Summary {
    /// Whether enough clean days have passed, and something was signed at all.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.first_signature.is_some() && self.clean_days >= self.clean_days_wanted
    }

    /// Unproven messages that were not looked at, and all that came, on the days that are remembered.
    #[must_use]
    pub fn missed(&self) -> (u64, u64) {
        self.days.iter().fold((0, 0), |(missed, came), day| {
            (day.missed.saturating_add(missed), day.came().saturating_add(came))
        })
    }

    /// The days, the latest first, that count neither as clean nor as anything else because too much of what came was not
    /// looked at, or could not be told.
    pub fn not_seen(&self) -> impl Iterator<Item = &Day> {
        self.days.iter().rev().filter(|day| day.ours == 0 && !day.is_seen())
    }

    /// Clean days that are still wanted.
    #[must_use]
    pub fn days_left(&self) -> u32 {
        self.clean_days_wanted.saturating_sub(self.clean_days)
    }
}
