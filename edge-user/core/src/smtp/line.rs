//! Lines: only CRLF ends one (RFC 5321 section 2.3.8).
//!
//! A bare CR or LF never ends a command. The line is refused where the bare character stands, and what follows it
//! up to the next CRLF belongs to the same refused line: no command can hide behind a bare LF. Every answer
//! depends on the bytes alone, never on how they were cut into reads.

use memchr::memchr2;

/// What stands at the start of the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line<'b> {
    /// Not all of a line yet.
    Partial,
    /// A line without its CRLF.
    Whole(&'b [u8]),
    /// A CR or LF stands alone within the next line.
    Bare {
        /// Octets up to and including the bare character.
        consumed: usize,
    },
    /// No CRLF within the longest line.
    TooLong {
        /// Octets that are surely no part of a CRLF to come.
        consumed: usize,
    },
}

/// Reads the line at the start of `input`, of at most `line_bytes_max` octets with its CRLF.
pub(super) fn read(input: &[u8], line_bytes_max: usize) -> Line<'_> {
    let window = &input[..input.len().min(line_bytes_max)];
    match memchr2(b'\r', b'\n', window) {
        Some(at) if window[at] == b'\n' => Line::Bare { consumed: at + 1 },
        Some(at) => match window.get(at + 1) {
            Some(b'\n') => Line::Whole(&window[..at]),
            Some(_) => Line::Bare { consumed: at + 1 },
            None if window.len() < line_bytes_max => Line::Partial,
            None => Line::TooLong { consumed: at },
        },
        None if window.len() < line_bytes_max => Line::Partial,
        None => Line::TooLong { consumed: window.len() },
    }
}

/// A refused line whose CRLF has not come yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Skip {
    /// Octets skipped so far.
    skipped: usize,
}

/// What became of a refused line's rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Skipped {
    /// Nothing can be skipped before more comes.
    Partial,
    /// The line goes on.
    Some {
        /// Octets skipped.
        consumed: usize,
    },
    /// A further bare LF: a client that ends its lines so waits for an answer here.
    BareLf {
        /// Octets skipped, the LF included.
        consumed: usize,
    },
    /// The line is over.
    End {
        /// Octets skipped, CRLF included.
        consumed: usize,
    },
    /// It goes on for longer than a line may be, after it was refused: no SMTP client does this.
    Endless,
}

impl Skip {
    /// Skips what `input` holds of the refused line.
    pub(super) fn read(&mut self, input: &[u8], line_bytes_max: usize) -> Skipped {
        let left = line_bytes_max.saturating_sub(self.skipped);
        let window = &input[..input.len().min(left)];
        let (consumed, ended) = match memchr2(b'\r', b'\n', window) {
            Some(at) if window[at] == b'\n' => (at + 1, Skipped::BareLf { consumed: at + 1 }),
            Some(at) => match window.get(at + 1) {
                Some(b'\n') => return Skipped::End { consumed: at + 2 },
                Some(_) => (at + 1, Skipped::Some { consumed: at + 1 }),
                None if at == 0 && window.len() < left => return Skipped::Partial,
                None if at == 0 => return Skipped::Endless,
                None => (at, Skipped::Some { consumed: at }),
            },
            None if left == 0 => return Skipped::Endless,
            None if window.is_empty() => return Skipped::Partial,
            None => (window.len(), Skipped::Some { consumed: window.len() }),
        };
        self.skipped += consumed;
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_crlf_ends_a_line() {
        assert_eq!(read(b"", 10), Line::Partial);
        assert_eq!(read(b"NOOP", 10), Line::Partial);
        assert_eq!(read(b"NOOP\r", 10), Line::Partial);
        assert_eq!(read(b"NOOP\r\nQUIT", 10), Line::Whole(b"NOOP"));
        assert_eq!(read(b"\r\n", 10), Line::Whole(b""));
        assert_eq!(read(b"NOOP\nQUIT\r\n", 20), Line::Bare { consumed: 5 });
        assert_eq!(read(b"NO\rOP\r\n", 20), Line::Bare { consumed: 3 });
        assert_eq!(read(b"NOOP\r\r\n", 20), Line::Bare { consumed: 5 });
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
        assert_eq!(read(b"12345678\r\n", 10), Line::Whole(b"12345678"));
        assert_eq!(
            read(b"123456789\r\n", 10),
            Line::TooLong { consumed: 9 },
            "its CR may still begin a CRLF"
        );
        assert_eq!(read(b"12345678901", 10), Line::TooLong { consumed: 10 });
        assert_eq!(read(b"123456789", 10), Line::Partial);
    }

    #[test]
    fn a_refused_line_is_skipped_to_its_crlf_however_it_is_cut() {
        let rest = b"ab\rcd\r\r\n";
        for cut in 0..=rest.len() {
            let (mut skip, mut consumed, mut end) = (Skip::default(), 0, cut);
            loop {
                match skip.read(&rest[consumed..end], 10) {
                    Skipped::Partial if end < rest.len() => end = rest.len(),
                    Skipped::Some { consumed: n } => consumed += n,
                    Skipped::End { consumed: n } => break consumed += n,
                    other => panic!("{other:?} at {consumed}, cut {cut}"),
                }
            }
            assert_eq!(consumed, rest.len(), "cut {cut}");
        }
    }

    #[test]
    fn a_line_without_end_is_noticed() {
        let mut skip = Skip::default();
        assert_eq!(skip.read(b"1234567", 10), Skipped::Some { consumed: 7 });
        assert_eq!(skip.read(b"1234567", 10), Skipped::Some { consumed: 3 });
        assert_eq!(skip.read(b"4567", 10), Skipped::Endless);
    }
}
