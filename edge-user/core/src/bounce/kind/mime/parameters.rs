//! A `Content-Type` that is written as nearly all are: tokens, and quoted strings in which nothing is escaped (RFC 2045
//! section 5.1). What is written otherwise is the parser's.

use std::borrow::Cow;

use edge_octets::Run;

use crate::bounce::kind::VISIBLE;
use crate::bounce::names::is;

/// The media type in lowercase, and the parameters behind it. `None`: the parser must say.
pub(super) fn plain_type(raw: &[u8]) -> Option<(Cow<'static, str>, Parameters<'_>)> {
    // Where the line does not end, the value may go on.
    let raw = without_space(raw.strip_suffix(b"\n")?);
    let (media_type, parameters) = match memchr::memchr(b';', raw) {
        Some(end) => (&raw[..end], &raw[end + 1..]),
        None => (raw.strip_suffix(b"\r").unwrap_or(raw), &[][..]),
    };
    let media_type = match often(media_type) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(plain_pair(media_type)?.to_ascii_lowercase()),
    };
    Some((media_type, Parameters(parameters)))
}

/// The types that most parts of a bounce have.
fn often(media_type: &[u8]) -> Option<&'static str> {
    match () {
        () if is(media_type, b"text/plain") => Some("text/plain"),
        () if is(media_type, b"text/html") => Some("text/html"),
        () if is(media_type, b"message/rfc822") => Some("message/rfc822"),
        () if is(media_type, b"message/delivery-status") => Some("message/delivery-status"),
        () if is(media_type, b"multipart/report") => Some("multipart/report"),
        () => None,
    }
}

/// A token, `/`, a token.
fn plain_pair(media_type: &[u8]) -> Option<&str> {
    let mut tokens = media_type.split(|octet| *octet == b'/');
    let is_token = |token: &[u8]| {
        !token.is_empty()
            && token
                .iter()
                .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'+' | b'_'))
    };
    let is_plain =
        tokens.next().is_some_and(is_token) && tokens.next().is_some_and(is_token) && tokens.next().is_none();
    str::from_utf8(media_type).ok().filter(|_| is_plain)
}

/// What stands behind a plain media type and its `;`, without the last LF.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters<'m>(&'m [u8]);

impl<'m> Parameters<'m> {
    /// The first parameter of each name. `None`: the parser must say, since one of them is not written plainly.
    pub(super) fn plain<const N: usize>(&self, names: [&str; N]) -> Option<[Option<&'m str>; N]> {
        let mut found = [None; N];
        let mut rest = without_space(self.0.strip_suffix(b"\r").unwrap_or(self.0));
        while !rest.is_empty() {
            let wanted = names.iter().position(|name| is_named(rest, name));
            let behind = match wanted {
                Some(place) => &rest[names[place].len()..],
                None => token(rest, &OF_NAME)?.1,
            };
            let value;
            (value, rest) = plain_value(behind.strip_prefix(b"=")?)?;
            if let Some(place) = wanted.map(|place| &mut found[place]).filter(|place| place.is_none()) {
                *place = Some(VISIBLE.text(value)?);
            }
            rest = match without_space(rest) {
                [] => break,
                [b';', rest @ ..] => without_space(rest),
                _ => return None,
            };
        }
        Some(found)
    }
}

/// Whether a parameter begins here that has this name, which is a plain one.
fn is_named(octets: &[u8], name: &str) -> bool {
    octets.get(name.len()) == Some(&b'=') && octets[..name.len()].eq_ignore_ascii_case(name.as_bytes())
}

/// A value and what stands behind it.
fn plain_value(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let [b'"', quoted @ ..] = octets else { return token(octets, &OF_VALUE) };
    let (value, rest) = quoted.split_at(QUOTED.len_in(quoted));
    Some((value, rest.strip_prefix(b"\"").filter(|_| !value.is_empty())?))
}

/// What it begins with of such octets, at least one, and the rest.
fn token<'m>(octets: &'m [u8], of: &[bool; 256]) -> Option<(&'m [u8], &'m [u8])> {
    let len = octets.iter().position(|octet| !of[usize::from(*octet)]).unwrap_or(octets.len());
    (len > 0).then(|| octets.split_at(len))
}

/// Octets that a plain name may have, and a plain value without quotes: fewer than RFC 2045 allows.
static OF_NAME: [bool; 256] = among(b"-_.");
static OF_VALUE: [bool; 256] = among(b"-_.+/:=@");
/// And one in quotes: not what escapes, nor what an encoded word has.
const QUOTED: Run<3> = Run::new(b' ', [b'"', b'\\', b'?']);

/// Letters, digits and these.
const fn among(others: &[u8]) -> [bool; 256] {
    let mut of = [false; 256];
    let mut octet = 0_u8;
    while octet < 128 {
        of[octet as usize] = octet.is_ascii_alphanumeric();
        octet += 1;
    }
    let mut place = 0;
    while place < others.len() {
        of[others[place] as usize] = true;
        place += 1;
    }
    of
}

/// White space and folds taken off in front.
fn without_space(mut octets: &[u8]) -> &[u8] {
    loop {
        octets = match octets {
            [b' ' | b'\t', rest @ ..] => rest,
            [b'\n', b' ' | b'\t', rest @ ..] | [b'\r', b'\n', b' ' | b'\t', rest @ ..] => rest,
            _ => return octets,
        };
    }
}

#[cfg(test)]
mod tests;
