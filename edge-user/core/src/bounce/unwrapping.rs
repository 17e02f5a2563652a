//! From the wire to the text it carries, as far as a token could be torn by it: soft line breaks and escapes of
//! quoted-printable, line ends, dot-stuffing, folding, and the marks of quoted lines.
//!
//! It knows no structure: everything is unwrapped everywhere. What that joins wrongly is at worst a false candidate,
//! which its MAC refuses. What it never does is hide a token that is there: no token holds a character that is
//! taken off here.

/// Takes what was unwrapped.
pub(super) trait Text {
    /// A character that stood on the wire as it is.
    fn character(&mut self, character: u8);
    /// A character that was escaped (`=62`).
    fn escaped(&mut self, character: u8);
    /// A soft line break of quoted-printable was taken off here.
    fn soft_break(&mut self);
    /// Whether the text ends with the magic but for its dot, so that a dot at the start of a line is the magic's.
    fn wants_dot(&self) -> bool;
}

/// Where the unwrapping stands between two octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unwrapping {
    /// Within a line.
    Text,
    /// Behind a line end, before the line's text.
    LineStart,
    /// Behind `!`: sendmail breaks long lines as `!`, a line end and a blank.
    Bang,
    /// Behind `=`.
    Equals,
    /// Behind `=` and blanks, which is a soft line break with padding, if a line end comes next (RFC 2045 section
    /// 6.7 rule 3).
    EqualsBlanks,
    /// Behind `=` and this hexadecimal digit.
    EqualsDigit(u8),
}

impl Unwrapping {
    /// Whether nothing of what comes next depends on what came before, where no needle has begun: it stands in no escape.
    #[inline]
    pub(super) const fn may_leap(self) -> bool {
        match self {
            Self::Text | Self::LineStart | Self::Bang | Self::EqualsBlanks => true,
            Self::Equals | Self::EqualsDigit(_) => false,
        }
    }

    /// Takes one octet.
    #[inline]
    pub(super) fn step(&mut self, octet: u8, text: &mut impl Text) {
        match *self {
            Self::Text => self.text(octet, text),
            Self::LineStart => match octet {
                b'\r' | b'\n' | b' ' | b'\t' | b'>' | b'|' => {}
                // Stuffed (RFC 5321 section 4.5.2) or not, as in a file: one dot is the magic's, the other stuffing.
                b'.' => {
                    if text.wants_dot() {
                        text.character(b'.');
                    }
                }
                _ => self.text(octet, text),
            },
            Self::Bang => match octet {
                b'\r' | b'\n' => *self = Self::LineStart,
                _ => {
                    text.character(b'!');
                    self.text(octet, text);
                }
            },
            Self::Equals => match octet {
                b'\r' | b'\n' => self.soft_break(text),
                b' ' | b'\t' => *self = Self::EqualsBlanks,
                _ if octet.is_ascii_hexdigit() => *self = Self::EqualsDigit(octet),
                _ => {
                    text.character(b'=');
                    self.text(octet, text);
                }
            },
            Self::EqualsBlanks => match octet {
                b'\r' | b'\n' => self.soft_break(text),
                b' ' | b'\t' => {}
                _ => {
                    text.character(b'=');
                    self.text(octet, text);
                }
            },
            Self::EqualsDigit(first) => match escape(first, octet) {
                Some(character) => {
                    *self = Self::Text;
                    text.escaped(character);
                }
                None => {
                    text.character(b'=');
                    text.character(first);
                    self.text(octet, text);
                }
            },
        }
    }

    #[inline]
    fn text(&mut self, octet: u8, text: &mut impl Text) {
        match octet {
            b'\r' | b'\n' => *self = Self::LineStart,
            b'=' => *self = Self::Equals,
            b'!' => *self = Self::Bang,
            _ => {
                *self = Self::Text;
                text.character(octet);
            }
        }
    }

    fn soft_break(&mut self, text: &mut impl Text) {
        *self = Self::LineStart;
        text.soft_break();
    }
}

/// The character that `=` and these two digits are.
#[inline]
pub(super) fn escape(first: u8, second: u8) -> Option<u8> {
    Some(nibble(first)? << 4 | nibble(second)?)
}

#[inline]
fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|nibble| nibble as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen(Vec<u8>);

    impl Text for Seen {
        fn character(&mut self, character: u8) {
            self.0.push(character);
        }
        fn escaped(&mut self, character: u8) {
            self.0.push(character);
        }
        fn soft_break(&mut self) {
            self.0.push(b'~');
        }
        fn wants_dot(&self) -> bool {
            self.0.ends_with(b"bs1")
        }
    }

    fn unwrapped(wire: &str) -> String {
        let (mut seen, mut unwrapping) = (Seen::default(), Unwrapping::LineStart);
        wire.bytes().for_each(|octet| unwrapping.step(octet, &mut seen));
        String::from_utf8(seen.0).unwrap()
    }

    #[test]
    fn what_tears_a_token_is_taken_off() {
        for (wire, text) in [
            ("b=\r\ns1", "b~s1"),
            ("b=\ns1", "b~s1"),
            ("b= \t\r\ns1", "b~s1"),
            ("=62=73=31=2E", "bs1."),
            ("=2e", "."),
            ("b\r\n s1", "bs1"),
            ("b\r\n\ts1", "bs1"),
            ("> b\r\n> > s1", "bs1"),
            ("| b\n|s1", "bs1"),
            ("bs1\r\n.abc", "bs1.abc"),
            ("bs1\r\n..abc", "bs1.abc"),
            ("bs\r\n..abc", "bsabc"),
            ("YWJj\r\nZGVm\n", "YWJjZGVm"),
            ("b!\r\n s1", "bs1"),
            ("b!!\n s1", "b!s1"),
        ] {
            assert_eq!(unwrapped(wire), text, "{wire:?}");
        }
    }

    #[test]
    fn what_only_looks_like_quoted_printable_stays() {
        for wire in ["a=bs1.x", "==", "a=\"b\"", "x=zz", "==bs1", "a = 1"] {
            let kept = wire.trim_end_matches('=');
            assert!(
                unwrapped(&format!("{wire}!")).replace(' ', "").contains(&kept.replace(' ', "")),
                "{wire:?}"
            );
        }
        assert_eq!(unwrapped("a!b !c!.\n"), "a!b !c!.");
        assert_eq!(unwrapped("=bs1."), "=bs1.");
        assert_eq!(unwrapped("=4=62"), "=4b");
    }
}
