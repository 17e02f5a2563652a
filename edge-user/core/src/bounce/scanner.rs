//! The streaming scanner: finds tokens in whatever comes in, in bounded memory, across buffer borders, in plain
//! parts, quoted-printable and base64.
//!
//! It does not read MIME: mail systems return the original's header in a part of its own, in running text, in HTML,
//! cut, quoted, encoded with or without saying so. So it searches the bytes as they come, in two gaits:
//!
//! - **walking**: octet by octet, with what tears a token taken off (`unwrapping`), while a needle (the magic, or what
//!   base64 makes of it) has begun or a token is being read;
//! - **leaping**, when nothing is: a vectorised search for the next needle or the next octet that could tear one (a
//!   line end, or `=`), whichever comes first. Nearly all of these tear nothing, and the leap goes on behind them.
//!
//! So ordinary text costs what the vectorised search costs. The result does not depend on how the message is cut into
//! pieces, nor on the gait. What it leaves to others: whether a candidate is a token (its MAC says so).
//!
//! Not looked for: a token within base64 within base64, or torn by quoted-printable within base64. No system of
//! which we have a bounce writes that.

use super::candidates::Candidates;
use super::needle::{Encoding, Needle};
use super::unwrapping::{Unwrapping, escape};
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
        let mut needles = Needles::new(piece);
        let mut at = 0;
        while at < piece.len() {
            if self.unwrapping == Unwrapping::Text && self.candidates.calm() {
                at = self.leap(piece, at, &mut needles);
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

    /// Goes to the next place that must be walked from; the piece's end, if there is none.
    fn leap(&mut self, piece: &[u8], mut at: usize, needles: &mut Needles<'_>) -> usize {
        loop {
            let needle = needles.next(at);
            let needle_at = needle.map_or(piece.len(), |(at, _)| at);
            let text = &piece[at..needle_at];
            let Some(len) = first_tear(text) else {
                if let Some((_, needle)) = needle {
                    self.candidates.leap_behind(needle);
                    return needle_at + needle.text().len();
                }
                // `!` tears before a line end, which may come with the next piece: it is walked over.
                let len = text.strip_suffix(b"!").unwrap_or(text).len();
                self.candidates.leap_over(&text[..len]);
                if len < text.len() {
                    self.unwrapping.step(b'!', &mut self.candidates);
                }
                return piece.len();
            };
            let (text, tear) = (&text[..len], at + len);
            let without_bang = text.strip_suffix(b"!").unwrap_or(text);
            self.candidates.leap_over(without_bang);
            match harmless(&piece[tear..]) {
                Some(len) if self.candidates.calm() => at = tear + len,
                Some(_) | None => return at + without_bang.len(),
            }
        }
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

/// Where the first octet stands that could tear a needle.
#[inline]
fn first_tear(text: &[u8]) -> Option<usize> {
    match text {
        // They come in groups: CRLF, and all that is not ASCII in quoted-printable.
        [b'\r' | b'\n' | b'=', ..] => Some(0),
        _ => memchr::memchr3(b'\r', b'\n', b'=', text),
    }
}

/// How many octets `wire`, which begins with what could tear a needle, may be leapt over where no needle has begun.
/// `None`: a needle may begin in it.
#[inline]
fn harmless(wire: &[u8]) -> Option<usize> {
    match *wire {
        [b'=', first, second, ..] => match escape(first, second) {
            Some(character) if Needle::begins_at_end_of(character.into()) => None,
            Some(_) => Some(3),
            None => Some(1),
        },
        // Whether it is an escape, the next piece says.
        [b'=', ..] => None,
        _ => Some(1),
    }
}

/// Where each needle stands next in a piece; each is searched for again when the last one found is behind.
struct Needles<'p> {
    piece: &'p [u8],
    /// By needle: where it stands next, [`NOWHERE`] if it does not; as far as it was searched for.
    places: [Option<usize>; Needle::ALL.len()],
    next: (usize, Needle),
}

const NOWHERE: usize = usize::MAX;

impl<'p> Needles<'p> {
    fn new(piece: &'p [u8]) -> Self {
        Self { piece, places: [None; Needle::ALL.len()], next: (0, Needle::Plain) }
    }

    /// The first needle that stands at `at` or behind it.
    #[inline]
    fn next(&mut self, at: usize) -> Option<(usize, Needle)> {
        if self.next.0 < at || self.places[0].is_none() {
            self.search(at);
        }
        (self.next.0 != NOWHERE).then_some(self.next)
    }

    #[cold]
    fn search(&mut self, from: usize) {
        self.next = (NOWHERE, Needle::Plain);
        for (needle, place) in Needle::ALL.into_iter().zip(&mut self.places) {
            let known = place.filter(|&place| place >= from);
            let found =
                known.unwrap_or_else(|| needle.find(&self.piece[from..]).map_or(NOWHERE, |more| from + more));
            *place = Some(found);
            if found < self.next.0 {
                self.next = (found, needle);
            }
        }
    }
}

#[cfg(test)]
#[path = "scanner_tests.rs"]
mod tests;
