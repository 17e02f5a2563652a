//! The search for where the lines of a message (RFC 5321 section 2.3.8) are not simply lines.

use crate::avx2::Avx2;

/// Octets that are looked at as a whole, where there are no vectors but what the compiler makes.
const BLOCK_BYTES: usize = 32;

/// The first place in `text` whose octet and the next are odd together: a CR without its LF, anything else before an LF, or
/// an LF before a dot. What stands before the first octet and behind the last, the caller knows.
#[inline]
#[must_use]
pub fn first_odd_pair(text: &[u8]) -> Option<usize> {
    match Avx2::detected() {
        Some(avx2) => avx2.first_odd_pair(text),
        None => by_blocks(text),
    }
}

/// Whether two neighbours are odd.
#[inline]
pub(crate) const fn is_odd(before: u8, octet: u8) -> bool {
    ((before == b'\r') != (octet == b'\n')) | ((before == b'\n') & (octet == b'.'))
}

fn by_blocks(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(block) = text[at..].first_chunk::<{ BLOCK_BYTES + 1 }>() {
        // Written so that the compiler makes vectors of it.
        let pairs = block[..BLOCK_BYTES].iter().zip(&block[1..]);
        if pairs.fold(0, |odd, (before, octet)| odd | u8::from(is_odd(*before, *octet))) != 0 {
            break;
        }
        at += BLOCK_BYTES;
    }
    one_by_one(&text[at..]).map(|place| at + place)
}

pub(crate) fn one_by_one(text: &[u8]) -> Option<usize> {
    text.windows(2).position(|pair| is_odd(pair[0], pair[1]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all_agree(text: &[u8]) {
        let want = one_by_one(text);
        assert_eq!(first_odd_pair(text), want, "{}", text.escape_ascii());
        assert_eq!(by_blocks(text), want, "{}", text.escape_ascii());
    }

    #[test]
    fn what_is_odd_is_found_at_each_place_of_a_text_of_each_length() {
        let line = b"a line of text, of some octets\r\n";
        for len in 0..200 {
            let plain: Vec<u8> = line.iter().copied().cycle().take(len).collect();
            all_agree(&plain);
            for place in 0..len {
                for odd in *b"\r\n." {
                    let mut text = plain.clone();
                    text[place] = odd;
                    all_agree(&text);
                }
            }
        }
    }

    #[test]
    fn only_odd_pairs_are_odd() {
        for (text, odd) in [
            (&b""[..], None),
            (b"\n", None),
            (b"\r", None),
            (b"a\r\nb.\r\n\r\n", None),
            (b"a\rb", Some(1)),
            (b"\r\r\n", Some(0)),
            (b"a\n", Some(0)),
            (b"\n\n", Some(0)),
            (b"\r\n.", Some(1)),
        ] {
            assert_eq!(first_odd_pair(text), odd, "{}", text.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn however_it_is_searched_the_same_is_found(
            lines in proptest::collection::vec("[a-z.]{0,70}(\r\n|\r\n|\r\n|\r|\n|\r\n\\.)", 0..12),
            from in any::<proptest::sample::Index>(),
        ) {
            let text = lines.concat();
            all_agree(&text.as_bytes()[from.index(text.len() + 1)..]);
        }

        #[test]
        fn however_any_octets_are_searched_the_same_is_found(
            text in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            all_agree(&text);
        }
    }
}
