//! Over lines that say nothing to the [`Reader`](super::field::Reader): those of a paragraph or header section in which
//! neither the name of a Message-ID stands nor that something is in base64.

use std::ops::Range;

use edge_octets::{LineEnds, PairSearch};

use super::field::is_blank;
use crate::bounce::search::{Search, Words};

/// What tells, in any case.
const MESSAGE_ID: &[u8] = b"message-id";
const BASE64: &[u8] = b"base64";

/// Where in each of them two octets stand that are rare in text: it is searched for those.
const OF_MESSAGE_ID: usize = 7;
const OF_BASE64: usize = 3;
const PAIRS: PairSearch = PairSearch::new(&[(b"-", b"iI"), (b"eE", b"6")]);

/// What stands there, with one octet more.
const PARTS: [&[u8]; 6] = [b"-id", b"-iD", b"-Id", b"-ID", b"e64", b"E64"];

static SEARCH: Search = Search::new(PAIRS, || Words::of(&PARTS));

/// From `at`, where a line begins and the reader waits for nothing: where to read on, and up to where there is nothing to
/// be gained from another leap. All that is leapt over are whole lines; of a section whose end is not in `piece`, the fields
/// are read, for what tells may come with the next. A leap ends the section that `at` stands in, unless in that section was
/// nothing of interest (`is_calm`).
pub(super) fn leap(piece: &[u8], line_ends: &mut LineEnds<'_>, at: usize, is_calm: bool) -> (usize, usize) {
    match first_telling(|from| SEARCH.first(piece, from), piece, at) {
        Some(place) => (section_of(piece, line_ends, at..place), place),
        None => (fields_at_end(piece, line_ends, at, is_calm), piece.len()),
    }
}

/// A place within the first word at `at` or behind it that tells.
fn first_telling(first: impl Fn(usize) -> Option<usize>, piece: &[u8], at: usize) -> Option<usize> {
    let mut from = at;
    loop {
        let place = first(from)?;
        let (word, part_at) =
            if piece[place] == b'-' { (MESSAGE_ID, OF_MESSAGE_ID) } else { (BASE64, OF_BASE64) };
        let tells = place - at >= part_at
            && piece[place - part_at..].get(..word.len()).is_some_and(|text| text.eq_ignore_ascii_case(word));
        if tells {
            return Some(place - 1);
        }
        from = place + 1;
    }
}

/// Where to read on for the fields of the section that the piece ends with: where it begins; or the last line, if no line
/// before it in the section has a colon, and the section that `at` stands in is over or `is_calm`.
fn fields_at_end(piece: &[u8], line_ends: &mut LineEnds<'_>, at: usize, is_calm: bool) -> usize {
    let last = last_line(line_ends, at..piece.len());
    let Some(colon) = memchr::memrchr(b':', &piece[at..last]) else {
        return if is_calm { last } else { section_of(piece, line_ends, at..piece.len()) };
    };
    let mut begins = at + colon;
    while let Some(end) = line_ends.first(begins).filter(|end| *end < last) {
        if is_blank(&piece[begins..end]) {
            return last;
        }
        begins = end + 1;
    }
    section_of(piece, line_ends, at..piece.len())
}

/// Where the lines begin that stand before the end of a part of the piece without a blank one between them.
fn section_of(piece: &[u8], line_ends: &mut LineEnds<'_>, part: Range<usize>) -> usize {
    let mut begins = last_line(line_ends, part.clone());
    while begins > part.start {
        let end = begins - 1;
        let before = last_line(line_ends, part.start..end);
        if is_blank(&piece[before..end]) {
            break;
        }
        begins = before;
    }
    begins
}

/// Where the last line of a part of the piece begins.
#[inline]
fn last_line(line_ends: &mut LineEnds<'_>, part: Range<usize>) -> usize {
    line_ends.last_before(part.end).map_or(part.start, |end| part.start.max(end + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leap_in(text: &[u8], at: usize, is_calm: bool) -> (usize, usize) {
        leap(text, &mut LineEnds::of(text), at, is_calm)
    }

    #[test]
    fn paragraphs_are_leapt_over_and_the_section_that_tells_is_read_whole() {
        let text = "one two\r\nthree\r\n> > \r\nDate: x\r\nMESSAGE-Id: <a@b>\r\n\r\nlast\r\nline";
        let told = (text.find("Date").unwrap(), text.find("E-Id").unwrap());
        assert_eq!(leap_in(text.as_bytes(), 0, true), told);
        assert_eq!(
            leap_in(text.as_bytes(), text.find("\r\nlast").unwrap(), true),
            (text.find("line").unwrap(), text.len()),
            "no line before the last has a colon"
        );
        let text = "\r\n\r\nlast\r\na: b\r\nline";
        assert_eq!(leap_in(text.as_bytes(), 0, true), (text.find("last").unwrap(), text.len()));
        assert_eq!(leap_in(b"a: b\r\nlast\r\nline", 6, false), (6, 16), "its section does not end");
    }

    #[test]
    fn only_the_whole_word_tells() {
        for (text, tells) in [
            (&b"x\n\nme-id\n\n"[..], false),
            (b"x\n\nbase64\n\n", true),
            (b"x\n\nse64\n\n", false),
            (b"x\n\nBaSe64", true),
        ] {
            assert_eq!(leap_in(text, 0, true).1 < text.len(), tells, "{}", text.escape_ascii());
        }
    }

    /// The same, by the definition: where the words stand.
    fn by_definition(text: &[u8]) -> Option<usize> {
        (0..text.len()).find_map(|at| {
            let stands = |word: &[u8]| {
                text[at..].get(..word.len()).is_some_and(|text| text.eq_ignore_ascii_case(word))
            };
            let message_id = stands(MESSAGE_ID).then_some(at + OF_MESSAGE_ID - 1);
            message_id.or(stands(BASE64).then_some(at + OF_BASE64 - 1))
        })
    }

    proptest! {
        #[test]
        fn pairs_by_vectors_and_words_in_full_find_what_tells(
            scraps in proptest::collection::vec(
                proptest::sample::select(
                    ["Message-ID", "message-i", "d", "essage-id", "BASE64", "bas", "e64", "-", "i", "e6",
                     "a: b\r\n", "\r\n", "\n", "some more text, of a line "].to_vec()), 0..12),
        ) {
            let text = scraps.concat().into_bytes();
            let want = by_definition(&text);
            prop_assert_eq!(first_telling(|from| SEARCH.first(&text, from), &text, 0), want);
            prop_assert_eq!(first_telling(|from| SEARCH.first_of_words(&text, from), &text, 0), want);
        }
    }
}
