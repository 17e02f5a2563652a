//! The map ABI that the XDP program and the daemon share: keys, values, reasons, names and sizes.
//!
//! Addresses are byte arrays in network order, so nobody forgets a swap. Times are nanoseconds of
//! `CLOCK_MONOTONIC`, which nobody can set; the kernel reads it as of its last tick (`bpf_ktime_get_coarse_ns`), so a
//! ban may last 10 ms longer than its length. Padding has a name, and sizes and offsets are
//! asserted here, so both sides agree or neither compiles. Whoever changes a layout or a meaning raises
//! [`ABI_VERSION`]; the daemon pins under it and refuses to adopt another one's maps.
#![cfg_attr(target_arch = "bpf", no_std)]

use core::mem::{offset_of, size_of};

mod reason;

pub use reason::{Action, Reason};

/// The version of everything in this crate that both sides must agree on.
pub const ABI_VERSION: u32 = 2;

/// The XDP program's name in the object file.
pub const PROGRAM: &str = "backstop";

/// The names of the maps in the object file and in the pin directory.
pub mod map_names {
    /// [`Ban`](crate::Ban)s by [`SourceKey`](crate::SourceKey).
    pub const BANS: &str = "BANS";
    /// [`Block`](crate::Block)s by IPv4 prefix.
    pub const BLOCKS_V4: &str = "BLOCKS_V4";
    /// [`Block`](crate::Block)s by IPv6 prefix.
    pub const BLOCKS_V6: &str = "BLOCKS_V6";
    /// [`Listed`](crate::Listed) IPv4 prefixes that always pass.
    pub const ALLOW_V4: &str = "ALLOW_V4";
    /// [`Listed`](crate::Listed) IPv6 prefixes that always pass.
    pub const ALLOW_V6: &str = "ALLOW_V6";
    /// [`Listed`](crate::Listed) IPv4 prefixes that no ban or block drops.
    pub const NEVER_BAN_V4: &str = "NEVER_BAN_V4";
    /// [`Listed`](crate::Listed) IPv6 prefixes that no ban or block drops.
    pub const NEVER_BAN_V6: &str = "NEVER_BAN_V6";
    /// [`SynBudget`](crate::SynBudget)s by [`SourceKey`](crate::SourceKey); the longest unseen make room.
    pub const SYN_BUDGETS: &str = "SYN_BUDGETS";
    /// The one [`Settings`](crate::Settings).
    pub const SETTINGS: &str = "SETTINGS";
    /// The protected ports, one bit each: port `p` is bit `p % 64` of word `p / 64`.
    pub const PORTS: &str = "PORTS";
    /// Packets by [`Reason`](crate::Reason), per CPU.
    pub const COUNTERS: &str = "COUNTERS";
    /// The ring buffer of [`Sample`](crate::Sample)s.
    pub const SAMPLES: &str = "SAMPLES";
    /// The [`SampleBudget`](crate::SampleBudget) of each CPU.
    pub const SAMPLE_BUDGET: &str = "SAMPLE_BUDGET";

    /// All of them.
    pub const ALL: [&str; 13] = [
        BANS,
        BLOCKS_V4,
        BLOCKS_V6,
        ALLOW_V4,
        ALLOW_V6,
        NEVER_BAN_V4,
        NEVER_BAN_V6,
        SYN_BUDGETS,
        SETTINGS,
        PORTS,
        COUNTERS,
        SAMPLES,
        SAMPLE_BUDGET,
    ];
}

/// Words of 64 bits in the `PORTS` map.
pub const PORT_WORDS: u32 = 65_536 / 64;

/// The port that is never judged, even where `PORTS` holds it: no map can lock the operator out.
pub const SSH_PORT: u16 = 22;

/// Octets of the `SAMPLES` ring: a power of two, a multiple of the page size.
pub const SAMPLES_BYTES: u32 = 64 * 1024;

/// A time that never comes: a ban until then is for ever.
pub const NEVER: u64 = u64::MAX;

/// Key of `BANS` and `SYN_BUDGETS`: one IPv4 address, or one IPv6 /64.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceKey {
    /// 4 or 6.
    pub family: u32,
    /// The IPv4 address and four zeros, or the upper half of the IPv6 address.
    pub net: [u8; 8],
}
const _: () = assert!(size_of::<SourceKey>() == 12 && offset_of!(SourceKey, net) == 4);

impl SourceKey {
    /// The key of an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn v4(address: [u8; 4]) -> Self {
        let [a, b, c, d] = address;
        Self { family: 4, net: [a, b, c, d, 0, 0, 0, 0] }
    }

    /// The key of an IPv6 /64.
    #[inline(always)]
    #[must_use]
    pub const fn v6(net: [u8; 8]) -> Self {
        Self { family: 6, net }
    }
}

/// Value of `BANS`. The daemon writes, the kernel compares.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ban {
    /// The ban holds before this time; [`NEVER`]: for ever.
    pub until_ns: u64,
    /// Why; the daemon's numbers, of no meaning to the kernel.
    pub cause: u32,
    /// Zero.
    pub _zero: u32,
}
const _: () = assert!(size_of::<Ban>() == 16 && offset_of!(Ban, cause) == 8);

/// Value of `BLOCKS_V4` and `BLOCKS_V6`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// The block holds before this time; [`NEVER`]: for ever.
    pub until_ns: u64,
}
const _: () = assert!(size_of::<Block>() == 8);

/// Value of `ALLOW_*` and `NEVER_BAN_*`: only being there counts for the kernel.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Who put it there; the daemon's numbers.
    pub origin: u32,
}
const _: () = assert!(size_of::<Listed>() == 4);

/// Value of `SETTINGS`. The daemon replaces it while the program runs.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How long one SYN's refill takes; [`NEVER`]: a budget never refills.
    pub syn_interval_ns: u64,
    /// SYNs at once before the rate counts; 0: none passes.
    pub syn_burst: u32,
    /// Not 0: what would be dropped is counted as such, and passes.
    pub watch: u32,
    /// Samples a second, of each CPU.
    pub samples_per_sec: u32,
    /// Zero.
    pub _zero: u32,
}
const _: () = assert!(size_of::<Settings>() == 24 && offset_of!(Settings, samples_per_sec) == 16);

impl Settings {
    /// The refill interval of a rate; 0 a second never refills.
    #[must_use]
    pub const fn syn_interval_ns(syn_per_sec: u32) -> u64 {
        match syn_per_sec {
            0 => NEVER,
            rate => 1_000_000_000 / rate as u64,
        }
    }
}

/// Value of `SYN_BUDGETS`: a token bucket, kept as the time at which it is full again.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SynBudget {
    /// When the bucket is full again; in the past: it is full.
    pub full_ns: u64,
    /// SYNs let through while the rate was 0; counted because such a bucket is never full again.
    pub spent: u64,
}
const _: () = assert!(size_of::<SynBudget>() == 16 && offset_of!(SynBudget, spent) == 8);

/// Value of `SAMPLE_BUDGET`, one a CPU.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SampleBudget {
    /// When the next second's samples may be taken.
    pub next_ns: u64,
    /// Samples left in this second.
    pub left: u32,
    /// Drops since none was left; the clock is read at every 64th only.
    pub skipped: u32,
}
const _: () = assert!(size_of::<SampleBudget>() == 16 && offset_of!(SampleBudget, left) == 8);

/// A record of `SAMPLES`: one drop, or what would have been one.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// When.
    pub time_ns: u64,
    /// Who.
    pub source: SourceKey,
    /// The number of a [`Reason`].
    pub reason: u32,
}
const _: () = assert!(size_of::<Sample>() == 24 && offset_of!(Sample, reason) == 20);

#[cfg(feature = "user")]
mod pod {
    use super::{Ban, Block, Listed, SampleBudget, Settings, SourceKey, SynBudget};

    // SAFETY (all): repr(C), integers and byte arrays only, and the sizes asserted above leave no room for hidden
    // padding, so every octet is initialised and every bit pattern is a value.
    macro_rules! pod {
        ($($type:ty),*) => { $(
            // SAFETY: see above.
            unsafe impl aya::Pod for $type {}
        )* };
    }
    pod!(Ban, Block, Listed, SampleBudget, Settings, SourceKey, SynBudget);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_of_zero_never_refills() {
        assert_eq!(Settings::syn_interval_ns(0), NEVER);
        assert_eq!(Settings::syn_interval_ns(50), 20_000_000);
        assert_eq!(Settings::syn_interval_ns(1), 1_000_000_000);
    }

    #[test]
    fn the_families_never_share_a_key() {
        assert_ne!(SourceKey::v4([1, 2, 3, 4]), SourceKey::v6([1, 2, 3, 4, 0, 0, 0, 0]));
    }

    #[test]
    fn map_names_fit_the_kernels_sixteen_octets() {
        for name in map_names::ALL {
            assert!(name.len() < 16, "{name}");
        }
    }
}
