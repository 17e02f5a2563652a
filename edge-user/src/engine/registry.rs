//! The open sessions, by source: their limits, and the way to make a source's sessions end before it is banned.
//!
//! Sources are spread over stripes, each with a lock of its own that is held for a few instructions: two cores meet only
//! where both have a session of the same stripe begin or end at once. The bound on all sessions is one number.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::utils::CachePadded;
use edge_core::source::Source;
use foldhash::fast::RandomState;
use tokio::sync::Notify;

use super::clock::{Deadline, Epoch};
use super::locked;
use super::seat::{Seat, Wait};
use super::stripes::{STRIPES, Stripes};
use crate::telemetry::Direction;

/// The share of the places, one in so many, that is kept free as long as others can make room.
const SPARE_PLACES: usize = 16;

/// Lists of a source's sessions that a stripe keeps for the next source: no list is allocated for each.
const SPARE_LISTS_MAX: usize = 64;

/// What a session is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum Leave {
    /// Go on.
    Stay,
    /// End now, for others to have room; who has credit may stay.
    MakeRoom,
    /// End at the next command border.
    AtBorder,
    /// End now.
    Now,
}

impl Leave {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 4] = [Self::Stay, Self::MakeRoom, Self::AtBorder, Self::Now];
}

/// Why there is no place for a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoPlace {
    /// As many sessions as there may be.
    Full,
    /// As many sessions of this source as there may be.
    SourceFull,
}

/// All open sessions.
#[derive(Debug)]
pub struct Registry {
    stripes: Stripes<Stripe>,
    sessions: CachePadded<AtomicUsize>,
    sessions_max: usize,
    /// Places that no inbound session gets.
    outbound_reserved: usize,
    sessions_per_source_max: usize,
    /// How many wait for a source's last session to end, and what they wait with.
    awaited: AtomicUsize,
    emptied: Notify,
    /// What waits are counted from.
    epoch: Epoch,
}

#[derive(Debug, Default)]
struct Stripe {
    /// Where the sessions of each source sit; no list is empty.
    sources: HashMap<Source, Vec<Arc<Seat>>, RandomState>,
    /// Empty lists.
    spare: Vec<Vec<Arc<Seat>>>,
}

impl Registry {
    /// Nobody is here yet. `outbound_reserved` of all places, at most half, are for outbound sessions only.
    #[must_use]
    pub fn new(sessions_max: usize, outbound_reserved: usize, sessions_per_source_max: usize) -> Arc<Self> {
        Arc::new(Self {
            stripes: Stripes::new(STRIPES, |_| Stripe::default()),
            sessions: CachePadded::default(),
            sessions_max,
            outbound_reserved: outbound_reserved.min(sessions_max / 2),
            sessions_per_source_max,
            awaited: AtomicUsize::new(0),
            emptied: Notify::new(),
            epoch: Epoch::now(),
        })
    }

    /// Open sessions.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// A session begins, and will sit at `seat`.
    pub(crate) fn enter(
        self: &Arc<Self>,
        source: Source,
        direction: Direction,
        seat: &Arc<Seat>,
    ) -> Result<Ticket, NoPlace> {
        let places = self.places(direction);
        let one_more = |sessions: usize| (sessions < places).then_some(sessions + 1);
        if self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            return Err(NoPlace::Full);
        }
        let mut stripe = locked(self.stripes.of(source));
        let Stripe { sources, spare } = &mut *stripe;
        let seats = sources.entry(source).or_insert_with(|| spare.pop().unwrap_or_default());
        if seats.len() >= self.sessions_per_source_max {
            if seats.is_empty() {
                sources.remove(&source);
            }
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            return Err(NoPlace::SourceFull);
        }
        seat.begin();
        seats.push(Arc::clone(seat));
        Ok(Ticket { registry: Arc::clone(self), source, seat: Arc::clone(seat) })
    }

    /// Whether so few places are left for sessions of this direction that others should make room.
    pub(crate) fn is_crowded(&self, direction: Direction) -> bool {
        let places = self.places(direction);
        self.sessions() + (places / SPARE_PLACES).max(1) >= places
    }

    fn places(&self, direction: Direction) -> usize {
        match direction {
            Direction::Inbound => self.sessions_max - self.outbound_reserved,
            Direction::Outbound => self.sessions_max,
        }
    }

    /// A moment as [`Wait::ends`] counts it.
    pub(crate) fn millis(&self, deadline: Deadline) -> u64 {
        self.epoch.millis_to(deadline)
    }

    /// Asks all sessions of a source to leave. Whether there are any.
    pub(crate) fn ask(&self, source: Source, leave: Leave) -> bool {
        let stripe = locked(self.stripes.of(source));
        let seats = stripe.sources.get(&source).cloned().unwrap_or_default();
        // The lock is held until all are asked: none of these seats has another source's session meanwhile.
        seats.iter().for_each(|seat| seat.is_asked(leave));
        drop(stripe);
        // To wake another's session is no harm, and whoever waits for the stripe does not wait for the kernel.
        seats.iter().for_each(|seat| seat.wake());
        !seats.is_empty()
    }

    /// Waits until a source has no session.
    pub(crate) async fn gone(&self, source: Source) {
        let _waiting = Counted::among(&self.awaited);
        loop {
            let emptied = self.emptied.notified();
            if !locked(self.stripes.of(source)).sources.contains_key(&source) {
                return;
            }
            emptied.await;
        }
    }

    fn left(&self, source: Source, seat: &Arc<Seat>) {
        let mut stripe = locked(self.stripes.of(source));
        let Stripe { sources, spare } = &mut *stripe;
        if let Entry::Occupied(mut entry) = sources.entry(source) {
            let seats = entry.get_mut();
            if let Some(place) = seats.iter().position(|other| Arc::ptr_eq(other, seat)) {
                seats.swap_remove(place);
            }
            if seats.is_empty() {
                let list = entry.remove();
                if spare.len() < SPARE_LISTS_MAX {
                    spare.push(list);
                }
            }
        }
        drop(stripe);
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        if self.awaited.load(Ordering::SeqCst) > 0 {
            self.emptied.notify_waiters();
        }
    }
}

/// Counted among those who wait, for as long as it lives.
pub(super) struct Counted<'r>(&'r AtomicUsize);

impl<'r> Counted<'r> {
    pub(super) fn among(awaited: &'r AtomicUsize) -> Self {
        awaited.fetch_add(1, Ordering::SeqCst);
        Self(awaited)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A session's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    registry: Arc<Registry>,
    source: Source,
    seat: Arc<Seat>,
}

impl Ticket {
    pub(crate) fn leave(&self) -> Leave {
        self.seat.leave()
    }

    /// The session waits for its client, who has until `ends` to get anything done; meanwhile it may be asked to make room.
    pub(crate) fn waits(&self, ends: Deadline, holds: bool) {
        self.seat.set_wait(Some(Wait { ends: self.registry.millis(ends), holds }));
    }

    /// It waits no more.
    pub(crate) fn waits_no_more(&self) {
        self.seat.set_wait(None);
    }

    /// If it was asked to make room, it need not.
    pub(crate) fn stays(&self) {
        self.seat.spare();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.registry.left(self.source, &self.seat);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        text.parse().expect("a source")
    }

    #[test]
    fn places_are_bounded_in_all_and_by_source_and_come_back() {
        let registry = Registry::new(3, 0, 2);
        let (one, two) = (source("192.0.2.1"), source("192.0.2.2"));
        let first = registry.enter(one, Direction::Inbound, &Seat::new(0)).expect("a place");
        let _second = registry.enter(one, Direction::Inbound, &Seat::new(0)).expect("a place");
        assert_eq!(registry.enter(one, Direction::Inbound, &Seat::new(0)).err(), Some(NoPlace::SourceFull));
        let _third = registry.enter(two, Direction::Inbound, &Seat::new(0)).expect("a place");
        assert_eq!(registry.enter(two, Direction::Inbound, &Seat::new(0)).err(), Some(NoPlace::Full));
        drop(first);
        assert!(registry.enter(two, Direction::Inbound, &Seat::new(0)).is_ok());
    }

    #[test]
    fn strangers_do_not_get_the_places_of_the_outbound_listener() {
        let registry = Registry::new(4, 1, 9);
        let (stranger, own) = (source("192.0.2.1"), source("192.0.2.2"));
        let _held: Vec<_> = (0..3)
            .map(|_| registry.enter(stranger, Direction::Inbound, &Seat::new(0)).expect("a place"))
            .collect();
        assert_eq!(registry.enter(stranger, Direction::Inbound, &Seat::new(0)).err(), Some(NoPlace::Full));
        let last = registry.enter(own, Direction::Outbound, &Seat::new(0));
        assert!(last.is_ok());
        assert_eq!(registry.enter(own, Direction::Outbound, &Seat::new(0)).err(), Some(NoPlace::Full));
        assert!(
            Registry::new(1, 64, 9).enter(stranger, Direction::Inbound, &Seat::new(0)).is_ok(),
            "never all are reserved"
        );
    }

    #[test]
    fn a_source_is_asked_to_leave_and_others_are_not() {
        let registry = Registry::new(9, 0, 9);
        let (one, two) = (source("192.0.2.1"), source("2001:2:0:9::/64"));
        let (asked, other) = (
            registry.enter(one, Direction::Inbound, &Seat::new(0)).expect("a place"),
            registry.enter(two, Direction::Inbound, &Seat::new(0)).expect("a place"),
        );
        assert!(registry.ask(one, Leave::AtBorder));
        assert_eq!((asked.leave(), other.leave()), (Leave::AtBorder, Leave::Stay));
        drop(asked);
        assert!(!registry.ask(one, Leave::Now));
        assert_eq!(
            registry.enter(one, Direction::Inbound, &Seat::new(0)).expect("a place").leave(),
            Leave::Stay
        );
    }
}
