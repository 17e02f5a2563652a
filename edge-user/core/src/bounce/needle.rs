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

use std::sync::LazyLock;

use memchr::memmem::Finder;

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

/// The most characters of a token behind its needle.
pub(super) const REST_MAX: usize = 49;

/// The most characters of a needle.
pub(super) const NEEDLE_MAX: usize = 5;

static FINDERS: LazyLock<[Finder<'static>; 4]> =
    LazyLock::new(|| Needle::ALL.map(|needle| Finder::new(needle.text())));

impl Needle {
    pub(super) const ALL: [Self; 4] = [Self::Plain, Self::First, Self::Second, Self::Third];

    pub(super) const fn text(self) -> &'static [u8] {
        match self {
            Self::Plain => MAGIC,
            Self::First => b"YnMxL",
            Self::Second => b"JzMS",
            Self::Third => b"iczEu",
        }
    }

    /// How many characters of the token stand behind the needle: 36, or as many as base64 needs for 36 octets and
    /// what the needle left of the magic's bits.
    pub(super) const fn rest(self) -> usize {
        match self {
            Self::Plain => 36,
            Self::First => 49,
            Self::Second => 49,
            Self::Third => 48,
        }
    }

    /// The needle that a text ends with; its last octets are `window`'s lowest.
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

    /// Where this needle first stands in `text`.
    pub(super) fn find(self, text: &[u8]) -> Option<usize> {
        FINDERS[self as usize].find(text)
    }

    /// Whether a character may stand in what follows the needle.
    #[inline]
    pub(super) fn takes(self, character: u8) -> bool {
        match self {
            Self::Plain => is_base64url(character),
            Self::First | Self::Second | Self::Third => sextet(character).is_some(),
        }
    }

    /// The candidate of which `rest` stood behind this needle; `None` when it is none after all.
    pub(super) fn candidate(self, rest: &[u8]) -> Option<Candidate> {
        // The magic's bits that stand in the character before the needle.
        let (bits, count) = match self {
            Self::Plain => return rest.try_into().ok().map(Candidate),
            Self::First => (0, 0),
            Self::Second => (0b0110, 4),
            Self::Third => (0b01, 2),
        };
        let mut octets = [0; 40];
        base64_octets(bits, count, self.text().iter().chain(rest), &mut octets)?;
        let characters = octets.strip_prefix(MAGIC)?;
        characters.iter().all(|&c| is_base64url(c)).then_some(())?;
        characters.try_into().ok().map(Candidate)
    }
}

/// Reads base64 that begins with `count` bits read already. `None`: too short, or not of the alphabet.
fn base64_octets<'c>(
    mut bits: u32,
    mut count: u32,
    characters: impl Iterator<Item = &'c u8>,
    octets: &mut [u8],
) -> Option<()> {
    let mut into = octets.iter_mut();
    for &character in characters {
        bits = bits << 6 | u32::from(sextet(character)?);
        count += 6;
        if count >= 8 {
            count -= 8;
            match into.next() {
                Some(octet) => *octet = (bits >> count) as u8,
                None => break,
            }
        }
    }
    into.next().is_none().then_some(())
}

/// A base64 character's value (RFC 4648 sections 4 and 5).
#[inline]
fn sextet(character: u8) -> Option<u8> {
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

    use super::*;

    const TOKEN: &[u8; 40] = b"bs1.ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456_-z";

    #[test]
    fn each_alignment_of_base64_has_its_needle_and_gives_the_token_back() {
        for (before, needle) in [(0, Needle::First), (1, Needle::Second), (2, Needle::Third)] {
            for filler in [0x00, 0xff, b'a'] {
                for after in 0..4 {
                    let text = [&vec![filler; before], &TOKEN[..], &vec![filler; after]].concat();
                    let encoded = STANDARD_NO_PAD.encode(text);
                    let at = needle.find(encoded.as_bytes()).expect("the needle is there");
                    let rest = &encoded.as_bytes()[at + needle.text().len()..][..needle.rest()];
                    let candidate = needle.candidate(rest).expect("it is a candidate");
                    assert_eq!(candidate.0, TOKEN[4..], "{before} before, {after} after");
                }
            }
        }
    }

    #[test]
    fn a_needle_at_the_end_is_seen_and_no_other() {
        for needle in Needle::ALL {
            let window = needle.text().iter().fold(0xffff, |w: u64, &c| w << 8 | u64::from(c));
            assert_eq!(Needle::at_end_of(window), Some(needle));
            assert_eq!(Needle::at_end_of(window ^ 0x100), None);
            assert_eq!(Needle::at_end_of(window << 8 | 0x20), None);
            assert!(needle.text().len() <= NEEDLE_MAX && needle.rest() <= REST_MAX);
        }
    }

    #[test]
    fn base64_of_something_else_is_no_candidate() {
        let mut other = *TOKEN;
        other[20] = b' ';
        let encoded = STANDARD_NO_PAD.encode(other);
        assert_eq!(Needle::First.candidate(&encoded.as_bytes()[5..54]), None);
        let encoded = STANDARD_NO_PAD.encode(b"bs1/");
        assert!(!encoded.starts_with("YnMxLg"), "{encoded}");
        let rest = "v".repeat(49);
        assert_eq!(Needle::First.candidate(rest.as_bytes()), None, "decodes to no text");
        assert_eq!(Needle::First.candidate(b"g"), None, "too short");
    }
}
