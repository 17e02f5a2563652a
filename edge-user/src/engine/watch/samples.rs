//! Unproven messages that are to be looked at, on their way from the workers to the keeper's thread.
//!
//! A copy is taken when a message is judged, because what is held of it goes then. All copies together are bounded in
//! number and octets; what finds no room is not looked at, and is counted.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam::channel::{self, Receiver, Sender};
use edge_core::mailbox::Mailbox;

/// Most samples that wait.
const SAMPLES_MAX: usize = 128;

/// Most octets of all samples, waiting or not yet settled.
const SAMPLES_BYTES_MAX: usize = 16 << 20;

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
    octets: usize,
    taken: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

/// The way to the keeper.
#[derive(Debug)]
pub(super) struct Samples {
    to_keeper: Sender<Sample>,
    pub(super) waiting: Receiver<Sample>,
    taken: Arc<AtomicUsize>,
    /// Since the keeper last asked.
    missed: AtomicU64,
}

impl Samples {
    pub(super) fn new() -> Self {
        let (to_keeper, waiting) = channel::bounded(SAMPLES_MAX);
        Self { to_keeper, waiting, taken: Arc::default(), missed: AtomicU64::new(0) }
    }

    /// A copy of the message in `pieces`. `None`: there is no room for it now.
    pub(super) fn take(&self, source: IpAddr, recipient: &Mailbox, pieces: &[&[u8]]) -> Option<Sample> {
        let octets: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.to_keeper.is_full() {
            return None;
        }
        let before = self.taken.fetch_add(octets, Ordering::Relaxed);
        let place = Place { octets, taken: Arc::clone(&self.taken) };
        (before.saturating_add(octets) <= SAMPLES_BYTES_MAX).then(|| Sample {
            source,
            recipient: recipient.clone(),
            octets: pieces.concat(),
            _place: place,
        })
    }

    /// The message came to its end: the keeper is to look at its sample.
    pub(super) fn send(&self, sample: Option<Sample>) {
        if sample.is_none_or(|sample| self.to_keeper.try_send(sample).is_err()) {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many found no room since it was last asked.
    pub(super) fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(samples: &Samples, octets: usize) -> Option<Sample> {
        let recipient = Mailbox::parse("a@example.jp").unwrap();
        samples.take([192, 0, 2, 1].into(), &recipient, &[&vec![b'x'; octets]])
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
        assert_eq!(samples.taken.load(Ordering::Relaxed), 0);
    }
}
