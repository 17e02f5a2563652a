//! What a returned original's header section looks like in the text of a bounce: lines without an empty one between them,
//! at least [`FIELDS_MIN`] of which begin with the name of a field that every message has, with a Message-ID among them.
//! Mail systems quote and indent it. A Message-ID that is only talked about is none.

use super::names::is;

/// Lines of a header section that name a field which every message has, at least so many.
pub const FIELDS_MIN: u32 = 2;

/// Whether every message has a field of this name, or every mail server adds it.
pub(super) fn is_common(name: &[u8]) -> bool {
    match name.len() {
        2 => is(name, b"to") || is(name, b"cc"),
        4 => is(name, b"from") || is(name, b"date"),
        7 => is(name, b"subject"),
        8 => is(name, b"received") || is(name, b"reply-to"),
        11 => is(name, b"return-path"),
        12 => is(name, b"mime-version"),
        _ => false,
    }
}

/// How many octets of a line are marks of quoted text and indentation.
#[inline]
pub(super) fn indent(line: &[u8]) -> usize {
    line.iter().position(|octet| !matches!(octet, b' ' | b'\t' | b'>' | b'|')).unwrap_or(line.len())
}
