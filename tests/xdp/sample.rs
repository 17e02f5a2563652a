//! Sampled drops: true, and no more than so many a second.

use aya::maps::{Array, MapData, PerCpuArray, PerCpuValues, RingBuf};
use edge_ebpf::{Action, NEVER, Reason, SampleBudget, Settings, map_names};

use crate::frame::syn;
use crate::kernel::{ENFORCE, Entry, Kernel, key};

const WHO: &str = "198.18.9.9";
const WHO6: &str = "2001:2:0:9::9";

fn ring(kernel: &mut Kernel) -> RingBuf<MapData> {
    RingBuf::try_from(kernel.take_map(map_names::SAMPLES)).unwrap()
}

/// Gives every CPU so many samples, and no second after this one.
fn samples_left(kernel: &mut Kernel, left: u32) {
    let budget = SampleBudget { next_ns: NEVER, left, skipped: 0 };
    let cpus = aya::util::nr_cpus().unwrap();
    let mut map: PerCpuArray<_, SampleBudget> =
        PerCpuArray::try_from(kernel.map(map_names::SAMPLE_BUDGET)).unwrap();
    map.set(0, PerCpuValues::try_from(vec![budget; cpus]).unwrap(), 0).unwrap();
}

fn drain(ring: &mut RingBuf<MapData>) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some(record) = ring.next() {
        records.push(record.to_vec());
    }
    records
}

#[test]
fn a_sample_says_who_and_why() {
    let mut kernel = Kernel::with(&[Entry::Ban(WHO, NEVER), Entry::Block("2001:2::/48", NEVER)]);
    let mut ring = ring(&mut kernel);
    samples_left(&mut kernel, 9);
    kernel.judge(&syn(WHO, 25).bytes());
    kernel.judge(&syn(WHO6, 25).bytes());
    kernel.set(Entry::Settings(Settings { watch: 1, ..ENFORCE }));
    kernel.judge(&syn(WHO, 25).bytes());
    kernel.judge(&syn(WHO, 80).bytes());
    let records = drain(&mut ring);
    let wanted = [(WHO, Reason::Ban), (WHO6, Reason::Block), (WHO, Reason::WatchedBan)];
    assert_eq!(records.len(), wanted.len(), "{records:?}");
    for (record, (source, reason)) in records.iter().zip(wanted) {
        let key = key(source);
        assert_eq!(record.len(), size_of::<edge_ebpf::Sample>());
        assert_eq!(record[8..12], key.family.to_ne_bytes());
        assert_eq!(record[12..20], key.net);
        assert_eq!(record[20..24], (reason as u32).to_ne_bytes());
    }
}

#[test]
fn a_flood_of_drops_is_sampled_no_more_than_the_budget_says() {
    let mut kernel = Kernel::with(&[Entry::Ban(WHO, NEVER)]);
    let mut ring = ring(&mut kernel);
    samples_left(&mut kernel, 3);
    for _ in 0..1000 {
        assert_eq!(kernel.judge(&syn(WHO, 25).bytes()), (Action::Drop, Reason::Ban));
    }
    let taken = drain(&mut ring).len();
    let cpus = aya::util::nr_cpus().unwrap();
    assert!((3..=3 * cpus).contains(&taken), "{taken} samples of 3 for each of {cpus} CPUs");
}

#[test]
fn the_next_second_has_samples_again() {
    let enough = Settings { samples_per_sec: 2, ..ENFORCE };
    let mut kernel = Kernel::with(&[Entry::Ban(WHO, NEVER), Entry::Settings(enough)]);
    let mut ring = ring(&mut kernel);
    // Budgets start used up, with the next second long begun: within 64 drops the clock is read, each CPU for itself. This
    // thread may be moved from one to another: of so many drops one of them has 64.
    for _ in 0..63 * aya::util::nr_cpus().unwrap() + 1 {
        kernel.judge(&syn(WHO, 25).bytes());
    }
    assert!(!drain(&mut ring).is_empty());
}

#[test]
fn a_full_ring_loses_samples_and_no_verdict() {
    let mut kernel = Kernel::with(&[Entry::Ban(WHO, NEVER)]);
    samples_left(&mut kernel, u32::MAX);
    let frame = syn(WHO, 25).bytes();
    for _ in 0..edge_ebpf::SAMPLES_BYTES / size_of::<edge_ebpf::Sample>() as u32 {
        assert_eq!(kernel.judge(&frame), (Action::Drop, Reason::Ban));
    }
    let settings: Array<_, Settings> = Array::try_from(kernel.map(map_names::SETTINGS)).unwrap();
    assert_eq!(settings.get(&0, 0).unwrap(), ENFORCE);
}
