//! Searches over octets that every message goes through. By vectors of 32 octets, where the machine has them (AVX2):
//!
//! - [`PairSearch`]: the first place where one of a few pairs of octets may stand;
//! - [`first_odd_pair`]: the first place where a line of a message ends otherwise than lines do.
//!
//! By vectors of 16, which each x86_64 has (SSE2), for what is short:
//!
//! - [`LineEnds`]: from line to line;
//! - [`Run`]: how far a text goes on with octets of one kind.
//!
//! All say the same with and without vectors. They are a crate of their own because of the `unsafe` in them, which the crates around
//! it do without; what it gains stands in `benches/README.md`.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod line_ends;
mod lines;
mod pairs;
mod runs;
#[cfg(target_arch = "x86_64")]
mod sse2;

pub use line_ends::first_odd_pair;
pub use lines::LineEnds;
pub use pairs::{PairSearch, SETS_MAX, Vectors};
pub use runs::Run;

/// A machine without them.
#[cfg(not(target_arch = "x86_64"))]
mod avx2 {
    use super::pairs::PairSearch;

    /// There is none.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Avx2 {}

    impl Avx2 {
        pub(crate) fn detected() -> Option<Self> {
            None
        }

        pub(crate) fn first_pair(self, _search: &PairSearch, _text: &[u8], _from: usize) -> Option<usize> {
            match self {}
        }

        pub(crate) fn first_odd_pair(self, _text: &[u8]) -> Option<usize> {
            match self {}
        }
    }
}
