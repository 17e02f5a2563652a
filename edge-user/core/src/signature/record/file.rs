//! What the record's files hold. All numbers are little endian.
//!
//! ```text
//! log of an open day:  "bslog1\0\0" | day (4) | key id (1) | 0 (3) | hashes (8 each)
//! sealed day:          "bsset1\0\0" | day (4) | key id (1) | bucket bits (1) | 0 (2) | hashes (4)
//!                      | starts (4 each) | remainders (4 each) | first 8 octets of SHA-256 of all before
//! ```
//! A log is appended to, and may end in the middle of a hash after a crash. It has no checksum: a hash that is damaged is
//! one message forgotten, and proves nothing else.

use sha2::{Digest as _, Sha256};

use super::{DayName, DaySet};

/// Octets before a log's first hash.
pub const LOG_HEAD_BYTES: usize = 16;

/// Octets of a log's hash.
pub const ENTRY_BYTES: usize = 8;

const LOG_MAGIC: &[u8; 8] = b"bslog1\0\0";
const SET_MAGIC: &[u8; 8] = b"bsset1\0\0";
const SET_HEAD_BYTES: usize = 20;
const SUM_BYTES: usize = 8;

/// Why a file cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    /// It does not begin as such a file does.
    #[error("it is no file of the record, or of another version")]
    Foreign,
    /// It belongs to another day or key than its name says.
    #[error("it holds another day than its name says")]
    Misnamed,
    /// It is shorter or longer than it says.
    #[error("it is cut off, or has more than it should")]
    Length,
    /// Its checksum or its structure is wrong.
    #[error("its checksum does not fit")]
    Sum,
}

/// How a log begins.
#[must_use]
pub fn log_head(name: DayName) -> [u8; LOG_HEAD_BYTES] {
    let mut head = [0; LOG_HEAD_BYTES];
    head[..8].copy_from_slice(LOG_MAGIC);
    head[8..12].copy_from_slice(&name.day.to_le_bytes());
    head[12] = name.key_id;
    head
}

/// The hashes in a log. An incomplete one at its end is left out; an empty log, or one with a part of its head, was begun
/// just before a crash, and holds nothing yet.
///
/// # Errors
/// It is no log of this day.
pub fn read_log(name: DayName, octets: &[u8]) -> Result<impl Iterator<Item = u64>, Damage> {
    let (head, hashes) = octets.split_at(octets.len().min(LOG_HEAD_BYTES));
    if head.iter().zip(LOG_MAGIC).any(|(is, wanted)| is != wanted) {
        return Err(Damage::Foreign);
    }
    if !log_head(name).starts_with(head) {
        return Err(Damage::Misnamed);
    }
    Ok(hashes.as_chunks::<ENTRY_BYTES>().0.iter().map(|hash| u64::from_le_bytes(*hash)))
}

/// A sealed day's file.
#[must_use]
pub fn write_set(name: DayName, set: &DaySet) -> Vec<u8> {
    let (bucket_bits, starts, remainders) = set.parts();
    let mut octets = Vec::with_capacity(SET_HEAD_BYTES + 4 * (starts.len() + remainders.len()) + SUM_BYTES);
    octets.extend_from_slice(SET_MAGIC);
    octets.extend_from_slice(&name.day.to_le_bytes());
    octets.extend_from_slice(&[name.key_id, bucket_bits as u8, 0, 0]);
    octets.extend_from_slice(&(remainders.len() as u32).to_le_bytes());
    octets.extend(starts.iter().chain(remainders).flat_map(|number| number.to_le_bytes()));
    let sum = sum(&octets);
    octets.extend_from_slice(&sum);
    octets
}

/// The set in a sealed day's file.
///
/// # Errors
/// It is damaged.
pub fn read_set(name: DayName, octets: &[u8]) -> Result<DaySet, Damage> {
    if !octets.starts_with(SET_MAGIC) {
        return Err(Damage::Foreign);
    }
    let (body, claimed) = octets.split_last_chunk::<SUM_BYTES>().ok_or(Damage::Length)?;
    let (head, numbers) = body.split_at_checked(SET_HEAD_BYTES).ok_or(Damage::Length)?;
    if sum(body) != *claimed {
        return Err(Damage::Sum);
    }
    if head[8..12] != name.day.to_le_bytes() || head[12] != name.key_id {
        return Err(Damage::Misnamed);
    }
    let bucket_bits = u32::from(head[13]);
    let (numbers, rest) = numbers.as_chunks::<4>();
    let numbers: Vec<u32> = numbers.iter().map(|number| u32::from_le_bytes(*number)).collect();
    let starts = 1_usize.checked_shl(bucket_bits).and_then(|buckets| buckets.checked_add(1));
    let (starts, remainders) =
        starts.and_then(|starts| numbers.split_at_checked(starts)).ok_or(Damage::Length)?;
    if !rest.is_empty() || head[16..20] != (remainders.len() as u32).to_le_bytes() {
        return Err(Damage::Length);
    }
    DaySet::of_parts(bucket_bits, starts.into(), remainders.into()).ok_or(Damage::Sum)
}

fn sum(octets: &[u8]) -> [u8; SUM_BYTES] {
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = Sha256::digest(octets).into();
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: DayName = DayName { day: 20_781, key_id: 3 };
    const OTHER: DayName = DayName { day: 20_782, key_id: 3 };

    #[test]
    fn a_log_is_read_back_also_where_a_crash_cut_it() {
        let mut log = log_head(NAME).to_vec();
        for hash in [1_u64, u64::MAX, 7] {
            log.extend(hash.to_le_bytes());
        }
        let read = |octets: &[u8]| read_log(NAME, octets).map(Iterator::collect::<Vec<_>>);
        assert_eq!(read(&log), Ok(vec![1, u64::MAX, 7]));
        assert_eq!(read(&log[..log.len() - 1]), Ok(vec![1, u64::MAX]));
        assert_eq!(read(&log[..16]), Ok(vec![]));
        for end in 0..=LOG_HEAD_BYTES {
            assert_eq!(read(&log[..end]), Ok(vec![]), "a crash left {end} octets of the head");
        }
        assert_eq!(read(b"bslog2"), Err(Damage::Foreign));
        assert_eq!(read(&[0; 4]), Err(Damage::Foreign));
        assert_eq!(read_log(OTHER, &log[..9]).err(), Some(Damage::Misnamed));
        assert_eq!(read(&[b'x'; 32]), Err(Damage::Foreign));
        assert_eq!(read_log(OTHER, &log).err(), Some(Damage::Misnamed));
    }

    #[test]
    fn a_set_is_read_back_and_every_damage_is_seen() {
        let set = DaySet::of((1..=100_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect());
        let octets = write_set(NAME, &set);
        assert_eq!(read_set(NAME, &octets), Ok(set));
        assert_eq!(read_set(OTHER, &octets), Err(Damage::Misnamed));
        for at in 0..octets.len() {
            let mut damaged = octets.clone();
            damaged[at] ^= 0x10;
            assert!(read_set(NAME, &damaged).is_err(), "octet {at}");
            assert!(read_set(NAME, &octets[..at]).is_err(), "cut before {at}");
        }
        assert!(read_set(NAME, &[octets.as_slice(), b"x"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn whatever_a_file_holds_nothing_panics(mut body in proptest::collection::vec(any::<u8>(), 0..200), bits in 0_u8..4) {
            let _ = read_log(NAME, &body).map(Iterator::count);
            let _ = read_set(NAME, &body);
            // Past the checksum too.
            let mut octets = write_set(NAME, &DaySet::of(vec![]));
            octets.truncate(SET_HEAD_BYTES);
            octets[13] = bits;
            octets.append(&mut body);
            let sum = sum(&octets);
            octets.extend(sum);
            if let Ok(set) = read_set(NAME, &octets) {
                for hash in [0, 1 << 32, u64::MAX / 3, u64::MAX] {
                    let _ = set.contains(hash);
                }
            }
        }
    }
}
