//! Unproven messages that are to be looked at, on their way from the workers to the keeper's thread.
//!
//! A copy is taken when a message is judged, because what is held of it goes then. All copies together are bounded in
//! number and octets; what finds no room is not looked at, and is counted. While there is little room one source gets only
//! a share of it, so that in a flood many are looked at and not many of one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam::channel::{self, Receiver, Sender};
use edge_core::mailbox::Mailbox;
use edge_core::source::Source;

use super::super::locked;
use super::super::stripes::{STRIPES, Stripes};

/// Most samples that wait.
const SAMPLES_MAX: usize = 128;

/// Most octets of all samples, waiting or not yet settled.
const SAMPLES_BYTES_MAX: usize = 16 << 20;

/// Most samples of one source while half of all that may wait are waiting, or half of all octets are taken.
const SAMPLES_PER_SOURCE_MAX: usize = 16;

/// One message to be looked at.
#[derive(Debug)]
pub(in crate::engine) struct Sample {
    pub(super) source: IpAddr,
    pub(super) recipient: Mailbox,
    pub(super) octets: Vec<u8>,
    _place: Place,
}

/// Room for a sample, given back when it is dropped.
#[derive(Debug)]
struct Place {
    source: Source,
    octets: usize,
    taken: Arc<Taken>,
}

/// What all samples that are not dropped yet have taken.
#[derive(Debug)]
struct Taken {
    octets: AtomicUsize,
    /// Samples of each source that has any: no more than sessions that are open and samples that wait.
    by_source: Stripes<HashMap<Source, usize>>,
}

impl Default for Taken {
    fn default() -> Self {
        Self { octets: AtomicUsize::new(0), by_source: Stripes::new(STRIPES, |_| HashMap::new()) }
    }
}

impl Place {
    /// Takes it. Returned with it: octets of all, and samples of this source, before.
    fn take(taken: &Arc<Taken>, source: Source, octets: usize) -> (Self, usize, usize) {
        let before = taken.octets.fetch_add(octets, Ordering::Relaxed);
        let mut by_source = locked(taken.by_source.of(source));
        let count = by_source.entry(source).or_default();
        *count += 1;
        (Self { source, octets, taken: Arc::clone(taken) }, before, *count - 1)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.octets.fetch_sub(self.octets, Ordering::Relaxed);
        let mut by_source = locked(self.taken.by_source.of(self.source));
        if let Some(count) = by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

/// The way to the keeper.
#[derive(Debug)]
pub(super) struct Samples {
    to_keeper: Sender<Sample>,
    pub(super) waiting: Receiver<Sample>,
    taken: Arc<Taken>,
    /// Since the keeper last asked.
    missed: AtomicU64,
}

impl Samples {
    pub(super) fn new() -> Self {
        let (to_keeper, waiting) = channel::bounded(SAMPLES_MAX);
        Self { to_keeper, waiting, taken: Arc::default(), missed: AtomicU64::new(0) }
    }

    /// A copy of the message in `pieces`. `None`: there is no room for it now.
    pub(super) fn take<'p>(
        &self,
        source: IpAddr,
        recipient: &Mailbox,
        pieces: impl Iterator<Item = &'p [u8]> + Clone,
    ) -> Option<Sample> {
        if self.to_keeper.is_full() {
            return None;
        }
        let octets: usize = pieces.clone().map(<[u8]>::len).sum();
        let (place, before, of_source) = Place::take(&self.taken, Source::from(source), octets);
        let is_tight = self.are_crowded() || before >= SAMPLES_BYTES_MAX / 2;
        let has_share = !is_tight || of_source < SAMPLES_PER_SOURCE_MAX;
        (has_share && before.saturating_add(octets) <= SAMPLES_BYTES_MAX).then(|| {
            let mut copy = Vec::with_capacity(octets);
            pieces.for_each(|piece| copy.extend_from_slice(piece));
            Sample { source, recipient: recipient.clone(), octets: copy, _place: place }
        })
    }

    /// The message came to its end: the keeper is to look at its sample.
    pub(super) fn send(&self, sample: Option<Sample>) {
        if sample.is_none_or(|sample| self.to_keeper.try_send(sample).is_err()) {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether half of all that may wait are waiting.
    pub(super) fn are_crowded(&self) -> bool {
        self.to_keeper.len() >= SAMPLES_MAX / 2
    }

    /// How many found no room since it was last asked.
    pub(super) fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of a source of its own.
    fn take(samples: &Samples, octets: usize) -> Option<Sample> {
        static SOURCES: AtomicUsize = AtomicUsize::new(0);
        let [.., c, d] = SOURCES.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        from([192, 0, c, d], samples, octets)
    }

    fn from(source: [u8; 4], samples: &Samples, octets: usize) -> Option<Sample> {
        let recipient = Mailbox::parse("a@example.jp").unwrap();
        samples.take(source.into(), &recipient, [&*vec![b'x'; octets]].into_iter())
    }

    #[test]
    fn one_source_fills_half_of_the_way_and_leaves_the_rest_to_others() {
        let (samples, one, other) = (Samples::new(), [198, 51, 100, 1], [198, 51, 100, 2]);
        for _ in 0..2 * SAMPLES_MAX {
            samples.send(from(one, &samples, 1));
        }
        assert_eq!(samples.waiting.len(), SAMPLES_MAX / 2);
        assert!(samples.are_crowded());
        for _ in 0..2 * SAMPLES_MAX {
            samples.send(from(other, &samples, 1));
        }
        assert_eq!(samples.waiting.len(), SAMPLES_MAX / 2 + SAMPLES_PER_SOURCE_MAX);
        assert!(take(&samples, 1).is_some());
        samples.waiting.try_iter().for_each(drop);
        assert!(from(one, &samples, 1).is_some());
        assert!(
            samples.taken.by_source.all().all(|stripe| locked(stripe).is_empty()),
            "who has none is forgotten"
        );
        let large = take(&samples, SAMPLES_BYTES_MAX / 2).unwrap();
        let of_one: Vec<_> = (0..SAMPLES_MAX).map_while(|_| from(one, &samples, 1)).collect();
        assert_eq!(of_one.len(), SAMPLES_PER_SOURCE_MAX, "octets are tight too");
        drop(large);
        assert!(from(one, &samples, 1).is_some());
    }

    #[test]
    fn octets_and_number_are_bounded_and_what_finds_no_room_is_counted() {
        let samples = Samples::new();
        let half = take(&samples, SAMPLES_BYTES_MAX / 2).unwrap();
        let other = take(&samples, SAMPLES_BYTES_MAX / 2).unwrap();
        assert!(take(&samples, 1).is_none());
        drop(other);
        assert!(take(&samples, 1).is_some(), "room is given back");
        samples.send(Some(half));
        samples.send(None);
        for _ in 1..SAMPLES_MAX {
            samples.send(take(&samples, 1));
        }
        assert_eq!(samples.take_missed(), 1);
        assert!(take(&samples, 1).is_none(), "the way is full");
        samples.send(None);
        assert_eq!((samples.take_missed(), samples.take_missed()), (1, 0));
        samples.waiting.try_iter().for_each(drop);
        assert_eq!(samples.taken.octets.load(Ordering::Relaxed), 0);
    }
}
