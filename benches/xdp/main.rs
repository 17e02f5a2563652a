//! Nanoseconds a packet of the XDP program, by `BPF_PROG_TEST_RUN`: the program's alone, without driver and network
//! stack, with one frame again and again, so with warm caches.
//!
//! `cargo bench -p backstop-benches --bench xdp` (as root). Each row runs [`ROUNDS`] times [`REPEAT`] packets, the rows
//! by turns, so that what else the machine does hits all alike; the median is what counts.

use anyhow::{Context as _, Result, ensure};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use edge_ebpf::{Ban, Block, Listed, NEVER, Settings, SourceKey, map_names};

const ROUNDS: usize = 11;
const REPEAT: u32 = 1_000_000;
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
/// Bans that stand beside the one that is looked up.
const BANS: u32 = 100_000;
/// Blocked, and as many allowed, prefixes beside it: an operator's own, and a list from elsewhere.
const PREFIXES: [u32; 2] = [16, 1000];

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// 198.18.0.0/16 is where sources come from.
const NOBODY: [u8; 4] = [198, 18, 0, 1];
const BANNED: [u8; 4] = [198, 18, 0, 2];
const BANNED_FOR_A_YEAR: [u8; 4] = [198, 18, 0, 3];
const BLOCKED: [u8; 4] = [198, 18, 0, 4];

struct Row {
    name: &'static str,
    frame: Vec<u8>,
    settings: Settings,
    action: u32,
}

fn rows() -> Vec<Row> {
    let ample = Settings { syn_interval_ns: 1, syn_burst: u32::MAX, watch: 0, samples_per_sec: 10, _zero: 0 };
    let row = |name, frame, action| Row { name, frame, settings: ample, action };
    vec![
        row("pass: ARP", arp(), XDP_PASS),
        row("pass: not ours (port 443)", frame(NOBODY, 443, SYN), XDP_PASS),
        row("pass: mail, no SYN", frame(NOBODY, 25, ACK), XDP_PASS),
        row("pass: SYN within its budget", frame(NOBODY, 25, SYN), XDP_PASS),
        row("drop: banned for ever", frame(BANNED, 25, SYN), XDP_DROP),
        row("drop: banned for a year", frame(BANNED_FOR_A_YEAR, 25, SYN), XDP_DROP),
        row("drop: blocked prefix", frame(BLOCKED, 25, SYN), XDP_DROP),
        Row {
            name: "drop: SYN over its budget",
            frame: frame(NOBODY, 25, SYN),
            settings: Settings { syn_interval_ns: NEVER, syn_burst: 1, ..ample },
            action: XDP_DROP,
        },
        Row {
            name: "pass: banned, in watch mode",
            frame: frame(BANNED, 25, SYN),
            settings: Settings { watch: 1, ..ample },
            action: XDP_PASS,
        },
    ]
}

fn main() -> Result<()> {
    println!("ns a packet (BPF_PROG_TEST_RUN, {ROUNDS} x {REPEAT}): median, least, most");
    for prefixes in PREFIXES {
        println!("beside what is looked up: {BANS} bans, {prefixes} blocked and {prefixes} allowed prefixes");
        measure(prefixes)?;
    }
    Ok(())
}

fn measure(prefixes: u32) -> Result<()> {
    let mut kernel = load(prefixes).context("this needs root")?;
    fill(&mut kernel, prefixes)?;
    let rows = rows();
    let mut nanoseconds = vec![Vec::new(); rows.len()];
    for _ in 0..ROUNDS {
        for (row, times) in rows.iter().zip(&mut nanoseconds) {
            times.push(run(&mut kernel, row).with_context(|| row.name.to_owned())?);
        }
    }
    for (row, times) in rows.iter().zip(&mut nanoseconds) {
        times.sort_unstable();
        let (median, least, most) = (times[ROUNDS / 2], times[0], times[ROUNDS - 1]);
        println!("  {:<32} {median:>5} {least:>5} {most:>5}", row.name);
    }
    Ok(())
}

fn load(prefixes: u32) -> Result<Ebpf> {
    let mut kernel = EbpfLoader::new()
        .map_max_entries(map_names::BANS, 2 * BANS)
        .map_max_entries(map_names::BLOCKS_V4, 2 * prefixes)
        .map_max_entries(map_names::ALLOW_V4, 2 * prefixes)
        .map_max_entries(map_names::SYN_BUDGETS, 262_144)
        .load(edge_user::dataplane::OBJECT)?;
    program(&mut kernel)?.load()?;
    Ok(kernel)
}

fn program(kernel: &mut Ebpf) -> Result<&mut Xdp> {
    Ok(kernel.program_mut(edge_ebpf::PROGRAM).context("no program")?.try_into()?)
}

fn fill(kernel: &mut Ebpf, prefixes: u32) -> Result<()> {
    let mut bans: HashMap<_, SourceKey, Ban> =
        HashMap::try_from(kernel.map_mut(map_names::BANS).context("no map")?)?;
    let ban = |until_ns| Ban { until_ns, cause: 0, _zero: 0 };
    for n in 0..BANS {
        let [_, b, c, d] = n.to_be_bytes();
        bans.insert(SourceKey::v4([198, 19 + b, c, d]), ban(NEVER), 0)?;
    }
    bans.insert(SourceKey::v4(BANNED), ban(NEVER), 0)?;
    bans.insert(SourceKey::v4(BANNED_FOR_A_YEAR), ban(1 << 60), 0)?;

    let mut blocks: LpmTrie<_, [u8; 4], Block> =
        LpmTrie::try_from(kernel.map_mut(map_names::BLOCKS_V4).context("no map")?)?;
    let mut spread = (0..prefixes).map(|n| Key::new(24, (n << 20 | 0x0100).to_be_bytes()));
    spread.try_for_each(|key| blocks.insert(&key, Block { until_ns: NEVER }, 0))?;
    blocks.insert(&Key::new(32, BLOCKED), Block { until_ns: NEVER }, 0)?;

    let mut allow: LpmTrie<_, [u8; 4], Listed> =
        LpmTrie::try_from(kernel.map_mut(map_names::ALLOW_V4).context("no map")?)?;
    let mut spread = (0..prefixes).map(|n| Key::new(24, (n << 20 | 0x0200).to_be_bytes()));
    spread.try_for_each(|key| allow.insert(&key, Listed { origin: 0 }, 0))?;

    let mut ports: Array<_, u64> = Array::try_from(kernel.map_mut(map_names::PORTS).context("no map")?)?;
    ports.set(0, 1u64 << 25, 0)?;
    Ok(())
}

fn run(kernel: &mut Ebpf, row: &Row) -> Result<u128> {
    let mut settings: Array<_, Settings> =
        Array::try_from(kernel.map_mut(map_names::SETTINGS).context("no map")?)?;
    settings.set(0, row.settings, 0)?;
    let once = |repeat| TestRunOptions { data_in: Some(&row.frame), repeat, ..TestRunOptions::default() };
    let program = program(kernel)?;
    program.test_run(once(1000))?; // warms the caches, and empties the budget that is to be empty
    let result = program.test_run(once(REPEAT))?;
    ensure!(result.return_value == row.action, "the program answered {}", result.return_value);
    Ok(result.duration.as_nanos())
}

/// The least that the program can have to do.
fn arp() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x06];
    frame.resize(60, 0);
    frame
}

/// A TCP segment in IPv4 in Ethernet.
fn frame(source: [u8; 4], port: u16, flags: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    frame.extend([0x45, 0, 0, 40, 0, 9, 0, 0, 64, 6, 0, 0]);
    frame.extend(source);
    frame.extend([198, 18, 0, 1]);
    frame.extend(40_000u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 255, 255, 0, 0, 0, 0]);
    frame
}
