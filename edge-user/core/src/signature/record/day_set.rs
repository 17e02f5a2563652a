//! The hashes of one day that is over, in little more than four octets each.
//!
//! ```text
//! hash = bucket (b bits) | remainder (32 bits) | the rest, which is dropped
//! starts:      [0, 13, 29, ..]      where each bucket begins in remainders
//! remainders:  [4 octets each, bucket by bucket]
//! ```
//! b is such that a bucket has 8 to 16 remainders on average. So a hash that is not in the set is taken for one that is
//! with a chance of at most 16 / 2^32 = 3.7e-9; over the 17 sets of 16 days that is 6.3e-8, a sixteenth of what is
//! allowed. The starts cost a quarter to half an octet a hash.
//!
//! Not chosen: a cuckoo filter. At the same size it allows eight times as many false positives, must be as large as
//! the day may become from its first message on, and can be full before it is. A set that is never changed needs none
//! of that; while a day lasts its hashes are kept whole.

/// Average number of hashes in a bucket, at most.
const BUCKET_HASHES_MAX: usize = 16;

/// Most bits that choose a bucket: 16 million buckets.
pub(super) const BUCKET_BITS_MAX: u32 = 24;

/// A set that is never changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DaySet {
    bucket_bits: u32,
    /// One for each bucket, and one for the end.
    starts: Box<[u32]>,
    remainders: Box<[u32]>,
}

impl DaySet {
    /// The set of these hashes; at most 2^32 - 1 of them are taken.
    #[must_use]
    pub fn of(mut hashes: Vec<u64>) -> Self {
        hashes.sort_unstable();
        hashes.dedup();
        hashes.truncate(u32::MAX as usize);
        let buckets = hashes.len().div_ceil(BUCKET_HASHES_MAX).max(1).next_power_of_two();
        let bucket_bits = buckets.trailing_zeros().min(BUCKET_BITS_MAX);
        let mut starts = Vec::with_capacity((1 << bucket_bits) + 1);
        for (place, &hash) in hashes.iter().enumerate() {
            let bucket = split(hash, bucket_bits).0;
            starts.resize(starts.len().max(bucket + 1), place as u32);
        }
        starts.resize((1 << bucket_bits) + 1, hashes.len() as u32);
        let remainders = hashes.iter().map(|&hash| split(hash, bucket_bits).1).collect();
        Self { bucket_bits, starts: starts.into(), remainders }
    }

    /// The set with these parts. `None`: they do not fit together.
    pub(super) fn of_parts(bucket_bits: u32, starts: Box<[u32]>, remainders: Box<[u32]>) -> Option<Self> {
        let fits = bucket_bits <= BUCKET_BITS_MAX
            && starts.len() == (1 << bucket_bits) + 1
            && starts.is_sorted()
            && starts.first() == Some(&0)
            && starts.last().map(|&end| end as usize) == Some(remainders.len());
        fits.then_some(Self { bucket_bits, starts, remainders })
    }

    pub(super) fn parts(&self) -> (u32, &[u32], &[u32]) {
        (self.bucket_bits, &self.starts, &self.remainders)
    }

    /// Whether the hash is in it; rarely (see above) yes for one that is not.
    #[must_use]
    pub fn contains(&self, hash: u64) -> bool {
        let (bucket, remainder) = split(hash, self.bucket_bits);
        self.bucket(bucket).contains(&remainder)
    }

    fn bucket(&self, bucket: usize) -> &[u32] {
        &self.remainders[self.starts[bucket] as usize..self.starts[bucket + 1] as usize]
    }

    /// How many hashes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.remainders.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remainders.is_empty()
    }

    /// Octets of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.starts) + size_of_val(&*self.remainders)
    }
}

/// A hash's bucket and remainder.
fn split(hash: u64, bucket_bits: u32) -> (usize, u32) {
    // Shifted in two steps: by all 64 bits at once is not defined.
    let bucket = hash >> 1 >> (63 - bucket_bits);
    let remainder = hash << bucket_bits >> 32;
    (bucket as usize, remainder as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes that are spread as HMACs are (splitmix64), never the same for two seeds.
    fn hashes(seed: u64, count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(move |n| {
            let mut mixed = (seed << 40 | n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        })
    }

    #[test]
    fn what_was_put_in_is_in_it_whatever_the_size() {
        for count in [0, 1, 15, 16, 17, 100, 1000, 4096, 50_000] {
            let set = DaySet::of(hashes(1, count).collect());
            assert_eq!(set.len() as u64, count);
            assert!(hashes(1, count).all(|hash| set.contains(hash)), "{count}");
        }
        let ends = DaySet::of(vec![0, u64::MAX, u64::MAX]);
        assert!(ends.contains(0) && ends.contains(u64::MAX) && ends.len() == 2 && !ends.contains(1 << 40));
    }

    #[test]
    fn a_message_costs_little_more_than_four_octets() {
        for count in [10_000, 65_536, 100_000, 200_001] {
            let set = DaySet::of(hashes(1, count).collect());
            let bytes = set.bytes() as f64 / count as f64;
            println!("{count} messages: {bytes:.3} octets each");
            assert!((4.0..=4.52).contains(&bytes), "{count}: {bytes}");
        }
    }

    /// The chance itself is too small to be counted in a test. So it is measured with only 16 of a remainder's 32 bits, all
    /// of which are alike: it is 2^16 times as large then.
    #[test]
    fn false_positives_over_all_days_are_below_one_in_a_million() {
        const DAYS: u64 = 17;
        for count in [30_000, 65_536] {
            let sets: Vec<_> = (0..DAYS).map(|day| DaySet::of(hashes(day, count).collect())).collect();
            let (mut short, mut whole, asked) = (0_u32, 0, 50_000);
            for hash in hashes(99, asked) {
                for set in &sets {
                    let (bucket, remainder) = split(hash, set.bucket_bits);
                    short += u32::from(
                        set.bucket(bucket).iter().any(|other| other & 0xffff == remainder & 0xffff),
                    );
                    whole += u32::from(set.contains(hash));
                }
            }
            let rate = f64::from(short) / asked as f64 / 65_536.0;
            println!("{count} messages a day, {DAYS} days: a false positive in {:.0} questions", 1.0 / rate);
            assert!(rate < 1e-7, "{rate}");
            assert!(rate > 1e-8, "{rate}: the measurement measures nothing");
            assert_eq!(whole, 0);
        }
    }
}
