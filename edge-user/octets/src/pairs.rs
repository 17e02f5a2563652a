//! The search for pairs of octets.
//!
//! A set is all pairs of one octet of its firsts and one of its seconds. Octets are looked up by halves: a table of sixteen
//! entries says for each low half of a first octet in which sets it occurs, another for its high half, two more do so for
//! the second; what all four agree on is the answer. Sixteen entries are what a vector instruction looks up for
//! 32 octets at once. Halves that go together in no octet of a set may still agree: such a place is given too.

use crate::avx2::Avx2;

/// Sets that are searched for at once: each has a bit of an octet.
pub const SETS_MAX: usize = 8;

/// Sixteen entries, twice: a vector looks up in its halves.
pub(crate) type Table = [u8; 32];

/// The search for some sets of pairs.
#[derive(Clone, Debug)]
pub struct PairSearch {
    pub(crate) first_low: Table,
    pub(crate) first_high: Table,
    pub(crate) second_low: Table,
    pub(crate) second_high: Table,
}

/// That this machine has the vectors by which [`PairSearch`] searches: who has a better search for a machine without may ask
/// first.
#[derive(Clone, Copy, Debug)]
pub struct Vectors(Avx2);

impl Vectors {
    /// `None`: it has none.
    #[inline]
    #[must_use]
    pub fn detected() -> Option<Self> {
        Avx2::detected().map(Self)
    }
}

impl PairSearch {
    /// For these sets, each of firsts and seconds, all of them ASCII.
    ///
    /// # Panics
    /// Where there are more than [`SETS_MAX`], or an octet is none of ASCII: when it is compiled, in a constant.
    #[must_use]
    pub const fn new(sets: &[(&[u8], &[u8])]) -> Self {
        assert!(sets.len() <= SETS_MAX, "each set needs a bit of an octet");
        let mut search =
            Self { first_low: [0; 32], first_high: [0; 32], second_low: [0; 32], second_high: [0; 32] };
        let mut set = 0;
        while set < sets.len() {
            let (firsts, seconds) = sets[set];
            enter(firsts, 1 << set, &mut search.first_low, &mut search.first_high);
            enter(seconds, 1 << set, &mut search.second_low, &mut search.second_high);
            set += 1;
        }
        search
    }

    /// The first place in `text`, at `from` or behind it, where [`may_hold`](Self::may_hold) two neighbours.
    #[inline]
    #[must_use]
    pub fn first(&self, text: &[u8], from: usize) -> Option<usize> {
        match Vectors::detected() {
            Some(vectors) => self.first_by(vectors, text, from),
            None => self.first_one_by_one(text, from),
        }
    }

    /// The same, by vectors.
    #[inline]
    #[must_use]
    pub fn first_by(&self, Vectors(avx2): Vectors, text: &[u8], from: usize) -> Option<usize> {
        avx2.first_pair(self, text, from)
    }

    pub(crate) fn first_one_by_one(&self, text: &[u8], from: usize) -> Option<usize> {
        let place = text.get(from..)?.windows(2).position(|pair| self.may_hold(pair[0], pair[1]))?;
        Some(from + place)
    }

    /// Whether these two are a pair of one of the sets. It is true for all that are, and for a few more, the same on
    /// each machine.
    #[inline]
    #[must_use]
    pub const fn may_hold(&self, first: u8, second: u8) -> bool {
        first.is_ascii()
            && second.is_ascii()
            && self.first_low[(first & 15) as usize]
                & self.first_high[(first >> 4) as usize]
                & self.second_low[(second & 15) as usize]
                & self.second_high[(second >> 4) as usize]
                != 0
    }
}

const fn enter(octets: &[u8], set: u8, low: &mut Table, high: &mut Table) {
    let mut at = 0;
    while at < octets.len() {
        assert!(octets[at].is_ascii(), "an octet that is none of ASCII is looked up nowhere");
        let (low_half, high_half) = ((octets[at] & 15) as usize, (octets[at] >> 4) as usize);
        low[low_half] |= set;
        low[16 + low_half] |= set;
        high[high_half] |= set;
        high[16 + high_half] |= set;
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETS: [(&[u8], &[u8]); 5] =
        [(b"b", b"s"), (b"Yi", b"\r\n="), (b"=", b"456"), (b"\0\x7f", b"\0\x7f"), (b"-", b"Ii")];
    const SEARCH: PairSearch = PairSearch::new(&SETS);

    #[test]
    fn each_pair_of_a_set_is_seen_and_few_others() {
        let mut others = 0;
        for (first, second) in
            (0..=u8::MAX).flat_map(|first| (0..=u8::MAX).map(move |second| (first, second)))
        {
            let held =
                SETS.iter().any(|(firsts, seconds)| firsts.contains(&first) && seconds.contains(&second));
            assert!(!held || SEARCH.may_hold(first, second), "{first:#x} {second:#x}");
            others += u32::from(!held && SEARCH.may_hold(first, second));
        }
        assert!(others < 30, "{others} of 65,536");
    }

    #[test]
    fn a_pair_is_found_at_each_place_of_a_text_of_each_length() {
        for len in 0..200 {
            for place in 0..len {
                let mut text = vec![b'x'; len];
                text[place] = b'b';
                if let Some(octet) = text.get_mut(place + 1) {
                    *octet = b's';
                }
                for from in [0, place.saturating_sub(33), place.saturating_sub(1), place, place + 1] {
                    let want = (from <= place && place + 1 < len).then_some(place);
                    assert_eq!(SEARCH.first(&text, from), want, "{place} of {len}, from {from}");
                }
            }
            assert_eq!(SEARCH.first(&vec![b'x'; len], 0), None);
            assert_eq!(SEARCH.first(&vec![b'x'; len], len + 1), None);
        }
    }

    #[test]
    fn octets_above_ascii_are_no_pairs() {
        for octets in [[0xe2, b's'], [b'b', 0xf3], [0x80, 0x80], [0xff, 0xff]] {
            assert_eq!(SEARCH.first(&octets.repeat(40), 0), None);
        }
    }

    proptest! {
        #[test]
        fn vectors_find_what_is_found_one_by_one(
            text in proptest::collection::vec(
                prop_oneof![any::<u8>(), proptest::sample::select(b"bsYi\r\n=4-I".to_vec())], 0..300),
        ) {
            for from in 0..=text.len() {
                prop_assert_eq!(SEARCH.first(&text, from), SEARCH.first_one_by_one(&text, from));
            }
        }

        #[test]
        fn vectors_find_what_is_found_one_by_one_in_rare_text(
            places in proptest::collection::vec(0_usize..700, 0..4), len in 0_usize..700,
        ) {
            let mut text = vec![b'b'; len];
            places.iter().filter(|place| **place < len).for_each(|place| text[*place] = b's');
            let mut from = 0;
            while let Some(place) = SEARCH.first_one_by_one(&text, from) {
                prop_assert_eq!(SEARCH.first(&text, from), Some(place));
                from = place + 1;
            }
            prop_assert_eq!(SEARCH.first(&text, from), None);
        }
    }
}
