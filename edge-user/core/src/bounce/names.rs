//! Names of header fields (RFC 5322 section 2.2), and other words that are the same in any case.

use edge_octets::Run;

/// What a name can have: visible octets, but the colon.
const OF_NAME: Run<1> = Run::new(b'!', [b':']);

/// Octets that these begin with and that a name can have.
#[inline]
pub(super) fn name_len(octets: &[u8]) -> usize {
    OF_NAME.len_in(octets)
}

/// A field's name and value. White space before the colon is obsolete syntax (RFC 5322 section 4.5.8), and taken.
#[inline]
pub(super) fn split_name(field: &[u8]) -> Option<(&[u8], &[u8])> {
    split_at_name(field, name_len(field))
}

/// The same, where the length of the name is known.
#[inline]
pub(super) fn split_at_name(field: &[u8], name_len: usize) -> Option<(&[u8], &[u8])> {
    let (name, rest) = field.split_at(name_len);
    let rest = if let [b':', ..] = rest { rest } else { rest.trim_ascii_start() };
    let value = rest.strip_prefix(b":").filter(|_| !name.is_empty())?;
    Some((name, value))
}

/// Whether a word is `own`, which is in lowercase, in any case. Where `own` is known when it is compiled, which only what is
/// inlined knows, many octets are compared together.
#[inline(always)]
pub(super) fn is<const N: usize>(word: &[u8], own: &[u8; N]) -> bool {
    let Ok(word) = <&[u8; N]>::try_from(word) else { return false };
    let (Some(word_end), Some(own_end)) = (word.last_chunk(), own.last_chunk()) else {
        return word.eq_ignore_ascii_case(own);
    };
    let (eights, own_eights) = (word.as_chunks().0, own.as_chunks().0);
    eights.iter().zip(own_eights).all(|(eight, own)| is_eight(eight, own)) && is_eight(word_end, own_end)
}

#[inline(always)]
fn is_eight(word: &[u8; 8], own: &[u8; 8]) -> bool {
    let case = own.map(|own| if own.is_ascii_lowercase() { b'a' - b'A' } else { 0 });
    u64::from_ne_bytes(*word) | u64::from_ne_bytes(case) == u64::from_ne_bytes(*own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_as_long_as_its_octets_are_right() {
        for octet in 0..=u8::MAX {
            for (before, behind) in (0..20).flat_map(|before| [(before, 0), (before, 1), (before, 12)]) {
                let name = [&vec![b'~'; before][..], &[octet], &vec![b'!'; behind]].concat();
                let is_right = octet.is_ascii_graphic() && octet != b':';
                let len = if is_right { name.len() } else { before };
                assert_eq!(name_len(&name), len, "{}", name.escape_ascii());
            }
        }
    }

    #[test]
    fn a_word_is_the_same_in_any_case_and_no_other() {
        fn check<const N: usize>(own: &[u8; N]) {
            for (at, octet) in (0..N).flat_map(|at| (0..=u8::MAX).map(move |octet| (at, octet))) {
                let mut word = own.to_ascii_uppercase();
                word[at] = octet;
                assert_eq!(is(&word, own), word.eq_ignore_ascii_case(own), "{}", word.escape_ascii());
            }
        }
        check(b"to");
        check(b"received");
        check(b"message-id 6{");
        check(b"message/delivery-status");
        assert!(is(b"", b"") && !is(b"message-i", b"message-id") && !is(b"message-ids", b"message-id"));
    }
}
