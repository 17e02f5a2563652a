//! The streaming scanner: finds tokens in whatever comes in, in bounded memory, across buffer borders, in plain
//! parts, quoted-printable and base64.
//!
//! It does not read MIME: mail systems return the original's header in a part of its own, in running text, in HTML,
//! cut, quoted, encoded with or without saying so. So it searches the bytes as they come, in two gaits:
//!
//! - **walking**: octet by octet, with what tears a token taken off (`unwrapping`), while a needle (the magic, or what
//!   base64 makes of it) has begun or a token is being read;
//! - **leaping**, when nothing is: one vectorised search for the next place where a needle may begin, be it whole or torn
//!   (`needle`). Line ends and `=` that tear nothing are leapt over.
//!
//! So ordinary text costs what the vectorised search costs. The result does not depend on how the message is cut into
//! pieces, nor on the gait. What it leaves to others: whether a candidate is a token (its MAC says so).
//!
//! Not looked for: a token within base64 within base64, or torn by quoted-printable within base64. No system of
//! which we have a bounce writes that.

use super::candidates::Candidates;
use super::needle::{BEGINNING_BYTES_MAX, Encoding, beginning};
use super::unwrapping::Unwrapping;
use crate::signature::Candidate;

/// How many candidates of one message are handed out. A bounce holds one or two tokens of ours, and perhaps those of
/// other edges it went through; each costs its receiver a MAC.
pub const CANDIDATES_MAX: usize = 64;

/// A candidate and where it stood.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Found {
    /// The candidate.
    pub candidate: Candidate,
    /// The encoding it stood in when it was first found.
    pub encoding: Encoding,
}

/// The scanner of one message.
#[derive(Debug)]
pub struct Scanner {
    unwrapping: Unwrapping,
    candidates: Candidates,
    /// At most [`CANDIDATES_MAX`].
    handed_out: Vec<Candidate>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// A scanner at the start of a message.
    #[must_use]
    pub fn new() -> Self {
        Self { unwrapping: Unwrapping::LineStart, candidates: Candidates::new(), handed_out: Vec::new() }
    }

    /// Scans the next piece (as on the wire: dots may be stuffed, any line ends) and hands out each candidate once.
    pub fn scan(&mut self, piece: &[u8], found: &mut dyn FnMut(Found)) {
        let mut at = 0;
        while at < piece.len() {
            if self.unwrapping.may_leap() && self.candidates.calm() {
                at = leap(piece, at);
                self.unwrapping = Unwrapping::Text;
                self.candidates.leap();
            }
            if let Some(&octet) = piece.get(at) {
                self.walk(octet, found);
                at += 1;
            }
        }
    }

    /// The message is over. A candidate is handed out with its last character, so nothing is left; the scanner
    /// forgets the message and can begin another.
    pub fn finish(&mut self, _found: &mut dyn FnMut(Found)) {
        *self = Self::new();
    }

    #[inline]
    fn walk(&mut self, octet: u8, found: &mut dyn FnMut(Found)) {
        self.unwrapping.step(octet, &mut self.candidates);
        let handed_out = &mut self.handed_out;
        self.candidates.drain(|candidate, encoding| {
            if handed_out.len() < CANDIDATES_MAX && !handed_out.contains(&candidate) {
                handed_out.push(candidate);
                found(Found { candidate, encoding });
            }
        });
    }
}

/// The next place, at `at` or behind it, that must be walked from: where a needle may begin, or the piece's last octets,
/// of which only the next piece says what they begin.
fn leap(piece: &[u8], at: usize) -> usize {
    let end = piece.len().saturating_sub(BEGINNING_BYTES_MAX - 1);
    if at >= end {
        return at;
    }
    let place = beginning(piece, at).map_or(end, |place| place.min(end));
    // Whether an octet is the digit of an escape, what stands before it says.
    (1..=2)
        .filter_map(|back| place.checked_sub(back))
        .find(|&before| before >= at && piece[before] == b'=')
        .unwrap_or(place)
}

#[cfg(test)]
#[path = "scanner_tests.rs"]
mod tests;
