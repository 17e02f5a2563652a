//! What is searched for: a token's magic, as it is and as base64 writes it, and how the rest of a token is read
//! after it.
//!
//! Base64 turns three octets into four characters, so the magic looks different in each of three alignments. The
//! characters that are wholly made of its bits are the same whatever stands around it:
//!
//! ```text
//!              b        s        1        .
//!          01100010 01110011 00110001 00101110
//! first    011000 100111 001100 110001 001011 10....   YnMxL
//! second     0110|001001 110011 001100 010010 1110..    JzMS, behind a character that ends in 0110
//! third        01|100010 011100 110011 000100 101110    iczEu, behind a character that ends in 01
//! ```

use edge_octets::PairSearch;

use super::search::{Search, Words};
use crate::signature::{Candidate, MAGIC};

/// How the place was encoded where a candidate stood.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// Quoted-printable (RFC 2045 section 6.7).
    QuotedPrintable,
    /// Base64 (RFC 2045 section 6.8).
    Base64,
}

/// The magic in one of its forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Needle {
    /// As it is.
    Plain,
    /// In base64, beginning with the first octet of three.
    First,
    /// With the second.
    Second,
    /// With the third.
    Third,
}

/// Octets of the longest of [`BEGINNINGS`].
pub(super) const BEGINNING_BYTES_MAX: usize = 3;

/// How a needle begins on the wire: its first two characters; or the first one and what may tear it behind it (a line end,
/// sendmail's `!`, and `=`, which is a soft line break or makes an escape of the next); or its first character as an
/// escape. Whatever has none of these in it has no needle in it, whole or torn. `ic` stands in many words: the third one is
/// searched for by its second character, and what follows it.
const BEGINNINGS: [&[u8]; 29] = [
    b"bs", b"b\r", b"b\n", b"b=", b"b!", b"=62", //
    b"Yn", b"Y\r", b"Y\n", b"Y=", b"Y!", b"=59", //
    b"Jz", b"J\r", b"J\n", b"J=", b"J!", b"=4A", b"=4a", //
    b"cz", b"c\r", b"c\n", b"c=", b"c!", //
    b"i\r", b"i\n", b"i=", b"i!", b"=69",
];

/// The first two octets of all of them, in sets that hold few other pairs.
const PAIRS: PairSearch = PairSearch::new(&[
    (b"b", b"s"),
    (b"Y", b"n"),
    (b"Jc", b"z"),
    (b"bi", b"\r\n="),
    (b"YJ", b"\r\n="),
    (b"c", b"\r\n="),
    (b"bYJic", b"!"),
    (b"=", b"456"),
]);

static SEARCH: Search = Search::new(PAIRS, || Words::of(&BEGINNINGS));

/// Octets behind the beginning of a needle in which it is looked for more of it.
const LOOK_BYTES: usize = 8;

/// Where the first needle may begin in `text`, at `from` or behind it.
#[inline]
pub(super) fn beginning(text: &[u8], from: usize) -> Option<usize> {
    beginning_by(|from| SEARCH.first(text, from), text, from)
}

#[inline]
fn beginning_by(first: impl Fn(usize) -> Option<usize>, text: &[u8], from: usize) -> Option<usize> {
    let mut search_from = from;
    loop {
        let place = first(search_from)?;
        if let Some(needle_at) = begins_around(text, place)
            && needle_at >= from
        {
            return Some(needle_at);
        }
        search_from = place + 1;
    }
}

/// Where the needle begins that one of the [`BEGINNINGS`], if one stands at `place`, may belong to.
#[inline]
fn begins_around(text: &[u8], place: usize) -> Option<usize> {
    let (first, behind) = text[place..].split_first()?;
    let (whole, torn) = match *first {
        b'b' => (b"s1", true),
        b'Y' => (b"nM", true),
        b'J' => (b"zM", true),
        // Whole, it is found by the next character.
        b'i' => (b"cz", true),
        b'c' if text[..place].ends_with(b"i") => (b"zE", false),
        b'=' => {
            return matches!(behind, [b'6', b'2' | b'9', ..] | [b'5', b'9', ..] | [b'4', b'A' | b'a', ..])
                .then_some(place);
        }
        _ => return None,
    };
    let goes_on = match behind.split_first() {
        Some((second, behind)) if *second == whole[0] => may_go_on(behind, whole[1]),
        _ => may_go_on(behind, whole[0]),
    };
    goes_on.then_some(if torn { place } else { place - 1 })
}

/// Whether `wanted` may be the next character of a text that goes on with `behind` on the wire: it stands there, torn off or
/// escaped perhaps, or what comes next says so.
#[inline]
fn may_go_on(behind: &[u8], wanted: u8) -> bool {
    let mut before = 0;
    for &octet in behind.iter().take(LOOK_BYTES) {
        match octet {
            b'\r' | b'\n' | b' ' | b'\t' | b'>' | b'|' | b'.' | b'!' | b'=' => before = octet,
            _ => return octet == wanted || before == b'=',
        }
    }
    true
}

impl Needle {
    #[cfg(test)]
    pub(super) const ALL: [Self; 4] = [Self::Plain, Self::First, Self::Second, Self::Third];

    pub(super) const fn text(self) -> &'static [u8] {
        match self {
            Self::Plain => MAGIC,
            Self::First => b"YnMxL",
            Self::Second => b"JzMS",
            Self::Third => b"iczEu",
        }
    }

    /// The needle that a text ends with; `window` has its last octets, the last one lowest.
    #[inline]
    pub(super) fn at_end_of(window: u64) -> Option<Self> {
        // The last octet rules out nearly everything with one comparison each.
        let needle = match window as u8 {
            b'.' => Self::Plain,
            b'L' => Self::First,
            b'S' => Self::Second,
            b'u' => Self::Third,
            _ => return None,
        };
        let text = needle.text();
        let whole = text.iter().fold(0, |number: u64, &octet| number << 8 | u64::from(octet));
        (window & ((1 << (8 * text.len())) - 1) == whole).then_some(needle)
    }

    /// Whether a text ends with the beginning of any needle.
    #[inline]
    pub(super) fn begins_at_end_of(window: u64) -> bool {
        let [_, _, _, _, d, c, b, a] = window.to_be_bytes();
        match a {
            b'b' | b'Y' | b'J' | b'i' => true,
            b's' => b == b'b',
            b'n' => b == b'Y',
            b'c' => b == b'i',
            b'z' => b == b'J' || [c, b] == *b"ic",
            b'1' => [c, b] == *b"bs",
            b'M' => [c, b] == *b"Yn" || [c, b] == *b"Jz",
            b'x' => [d, c, b] == *b"YnM",
            b'E' => [d, c, b] == *b"icz",
            _ => false,
        }
    }
}

/// Reads what stands behind a needle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    needle: Needle,
    /// Bits of base64 that make no octet yet, and how many.
    bits: u32,
    bits_len: u32,
    /// Whether the magic's dot is still to come.
    wants_dot: bool,
    read: [u8; 36],
    read_len: usize,
}

/// How the reading goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Read {
    /// It may become a candidate.
    GoesOn,
    /// It is none.
    Failed,
    /// It is one.
    Complete(Candidate),
}

impl Reading {
    pub(super) const fn behind(needle: Needle) -> Self {
        // What a needle of base64 says of the magic's dot already: see the drawing above.
        let (bits, bits_len, wants_dot) = match needle {
            Needle::Plain => (0, 0, false),
            Needle::First => (0b00_1011, 6, true),
            Needle::Second => (0b0010, 4, true),
            Needle::Third => (0, 0, false),
        };
        Self { needle, bits, bits_len, wants_dot, read: [0; 36], read_len: 0 }
    }

    pub(super) const fn is_base64(&self) -> bool {
        match self.needle {
            Needle::Plain => false,
            Needle::First | Needle::Second | Needle::Third => true,
        }
    }

    /// Takes the next character.
    #[inline]
    pub(super) fn take(&mut self, character: u8) -> Read {
        if !self.is_base64() {
            return self.octet(character);
        }
        let Some(sextet) = sextet(character) else { return Read::Failed };
        self.bits = self.bits << 6 | u32::from(sextet);
        self.bits_len += 6;
        if self.bits_len < 8 {
            return Read::GoesOn;
        }
        self.bits_len -= 8;
        self.octet((self.bits >> self.bits_len) as u8)
    }

    #[inline]
    fn octet(&mut self, octet: u8) -> Read {
        if std::mem::take(&mut self.wants_dot) {
            return if octet == b'.' { Read::GoesOn } else { Read::Failed };
        }
        if !is_base64url(octet) {
            return Read::Failed;
        }
        self.read[self.read_len] = octet;
        self.read_len += 1;
        if self.read_len == self.read.len() { Read::Complete(Candidate(self.read)) } else { Read::GoesOn }
    }
}

/// A base64 character's value (RFC 4648 sections 4 and 5).
#[inline]
pub(super) fn sextet(character: u8) -> Option<u8> {
    match character {
        b'A'..=b'Z' => Some(character - b'A'),
        b'a'..=b'z' => Some(character - b'a' + 26),
        b'0'..=b'9' => Some(character - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

#[inline]
fn is_base64url(character: u8) -> bool {
    character.is_ascii_alphanumeric() || character == b'-' || character == b'_'
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &[u8; 40] = b"bs1.ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456_-z";

    fn window(text: &[u8]) -> u64 {
        text.iter().fold(0, |window, &octet| window << 8 | u64::from(octet))
    }

    /// How the reading of `text` behind the needle ends, and after how many characters.
    fn read(needle: Needle, text: &[u8]) -> (Read, usize) {
        let mut reading = Reading::behind(needle);
        for (len, &character) in (1..).zip(text) {
            match reading.take(character) {
                Read::GoesOn => {}
                end @ (Read::Failed | Read::Complete(_)) => return (end, len),
            }
        }
        (Read::GoesOn, text.len())
    }

    #[test]
    fn each_alignment_of_base64_has_its_needle_and_gives_the_token_back() {
        for (before, needle) in [(0, Needle::First), (1, Needle::Second), (2, Needle::Third)] {
            for filler in [0x00, 0xff, b'a'] {
                for after in 0..4 {
                    let text = [&vec![filler; before], &TOKEN[..], &vec![filler; after]].concat();
                    let encoded = STANDARD_NO_PAD.encode(text);
                    let at =
                        encoded.find(str::from_utf8(needle.text()).unwrap()).expect("the needle is there");
                    let (end, _) = read(needle, &encoded.as_bytes()[at + needle.text().len()..]);
                    let candidate = Candidate(TOKEN[4..].try_into().unwrap());
                    assert_eq!(end, Read::Complete(candidate), "{before} before, {after} after");
                }
            }
        }
    }

    #[test]
    fn a_needle_at_the_end_is_seen_and_no_other() {
        for needle in Needle::ALL {
            let window = window(&[b"xx", needle.text()].concat());
            assert_eq!(Needle::at_end_of(window), Some(needle));
            assert_eq!(Needle::at_end_of(window ^ 0x100), None);
            assert_eq!(Needle::at_end_of(window << 8 | 0x20), None);
        }
    }

    #[test]
    fn every_beginning_of_a_needle_is_seen_and_nothing_else() {
        let begins = |text: &[u8]| {
            Needle::ALL
                .iter()
                .any(|needle| (1..needle.text().len()).any(|len| text.ends_with(&needle.text()[..len])))
        };
        let letters = b"bs1.YnMxLJzSicEu #";
        for a in letters {
            for b in letters {
                for c in letters {
                    for d in letters {
                        let text = [*a, *b, *c, *d];
                        let seen = Needle::begins_at_end_of(window(&text));
                        assert_eq!(seen, begins(&text), "{:?}", str::from_utf8(&text));
                    }
                }
            }
        }
    }

    #[test]
    fn every_way_in_which_a_needle_begins_is_searched_for() {
        for needle in Needle::ALL {
            let [first, second, third, ..] = *needle.text() else { panic!("{needle:?} is too short") };
            let mut ways = vec![vec![first, second, third]];
            for tear in *b"\r\n=!" {
                ways.extend([vec![first, tear], vec![first, second, tear]]);
            }
            ways.extend([format!("={first:02X}").into_bytes(), format!("={first:02x}").into_bytes()]);
            for way in ways {
                assert_eq!(
                    beginning(&[&[b' '; 40][..], &way].concat(), 3),
                    Some(40),
                    "{}",
                    way.escape_ascii()
                );
            }
        }
        assert_eq!(beginning(b"a basic text, with yes=20and no, J. Young\r\n", 0), None);
        assert_eq!(BEGINNINGS.iter().map(|way| way.len()).max(), Some(BEGINNING_BYTES_MAX));
    }

    #[test]
    fn base64_of_something_else_fails_at_the_first_octet_that_is_wrong() {
        let mut other = *TOKEN;
        other[20] = b' ';
        let encoded = STANDARD_NO_PAD.encode(other);
        assert_eq!(read(Needle::First, &encoded.as_bytes()[5..]), (Read::Failed, 23));
        assert_eq!(read(Needle::First, b"YnMxL"), (Read::Failed, 1), "not the magic's dot");
        assert_eq!(read(Needle::First, b"g"), (Read::GoesOn, 1));
        assert_eq!(read(Needle::Plain, b"abc."), (Read::Failed, 4));
    }

    proptest! {
        #[test]
        fn pairs_by_vectors_and_words_in_full_find_the_same_beginnings(
            text in proptest::collection::vec(
                proptest::sample::select(b"bs1YnMJzMiczE\r\n=! .>624Aa59x".to_vec()), 0..150),
        ) {
            for from in 0..=text.len() {
                let by_words = beginning_by(|from| SEARCH.first_of_words(&text, from), &text, from);
                prop_assert_eq!(beginning(&text, from), by_words);
            }
        }
    }
}
