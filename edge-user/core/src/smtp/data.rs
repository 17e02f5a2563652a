//! The message on the wire: dots, line ends and where it ends (RFC 5321 section 4.1.1.4, 4.5.2).
//!
//! The message ends at CRLF.CRLF and nowhere else. The first CRLF is the last line's own (or, in an empty message, the
//! DATA line's), so it belongs to the message; the terminator that is never handed out is `.CRLF` at a line's start.
//! Dots stay stuffed. From the first bare CR or LF on, and over the limit, nothing is handed out any more: what must
//! be refused cannot reach a server that reads line ends otherwise than we do.

use edge_octets::first_odd_pair;
use memchr::memchr2;

use super::EndOfData;

/// What the next octets of a message mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece<'b> {
    /// Nothing can be said before more comes.
    Partial,
    /// Part of the message.
    Body(&'b [u8]),
    /// Part of a message that must be refused: this many octets of it are thrown away.
    Swallowed(usize),
    /// The terminator, `.CRLF`.
    End(EndOfData),
}

/// The terminator that follows a line's CRLF.
pub(super) const TERMINATOR: &[u8] = b".\r\n";

/// The scanner of one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanner {
    message_bytes_max: u64,
    at_line_start: bool,
    bare_line_ending: bool,
    bytes: u64,
}

impl Scanner {
    /// A scanner behind the CRLF of the DATA line.
    pub(super) fn new(message_bytes_max: u64) -> Self {
        Self { message_bytes_max, at_line_start: true, bare_line_ending: false, bytes: 0 }
    }

    /// What the octets at the start of `input` mean.
    pub(super) fn next<'b>(&mut self, input: &'b [u8]) -> Piece<'b> {
        if self.at_line_start && input.starts_with(TERMINATOR) {
            let too_big = self.bytes > self.message_bytes_max;
            let (bare_line_ending, bytes) = (self.bare_line_ending, self.bytes);
            return Piece::End(EndOfData { bare_line_ending, too_big, bytes });
        }
        let mut swallow = self.bare_line_ending;
        let mut len = self.message_len(input);
        if len == 0 && self.bare_line_ending && !swallow {
            swallow = true;
            len = self.message_len(input);
        }
        if len == 0 {
            return Piece::Partial;
        }
        self.bytes += len as u64;
        if swallow || self.bytes > self.message_bytes_max {
            return Piece::Swallowed(len);
        }
        Piece::Body(&input[..len])
    }

    /// How many octets at the start of `input` surely belong to the message. A CR at the end may begin a CRLF, a dot at
    /// a line's start the terminator: they wait for more. In front of the first bare CR or LF it stops and puts the flag
    /// up; once the flag is up, bare ones are octets like others.
    fn message_len(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        loop {
            if !self.bare_line_ending {
                at += self.plain_len(&input[at..]);
            }
            let rest = &input[at..];
            if self.at_line_start && (rest.starts_with(TERMINATOR) || TERMINATOR.starts_with(rest)) {
                return at;
            }
            let Some(end) = memchr2(b'\r', b'\n', rest) else {
                self.at_line_start = false;
                return input.len();
            };
            self.at_line_start &= end == 0;
            match &rest[end..] {
                [b'\r', b'\n', ..] => {
                    at += end + 2;
                    self.at_line_start = true;
                }
                [b'\r'] => return at + end,
                _ if self.bare_line_ending => {
                    at += end + 1;
                    self.at_line_start = false;
                }
                _ => {
                    self.bare_line_ending = true;
                    return at + end;
                }
            }
        }
    }

    /// How many octets at the start of `text` need no look at their lines: no bare CR or LF is among them, none whose LF or
    /// CR is still to come, no dot at a line's start.
    fn plain_len(&mut self, text: &[u8]) -> usize {
        let (Some(first), Some(last)) = (text.first(), text.last()) else { return 0 };
        if *first == b'\n' || self.at_line_start && *first == b'.' {
            return 0;
        }
        let len = match first_odd_pair(text) {
            // A CR that is odd is none of them; where it is the next octet, what stands before that one is plain.
            Some(place) => place + usize::from(text[place] != b'\r'),
            None => text.len() - usize::from(*last == b'\r'),
        };
        if len > 0 {
            self.at_line_start = text[len - 1] == b'\n';
        }
        len
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A whole message, read in pieces that end at `cuts`: what was handed out, how it ended, what was left over.
    fn read(wire: &[u8], cuts: &[usize]) -> (Vec<u8>, Option<EndOfData>, Vec<u8>) {
        let mut scanner = Scanner::new(1000);
        let (mut body, mut consumed) = (Vec::new(), 0);
        for &end in cuts.iter().chain([&wire.len()]) {
            loop {
                match scanner.next(&wire[consumed..end]) {
                    Piece::Partial => break,
                    Piece::Body(piece) => {
                        assert!(!piece.is_empty());
                        body.extend_from_slice(piece);
                        consumed += piece.len();
                    }
                    Piece::Swallowed(len) => {
                        assert!(len > 0);
                        consumed += len;
                    }
                    Piece::End(end) => {
                        return (body, Some(end), wire[consumed + TERMINATOR.len()..].to_vec());
                    }
                }
            }
            assert!(end - consumed <= 2, "more than a split terminator waits: the body would stall");
        }
        (body, None, wire[consumed..].to_vec())
    }

    fn every_way(wire: &[u8]) -> (Vec<u8>, Option<EndOfData>, Vec<u8>) {
        let whole = read(wire, &[]);
        for cut in 0..wire.len() {
            assert_eq!(read(wire, &[cut]), whole, "{} cut at {cut}", wire.escape_ascii());
        }
        let bytewise: Vec<usize> = (0..wire.len()).collect();
        assert_eq!(read(wire, &bytewise), whole, "{} byte by byte", wire.escape_ascii());
        whole
    }

    struct Row {
        name: &'static str,
        wire: &'static [u8],
        body: &'static [u8],
        /// Whether it ends, and whether a bare line ending was flagged then.
        ends: Option<bool>,
        left: &'static [u8],
    }

    const ROWS: &[Row] = &[
        Row { name: "a message", wire: b"a\r\n.\r\nQUIT", body: b"a\r\n", ends: Some(false), left: b"QUIT" },
        Row { name: "an empty one", wire: b".\r\nNOOP\r\n", body: b"", ends: Some(false), left: b"NOOP\r\n" },
        Row { name: "one empty line", wire: b"\r\n.\r\n", body: b"\r\n", ends: Some(false), left: b"" },
        Row {
            name: "stuffed dots",
            wire: b"..\r\n..a\r\n.\r\n",
            body: b"..\r\n..a\r\n",
            ends: Some(false),
            left: b"",
        },
        Row { name: "an unstuffed dot", wire: b".a\r\n.\r\n", body: b".a\r\n", ends: Some(false), left: b"" },
        Row {
            name: "a dot within a line",
            wire: b"a.\r\n.\r\n",
            body: b"a.\r\n",
            ends: Some(false),
            left: b"",
        },
        // Where other servers end a message, and we do not (SMTP smuggling).
        Row { name: "LF.LF", wire: b"a\n.\nMAIL\r\n.\r\n", body: b"a", ends: Some(true), left: b"" },
        Row { name: "CRLF.LF", wire: b"a\r\n.\nX\r\n.\r\n", body: b"a\r\n.", ends: Some(true), left: b"" },
        Row { name: "LF.CRLF", wire: b"a\n.\r\nX\r\n.\r\n", body: b"a", ends: Some(true), left: b"" },
        Row { name: "CR.CR", wire: b"a\r.\rX\r\n.\r\n", body: b"a", ends: Some(true), left: b"" },
        Row { name: "CRLF.CR", wire: b"a\r\n.\rX\r\n.\r\n", body: b"a\r\n.", ends: Some(true), left: b"" },
        Row { name: "CR.CRLF", wire: b"a\r.\r\nX\r\n.\r\n", body: b"a", ends: Some(true), left: b"" },
        Row { name: "LF.CR", wire: b"a\n.\rX\r\n.\r\n", body: b"a", ends: Some(true), left: b"" },
        Row { name: "CRCRLF.CRLF", wire: b"a\r\r\n.\r\n", body: b"a", ends: Some(true), left: b"" },
        Row {
            name: "CRLF.CRCRLF",
            wire: b"a\r\n.\r\r\nX\r\n.\r\n",
            body: b"a\r\n.",
            ends: Some(true),
            left: b"",
        },
        Row {
            name: "CRLF NUL.CRLF",
            wire: b"a\r\n\0.\r\n.\r\n",
            body: b"a\r\n\0.\r\n",
            ends: Some(false),
            left: b"",
        },
        Row { name: "LF first", wire: b"\n.\r\nX\r\n.\r\n", body: b"", ends: Some(true), left: b"" },
        Row { name: ".LF first", wire: b".\nX\r\n.\r\n", body: b".", ends: Some(true), left: b"" },
        Row { name: "no end yet", wire: b"a\r\n.\r", body: b"a\r\n", ends: None, left: b".\r" },
        Row { name: "LFs only", wire: b"a\n\n.\n", body: b"a", ends: None, left: b"" },
        Row { name: "CR at the end", wire: b"a\r", body: b"a", ends: None, left: b"\r" },
    ];

    #[test]
    fn only_crlf_dot_crlf_ends_a_message_however_it_is_cut() {
        for Row { name, wire, body, ends, left } in ROWS {
            let (got, end, rest) = every_way(wire);
            assert_eq!(got.escape_ascii().to_string(), body.escape_ascii().to_string(), "{name}");
            assert_eq!(end.map(|end| end.bare_line_ending), *ends, "{name}");
            assert_eq!(rest.escape_ascii().to_string(), left.escape_ascii().to_string(), "{name}");
        }
    }

    #[test]
    fn a_message_over_the_limit_is_flagged_and_its_rest_kept_back() {
        let line = b"123456789012345678\r\n";
        let (body, end, _) = read(&[&line.repeat(50)[..], TERMINATOR].concat(), &[]);
        assert_eq!((body.len(), end.map(|end| end.too_big)), (1000, Some(false)), "as large as the limit");
        let wire = [&line.repeat(51)[..], TERMINATOR].concat();
        let end = EndOfData { bare_line_ending: false, too_big: true, bytes: 1020 };
        for cut in 0..wire.len() {
            let (body, got, left) = read(&wire, &[cut]);
            assert_eq!((got, left.len()), (Some(end), 0));
            assert!(body.len() <= 1000 && wire.starts_with(&body));
        }
    }

    /// The message alone, line by line, as the definition says: without blocks.
    fn by_lines(wire: &[u8]) -> (usize, bool) {
        let odd = |at: usize| match wire[at] {
            b'\r' => wire.get(at + 1).is_some_and(|next| *next != b'\n'),
            b'\n' => at == 0 || wire[at - 1] != b'\r',
            _ => false,
        };
        let end = (0..wire.len())
            .find(|at| wire[*at..].starts_with(TERMINATOR) && (*at == 0 || wire[..*at].ends_with(b"\r\n")));
        let bare = (0..end.unwrap_or(wire.len())).find(|at| odd(*at));
        (bare.or(end).unwrap_or(wire.len()), bare.is_some())
    }

    /// Octets of a block, in whatever way text is looked at by blocks: more than any has.
    const BLOCK_BYTES: usize = 512;

    #[test]
    fn what_stands_at_the_border_of_a_block_is_found_there_too() {
        let line = b"0123456789012345678901234567890123456789012345678901234567\r\n";
        let text: Vec<u8> = line.iter().copied().cycle().take(3 * BLOCK_BYTES).chain(*b"\r\n.\r\n").collect();
        let odd: [&[u8]; 9] =
            [b"\r", b"\n", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"\n.\r\n", b"\r.\r\n", b"\r\r\n", b"."];
        for piece in odd {
            for at in (BLOCK_BYTES - 70..BLOCK_BYTES + 70).chain(2 * BLOCK_BYTES - 6..2 * BLOCK_BYTES + 6) {
                let wire = [&text[..at], piece, &text[at..]].concat();
                for cut in [0, 1, at, at + 1, at + piece.len(), BLOCK_BYTES, BLOCK_BYTES + 1] {
                    let mut scanner = Scanner::new(100_000);
                    let (mut body, mut consumed, mut ended) = (0, 0, None);
                    for upto in [cut, wire.len()] {
                        loop {
                            match scanner.next(&wire[consumed..upto]) {
                                Piece::Partial => break,
                                Piece::Body(piece) => {
                                    (body, consumed) = (body + piece.len(), consumed + piece.len())
                                }
                                Piece::Swallowed(len) => consumed += len,
                                Piece::End(end) => {
                                    ended = Some(end.bare_line_ending);
                                    break;
                                }
                            }
                        }
                    }
                    let case = format!("{} at {at}, cut at {cut}", piece.escape_ascii());
                    assert_eq!((body, ended), (by_lines(&wire).0, Some(by_lines(&wire).1)), "{case}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_mean_the_same_however_they_are_cut(
            wire in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a'), any::<u8>()], 0..60),
        ) {
            let (body, end, left) = every_way(&wire);
            prop_assert!(wire.starts_with(&body));
            let bare = body.len() + left.len() + if end.is_some() { 3 } else { 0 } != wire.len();
            // Where the body ends, by the definition.
            let with_data_line = [b"\r\n", &wire[..]].concat();
            let by_definition = memchr::memmem::find(&with_data_line, b"\r\n.\r\n");
            prop_assert_eq!(end.map(|end| end.bytes as usize), by_definition);
            if let Some(end) = end {
                prop_assert_eq!(end.bare_line_ending, bare);
                prop_assert_eq!(&wire[by_definition.unwrap() + 3..], &left[..]);
            }
        }
    }
}
