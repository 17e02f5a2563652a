//! The searches by AVX2.
//!
//! `unsafe` stands here for two things: the load of 32 octets, and the call of a function that a machine without AVX2 could not
//! run.
#![expect(unsafe_code, reason = "a search of a message of 4 KB costs a quarter of what it costs without")]

use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256,
    _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16, _mm256_testz_si256,
    _mm256_xor_si256,
};

use crate::line_ends;
use crate::pairs::PairSearch;

/// Octets of a vector.
const VECTOR: usize = 32;

/// A block: two vectors, and the octet that is the second of the last pair.
const BLOCK: usize = 2 * VECTOR + 1;

/// That this machine has AVX2: nothing else makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    #[inline]
    pub(crate) fn detected() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    /// [`PairSearch::first`].
    #[inline]
    pub(crate) fn first_pair(self, search: &PairSearch, text: &[u8], from: usize) -> Option<usize> {
        // SAFETY: all it asks for is AVX2; that the machine has it, `self` says.
        unsafe { first_pair(search, text, from) }
    }

    /// [`line_ends::first_odd_pair`].
    #[inline]
    pub(crate) fn first_odd_pair(self, text: &[u8]) -> Option<usize> {
        // SAFETY: as above.
        unsafe { first_odd_pair(text) }
    }
}

#[target_feature(enable = "avx2")]
fn first_pair(search: &PairSearch, text: &[u8], from: usize) -> Option<usize> {
    let (first_low, first_high) = (load(&search.first_low), load(&search.first_high));
    let (second_low, second_high) = (load(&search.second_low), load(&search.second_high));
    let low_half = _mm256_set1_epi8(0x0f);
    let agreed = |first: __m256i, second: __m256i| {
        // An octet above ASCII looks up nothing by its low half: it has its highest bit set.
        let first_high_half = _mm256_and_si256(_mm256_srli_epi16::<4>(first), low_half);
        let second_high_half = _mm256_and_si256(_mm256_srli_epi16::<4>(second), low_half);
        let of_first = _mm256_and_si256(
            _mm256_shuffle_epi8(first_low, first),
            _mm256_shuffle_epi8(first_high, first_high_half),
        );
        let of_second = _mm256_and_si256(
            _mm256_shuffle_epi8(second_low, second),
            _mm256_shuffle_epi8(second_high, second_high_half),
        );
        _mm256_and_si256(of_first, of_second)
    };
    first(text, from, agreed, |first, second| search.may_hold(first, second))
}

#[target_feature(enable = "avx2")]
fn first_odd_pair(text: &[u8]) -> Option<usize> {
    let [cr, lf, dot] = [b'\r', b'\n', b'.'].map(|octet| _mm256_set1_epi8(octet.cast_signed()));
    let odd = |before: __m256i, octet: __m256i| {
        let no_pair = _mm256_xor_si256(_mm256_cmpeq_epi8(before, cr), _mm256_cmpeq_epi8(octet, lf));
        let dot = _mm256_and_si256(_mm256_cmpeq_epi8(before, lf), _mm256_cmpeq_epi8(octet, dot));
        _mm256_or_si256(no_pair, dot)
    };
    first(text, 0, odd, line_ends::is_odd)
}

/// The first place at `from` or behind it whose octet and the next are marked: `marks` says it by octets that are not zero, for
/// the pairs of 32 octets and those behind them; `is_marked` for one pair.
#[inline]
#[target_feature(enable = "avx2")]
fn first(
    text: &[u8],
    from: usize,
    marks: impl Fn(__m256i, __m256i) -> __m256i,
    is_marked: impl Fn(u8, u8) -> bool,
) -> Option<usize> {
    let mut at = from;
    let mut rest = text.get(from..)?;
    while let Some(block) = rest.first_chunk::<BLOCK>() {
        let near = marks(load(part(block, 0)), load(part(block, 1)));
        let far = marks(load(part(block, VECTOR)), load(part(block, VECTOR + 1)));
        let any = _mm256_or_si256(near, far);
        if _mm256_testz_si256(any, any) == 0 {
            let bits = u64::from(not_zero(near)) | u64::from(not_zero(far)) << VECTOR;
            return Some(at + bits.trailing_zeros() as usize);
        }
        (at, rest) = (at + 2 * VECTOR, &rest[2 * VECTOR..]);
    }
    if let Some(block) = rest.first_chunk::<{ VECTOR + 1 }>() {
        let bits = not_zero(marks(load(part(block, 0)), load(part(block, 1))));
        if bits != 0 {
            return Some(at + bits.trailing_zeros() as usize);
        }
        at += VECTOR;
    }
    // The last pairs, together with pairs that were looked at before: their bits are shifted out.
    if let Some(block) = text.last_chunk::<{ VECTOR + 1 }>() {
        let begins = text.len() - block.len();
        let bits = u64::from(not_zero(marks(load(part(block, 0)), load(part(block, 1))))) >> (at - begins);
        return (bits != 0).then(|| at + bits.trailing_zeros() as usize);
    }
    let place = text[at..].windows(2).position(|pair| is_marked(pair[0], pair[1]))?;
    Some(at + place)
}

/// The vector of a block's octets from `at` on.
#[inline]
fn part<const BYTES: usize>(block: &[u8; BYTES], at: usize) -> &[u8; VECTOR] {
    block[at..].first_chunk().expect("a block has room for its vectors")
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(octets: &[u8; VECTOR]) -> __m256i {
    // SAFETY: `octets` are as many as are loaded, and this load needs no alignment.
    unsafe { _mm256_loadu_si256(octets.as_ptr().cast()) }
}

/// A bit for each octet that is not zero, the first octet lowest.
#[inline]
#[target_feature(enable = "avx2")]
fn not_zero(octets: __m256i) -> u32 {
    !_mm256_movemask_epi8(_mm256_cmpeq_epi8(octets, _mm256_setzero_si256())).cast_unsigned()
}
