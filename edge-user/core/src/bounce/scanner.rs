//! The streaming scanner: finds tokens in whatever comes in, in bounded memory, across buffer borders, in plain
//! parts, quoted-printable and base64.
//!
//! It does not read MIME: mail systems return the original's header in a part of its own, in running text, in HTML,
//! cut, quoted, encoded with or without saying so. So it searches the bytes as they come, in two gaits:
//!
//! - **leaping**: a vectorised search for the next needle (the magic, or what base64 makes of it) or the next octet
//!   that could tear one (a line end, or `=`), whichever comes first;
//! - **walking**: octet by octet behind such a place, for as long as a needle may still be torn by it or a token is
//!   being read, with what tears it taken off (`unwrapping`).
//!
//! So ordinary text costs what the vectorised search costs, and the result does not depend on how the message is
//! cut into pieces. What it leaves to others: whether a candidate is a token (its MAC says so).
//!
//! Not looked for: a token within base64 within base64, or torn by quoted-printable within base64. No system of
//! which we have a bounce writes that.

use super::candidates::Candidates;
use super::needle::{Encoding, NEEDLE_MAX, Needle};
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
        self.candidates.torn();
        let mut needles = Needles::new(piece);
        let mut at = 0;
        while at < piece.len() {
            if self.unwrapping == Unwrapping::Text && self.candidates.calm() {
                at = self.leap(piece, at, &mut needles);
            } else {
                self.walk(piece[at]);
                at += 1;
                self.hand_out(found);
            }
        }
    }

    /// The message is over. A candidate is handed out with its last character, so nothing is left; the scanner
    /// forgets the message and can begin another.
    pub fn finish(&mut self, _found: &mut dyn FnMut(Found)) {
        *self = Self::new();
    }

    /// Goes to the next place where something happens, at or behind `at`; the piece's end, if nothing does.
    fn leap(&mut self, piece: &[u8], at: usize, needles: &mut Needles<'_>) -> usize {
        let tear = memchr::memchr3(b'\r', b'\n', b'=', &piece[at..]).map_or(piece.len(), |more| at + more);
        match needles.next_end(at) {
            Some((end, needle)) if end <= tear => {
                self.candidates.leap_behind(needle, &piece[at..end]);
                end
            }
            Some(_) | None => {
                // Of what tears, only `!` stands before a line end: it is walked over, by the line end's side.
                if let [text @ .., b'!'] = &piece[at..tear] {
                    self.candidates.leap_over(text);
                    self.walk(b'!');
                    return tear;
                }
                self.candidates.leap_over(&piece[at..tear]);
                if let Some(&octet) = piece.get(tear) {
                    self.walk(octet);
                    return tear + 1;
                }
                tear
            }
        }
    }

    #[inline]
    fn walk(&mut self, octet: u8) {
        let before = self.unwrapping;
        self.unwrapping.step(octet, &mut self.candidates);
        if before != Unwrapping::Text || self.unwrapping != Unwrapping::Text {
            self.candidates.torn();
        }
    }

    #[inline]
    fn hand_out(&mut self, found: &mut dyn FnMut(Found)) {
        let handed_out = &mut self.handed_out;
        self.candidates.drain(|candidate, encoding| {
            if handed_out.len() < CANDIDATES_MAX && !handed_out.contains(&candidate) {
                handed_out.push(candidate);
                found(Found { candidate, encoding });
            }
        });
    }
}

/// Where each needle stands next in a piece; each is searched for when the last one found is behind.
struct Needles<'p> {
    piece: &'p [u8],
    /// By needle: where its next occurrence ends, when it was searched for. `usize::MAX`: there is none.
    ends: [usize; Needle::ALL.len()],
}

impl<'p> Needles<'p> {
    fn new(piece: &'p [u8]) -> Self {
        Self { piece, ends: [0; Needle::ALL.len()] }
    }

    /// The needle that ends first behind `at`, of those that begin in this piece.
    fn next_end(&mut self, at: usize) -> Option<(usize, Needle)> {
        for (needle, end) in Needle::ALL.into_iter().zip(&mut self.ends) {
            if *end <= at {
                let len = needle.text().len();
                debug_assert!(len <= NEEDLE_MAX);
                let from = at.saturating_sub(len - 1);
                *end = needle.find(&self.piece[from..]).map_or(usize::MAX, |more| from + more + len);
            }
        }
        let next = Needle::ALL.into_iter().zip(self.ends).min_by_key(|&(_, end)| end);
        next.filter(|&(_, end)| end != usize::MAX).map(|(needle, end)| (end, needle))
    }
}

#[cfg(test)]
#[path = "scanner_tests.rs"]
mod tests;
