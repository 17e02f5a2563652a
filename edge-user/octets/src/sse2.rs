//! What each x86_64 can look up in vectors of 16 octets: SSE2 is a part of it.
#![expect(
    unsafe_code,
    reason = "a header section is walked for a fifth of what a search for each line's end costs"
)]

use std::arch::x86_64::{
    __m128i, _mm_cmpeq_epi8, _mm_cmpgt_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
};

use crate::lines::BLOCK_BYTES;
use crate::runs::Run;

/// Octets of a vector.
pub(crate) const VECTOR: usize = 16;

/// A bit for each LF of a block, the first octet's lowest.
#[inline]
pub(crate) fn line_ends(block: &[u8; BLOCK_BYTES]) -> u64 {
    let (vectors, _) = block.as_chunks::<VECTOR>();
    // SAFETY: all it asks for is SSE2, which each x86_64 has.
    let ends = |vector| u64::from(unsafe { equal(vector, b'\n') });
    ends(&vectors[0]) | ends(&vectors[1]) << 16 | ends(&vectors[2]) << 32 | ends(&vectors[3]) << 48
}

/// A bit for each octet that is none of the run's, the first octet's lowest.
#[inline]
pub(crate) fn others<const N: usize>(run: &Run<N>, octets: &[u8; VECTOR]) -> u16 {
    // SAFETY: as above.
    unsafe { others_by_vector(run, octets) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn equal(octets: &[u8; VECTOR], octet: u8) -> u16 {
    bits(_mm_cmpeq_epi8(load(octets), _mm_set1_epi8(octet.cast_signed())))
}

#[inline]
#[target_feature(enable = "sse2")]
fn others_by_vector<const N: usize>(run: &Run<N>, octets: &[u8; VECTOR]) -> u16 {
    let octets = load(octets);
    // Octets above ASCII are negative, and so less than the least.
    let least = _mm_set1_epi8(run.least.cast_signed());
    let delete = _mm_set1_epi8(0x7f);
    let mut others = _mm_or_si128(_mm_cmpgt_epi8(least, octets), _mm_cmpeq_epi8(octets, delete));
    for octet in run.but {
        others = _mm_or_si128(others, _mm_cmpeq_epi8(octets, _mm_set1_epi8(octet.cast_signed())));
    }
    bits(others)
}

#[inline]
#[target_feature(enable = "sse2")]
fn load(octets: &[u8; VECTOR]) -> __m128i {
    // SAFETY: `octets` are as many as are loaded, and this load needs no alignment.
    unsafe { _mm_loadu_si128(octets.as_ptr().cast()) }
}

/// The highest bit of each octet, the first octet's lowest.
#[inline]
#[target_feature(enable = "sse2")]
fn bits(octets: __m128i) -> u16 {
    _mm_movemask_epi8(octets) as u16
}
