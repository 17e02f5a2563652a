//! A header section on the wire: where it ends, its fields (RFC 5322 section 2.2), and the author's address.
//!
//! The octets come from the SMTP session, so every line ends with CRLF, and a line that begins with a dot has one
//! more in front; no field begins so.

use std::borrow::Cow;

use memchr::memmem;

use crate::mailbox::Mailbox;

/// How a search for the header section's end went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// The end is not there yet.
    More,
    /// It is the first so many octets, the empty line included where there is one.
    Ends(usize),
    /// It is longer than it may be.
    TooLong,
}

/// Collects a message's first octets until its header section is whole. It copies what it collects: a header section is
/// read in one piece, and is small; a body is not.
#[derive(Clone, Debug)]
pub struct Collector {
    octets: Vec<u8>,
    /// Octets that are whole lines of the header section.
    scanned: usize,
    header_bytes_max: usize,
}

impl Collector {
    /// Nothing is collected yet. At most `header_bytes_max` octets of header, and one piece of message, will be.
    #[must_use]
    pub fn new(header_bytes_max: usize) -> Self {
        Self { octets: Vec::new(), scanned: 0, header_bytes_max }
    }

    /// Takes the next piece. After [`Section::Ends`] no more is to be given.
    pub fn take(&mut self, piece: &[u8]) -> Section {
        self.make_room(piece.len());
        self.octets.extend_from_slice(piece);
        while let Some(len) = memmem::find(&self.octets[self.scanned..], b"\r\n").map(|at| at + 2) {
            let line = &self.octets[self.scanned..self.scanned + len];
            match kind(line, self.scanned == 0) {
                Line::Empty => return self.ends(self.scanned + len),
                Line::Field | Line::Folded => self.scanned += len,
                // By RFC 5322 that cannot be; mail servers take it for the body's first line.
                Line::Other => return self.ends(self.scanned),
            }
        }
        if self.octets.len() > self.header_bytes_max { Section::TooLong } else { Section::More }
    }

    /// Room for the next piece: twice as much as there was, but never more than can still come.
    fn make_room(&mut self, piece: usize) {
        let (len, capacity) = (self.octets.len(), self.octets.capacity());
        if capacity - len < piece {
            let doubled = capacity.saturating_mul(2).min(self.header_bytes_max).saturating_sub(len);
            self.octets.reserve_exact(doubled.max(piece));
        }
    }

    fn ends(&self, len: usize) -> Section {
        if len > self.header_bytes_max { Section::TooLong } else { Section::Ends(len) }
    }

    /// All that was collected: the header section and what came behind it.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }
}

enum Line {
    Field,
    Folded,
    Empty,
    Other,
}

fn kind(line: &[u8], first: bool) -> Line {
    match line {
        [b'\r', b'\n'] => Line::Empty,
        [b' ' | b'\t', ..] if !first => Line::Folded,
        // The separator of an mbox that some programs leave in front.
        [b'F', b'r', b'o', b'm', b' ', ..] if first => Line::Field,
        _ if split_name(line).is_some() => Line::Field,
        _ => Line::Other,
    }
}

/// A line's field name, and what stands behind the colon. White space before the colon is obsolete syntax (RFC 5322
/// section 4.5.8), and taken.
fn split_name(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    is_field_name(name).then_some((name, &line[colon + 1..]))
}

/// Whether a field can have this name (RFC 5322 section 2.2).
pub(super) fn is_field_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|octet| matches!(octet, 33..=57 | 59..=126))
}

/// The fields of a header section, in order: name and value. The value has its folds in it, and not its last CRLF.
pub fn fields(section: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    whole_fields(section).filter_map(|field| {
        let (name, value) = split_name(field)?;
        Some((name, value.strip_suffix(b"\r\n").unwrap_or(value)))
    })
}

/// A header section cut before each line that is no fold: its fields as they stand there, the empty line, and what
/// else there is. Together they are all of it.
pub(super) fn whole_fields(section: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = section;
    std::iter::from_fn(move || {
        let mut len = 0;
        loop {
            len += memmem::find(&rest[len..], b"\r\n").map_or(rest.len() - len, |at| at + 2);
            if len == 0 || !matches!(rest.get(len), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (field, behind) = rest.split_at_checked(len).filter(|_| len > 0)?;
        rest = behind;
        Some(field)
    })
}

/// The first mailbox of a From field's value (RFC 5322 section 3.4, 3.6.2): comments, display names, groups and folds
/// are no part of it. `None`: none can be made out.
#[must_use]
pub fn first_mailbox(value: &[u8]) -> Option<Mailbox> {
    let value = std::str::from_utf8(value).ok()?;
    let value = without_comments(value);
    let mut address = String::new();
    let mut in_brackets = false;
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => quoted_string(&mut characters, &mut address)?,
            '<' if !in_brackets => {
                address.clear();
                in_brackets = true;
            }
            '>' if in_brackets => break,
            // A group's name is over; within brackets it is a source route's end (section 4.4).
            ':' => address.clear(),
            ',' if in_brackets => {}
            ',' | ';' if address.is_empty() => {}
            ',' | ';' => break,
            _ if character.is_ascii_whitespace() => {}
            _ => address.push(character),
        }
    }
    Mailbox::parse(&address)
}

/// Copies a quoted string whose opening quote was taken.
fn quoted_string(characters: &mut std::str::Chars<'_>, to: &mut String) -> Option<()> {
    to.push('"');
    loop {
        match characters.next()? {
            '\\' => to.extend(['\\', characters.next()?]),
            '"' => break to.push('"'),
            '\r' | '\n' => {}
            character => to.push(character),
        }
    }
    Some(())
}

/// The text without its comments, which nest (RFC 5322 section 3.2.2).
fn without_comments(text: &str) -> Cow<'_, str> {
    if !text.contains('(') {
        return Cow::Borrowed(text);
    }
    let (mut depth, mut quoted, mut out) = (0_u32, false, String::new());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                let escaped = characters.next();
                if depth == 0 {
                    out.push('\\');
                    out.extend(escaped);
                }
                continue;
            }
            '"' if depth == 0 => quoted = !quoted,
            '(' if !quoted => depth = depth.saturating_add(1),
            ')' if depth > 0 => {
                depth -= 1;
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn collect(pieces: &[&[u8]]) -> Section {
        let mut collector = Collector::new(100);
        for piece in pieces {
            match collector.take(piece) {
                Section::More => {}
                over @ (Section::Ends(_) | Section::TooLong) => return over,
            }
        }
        Section::More
    }

    #[test]
    fn the_header_section_ends_where_it_ends_however_it_is_cut() {
        let rows: [(&str, &[u8], Section); 10] = [
            ("an empty line", b"From: a\r\nTo: b\r\n\r\nX: y\r\n", Section::Ends(18)),
            ("folded lines", b"From: a\r\n\tb\r\n c\r\n\r\nx", Section::Ends(19)),
            ("no header", b"\r\nbody\r\n", Section::Ends(2)),
            ("body at once", b"Dear all,\r\n\r\n", Section::Ends(0)),
            ("a line that is no field", b"From: a\r\nDear all,\r\n\r\n", Section::Ends(9)),
            ("a fold that folds nothing", b" x\r\nFrom: a\r\n\r\n", Section::Ends(0)),
            ("an mbox separator", b"From a@b Tue\r\nFrom: a\r\n\r\n", Section::Ends(25)),
            ("white space before the colon", b"From : a\r\n\r\n", Section::Ends(12)),
            ("a dot", b"From: a\r\n..\r\n\r\n", Section::Ends(9)),
            ("no end yet", b"From: a\r\nTo: b\r\n\r", Section::More),
        ];
        for (name, message, want) in rows {
            assert_eq!(collect(&[message]), want, "{name}");
            for cut in 0..=message.len() {
                let (head, tail) = message.split_at(cut);
                assert_eq!(collect(&[head, tail]), want, "{name}, cut before byte {cut}");
            }
            let bytes: Vec<&[u8]> = message.chunks(1).collect();
            assert_eq!(collect(&bytes), want, "{name}, byte by byte");
        }
    }

    #[test]
    fn a_collector_takes_no_more_memory_than_the_longest_header_section_and_a_piece() {
        for piece in [1, 7, 64, 1000] {
            let mut collector = Collector::new(1000);
            let field = [b"Subject: ".as_slice(), &vec![b'x'; 2000]].concat();
            let mut pieces = field.chunks(piece);
            while let Some(Section::More) = pieces.next().map(|piece| collector.take(piece)) {}
            assert!(collector.octets.len() > 1000);
            assert!(collector.octets.capacity() <= 1000 + piece, "{} octets", collector.octets.capacity());
        }
    }

    #[test]
    fn a_header_section_is_as_long_as_the_limit_and_no_longer() {
        let field = |len: usize| format!("X: {}\r\n\r\n", "x".repeat(len - 7)).into_bytes();
        assert_eq!(collect(&[&field(100)]), Section::Ends(100));
        assert_eq!(collect(&[&field(101)]), Section::TooLong);
        assert_eq!(collect(&[&[b'x'; 101]]), Section::TooLong, "no line end at all");
    }

    #[test]
    fn fields_are_found_with_their_folds() {
        let section = b"From x\r\nA: 1\r\nB:2\r\n\t3\r\nno field\r\nC : \r\n\r\n";
        let all: Vec<_> = fields(section).collect();
        let want: [(&[u8], &[u8]); 3] = [(b"A", b" 1"), (b"B", b"2\r\n\t3"), (b"C", b" ")];
        assert_eq!(all, want);
        assert_eq!(fields(b"").count(), 0);
    }

    #[test]
    fn the_first_mailbox_is_the_authors() {
        for (value, want) in [
            (" user@example.jp", Some("user@example.jp")),
            (" User <USER@Example.jp>", Some("user@example.jp")),
            (" \"x@y <z>\" <user@example.jp>", Some("user@example.jp")),
            (" =?utf-8?q?caf=C3=A9?=\r\n <user@example.jp>", Some("user@example.jp")),
            (" (a <x@y>) user@example.jp (b (c))", Some("user@example.jp")),
            (" user (comment) @ example.jp", Some("user@example.jp")),
            (" a@example.jp, b@example.jp", Some("a@example.jp")),
            (" A <a@example.jp>, b@example.jp", Some("a@example.jp")),
            (" friends: a@example.jp, b@example.jp;", Some("a@example.jp")),
            (" <@route.example:a@example.jp>", Some("a@example.jp")),
            (" \"a b\"@example.jp", Some("\"a b\"@example.jp")),
            (" \"a (b)\"@example.jp", Some("\"a (b)\"@example.jp")),
            (" 利用者 <user@例え.jp>", Some("user@xn--r8jz45g.jp")),
            ("", None),
            (" <>", None),
            (" nobody", None),
            (" \"open", None),
            (" a@[192.0.2.1]", None),
        ] {
            let got = first_mailbox(value.as_bytes());
            assert_eq!(got.as_ref().map(Mailbox::as_str), want, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(section in proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), Just(b'a'), any::<u8>()], 0..80)) {
            let mut collector = Collector::new(60);
            if let Section::Ends(len) = collector.take(&section) {
                prop_assert!(len <= section.len().min(60));
                for (name, _) in fields(&section[..len]) {
                    prop_assert!(!name.is_empty());
                }
            }
            let _ = fields(&section).count();
            let _ = first_mailbox(&section);
        }
    }
}
