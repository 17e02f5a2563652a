//! The program in the kernel, with maps of its own, run on one frame at a time.

use std::io::ErrorKind;
use std::net::IpAddr;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use edge_ebpf::{Action, Ban, Block, Listed, NEVER, Reason, Settings, SourceKey, SynBudget, map_names};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// The settings of a program under test, unless a row says otherwise: it enforces, and budgets suffice.
pub(crate) const ENFORCE: Settings =
    Settings { syn_interval_ns: NEVER, syn_burst: 1000, watch: 0, samples_per_sec: 0, _zero: 0 };

/// What is in the maps before the frame comes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry {
    Ban(&'static str, u64),
    Block(&'static str, u64),
    Allow(&'static str),
    NeverBan(&'static str),
    /// A source's budget: `full_ns`, `spent`.
    SynBudget(&'static str, u64, u64),
    Settings(Settings),
    /// A protected port beside 25.
    Port(u16),
}

/// The loaded program.
pub(crate) struct Kernel {
    ebpf: Ebpf,
}

impl Kernel {
    /// Loads the program, with port 25 protected and these entries in its maps.
    pub(crate) fn with(entries: &[Entry]) -> Self {
        Self::with_sources_max(entries, 1024)
    }

    /// The same, with so much room for SYN budgets.
    pub(crate) fn with_sources_max(entries: &[Entry], sources_max: u32) -> Self {
        require_root();
        let ebpf = EbpfLoader::new()
            .map_max_entries(map_names::SYN_BUDGETS, sources_max)
            .load(edge_user::dataplane::OBJECT)
            .expect("the kernel makes the maps");
        let mut kernel = Self { ebpf };
        kernel.load().expect("the verifier accepts the program");
        kernel.set_up(entries);
        kernel
    }

    /// A signal that comes while the verifier works ends that with EAGAIN: it is asked again, as the daemon does.
    fn load(&mut self) -> Result<(), ProgramError> {
        for _ in 1..20 {
            match self.program().load() {
                Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == ErrorKind::WouldBlock => {
                }
                done => return done,
            }
        }
        self.program().load()
    }

    /// Port 25, the settings [`ENFORCE`], these entries, and nothing else.
    pub(crate) fn set_up(&mut self, entries: &[Entry]) {
        clear(self.hash::<Ban>(map_names::BANS));
        clear(self.syn_budgets());
        self.clear_list::<Block>(map_names::BLOCKS_V4, map_names::BLOCKS_V6);
        self.clear_list::<Listed>(map_names::ALLOW_V4, map_names::ALLOW_V6);
        self.clear_list::<Listed>(map_names::NEVER_BAN_V4, map_names::NEVER_BAN_V6);
        let mut ports: Array<_, u64> = Array::try_from(self.map(map_names::PORTS)).unwrap();
        for word in 0..ports.len() {
            if ports.get(&word, 0).unwrap() != 0 {
                ports.set(word, 0, 0).unwrap();
            }
        }
        self.set(Entry::Settings(ENFORCE));
        self.set(Entry::Port(25));
        for entry in entries {
            self.set(*entry);
        }
    }

    fn clear_list<V: Pod>(&mut self, v4: &str, v6: &str) {
        let mut v4: LpmTrie<_, [u8; 4], V> = LpmTrie::try_from(self.map(v4)).unwrap();
        for key in v4.keys().collect::<Result<Vec<_>, _>>().unwrap() {
            v4.remove(&key).unwrap();
        }
        let mut v6: LpmTrie<_, [u8; 16], V> = LpmTrie::try_from(self.map(v6)).unwrap();
        for key in v6.keys().collect::<Result<Vec<_>, _>>().unwrap() {
            v6.remove(&key).unwrap();
        }
    }

    fn program(&mut self) -> &mut Xdp {
        self.ebpf.program_mut(edge_ebpf::PROGRAM).expect("the program").try_into().expect("XDP")
    }

    /// Changes a map.
    pub(crate) fn set(&mut self, entry: Entry) {
        match entry {
            Entry::Ban(source, until_ns) => {
                let ban = Ban { until_ns, cause: 0, _zero: 0 };
                self.hash(map_names::BANS).insert(key(source), ban, 0).unwrap();
            }
            Entry::Block(prefix, until_ns) => {
                self.list(prefix, Block { until_ns }, map_names::BLOCKS_V4, map_names::BLOCKS_V6);
            }
            Entry::Allow(prefix) => {
                self.list(prefix, Listed { origin: 0 }, map_names::ALLOW_V4, map_names::ALLOW_V6);
            }
            Entry::NeverBan(prefix) => {
                let listed = Listed { origin: 0 };
                self.list(prefix, listed, map_names::NEVER_BAN_V4, map_names::NEVER_BAN_V6);
            }
            Entry::SynBudget(source, full_ns, spent) => {
                self.syn_budgets().insert(key(source), SynBudget { full_ns, spent }, 0).unwrap();
            }
            Entry::Settings(settings) => {
                let map = self.ebpf.map_mut(map_names::SETTINGS).unwrap();
                Array::try_from(map).unwrap().set(0, settings, 0).unwrap();
            }
            Entry::Port(port) => {
                let map = self.ebpf.map_mut(map_names::PORTS).unwrap();
                let mut ports: Array<_, u64> = Array::try_from(map).unwrap();
                let word = u32::from(port) / 64;
                let set = ports.get(&word, 0).unwrap() | 1 << (port % 64);
                ports.set(word, set, 0).unwrap();
            }
        }
    }

    fn hash<V: Pod>(&mut self, name: &str) -> HashMap<&mut MapData, SourceKey, V> {
        HashMap::try_from(self.ebpf.map_mut(name).unwrap()).unwrap()
    }

    /// The SYN budgets.
    pub(crate) fn syn_budgets(&mut self) -> HashMap<&mut MapData, SourceKey, SynBudget> {
        self.hash(map_names::SYN_BUDGETS)
    }

    /// Another map, by its name.
    pub(crate) fn map(&mut self, name: &str) -> &mut aya::maps::Map {
        self.ebpf.map_mut(name).unwrap()
    }

    /// Takes a map out, for who wants to own it.
    pub(crate) fn take_map(&mut self, name: &str) -> aya::maps::Map {
        self.ebpf.take_map(name).unwrap()
    }

    fn list<V: Pod>(&mut self, prefix: &str, value: V, v4: &str, v6: &str) {
        let (address, length) = prefix.split_once('/').expect("a prefix");
        let length = length.parse().expect("a prefix length");
        match address.parse().expect("an address") {
            IpAddr::V4(address) => {
                let mut map: LpmTrie<_, [u8; 4], V> = LpmTrie::try_from(self.map(v4)).unwrap();
                map.insert(&Key::new(length, address.octets()), value, 0).unwrap();
            }
            IpAddr::V6(address) => {
                let mut map: LpmTrie<_, [u8; 16], V> = LpmTrie::try_from(self.map(v6)).unwrap();
                map.insert(&Key::new(length, address.octets()), value, 0).unwrap();
            }
        }
    }

    /// Judges one frame: what became of it, and the one counter that it moved.
    pub(crate) fn judge(&mut self, frame: &[u8]) -> (Action, Reason) {
        let before = self.counters();
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        let result = self.program().test_run(options).expect("BPF_PROG_TEST_RUN");
        let action = match result.return_value {
            XDP_PASS => Action::Pass,
            XDP_DROP => Action::Drop,
            other => panic!("the program answered {other}"),
        };
        let after = self.counters();
        let moved: Vec<_> =
            Reason::ALL.iter().zip(before.iter().zip(&after)).filter(|(_, (b, a))| b != a).collect();
        match moved[..] {
            [(reason, (before, after))] if before + 1 == *after => (action, *reason),
            _ => panic!("not exactly one counter moved by one: {moved:?}"),
        }
    }

    fn counters(&mut self) -> Vec<u64> {
        let counters: PerCpuArray<_, u64> = PerCpuArray::try_from(self.map(map_names::COUNTERS)).unwrap();
        (0..Reason::COUNT).map(|reason| counters.get(&reason, 0).unwrap().iter().sum()).collect()
    }
}

fn clear<V: Pod>(mut map: HashMap<&mut MapData, SourceKey, V>) {
    for key in map.keys().collect::<Result<Vec<_>, _>>().unwrap() {
        map.remove(&key).unwrap();
    }
}

/// The key of a source: an IPv4 address, or an IPv6 address for its /64.
pub(crate) fn key(source: &str) -> SourceKey {
    match source.parse().expect("an address") {
        IpAddr::V4(address) => SourceKey::v4(address.octets()),
        IpAddr::V6(address) => SourceKey::v6(address.octets()[..8].try_into().unwrap()),
    }
}

/// These tests cannot run without root, and say so instead of passing.
pub(crate) fn require_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "the XDP tests need root: run them by `sudo cargo xtask test`, or leave them out by \
         `cargo xtask test --unprivileged`"
    );
}

/// The clock that the program judges by, nanoseconds.
pub(crate) fn now_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE).unwrap();
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}
