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
    /// 421s for being over a budget.
    pub(super) over_budget: Strikes,
    pub(super) held_idle: Strikes,
    /// Unproven bounces in this flood.
    pub(super) flood_unproven: u32,
    pub(super) proven: u32,
    pub(super) unproven: u32,
    pub(super) wanted: u32,
    pub(super) other: u32,
    other_at: UnixMillis,
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
    }

    pub(super) fn spend(&mut self, credit: f64, half_life: Duration, now: UnixMillis) {
        self.set_credit(self.credit(half_life, now) - credit, now);
    }

    /// Other mail was accepted.
    pub(super) fn accept_other(&mut self, now: UnixMillis) {
        self.other = self.other.saturating_add(1);
        self.other_at = now;
    }

    /// Whether anything good came from it, as far as is remembered.
    pub(super) fn good_came(&self, now: UnixMillis) -> bool {
        self.proven > 0
            || self.wanted > 0
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
