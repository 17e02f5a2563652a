//! What is remembered of one source.

use std::time::Duration;

use super::budget::{Bucket, Rate, Strikes};
use crate::time::UnixMillis;

/// The most credit that a source can have: what it did long ago cannot pay for everything.
const CREDIT_MAX: f64 = 100.0;

/// How many times as wide credit can make a budget, besides the budget itself.
const WIDENING_MAX: f64 = 10.0;

/// How long other accepted mail protects a source.
const OTHER_MAIL_PROTECTS: Duration = Duration::from_secs(86_400);

/// One source.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) connections: Bucket,
    pub(super) unproven_budget: Bucket,
    pub(super) wrong_tags: Bucket,
    /// 421s for connections or wrong tags over their budget.
    pub(super) over_budget: Strikes,
    pub(super) held_idle: Strikes,
    flood_unproven: u32,
    /// The flood that `flood_unproven` counts in, by its begin.
    flood: UnixMillis,
    pub(super) proven: u32,
    pub(super) unproven: u32,
    pub(super) wanted: u32,
    pub(super) other: u32,
    other_at: UnixMillis,
    /// The last proven bounce or wanted message.
    earned_at: Option<UnixMillis>,
    credit: f64,
    credit_at: UnixMillis,
}

impl Record {
    /// Credit at `now`.
    pub(super) fn credit(&self, half_life: Duration, now: UnixMillis) -> f64 {
        let half_lives = now.since(self.credit_at).as_secs_f64() / half_life.as_secs_f64().max(1.0);
        self.credit * (-half_lives).exp2()
    }

    pub(super) fn earn(&mut self, credit: f64, half_life: Duration, now: UnixMillis) {
        self.set_credit(self.credit(half_life, now) + credit, now);
        self.earned_at = Some(now);
    }

    pub(super) fn spend(&mut self, credit: f64, half_life: Duration, now: UnixMillis) {
        self.set_credit(self.credit(half_life, now) - credit, now);
    }

    /// Other mail was accepted.
    pub(super) fn accept_other(&mut self, now: UnixMillis) {
        self.other = self.other.saturating_add(1);
        self.other_at = now;
    }

    /// An unproven bounce in the flood that began then. Says how many there were in it: what came in an earlier flood
    /// is over with it.
    pub(super) fn unproven_in_flood(&mut self, flood: UnixMillis) -> u32 {
        if self.flood != flood {
            (self.flood, self.flood_unproven) = (flood, 0);
        }
        self.flood_unproven = self.flood_unproven.saturating_add(1);
        self.flood_unproven
    }

    /// A ban followed: the flood's count begins anew.
    pub(super) fn forget_flood(&mut self) {
        self.flood_unproven = 0;
    }

    /// Whether a proven bounce or wanted mail came within the half-life of credit. It ages as credit does, or one
    /// proof would protect for ever.
    pub(super) fn earned_lately(&self, half_life: Duration, now: UnixMillis) -> bool {
        self.earned_at.is_some_and(|at| now.since(at) < half_life)
    }

    /// Whether anything good came from it lately, other accepted mail too.
    pub(super) fn good_came(&self, half_life: Duration, now: UnixMillis) -> bool {
        self.earned_lately(half_life, now)
            || (self.other > 0 && now.since(self.other_at) < OTHER_MAIL_PROTECTS)
    }

    /// A budget, widened by credit.
    pub(super) fn widened(&self, rate: Rate, half_life: Duration, now: UnixMillis) -> Rate {
        rate.widened(1.0 + self.credit(half_life, now).min(WIDENING_MAX))
    }

    fn set_credit(&mut self, credit: f64, now: UnixMillis) {
        self.credit = credit.clamp(0.0, CREDIT_MAX);
        self.credit_at = now;
    }
}
