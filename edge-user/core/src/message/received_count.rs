//! Counts the `Received` fields of a message's header section while it streams by (RFC 5321 section 6.3).

use edge_octets::PairSearch;

/// Most `Received` fields; a message with more goes in circles (554 5.4.6).
pub const RECEIVED_MAX: u32 = 50;

const NAME: &[u8] = b"received:";

/// A line's end, and how one begins then that counts, or that ends the header section.
const LINE_END: PairSearch = PairSearch::new(&[(b"\n", b"rR"), (b"\n", b"\r")]);

/// The count so far. Takes the message as it stands on the wire, in pieces cut anywhere.
#[derive(Clone, Debug)]
pub struct ReceivedCount {
    count: u32,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// At the start of a line, after `matched` octets of the field's name.
    Name { matched: usize },
    /// At the start of a line, after a CR: an LF now ends the header section.
    EmptyLine,
    /// In the rest of a line.
    Line,
    /// The header section is over.
    Body,
}

impl Default for ReceivedCount {
    fn default() -> Self {
        Self::new()
    }
}

impl ReceivedCount {
    /// At the start of a message.
    #[must_use]
    pub const fn new() -> Self {
        Self { count: 0, place: Place::Name { matched: 0 } }
    }

    /// Takes the next piece. Whether there are more than [`RECEIVED_MAX`] by now.
    pub fn take(&mut self, piece: &[u8]) -> bool {
        let mut rest = piece;
        while let Some((&octet, tail)) = rest.split_first() {
            self.place = match self.place {
                Place::Body => break,
                Place::Line => match LINE_END.first(rest, 0) {
                    None if rest.ends_with(b"\n") => {
                        self.place = Place::Name { matched: 0 };
                        break;
                    }
                    None => break,
                    Some(at) => {
                        rest = &rest[at + 1..];
                        self.place = Place::Name { matched: 0 };
                        continue;
                    }
                },
                Place::Name { matched: 0 } if octet == b'\r' => Place::EmptyLine,
                // A whole name is compared at once.
                Place::Name { matched: 0 }
                    if let Some((name, tail)) = rest.split_first_chunk::<{ NAME.len() }>()
                        && name.eq_ignore_ascii_case(NAME) =>
                {
                    self.count = self.count.saturating_add(1);
                    self.place = Place::Line;
                    rest = tail;
                    continue;
                }
                Place::Name { matched } if octet.eq_ignore_ascii_case(&NAME[matched]) => {
                    if matched + 1 == NAME.len() {
                        self.count = self.count.saturating_add(1);
                        Place::Line
                    } else {
                        Place::Name { matched: matched + 1 }
                    }
                }
                // A line that is something else may end right here.
                Place::Name { .. } if octet == b'\n' => Place::Name { matched: 0 },
                Place::Name { .. } => Place::Line,
                Place::EmptyLine if octet == b'\n' => Place::Body,
                Place::EmptyLine => Place::Line,
            };
            rest = tail;
        }
        self.count > RECEIVED_MAX
    }

    /// How many there are so far.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(pieces: &[&[u8]]) -> u32 {
        let mut walk = ReceivedCount::new();
        for piece in pieces {
            walk.take(piece);
        }
        walk.count()
    }

    #[test]
    fn only_received_fields_of_the_header_section_count() {
        let rows: [(&str, &[u8], u32); 8] = [
            ("none", b"From: a@b\r\n\r\nReceived: no\r\n", 0),
            ("two, any case", b"Received: a\r\nRECEIVED: b\r\n\r\n", 2),
            ("folded lines do not", b"Received: a\r\n received: b\r\n\treceived: c\r\n\r\n", 1),
            ("a longer name does not", b"Received-SPF: pass\r\nX-Received: x\r\n\r\n", 0),
            ("a shorter name does not", b"Receive: x\r\nReceived\r\n\r\n", 0),
            ("an empty header section", b"\r\nReceived: no\r\n", 0),
            ("no end in sight", b"Received: a\r\nReceived:", 2),
            ("a CR alone ends nothing", b"\rx\r\nReceived: a\r\n\r\n", 1),
        ];
        for (name, message, want) in rows {
            assert_eq!(count(&[message]), want, "{name}");
            for cut in 0..=message.len() {
                let (head, tail) = message.split_at(cut);
                assert_eq!(count(&[head, tail]), want, "{name}, cut before byte {cut}");
            }
            let bytes: Vec<&[u8]> = message.chunks(1).collect();
            assert_eq!(count(&bytes), want, "{name}, byte by byte");
        }
    }

    #[test]
    fn the_fifty_first_is_one_too_many() {
        let mut walk = ReceivedCount::new();
        for _ in 0..RECEIVED_MAX {
            assert!(!walk.take(b"Received: from a by b; today\r\n"));
        }
        assert!(walk.take(b"Received: from a by b; today\r\n"));
    }

    /// The same, by the definition: the lines before the first that is empty.
    fn by_lines(message: &[u8]) -> u32 {
        let lines = message.split_inclusive(|octet| *octet == b'\n').take_while(|line| line != b"\r\n");
        lines.filter(|line| line.len() >= NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME)).count()
            as u32
    }

    proptest! {
        #[test]
        fn fields_are_counted_as_by_lines_however_they_are_cut(
            scraps in proptest::collection::vec(
                proptest::sample::select(
                    ["Received:", "received: from a by b", "Receive", "d:", "X-A: of some more octets, in a long line",
                     "\r\n", "\r\n", "\r\n", "\n", "\r", "R", "r", " ", "}", "\r\n\r\n"].to_vec()), 0..30),
            cut in any::<proptest::sample::Index>(),
        ) {
            let message = scraps.concat().into_bytes();
            let (head, tail) = message.split_at(cut.index(message.len() + 1));
            let want = by_lines(&message);
            prop_assert_eq!(count(&[&message]), want);
            prop_assert_eq!(count(&[head, tail]), want);
            prop_assert_eq!(count(&message.chunks(1).collect::<Vec<_>>()), want);
        }
    }
}
