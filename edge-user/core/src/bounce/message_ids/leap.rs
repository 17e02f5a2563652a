//! Over lines that say nothing to the [`Reader`](super::field::Reader): those of a paragraph or header section in which
//! neither the name of a Message-ID stands nor that something is in base64.

use std::sync::LazyLock;

use super::field::is_blank;
use crate::bounce::search::Search;

/// The ends of what tells, in all cases; its beginning is looked at where one is found.
const ENDS: [&[u8]; 12] = [
    b"e-id", b"e-iD", b"e-Id", b"e-ID", b"E-id", b"E-iD", b"E-Id", b"E-ID", //
    b"se64", b"sE64", b"Se64", b"SE64",
];

/// What stands before them.
const BEGINNINGS: [&[u8]; 2] = [b"messag", b"ba"];

static SEARCH: LazyLock<Search> = LazyLock::new(|| Search::of(&ENDS));

/// From `at`, where a line begins and the reader knows of nothing: where to read on, and up to where there is nothing to
/// be gained from another leap. All that is leapt over are whole lines; a section whose end is not in `piece` is read, for
/// what tells may come with the next.
pub(super) fn leap(piece: &[u8], at: usize) -> (usize, usize) {
    let mut from = at;
    let place = loop {
        let Some(place) = SEARCH.first(piece, from) else { break piece.len() };
        let before = &piece[at..place];
        let tells = |beginning: &[u8]| {
            before.len() >= beginning.len()
                && before[before.len() - beginning.len()..].eq_ignore_ascii_case(beginning)
        };
        if BEGINNINGS.into_iter().any(tells) {
            break place;
        }
        from = place + 1;
    };
    (at + section_of(&piece[at..place]), place)
}

/// From `at`, where a line begins: where the next line begins that has a colon before `until`, or the line that `until`
/// stands in.
pub(super) fn field_line(piece: &[u8], at: usize, until: usize) -> usize {
    let lines = &piece[at..until];
    let colon = memchr::memchr(b':', lines).unwrap_or(lines.len());
    memchr::memrchr(b'\n', &lines[..colon]).map_or(at, |end| at + end + 1)
}

/// Where the lines begin that stand before the end of `text` without a blank one between them.
fn section_of(text: &[u8]) -> usize {
    let mut begins = memchr::memrchr(b'\n', text).map_or(0, |end| end + 1);
    while let Some(end) = begins.checked_sub(1) {
        let before = memchr::memrchr(b'\n', &text[..end]).map_or(0, |end| end + 1);
        if is_blank(&text[before..end]) {
            break;
        }
        begins = before;
    }
    begins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_leapt_over_and_the_section_that_tells_is_read_whole() {
        let text = "one two\r\nthree\r\n> > \r\nDate: x\r\nMESSAGE-Id: <a@b>\r\n\r\nlast\r\nline";
        let told = (text.find("Date").unwrap(), text.find("E-Id").unwrap());
        assert_eq!(leap(text.as_bytes(), 0), told);
        assert_eq!(
            leap(text.as_bytes(), text.find("\r\nlast").unwrap()),
            (text.find("last").unwrap(), text.len())
        );
    }

    #[test]
    fn only_the_whole_word_tells() {
        for (text, tells) in [
            (&b"x\n\nme-id\n\n"[..], false),
            (b"x\n\nbase64\n\n", true),
            (b"x\n\nse64\n\n", false),
            (b"x\n\nBaSe64", true),
        ] {
            assert_eq!(leap(text, 0).1 < text.len(), tells, "{}", text.escape_ascii());
        }
    }
}
