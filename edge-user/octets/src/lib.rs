//! Two searches over octets that every message goes through, by vectors of 32 octets where the machine has them (AVX2).
//!
//! - [`PairSearch`]: the first place where one of a few pairs of octets may stand;
//! - [`first_odd_pair`]: the first place where a line of a message ends otherwise than lines do.
//!
//! Both say the same with and without vectors. They are a crate of their own because of the `unsafe` in `avx2`, which the
//! crates around it do without; what it gains stands in `benches/README.md`.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod line_ends;
mod pairs;

pub use line_ends::first_odd_pair;
pub use pairs::{PairSearch, SETS_MAX, Vectors};

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
