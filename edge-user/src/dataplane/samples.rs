//! Sampled drops: who was dropped and why, a bounded number a second.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::maps::{MapData, RingBuf};
use edge_core::source::Source;
use edge_ebpf::{Reason, Sample, SourceKey};
use std::time::Duration;

use super::bans;
use super::clock;

/// One drop, or in watch mode what would have been one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DropSample {
    /// Who.
    pub source: Source,
    /// Why.
    pub reason: Reason,
    /// How long ago.
    pub age: Duration,
}

/// The kernel's ring of samples. Readable (poll, `tokio::io::unix::AsyncFd`) when there are some.
pub struct Samples {
    ring: RingBuf<MapData>,
}

impl Samples {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// Takes up to `max` samples, oldest first; fewer mean that there are no more now.
    pub fn take(&mut self, max: usize) -> Vec<DropSample> {
        let now = clock::now_ns();
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(record) = self.ring.next() else { break };
            taken.extend(read(&record, now));
        }
        taken
    }
}

impl AsFd for Samples {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl AsRawFd for Samples {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Samples").finish_non_exhaustive()
    }
}

/// Reads a record as [`Sample`] lays it out; `None` for one that this ABI version does not write.
fn read(record: &[u8], now_ns: u64) -> Option<DropSample> {
    let record: &[u8; size_of::<Sample>()] = record.try_into().ok()?;
    let [time, rest @ ..] = record.as_chunks::<8>().0 else { return None };
    let [first, second] = rest else { return None };
    let [f0, f1, f2, f3, n0, n1, n2, n3] = *first;
    let [n4, n5, n6, n7, r0, r1, r2, r3] = *second;
    let key =
        SourceKey { family: u32::from_ne_bytes([f0, f1, f2, f3]), net: [n0, n1, n2, n3, n4, n5, n6, n7] };
    Some(DropSample {
        source: bans::source(key)?,
        reason: Reason::from_number(u32::from_ne_bytes([r0, r1, r2, r3]))?,
        age: Duration::from_nanos(now_ns.saturating_sub(u64::from_ne_bytes(*time))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(family: u32, reason: u32) -> Vec<u8> {
        let mut record = Vec::from(5u64.to_ne_bytes());
        record.extend(family.to_ne_bytes());
        record.extend([192, 0, 2, 7, 0, 0, 0, 0]);
        record.extend(reason.to_ne_bytes());
        record
    }

    #[test]
    fn a_record_is_read_as_the_kernel_lays_it_out() {
        let sample = read(&record(4, Reason::Ban as u32), 12).unwrap();
        assert_eq!(sample.source, "192.0.2.7".parse().unwrap());
        assert_eq!(sample.reason, Reason::Ban);
        assert_eq!(sample.age, Duration::from_nanos(7));
    }

    #[test]
    fn what_the_kernel_does_not_write_is_no_sample() {
        assert_eq!(read(&record(4, Reason::COUNT), 12), None);
        assert_eq!(read(&record(9, 0), 12), None);
        for cut in 0..size_of::<Sample>() {
            assert_eq!(read(&record(4, 0)[..cut], 12), None);
        }
    }
}
