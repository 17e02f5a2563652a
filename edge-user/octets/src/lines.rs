//! Where lines end: 64 octets are looked at together, and what was found of them is kept, for a header section's lines are short.

/// Octets of a block.
pub(crate) const BLOCK_BYTES: usize = 64;

/// The line ends (LF) of a text, for who goes from line to line: forward, or backward.
#[derive(Clone, Debug)]
pub struct LineEnds<'t> {
    text: &'t [u8],
    /// Which block was looked at last; none at first.
    block: usize,
    /// A bit for each LF in it, the first octet's lowest.
    ends: u64,
}

impl<'t> LineEnds<'t> {
    /// Those of `text`.
    #[inline]
    #[must_use]
    pub const fn of(text: &'t [u8]) -> Self {
        Self { text, block: usize::MAX, ends: 0 }
    }

    /// The first one at `from` or behind it.
    #[inline]
    #[must_use]
    pub fn first(&mut self, from: usize) -> Option<usize> {
        let mut block = from / BLOCK_BYTES;
        let mut ends = self.of_block(block) & u64::MAX << (from % BLOCK_BYTES);
        while ends == 0 {
            block += 1;
            if block * BLOCK_BYTES >= self.text.len() {
                return None;
            }
            ends = self.of_block(block);
        }
        Some(block * BLOCK_BYTES + ends.trailing_zeros() as usize)
    }

    /// The last one before `to`.
    #[inline]
    #[must_use]
    pub fn last_before(&mut self, to: usize) -> Option<usize> {
        let last = to.min(self.text.len()).checked_sub(1)?;
        let mut block = last / BLOCK_BYTES;
        let mut ends = self.of_block(block) & u64::MAX >> (BLOCK_BYTES - 1 - last % BLOCK_BYTES);
        while ends == 0 {
            block = block.checked_sub(1)?;
            ends = self.of_block(block);
        }
        Some(block * BLOCK_BYTES + ends.ilog2() as usize)
    }

    #[inline]
    fn of_block(&mut self, block: usize) -> u64 {
        if block != self.block {
            let rest = self.text.get(block * BLOCK_BYTES..).unwrap_or_default();
            self.ends = match rest.first_chunk() {
                Some(whole) => line_ends(whole),
                None => of_rest(rest),
            };
            self.block = block;
        }
        self.ends
    }
}

/// Of the last octets, which are less than a block.
#[cold]
fn of_rest(rest: &[u8]) -> u64 {
    let mut block = [0; BLOCK_BYTES];
    block[..rest.len()].copy_from_slice(rest);
    line_ends(&block)
}

#[inline]
fn line_ends(block: &[u8; BLOCK_BYTES]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    return crate::sse2::line_ends(block);
    #[cfg(not(target_arch = "x86_64"))]
    return one_by_one(block);
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn one_by_one(block: &[u8; BLOCK_BYTES]) -> u64 {
    (0..).zip(block).fold(0, |ends, (place, octet)| ends | u64::from(*octet == b'\n') << place)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn line_ends_are_where_an_lf_stands(
            lines in proptest::collection::vec(
                prop_oneof!["[a-z]{0,9}", "[a-z\r]{60,70}", "[a-z]{0,150}"], 0..9),
            asked in proptest::collection::vec(any::<proptest::sample::Index>(), 20),
        ) {
            let text = lines.join("\n").into_bytes();
            let mut ends = LineEnds::of(&text);
            // In any order: what was looked at last must have no say.
            for at in asked.iter().map(|at| at.index(text.len() + 70)) {
                let of = text.get(at..).unwrap_or_default();
                let first = of.iter().position(|octet| *octet == b'\n').map(|place| at + place);
                prop_assert_eq!(ends.first(at), first, "first at {}", at);
                let last = text[..at.min(text.len())].iter().rposition(|octet| *octet == b'\n');
                prop_assert_eq!(ends.last_before(at), last, "last before {}", at);
            }
        }

        #[test]
        fn vectors_find_what_is_found_one_by_one(
            block in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], BLOCK_BYTES),
        ) {
            let block = <&[u8; BLOCK_BYTES]>::try_from(&block[..]).unwrap();
            prop_assert_eq!(line_ends(block), one_by_one(block));
        }
    }
}
