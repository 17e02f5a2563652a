//! The bounds and rates, all of them configuration.

use std::time::Duration;

/// The bounds and rates of a [`Reputation`](super::Reputation).
#[derive(Clone, PartialEq, Debug)]
pub struct Limits {
    /// Sources without credit that are remembered; the longest unseen make room.
    pub newcomers_max: usize,
    /// Sources with credit that are remembered; newcomers never push them out.
    pub credited_max: usize,
    /// Bans that are remembered, in force or over; those that end first make room. The operator's own have as much
    /// room for themselves.
    pub bans_max: usize,
    /// Connections a source may make: tokens a second.
    pub connections_per_sec: f64,
    /// Connections at once before the rate counts.
    pub connections_burst: f64,
    /// Unproven bounces a source may send: tokens a second.
    pub unproven_per_sec: f64,
    /// Unproven bounces before the rate counts.
    pub unproven_burst: f64,
    /// 421s for connections or wrong tags over their budget, within a minute, after which the source is banned.
    pub over_budget_strikes: u32,
    /// The first ban.
    pub ban_first: Duration,
    /// The longest ban; each doubles the one before.
    pub ban_max: Duration,
    /// The longest ban for nothing but unproven bounces during a flood.
    pub ban_flood_max: Duration,
    /// Unproven bounces during one flood, and nothing good lately, after which the source is banned.
    pub flood_unproven_max: u32,
    /// How fast credit halves, and for how long what earned it protects from bans.
    pub credit_half_life: Duration,
}
