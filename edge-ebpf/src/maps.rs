//! The maps. Sizes are the smallest that make sense; the daemon sets the configured ones when it loads.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use edge_ebpf::{
    Ban, Block, Listed, PORT_WORDS, Reason, SAMPLES_BYTES, SSH_PORT, SampleBudget, Settings, SourceKey,
    SynBudget,
};

const RESIZED: u32 = 1024;

#[map]
pub(crate) static BANS: HashMap<SourceKey, Ban> = HashMap::with_max_entries(RESIZED, 0);
#[map]
pub(crate) static BLOCKS_V4: LpmTrie<[u8; 4], Block> = LpmTrie::with_max_entries(RESIZED, 0);
#[map]
pub(crate) static BLOCKS_V6: LpmTrie<[u8; 16], Block> = LpmTrie::with_max_entries(RESIZED, 0);
#[map]
pub(crate) static ALLOW_V4: LpmTrie<[u8; 4], Listed> = LpmTrie::with_max_entries(RESIZED, 0);
#[map]
pub(crate) static ALLOW_V6: LpmTrie<[u8; 16], Listed> = LpmTrie::with_max_entries(RESIZED, 0);
#[map]
pub(crate) static NEVER_BAN_V4: LpmTrie<[u8; 4], Listed> = LpmTrie::with_max_entries(RESIZED, 0);
#[map]
pub(crate) static NEVER_BAN_V6: LpmTrie<[u8; 16], Listed> = LpmTrie::with_max_entries(RESIZED, 0);
#[map]
pub(crate) static SYN_BUDGETS: LruHashMap<SourceKey, SynBudget> = LruHashMap::with_max_entries(RESIZED, 0);
#[map]
pub(crate) static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);
#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::COUNT, 0);
#[map]
pub(crate) static SAMPLES: RingBuf = RingBuf::with_byte_size(SAMPLES_BYTES, 0);
#[map]
pub(crate) static SAMPLE_BUDGET: PerCpuArray<SampleBudget> = PerCpuArray::with_max_entries(1, 0);

/// Whether TCP to this port is judged.
#[inline(always)]
pub(crate) fn protected(port: u16) -> bool {
    match PORTS.get(u32::from(port) / 64) {
        Some(word) => (*word >> (port % 64)) & 1 == 1 && port != SSH_PORT,
        None => false,
    }
}
