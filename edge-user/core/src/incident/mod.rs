//! Floods: a wave of unproven bounces well above the baseline.

use std::time::Duration;

use crate::time::UnixMillis;

/// When a flood begins and ends.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// A flood has at least this many unproven bounces within `window`.
    pub unproven_min: u32,
    /// And at least this many times the baseline's.
    pub factor: f64,
    /// The time over which unproven bounces are counted.
    pub window: Duration,
    /// How long it must be calm before a flood is over.
    pub calm_after: Duration,
}

/// Watches the rate of unproven bounces.
#[derive(Debug)]
pub struct Detector {}

/// What the detector says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// No flood.
    Calm,
    /// A flood, since when.
    Flood {
        /// When it was noticed.
        since: UnixMillis,
    },
}

impl Detector {
    /// Calm at first.
    #[must_use]
    pub fn new(_limits: Limits) -> Self {
        todo!()
    }

    /// `count` unproven bounces came.
    pub fn unproven(&mut self, _count: u32, _now: UnixMillis) -> State {
        todo!()
    }

    /// The state at `now`.
    pub fn state(&mut self, _now: UnixMillis) -> State {
        todo!()
    }
}
