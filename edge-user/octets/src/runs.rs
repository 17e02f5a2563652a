//! How far a text goes on with octets of one kind.
#![expect(
    unsafe_code,
    reason = "what was looked at for its octets need not be looked at again for UTF-8, octet by octet"
)]

/// Octets that are looked at together.
const TOGETHER: usize = 16;

/// A kind of octets: those of ASCII from one on, but DEL and a few more.
#[derive(Clone, Copy, Debug)]
pub struct Run<const N: usize> {
    pub(crate) least: u8,
    pub(crate) but: [u8; N],
}

impl<const N: usize> Run<N> {
    /// From `least` on, but these.
    ///
    /// # Panics
    /// Where `least` is none of ASCII: when it is compiled, in a constant.
    #[must_use]
    pub const fn new(least: u8, but: [u8; N]) -> Self {
        assert!(least.is_ascii(), "octets above ASCII are of no kind");
        Self { least, but }
    }

    /// How many octets of this kind `text` begins with.
    #[inline]
    #[must_use]
    pub fn len_in(&self, text: &[u8]) -> usize {
        let mut at = 0;
        while let Some(together) = text[at..].first_chunk() {
            let others = self.others(together);
            if others != 0 {
                return at + others.trailing_zeros() as usize;
            }
            at += TOGETHER;
        }
        let rest = &text[at..];
        // The last ones, together with octets that were looked at before: their bits are shifted out.
        if let Some(together) = text.last_chunk() {
            let others = u32::from(self.others(together)) >> (TOGETHER - rest.len());
            return at + rest.len().min(others.trailing_zeros() as usize);
        }
        at + rest.iter().position(|octet| !self.has(*octet)).unwrap_or(rest.len())
    }

    /// `octets` as text, if all of them are of this kind.
    #[inline]
    #[must_use]
    pub fn text<'t>(&self, octets: &'t [u8]) -> Option<&'t str> {
        if self.len_in(octets) < octets.len() {
            return None;
        }
        // SAFETY: each octet is of this kind, all of which is ASCII, and so it is UTF-8.
        Some(unsafe { str::from_utf8_unchecked(octets) })
    }

    /// Whether an octet is of this kind.
    #[inline]
    const fn has(&self, octet: u8) -> bool {
        let mut is_other = octet < self.least || octet >= 0x7f;
        let mut place = 0;
        while place < N {
            is_other |= octet == self.but[place];
            place += 1;
        }
        !is_other
    }

    /// A bit for each octet of another kind, the first octet's lowest.
    #[inline]
    fn others(&self, octets: &[u8; TOGETHER]) -> u16 {
        #[cfg(target_arch = "x86_64")]
        return crate::sse2::others(self, octets);
        #[cfg(not(target_arch = "x86_64"))]
        return self.others_one_by_one(octets);
    }

    #[cfg(any(test, not(target_arch = "x86_64")))]
    fn others_one_by_one(&self, octets: &[u8; TOGETHER]) -> u16 {
        (0..).zip(octets).fold(0, |others, (place, octet)| others | u16::from(!self.has(*octet)) << place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RUN: Run<2> = Run::new(b' ', [b'"', b'~']);

    #[test]
    fn a_run_is_as_long_as_its_octets_are_of_its_kind() {
        for octet in 0..=u8::MAX {
            let is_of_it = (0x20..0x7f).contains(&octet) && octet != b'"' && octet != b'~';
            for (before, behind) in (0..40).flat_map(|before| [(before, 0), (before, 1), (before, 40)]) {
                let text = [&vec![b'a'; before][..], &[octet], &vec![b' '; behind]].concat();
                let len = if is_of_it { text.len() } else { before };
                assert_eq!(RUN.len_in(&text), len, "{}", text.escape_ascii());
                let as_text = is_of_it.then(|| str::from_utf8(&text).unwrap());
                assert_eq!(RUN.text(&text), as_text, "{}", text.escape_ascii());
            }
        }
        assert_eq!(RUN.len_in(b""), 0);
    }

    proptest! {
        #[test]
        fn vectors_find_what_is_found_one_by_one(octets in proptest::array::uniform16(any::<u8>())) {
            prop_assert_eq!(RUN.others(&octets), RUN.others_one_by_one(&octets));
        }
    }
}
