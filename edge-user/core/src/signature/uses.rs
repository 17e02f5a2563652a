//! How often each token was used: a bounded table whose entries expire.

use super::{Nonce, Token};
use crate::time::UnixMillis;

/// The counts of uses.
#[derive(Debug)]
pub struct Uses {}

/// The answer to a reservation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reservation {
    /// One use is reserved: commit or release it.
    Reserved,
    /// The token was used as often as it may be.
    Overused,
}

impl Uses {
    /// A table of at most `entries_max` tokens; the oldest make room.
    #[must_use]
    pub fn new(_entries_max: usize) -> Self {
        todo!()
    }

    /// Reserves a use at the proof.
    pub fn reserve(&mut self, _token: &Token, _now: UnixMillis) -> Reservation {
        todo!()
    }

    /// The upstream said 2xx: the use counts.
    pub fn commit(&mut self, _nonce: &Nonce) {
        todo!()
    }

    /// The message did not arrive: the use does not count.
    pub fn release(&mut self, _nonce: &Nonce) {
        todo!()
    }
}
