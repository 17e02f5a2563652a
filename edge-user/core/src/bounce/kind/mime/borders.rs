//! Where the parts of a multipart begin and end (RFC 2046 section 5.1.1).

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::PARTS_MAX;

static DASHES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\n--"));

/// The parts between the lines `--boundary`, at most [`PARTS_MAX`]; each is sought when it is asked for. The last may be cut.
pub(super) fn split<'m>(body: &'m [u8], boundary: &[u8]) -> impl Iterator<Item = &'m [u8]> {
    let first = body.starts_with(b"--").then_some(0);
    let mut lines = first.into_iter().chain(DASHES.find_iter(body).map(|end| end + 1));
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
    let behind = body[at + 2..].strip_prefix(boundary)?;
    let len = memchr::memchr(b'\n', behind).map_or(behind.len(), |end| end + 1);
    match behind[..len].trim_ascii_end() {
        b"" => Some(Border { at, behind: Some(body.len() - behind.len() + len) }),
        b"--" => Some(Border { at, behind: None }),
        _ => None,
    }
}
