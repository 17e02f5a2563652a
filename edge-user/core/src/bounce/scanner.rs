//! The streaming scanner: finds tokens in whatever comes in, in bounded memory, across buffer borders, in plain
//! parts, quoted-printable and base64.

use crate::signature::Candidate;

/// How the place was encoded where a candidate stood.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// Quoted-printable (RFC 2045 section 6.7).
    QuotedPrintable,
    /// Base64 (RFC 2045 section 6.8).
    Base64,
}

/// A candidate and where it stood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// The candidate.
    pub candidate: Candidate,
    /// The encoding it stood in.
    pub encoding: Encoding,
}

/// The scanner of one message.
#[derive(Debug)]
pub struct Scanner {}

impl Scanner {
    /// A scanner at the start of a message.
    #[must_use]
    pub fn new() -> Self {
        todo!()
    }

    /// Scans the next piece (as on the wire: dots may be stuffed, any line ends) and hands out each candidate once.
    pub fn scan(&mut self, _piece: &[u8], _found: &mut dyn FnMut(Found)) {
        todo!()
    }

    /// The message is over: what was waiting for more bytes is handed out.
    pub fn finish(&mut self, _found: &mut dyn FnMut(Found)) {
        todo!()
    }
}
