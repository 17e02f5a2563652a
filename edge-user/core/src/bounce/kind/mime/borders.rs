//! Where the parts of a multipart begin and end (RFC 2046 section 5.1.1).

use edge_octets::PairSearch;

use super::PARTS_MAX;
use crate::bounce::search::{Search, Words};

/// The end of a line, and the first dash of a border behind it. Of a pair of two octets no other is found.
static DASHES: Search = Search::new(PairSearch::new(&[(b"\n", b"-")]), || Words::of(&[b"\n-"]));

/// The parts between the lines `--boundary`, at most [`PARTS_MAX`]; each is sought when it is asked for. The last may be cut.
pub(super) fn split<'m>(body: &'m [u8], boundary: &[u8]) -> impl Iterator<Item = &'m [u8]> {
    let mut searched = 0;
    let behind_ends = std::iter::from_fn(move || {
        searched = DASHES.first(body, searched)? + 1;
        Some(searched)
    });
    let mut lines = std::iter::once(0).chain(behind_ends);
    let mut borders = std::iter::from_fn(move || lines.find_map(|at| border(body, at, boundary)));
    let (mut begins, mut is_over) = (None, false);
    let parts = std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let begin = match begins.take() {
            Some(begin) => begin,
            None => borders.next()?.behind?,
        };
        let next = borders.next();
        begins = next.as_ref().and_then(|next| next.behind);
        is_over = begins.is_none();
        Some(next.map_or(&body[begin..], |next| &body[begin..next.at]))
    });
    parts.take(PARTS_MAX)
}

/// A line `--boundary`.
struct Border {
    /// Where it begins.
    at: usize,
    /// Where the part behind it begins. `None`: it is the last.
    behind: Option<usize>,
}

/// The border that begins here, if it is one.
fn border(body: &[u8], at: usize, boundary: &[u8]) -> Option<Border> {
    let behind = body[at..].strip_prefix(b"--")?.strip_prefix(boundary)?;
    let len = match behind {
        [b'\r', b'\n', ..] => 2,
        _ => memchr::memchr(b'\n', behind).map_or(behind.len(), |end| end + 1),
    };
    match behind[..len].trim_ascii_end() {
        b"" => Some(Border { at, behind: Some(body.len() - behind.len() + len) }),
        b"--" => Some(Border { at, behind: None }),
        _ => None,
    }
}
