//! The SYN budget: it empties, refills and forgets.

use edge_ebpf::{Action, NEVER, Reason, Settings};

use crate::frame::{ACK, syn};
use crate::kernel::{ENFORCE, Entry, Kernel, key, now_ns};

const WHO: &str = "198.18.9.9";
const OTHER: &str = "198.18.9.10";
const HOUR: u64 = 3_600_000_000_000;

const PASS: (Action, Reason) = (Action::Pass, Reason::Pass);
const OVER: (Action, Reason) = (Action::Drop, Reason::SynBudget);

fn budget(syn_interval_ns: u64, syn_burst: u32) -> Entry {
    Entry::Settings(Settings { syn_interval_ns, syn_burst, ..ENFORCE })
}

#[test]
fn a_burst_passes_and_what_is_over_it_does_not() {
    for interval in [NEVER, HOUR] {
        let mut kernel = Kernel::with(&[budget(interval, 3)]);
        let frame = syn(WHO, 25).bytes();
        let judged: Vec<_> = (0..6).map(|_| kernel.judge(&frame)).collect();
        assert_eq!(judged, [PASS, PASS, PASS, OVER, OVER, OVER], "interval {interval}");
    }
}

#[test]
fn an_empty_budget_stops_syns_of_its_own_source_only() {
    let mut kernel = Kernel::with(&[budget(NEVER, 1)]);
    assert_eq!(kernel.judge(&syn(WHO, 25).bytes()), PASS);
    assert_eq!(kernel.judge(&syn(WHO, 25).bytes()), OVER);
    assert_eq!(kernel.judge(&syn(WHO, 25).flags(ACK).bytes()), PASS);
    assert_eq!(kernel.judge(&syn(OTHER, 25).bytes()), PASS);
    assert_eq!(kernel.judge(&syn(OTHER, 25).bytes()), OVER);
}

#[test]
fn the_hosts_of_one_64_share_a_budget() {
    let mut kernel = Kernel::with(&[budget(NEVER, 2)]);
    assert_eq!(kernel.judge(&syn("2001:2:0:9::1", 25).bytes()), PASS);
    assert_eq!(kernel.judge(&syn("2001:2:0:9::2", 25).bytes()), PASS);
    assert_eq!(kernel.judge(&syn("2001:2:0:9::3", 25).bytes()), OVER);
    assert_eq!(kernel.judge(&syn("2001:2:0:a::3", 25).bytes()), PASS);
}

#[test]
fn a_budget_refills_by_one_each_interval_and_up_to_the_burst() {
    // How long ago a budget of 3 was empty, in half hours, and how many SYNs pass then. Odd numbers, so that half an
    // hour may pass between setting up and judging.
    for (half_hours, passing) in [(1, 0), (3, 1), (5, 2), (7, 3), (201, 3)] {
        let mut kernel = Kernel::with(&[budget(HOUR, 3)]);
        let full_ns = (now_ns() + 3 * HOUR).saturating_sub(half_hours * HOUR / 2);
        kernel.set(Entry::SynBudget(WHO, full_ns, 0));
        let frame = syn(WHO, 25).bytes();
        let judged: Vec<_> = (0..5).map(|_| kernel.judge(&frame)).collect();
        let wanted: Vec<_> = (0..5).map(|n| if n < passing { PASS } else { OVER }).collect();
        assert_eq!(judged, wanted, "empty {half_hours} half hours ago");
    }
}

#[test]
fn a_budget_without_refill_stays_empty_whatever_the_clock_says() {
    let mut kernel = Kernel::with(&[budget(NEVER, 3), Entry::SynBudget(WHO, 1, 3)]);
    assert_eq!(kernel.judge(&syn(WHO, 25).bytes()), OVER);
}

#[test]
fn what_a_ban_drops_or_would_costs_no_budget() {
    let mut kernel = Kernel::with(&[budget(NEVER, 1), Entry::Ban(WHO, NEVER)]);
    let frame = syn(WHO, 25).bytes();
    assert_eq!(kernel.judge(&frame), (Action::Drop, Reason::Ban));
    kernel.set(Entry::Settings(Settings { syn_burst: 1, watch: 1, ..ENFORCE }));
    assert_eq!(kernel.judge(&frame), (Action::Pass, Reason::WatchedBan));
    kernel.set(Entry::Ban(WHO, 1));
    assert_eq!(kernel.judge(&frame), PASS);
    assert_eq!(kernel.judge(&frame), (Action::Pass, Reason::WatchedSynBudget));
}

#[test]
fn more_sources_than_the_map_holds_push_out_old_ones_and_all_are_judged() {
    const SOURCES_MAX: u32 = 256;
    let mut kernel = Kernel::with_sources_max(&[budget(NEVER, 1)], SOURCES_MAX);
    assert_eq!(kernel.judge(&syn(WHO, 25).bytes()), PASS);
    for n in 0..4 * SOURCES_MAX {
        let [.., c, d] = n.to_be_bytes();
        let source = format!("198.19.{c}.{d}");
        assert_eq!(kernel.judge(&syn(&source, 25).bytes()), PASS, "{source}");
    }
    let budgets = kernel.syn_budgets();
    let held = budgets.keys().count();
    assert!((1..=SOURCES_MAX as usize).contains(&held), "{held} budgets are held");
    assert!(budgets.get(&key(WHO), 0).is_err(), "the oldest is still there");
    assert_eq!(kernel.judge(&syn(WHO, 25).bytes()), PASS);
}
