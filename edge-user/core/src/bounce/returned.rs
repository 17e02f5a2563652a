//! What a returned original's header section looks like in the text of a bounce: lines without an empty one between them,
//! at least [`FIELDS_MIN`] of which begin with the name of a field that every message has, with a Message-ID among them.
//! Mail systems quote and indent it. A Message-ID that is only talked about is none.

/// Lines of a header section that name a field which every message has, at least so many.
pub const FIELDS_MIN: u32 = 2;

/// The fields that every message has, or that every mail server adds.
const COMMON: [&[u8]; 9] =
    [b"from", b"to", b"cc", b"subject", b"date", b"received", b"return-path", b"reply-to", b"mime-version"];

/// Whether every message has a field of this name, or every mail server adds it.
pub(super) fn is_common(name: &[u8]) -> bool {
    COMMON.iter().any(|common| name.eq_ignore_ascii_case(common))
}

/// How many octets of a line are marks of quoted text and indentation.
#[inline]
pub(super) fn indent(line: &[u8]) -> usize {
    line.iter().position(|octet| !matches!(octet, b' ' | b'\t' | b'>' | b'|')).unwrap_or(line.len())
}
