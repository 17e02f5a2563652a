//! All seats of one worker, and the tasks that sit there.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::client::{Client, Kit};
use super::inbound::Inbound;
use super::registry::Leave;
use super::seat::{Arrival, Seat};
use super::socket::Socket;
use super::stream::Stream;
use super::upstream::kept::Kept;
use super::{Edge, locked, outbound};
use crate::telemetry::Direction;

/// Empty seats that are kept for the next sessions; the others are taken away.
const EMPTY_SEATS_MAX: usize = 256;

/// Seats among which a slow one is looked for, so that a full house costs each newcomer the same, and little.
const LOOKS: usize = 16;

/// The seats of one worker. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats {
    state: Arc<Mutex<State>>,
    all_left: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// By their numbers.
    all: Vec<Option<Arc<Seat>>>,
    /// Numbers that no seat has.
    free: Vec<usize>,
    /// The last one to become empty is the first to be taken: its memory is warm.
    empty: Vec<Arc<Seat>>,
    /// Seats that are taken.
    taken: usize,
    /// Where the next look for a slow one begins.
    looked_at: usize,
}

/// A seat that was taken for a session.
pub(super) enum Taken {
    /// Its task waits there.
    Empty(Arc<Seat>),
    /// It was made just now: who took it starts its task.
    New(Arc<Seat>),
}

impl Seats {
    /// A seat for the next session.
    pub(super) fn take(&self) -> Taken {
        let mut state = locked(&self.state);
        state.taken += 1;
        if let Some(seat) = state.empty.pop() {
            return Taken::Empty(seat);
        }
        let number = state.free.pop().unwrap_or(state.all.len());
        let seat = Seat::new(number);
        match state.all.get_mut(number) {
            Some(place) => *place = Some(Arc::clone(&seat)),
            None => state.all.push(Some(Arc::clone(&seat))),
        }
        Taken::New(seat)
    }

    /// No session came to it after all.
    pub(super) fn give_back(&self, seat: Arc<Seat>) {
        let mut state = locked(&self.state);
        state.taken -= 1;
        state.empty.push(seat);
    }

    /// Of a few seats, others each time, the one whose session got least done in the longest wait, if that ends before
    /// `before`. `holding`: only one that holds something of a message.
    pub(super) fn slowest(&self, before: u64, holding: bool) -> Option<Arc<Seat>> {
        let mut state = locked(&self.state);
        let State { all, looked_at, .. } = &mut *state;
        let looks = LOOKS.min(all.len());
        let from = std::mem::replace(looked_at, (*looked_at + looks) % all.len().max(1));
        let seats = all.iter().cycle().skip(from).take(looks).flatten();
        seats
            .filter(|seat| seat.leave() == Leave::Stay)
            .filter_map(|seat| Some((seat.wait()?, seat)))
            .filter(|(wait, _)| wait.ends < before && (wait.holds || !holding))
            .min_by_key(|(wait, _)| wait.ends)
            .map(|(_, seat)| Arc::clone(seat))
    }

    /// The epoll set has news of these seats: number, and whether it is readable, writable, at its end.
    pub(super) fn report(&self, news: impl Iterator<Item = (usize, [bool; 3])>) {
        let state = locked(&self.state);
        for (number, [readable, writable, ended]) in news {
            if let Some(Some(seat)) = state.all.get(number) {
                seat.report(readable, writable, ended);
            }
        }
    }

    /// Asks all sessions to leave.
    pub(super) fn ask_all(&self, leave: Leave) {
        locked(&self.state).all.iter().flatten().for_each(|seat| seat.ask(leave));
    }

    /// Waits until no session is left.
    pub(super) async fn all_left(&self) {
        loop {
            let told = self.all_left.notified();
            if locked(&self.state).taken == 0 {
                return;
            }
            told.await;
        }
    }
}

/// Who sits at a seat; it is taken away when this is dropped.
struct Sitting {
    seats: Seats,
    seat: Arc<Seat>,
    taken: bool,
}

impl Sitting {
    /// The session is over. `false`: so many seats are empty that this one is not kept.
    fn rest(&mut self) -> bool {
        self.taken = false;
        let mut state = locked(&self.seats.state);
        state.taken -= 1;
        let keep = state.empty.len() < EMPTY_SEATS_MAX;
        if keep {
            state.empty.push(Arc::clone(&self.seat));
        }
        if state.taken == 0 {
            drop(state);
            self.seats.all_left.notify_waiters();
        }
        keep
    }
}

impl Drop for Sitting {
    fn drop(&mut self) {
        let mut state = locked(&self.seats.state);
        let number = self.seat.number();
        state.all[number] = None;
        state.free.push(number);
        state.empty.retain(|seat| !Arc::ptr_eq(seat, &self.seat));
        if self.taken {
            state.taken -= 1;
        }
        drop(state);
        self.seats.all_left.notify_waiters();
    }
}

/// The task of a seat that was taken: serves one session after the other, for as long as the seat is kept.
pub(super) async fn sit(mut edge: Arc<Edge>, kept: Arc<Kept>, seats: Seats, seat: Arc<Seat>) {
    let mut sitting = Sitting { seats, seat, taken: true };
    let mut kit = Kit::new(Arc::clone(&edge.pool));
    loop {
        let Arrival { socket, peer, direction, ticket } = sitting.seat.arrival().await;
        sitting.taken = true;
        let client = Client::new(Stream::clear(Socket::Seated(socket)), peer, ticket, kit);
        match direction {
            Direction::Inbound => {
                let mut session = Inbound::new(edge, client, Arc::clone(&kept));
                session.serve().await;
                let begun;
                (edge, kit, begun) = session.into_parts();
                if let Some(upstream) = begun {
                    Box::pin(kept.give_back_begun(&edge, upstream)).await;
                }
            }
            Direction::Outbound => {
                // Rare beside the others: so it has its memory only while it lasts.
                Box::pin(outbound::run(Arc::clone(&edge), client, Arc::clone(&kept))).await;
                kit = Kit::new(Arc::clone(&edge.pool));
            }
        }
        if !sitting.rest() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::engine::seat::Wait;

    fn number(taken: &Taken) -> (usize, bool) {
        match taken {
            Taken::Empty(seat) => (seat.number(), false),
            Taken::New(seat) => (seat.number(), true),
        }
    }

    #[test]
    fn an_empty_seat_is_taken_before_a_new_one_is_made() {
        let seats = Seats::default();
        let (first, second) = (seats.take(), seats.take());
        assert_eq!((number(&first), number(&second)), ((0, true), (1, true)));
        let (Taken::New(seat) | Taken::Empty(seat)) = first;
        seats.give_back(seat);
        assert_eq!(number(&seats.take()), (0, false));
    }

    #[test]
    fn the_longest_wait_among_a_few_is_found_and_others_are_looked_at_next() {
        let seats = Seats::default();
        let taken: Vec<_> = (0..LOOKS as u64 + 2)
            .map(|number| {
                let (Taken::New(seat) | Taken::Empty(seat)) = seats.take();
                seat.set_wait(Some(Wait { ends: 1000 - number, holds: number % 2 == 0 }));
                seat
            })
            .collect();
        let found = |before, holding| seats.slowest(before, holding).map(|seat| seat.number());
        // Each time the look goes on where the last one ended: the last two, and the first fourteen.
        assert_eq!(found(1000, false), Some(LOOKS - 1));
        assert_eq!(found(1000, false), Some(LOOKS + 1));
        assert_eq!(found(1000 - LOOKS as u64 - 1, false), None, "none waits that long");
        taken.iter().for_each(|seat| seat.set_wait(None));
        taken[6].set_wait(Some(Wait { ends: 7, holds: true }));
        taken[7].set_wait(Some(Wait { ends: 5, holds: false }));
        let twice = |holding| found(1000, holding).or_else(|| found(1000, holding));
        assert_eq!((twice(true), twice(false)), (Some(6), Some(7)));
        taken[7].ask(Leave::MakeRoom);
        assert_eq!(twice(false), Some(6), "the other one was asked already");
        assert_eq!(Seats::default().slowest(9, false).map(|seat| seat.number()), None);
    }

    #[test]
    fn no_more_empty_seats_are_kept_than_may_be_and_their_numbers_come_again() {
        let seats = Seats::default();
        let mut sitting: Vec<_> = (0..EMPTY_SEATS_MAX + 10)
            .map(|_| match seats.take() {
                Taken::New(seat) | Taken::Empty(seat) => Sitting { seats: seats.clone(), seat, taken: true },
            })
            .collect();
        let kept: Vec<bool> = sitting.iter_mut().map(Sitting::rest).collect();
        assert_eq!(kept.iter().filter(|kept| **kept).count(), EMPTY_SEATS_MAX);
        drop(sitting);
        let state = locked(&seats.state);
        assert_eq!((state.taken, state.empty.len(), state.free.len()), (0, 0, EMPTY_SEATS_MAX + 10));
        drop(state);
        assert!(number(&seats.take()).0 < EMPTY_SEATS_MAX + 10, "a number is used again");
    }
}
