//! What a source looks like from inside.

use super::Ban;
use crate::source::Source;

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
    /// Mail from domains that our users wrote to.
    pub wanted: u64,
    /// Other mail that the upstream accepted.
    pub other: u64,
    /// Tokens left in its connection budget.
    pub connections_left: f64,
    /// Tokens left in its budget of unproven bounces.
    pub unproven_left: f64,
    /// Why it cannot be banned: it lies in a `never_ban` prefix.
    pub never_ban: bool,
}

/// How many entries the tables hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Sources without credit.
    pub newcomers: usize,
    /// Sources with credit.
    pub credited: usize,
    /// Bans in force and remembered.
    pub bans: usize,
}
