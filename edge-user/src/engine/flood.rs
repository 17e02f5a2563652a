//! Whether a flood is on, as all workers see it.
//!
//! Each worker tells the detector of unproven bounces in batches: at once where none came for a while, otherwise when
//! some time has passed or a number has come. Before a message is judged, what this worker has not told yet is told.
//! No session waits for the detector: while somebody else has it, what is to be told is told the next time, and every
//! second all that is left.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::utils::CachePadded;
use edge_core::incident::{Detector, Limits, State};
use edge_core::time::UnixMillis;

use super::{Edge, locked, locked_if_free};
use crate::telemetry::Event;
use crate::telemetry::shard::{self, SHARDS};

/// Unproven bounces that are told together at most.
const BATCH_MAX: u32 = 64;
/// And how long the first of them waits at most.
const BATCH_MS: u64 = 10;

/// The detector, and what it was not told yet.
#[derive(Debug)]
pub(super) struct Flood {
    detector: Mutex<Detector>,
    /// Of each worker.
    untold: [CachePadded<Untold>; SHARDS],
    /// When the flood began that is on, in milliseconds since 1970; 0: there is none.
    since: CachePadded<AtomicU64>,
    /// Unproven bounces before it.
    unproven_before: AtomicU64,
}

#[derive(Debug, Default)]
struct Untold {
    count: AtomicU32,
    /// When this worker told last, in milliseconds since 1970.
    told_at: AtomicU64,
}

impl Flood {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            detector: Mutex::new(Detector::new(limits)),
            untold: std::array::from_fn(|_| CachePadded::default()),
            since: CachePadded::default(),
            unproven_before: AtomicU64::new(0),
        }
    }

    /// Holds the detector, as whoever tells it does.
    #[cfg(test)]
    pub(super) fn hold(&self) -> std::sync::MutexGuard<'_, Detector> {
        locked(&self.detector)
    }

    fn here(&self) -> &Untold {
        &self.untold[shard::here()]
    }

    /// All that nobody told yet.
    fn take_untold(&self) -> u32 {
        self.untold.iter().map(|untold| untold.count.swap(0, Ordering::Relaxed)).fold(0, u32::saturating_add)
    }
}

impl Edge {
    /// Whether a flood is on, with all that came up to now.
    #[must_use]
    pub fn flood_on(&self) -> bool {
        self.flood_state().is_flood()
    }

    /// The same, and since when.
    pub fn flood_state(&self) -> State {
        let mut detector = locked(&self.flood.detector);
        self.tell_flood(&mut detector, self.flood.take_untold());
        detector.state(self.now())
    }

    /// When the flood began that is on.
    pub(crate) fn in_flood_since(&self) -> Option<UnixMillis> {
        Some(self.flood.since.load(Ordering::Relaxed)).filter(|since| *since != 0).map(UnixMillis)
    }

    /// An unproven bounce came: the detector counts it.
    pub(crate) fn unproven_came(&self, now: UnixMillis) {
        let untold = self.flood.here();
        let count = untold.count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let told_at = untold.told_at.load(Ordering::Relaxed);
        // A clock that went backwards tells at once, too.
        if count >= BATCH_MAX || now.0.wrapping_sub(told_at) >= BATCH_MS {
            let Some(mut detector) = locked_if_free(&self.flood.detector) else { return };
            untold.told_at.store(now.0, Ordering::Relaxed);
            self.tell_flood(&mut detector, untold.count.swap(0, Ordering::Relaxed));
        }
    }

    /// What this worker has not told is told before somebody judges by it; where another worker tells just now, it waits
    /// for the next time rather than for that one.
    pub(crate) fn flood_heard(&self) {
        let untold = self.flood.here();
        if untold.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let Some(mut detector) = locked_if_free(&self.flood.detector) else { return };
        self.tell_flood(&mut detector, untold.count.swap(0, Ordering::Relaxed));
    }

    /// Keeps the shared flag as the detector says, and logs when it turns. The detector stays locked meanwhile: of two
    /// threads, the one that heard the older state must not write it over the newer.
    fn tell_flood(&self, detector: &mut Detector, unproven: u32) {
        let now = self.now();
        let state = if unproven == 0 { detector.state(now) } else { detector.unproven(unproven, now) };
        let since = match state {
            State::Calm => 0,
            State::Flood { since } => since.0.max(1),
        };
        let before = self.flood.since.load(Ordering::Relaxed);
        if before == since {
            return;
        }
        self.flood.since.store(since, Ordering::Relaxed);
        let unproven = self.metrics.unproven.get();
        match (before, since) {
            (0, _) => {
                self.flood.unproven_before.store(unproven, Ordering::Relaxed);
                self.log.event(Event::FloodBegin { unproven });
            }
            (_, 0) => {
                let secs = now.since(UnixMillis(before)).as_secs();
                let unproven = unproven.saturating_sub(self.flood.unproven_before.load(Ordering::Relaxed));
                self.log.event(Event::FloodEnd { secs, unproven });
            }
            (_, _) => {}
        }
    }
}

/// A flood also ends when nothing comes any more.
pub(super) async fn watch(edge: Arc<Edge>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        edge.flood_state();
    }
}
