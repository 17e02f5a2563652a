//! The table: name, frame, maps before, what becomes of it, and the one counter that moves.

use edge_ebpf::{Action, NEVER, Reason, Settings};

use crate::frame::{ACK, Extension, Frame, SYN_ACK, syn};
use crate::kernel::{ENFORCE, Entry, Kernel};
use Entry::{Allow, Ban, Block, NeverBan, Port, SynBudget};

const WHO: &str = "198.18.9.9";
const WHO6: &str = "2001:2:0:9::9";
/// Another host of the same /64.
const NEIGHBOUR6: &str = "2001:2:0:9:ffff::1";
const OTHER6: &str = "2001:2:0:8::9";

const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;
const MORE_FRAGMENTS: u16 = 0x2000;
const DO_NOT_FRAGMENT: u16 = 0x4000;
const EXPERIMENT: u8 = 253; // RFC 3692

const WATCH: Entry = Entry::Settings(Settings { watch: 1, ..ENFORCE });
const NO_SYN: Entry = Entry::Settings(Settings { syn_burst: 0, ..ENFORCE });
const WATCH_NO_SYN: Entry = Entry::Settings(Settings { syn_burst: 0, watch: 1, ..ENFORCE });
const BANNED: &[Entry] = &[Ban(WHO, NEVER), Ban(WHO6, NEVER)];

struct Row {
    name: &'static str,
    frame: Frame,
    before: &'static [Entry],
    action: Action,
    counts: Reason,
}

fn row(name: &'static str, frame: Frame, before: &'static [Entry], counts: Reason) -> Row {
    // The action stands in no row, so that no row can contradict the reason's: `Reason::action` is the promise, and
    // `a_drop_is_only_ever_for_four_reasons` holds it to account.
    Row { name, frame, before, action: counts.action(), counts }
}

fn judged(name: &'static str, frame: Frame) -> Row {
    row(name, frame, BANNED, Reason::Ban)
}

fn unjudged(name: &'static str, frame: Frame, counts: Reason) -> Row {
    row(name, frame, BANNED, counts)
}

fn parsing() -> Vec<Row> {
    use Extension::{Authentication, DestinationOptions, Fragment, HopByHop, Routing};
    let all = [HopByHop, DestinationOptions, Routing, Fragment(0, true), Authentication, DestinationOptions];
    vec![
        judged("IPv4", syn(WHO, 25)),
        judged("IPv6", syn(WHO6, 25)),
        judged("IPv4 in a VLAN", syn(WHO, 25).vlans(&[VLAN])),
        judged("IPv6 in a VLAN", syn(WHO6, 25).vlans(&[VLAN])),
        judged("IPv4 in QinQ", syn(WHO, 25).vlans(&[QINQ, VLAN])),
        judged("IPv6 in QinQ", syn(WHO6, 25).vlans(&[QINQ, VLAN])),
        judged("two 802.1Q tags", syn(WHO, 25).vlans(&[VLAN, VLAN])),
        unjudged("three tags", syn(WHO, 25).vlans(&[QINQ, VLAN, VLAN]), Reason::NotOurs),
        judged("IPv4 with one word of options", syn(WHO, 25).options(4)),
        judged("IPv4 with all options", syn(WHO, 25).options(40)),
        judged("options in QinQ", syn(WHO, 25).options(40).vlans(&[QINQ, VLAN])),
        judged("hop-by-hop options", syn(WHO6, 25).extensions(&[HopByHop])),
        judged("a routing header", syn(WHO6, 25).extensions(&[Routing])),
        judged("destination options", syn(WHO6, 25).extensions(&[DestinationOptions])),
        judged("an authentication header", syn(WHO6, 25).extensions(&[Authentication])),
        judged("an atomic fragment (RFC 6946)", syn(WHO6, 25).extensions(&[Fragment(0, false)])),
        judged("all six extension headers of RFC 8200", syn(WHO6, 25).extensions(&all)),
        unjudged(
            "seven extension headers",
            syn(WHO6, 25).extensions(&[DestinationOptions; 7]),
            Reason::Malformed,
        ),
        judged("IPv4's first fragment", syn(WHO, 25).fragment(MORE_FRAGMENTS)),
        judged("IPv4 that must not be fragmented", syn(WHO, 25).fragment(DO_NOT_FRAGMENT)),
        unjudged("IPv4's second fragment", syn(WHO, 25).fragment(MORE_FRAGMENTS | 1), Reason::LaterFragment),
        unjudged("IPv4's last fragment", syn(WHO, 25).fragment(0x1fff), Reason::LaterFragment),
        judged("IPv6's first fragment", syn(WHO6, 25).extensions(&[Fragment(0, true)])),
        unjudged(
            "IPv6's second fragment",
            syn(WHO6, 25).extensions(&[Fragment(8, true)]),
            Reason::LaterFragment,
        ),
        unjudged(
            "IPv6's last fragment, behind options",
            syn(WHO6, 25).extensions(&[HopByHop, Fragment(0xfff8, false)]),
            Reason::LaterFragment,
        ),
        unjudged("not IP", syn(WHO, 25).ether_type(0x88cc), Reason::NotOurs),
        unjudged("an 802.3 length", syn(WHO, 25).ether_type(0x0040), Reason::NotOurs),
        unjudged("IPv4, not TCP", syn(WHO, 25).protocol(EXPERIMENT), Reason::NotOurs),
        unjudged("IPv6, not TCP", syn(WHO6, 25).protocol(EXPERIMENT), Reason::NotOurs),
        unjudged(
            "IPv6, not TCP, behind options",
            syn(WHO6, 25).protocol(EXPERIMENT).extensions(&[HopByHop]),
            Reason::NotOurs,
        ),
        unjudged("encrypted (ESP)", syn(WHO6, 25).protocol(50), Reason::NotOurs),
        unjudged("no next header", syn(WHO6, 25).protocol(59), Reason::NotOurs),
        unjudged("version 5 in an IPv4 frame", syn(WHO, 25).version(5), Reason::Malformed),
        unjudged("version 4 in an IPv6 frame", syn(WHO6, 25).version(4), Reason::Malformed),
        unjudged("an IPv4 header of four words", syn(WHO, 25).header_words(4), Reason::Malformed),
        unjudged("an IPv4 header of no words", syn(WHO, 25).header_words(0), Reason::Malformed),
        unjudged("a datagram that ends in its TCP header", syn(WHO, 25).total_length(39), Reason::Malformed),
        judged("a datagram that ends with its TCP header", syn(WHO, 25).total_length(40)),
        unjudged("a datagram of no length", syn(WHO, 25).total_length(0), Reason::Malformed),
        unjudged(
            "a payload that ends in its TCP header",
            syn(WHO6, 25).payload_length(19),
            Reason::Malformed,
        ),
        unjudged("a payload of no length", syn(WHO6, 25).payload_length(0), Reason::Malformed),
        unjudged(
            "a payload that ends in its options",
            syn(WHO6, 25).extensions(&[HopByHop]).payload_length(20),
            Reason::Malformed,
        ),
        unjudged("a TCP header of four words", syn(WHO, 25).tcp_words(4), Reason::Malformed),
        judged("a TCP header that claims options", syn(WHO, 25).tcp_words(15)),
        unjudged("another port", syn(WHO, 26), Reason::NotOurs),
        unjudged("another port of IPv6", syn(WHO6, 587), Reason::NotOurs),
        unjudged("port 0", syn(WHO, 0), Reason::NotOurs),
        row("the highest port, protected", syn(WHO, 65_535), &[Ban(WHO, NEVER), Port(65_535)], Reason::Ban),
        row("a second protected port", syn(WHO, 587), &[Ban(WHO, NEVER), Port(587)], Reason::Ban),
        row("the first one beside it", syn(WHO, 25), &[Ban(WHO, NEVER), Port(587)], Reason::Ban),
    ]
}

fn judging() -> Vec<Row> {
    vec![
        row("nothing against it", syn(WHO, 25), &[], Reason::Pass),
        row("nothing against it, IPv6", syn(WHO6, 25), &[], Reason::Pass),
        row("no SYN", syn(WHO, 25).flags(ACK), &[], Reason::Pass),
        row("ban is on", syn(WHO, 25), &[Ban(WHO, NEVER)], Reason::Ban),
        row("ban is on, and it is no SYN", syn(WHO, 25).flags(ACK), &[Ban(WHO, NEVER)], Reason::Ban),
        row("ban ends in 500 years", syn(WHO, 25), &[Ban(WHO, NEVER - 1)], Reason::Ban),
        row("ban is over", syn(WHO, 25), &[Ban(WHO, 1)], Reason::Pass),
        row("ban that never was", syn(WHO, 25), &[Ban(WHO, 0)], Reason::Pass),
        row("ban of a neighbour", syn(WHO, 25), &[Ban("198.18.9.8", NEVER)], Reason::Pass),
        row("IPv6 ban is on", syn(WHO6, 25), &[Ban(WHO6, NEVER)], Reason::Ban),
        row("IPv6 ban holds for the whole /64", syn(NEIGHBOUR6, 25), &[Ban(WHO6, NEVER)], Reason::Ban),
        row("IPv6 ban ends at the /64", syn(OTHER6, 25), &[Ban(WHO6, NEVER)], Reason::Pass),
        row("IPv6 ban is over", syn(WHO6, 25), &[Ban(WHO6, 1)], Reason::Pass),
        row(
            "a v4 ban is none of the v6 net with the same octets",
            syn("c612:909::1", 25),
            BANNED,
            Reason::Pass,
        ),
        row("block is on", syn(WHO, 25), &[Block("198.18.8.0/22", NEVER)], Reason::Block),
        row("block of one address", syn(WHO, 25), &[Block("198.18.9.9/32", NEVER)], Reason::Block),
        row("block of everything", syn(WHO, 25), &[Block("0.0.0.0/0", NEVER)], Reason::Block),
        row("block is over", syn(WHO, 25), &[Block("198.18.8.0/22", 1)], Reason::Pass),
        row("block elsewhere", syn(WHO, 25), &[Block("198.18.12.0/22", NEVER)], Reason::Pass),
        row(
            "the longest block decides, and is over",
            syn(WHO, 25),
            &[Block("198.18.0.0/15", NEVER), Block("198.18.9.0/24", 1)],
            Reason::Pass,
        ),
        row("IPv6 block is on", syn(WHO6, 25), &[Block("2001:2::/48", NEVER)], Reason::Block),
        row("IPv6 block beyond the /64", syn(WHO6, 25), &[Block("2001:2:0:9::8/125", NEVER)], Reason::Block),
        row("IPv6 block of the neighbour", syn(WHO6, 25), &[Block("2001:2:0:9::8/128", NEVER)], Reason::Pass),
        row("IPv6 block is over", syn(WHO6, 25), &[Block("2001:2::/48", 1)], Reason::Pass),
        row(
            "a ban is named before a block",
            syn(WHO, 25),
            &[Block("0.0.0.0/0", NEVER), Ban(WHO, NEVER)],
            Reason::Ban,
        ),
        row(
            "a ban that is over leaves the block",
            syn(WHO, 25),
            &[Block("0.0.0.0/0", NEVER), Ban(WHO, 1)],
            Reason::Block,
        ),
        row("allowed", syn(WHO, 25), &[Allow("198.18.9.9/32")], Reason::Allowed),
        row("allow beats ban", syn(WHO, 25), &[Allow("198.18.9.0/24"), Ban(WHO, NEVER)], Reason::Allowed),
        row(
            "allow beats a longer block",
            syn(WHO, 25),
            &[Allow("198.18.0.0/16"), Block("198.18.9.9/32", NEVER)],
            Reason::Allowed,
        ),
        row("allow beats the SYN budget", syn(WHO, 25), &[Allow("198.18.9.9/32"), NO_SYN], Reason::Allowed),
        row(
            "allow beats ban, IPv6",
            syn(WHO6, 25),
            &[Allow("2001:2::/48"), Ban(WHO6, NEVER)],
            Reason::Allowed,
        ),
        row(
            "allow of one address in a banned /64",
            syn(WHO6, 25),
            &[Allow("2001:2:0:9::9/128"), Ban(WHO6, NEVER)],
            Reason::Allowed,
        ),
        row(
            "allow of another address in a banned /64",
            syn(NEIGHBOUR6, 25),
            &[Allow("2001:2:0:9::9/128"), Ban(WHO6, NEVER)],
            Reason::Ban,
        ),
        row(
            "never-ban beats ban",
            syn(WHO, 25),
            &[NeverBan("198.18.9.0/24"), Ban(WHO, NEVER)],
            Reason::NeverBan,
        ),
        row(
            "never-ban beats block",
            syn(WHO, 25),
            &[NeverBan("198.18.9.0/24"), Block("198.18.9.9/32", NEVER)],
            Reason::NeverBan,
        ),
        row(
            "never-ban beats ban, IPv6",
            syn(WHO6, 25),
            &[NeverBan("2001:2::/48"), Ban(WHO6, NEVER)],
            Reason::NeverBan,
        ),
        row(
            "never-ban keeps its budget",
            syn(WHO, 25),
            &[NeverBan("198.18.9.0/24"), Ban(WHO, NEVER), NO_SYN],
            Reason::SynBudget,
        ),
        row("never-ban with nothing against it", syn(WHO, 25), &[NeverBan("198.18.9.0/24")], Reason::Pass),
        row("no budget for SYNs", syn(WHO, 25), &[NO_SYN], Reason::SynBudget),
        row("no budget for SYNs, IPv6", syn(WHO6, 25), &[NO_SYN], Reason::SynBudget),
        row("no budget, and it is no SYN", syn(WHO, 25).flags(ACK), &[NO_SYN], Reason::Pass),
        row("no budget, and it answers a SYN", syn(WHO, 25).flags(SYN_ACK), &[NO_SYN], Reason::Pass),
        row("a budget that is used up", syn(WHO, 25), &[SynBudget(WHO, 0, 1000)], Reason::SynBudget),
        row("a budget with one left", syn(WHO, 25), &[SynBudget(WHO, 0, 999)], Reason::Pass),
        row(
            "a neighbour of the /64 used it up",
            syn(NEIGHBOUR6, 25),
            &[SynBudget(WHO6, 0, 1000)],
            Reason::SynBudget,
        ),
        row("watch: ban", syn(WHO, 25), &[Ban(WHO, NEVER), WATCH], Reason::WatchedBan),
        row("watch: ban that is over", syn(WHO, 25), &[Ban(WHO, 1), WATCH], Reason::Pass),
        row("watch: block", syn(WHO, 25), &[Block("0.0.0.0/0", NEVER), WATCH], Reason::WatchedBlock),
        row("watch: IPv6 block", syn(WHO6, 25), &[Block("::/0", NEVER), WATCH], Reason::WatchedBlock),
        row("watch: budget", syn(WHO, 25), &[WATCH_NO_SYN], Reason::WatchedSynBudget),
        row("watch: allowed", syn(WHO, 25), &[Allow("198.18.9.9/32"), WATCH_NO_SYN], Reason::Allowed),
        row("watch: nothing against it", syn(WHO, 25), &[WATCH], Reason::Pass),
        row("watch: not ours", syn(WHO, 80), &[Ban(WHO, NEVER), WATCH], Reason::NotOurs),
    ]
}

/// First fragments that end within their TCP header.
fn fragmented() -> Vec<Row> {
    use Extension::{DestinationOptions, Fragment};
    let v4 = |bytes| syn(WHO, 25).fragment(MORE_FRAGMENTS).tcp_bytes(bytes);
    let v6 = |bytes| syn(WHO6, 25).extensions(&[Fragment(0, true)]).tcp_bytes(bytes);
    let tiny = Reason::TinyFragment;
    vec![
        row("IPv4, eight octets", v4(8), &[], tiny),
        row("IPv4, sixteen octets", v4(16), &[], tiny),
        row("IPv4, all but one", v4(19), &[], tiny),
        row("IPv4, all of it", v4(20), &[], Reason::Pass),
        row("IPv4, the ports and no more", v4(4), &[], tiny),
        row("IPv4, not even the ports", v4(3), BANNED, Reason::Malformed),
        row("IPv4, behind options", v4(8).options(40), &[], tiny),
        row("IPv4, in a padded frame", syn(WHO, 25).fragment(MORE_FRAGMENTS).total_length(28), &[], tiny),
        row("IPv4, ends in its options", v4(8).options(40).total_length(40), BANNED, Reason::Malformed),
        row("IPv6, eight octets", v6(8), &[], tiny),
        row("IPv6, sixteen octets", v6(16), &[], tiny),
        row("IPv6, all of it", v6(20), &[], Reason::Pass),
        row("IPv6, not even the ports", v6(0), BANNED, Reason::Malformed),
        row(
            "IPv6, options behind the fragment header",
            v6(8).extensions(&[Fragment(0, true), DestinationOptions]),
            &[],
            tiny,
        ),
        row("another port", syn(WHO, 80).fragment(MORE_FRAGMENTS).tcp_bytes(8), BANNED, Reason::NotOurs),
        row(
            "SSH's port, protected by mistake",
            syn(WHO, 22).fragment(MORE_FRAGMENTS).tcp_bytes(8),
            &[Port(22)],
            Reason::NotOurs,
        ),
        row("a short datagram that is no fragment", syn(WHO, 25).tcp_bytes(8), BANNED, Reason::Malformed),
        row(
            "a short atomic fragment",
            syn(WHO6, 25).extensions(&[Fragment(0, false)]).tcp_bytes(8),
            BANNED,
            Reason::Malformed,
        ),
        row("a banned source's", v4(8), &[Ban(WHO, NEVER)], Reason::Ban),
        row("a blocked source's", v6(8), &[Block("::/0", NEVER)], Reason::Block),
        row("an allowed source's", v4(8), &[Allow("198.18.9.9/32")], Reason::Allowed),
        row("a never-banned source's", v4(8), &[NeverBan("198.18.9.0/24"), Ban(WHO, NEVER)], tiny),
        row("watch: IPv4", v4(8), &[WATCH], Reason::WatchedTinyFragment),
        row("watch: IPv6", v6(8), &[WATCH], Reason::WatchedTinyFragment),
    ]
}

fn check(rows: &[Row]) {
    assert!(!rows.is_empty());
    let mut kernel = Kernel::with(&[]);
    let mut wrong = Vec::new();
    for Row { name, frame, before, action, counts } in rows {
        kernel.set_up(before);
        let (is, moved) = kernel.judge(&frame.bytes());
        if (is, moved) != (*action, *counts) {
            wrong.push(format!("{name}: {is:?} {}, not {action:?} {}", moved.name(), counts.name()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn only_tcp_to_a_protected_port_is_judged_however_it_is_wrapped() {
    check(&parsing());
}

#[test]
fn no_fragment_hides_its_tcp_header_from_the_program() {
    check(&fragmented());
}

#[test]
fn allow_comes_before_ban_before_block_before_budget() {
    check(&judging());
}

#[test]
fn a_drop_is_only_ever_for_four_reasons() {
    let drops: Vec<_> = Reason::ALL.iter().filter(|reason| reason.action() == Action::Drop).collect();
    assert_eq!(drops, [&Reason::Ban, &Reason::Block, &Reason::SynBudget, &Reason::TinyFragment]);
}

#[test]
fn every_reason_has_a_row() {
    let rows: Vec<_> =
        parsing().into_iter().chain(fragmented()).chain(judging()).map(|row| row.counts).collect();
    for reason in Reason::ALL {
        assert!(rows.contains(reason), "no row counts for {}", reason.name());
    }
}

#[test]
fn modes_and_bans_switch_in_the_maps_while_the_program_stays() {
    let mut kernel = Kernel::with(&[WATCH, Ban(WHO, NEVER)]);
    let frame = syn(WHO, 25).bytes();
    assert_eq!(kernel.judge(&frame), (Action::Pass, Reason::WatchedBan));
    kernel.set(Entry::Settings(ENFORCE));
    assert_eq!(kernel.judge(&frame), (Action::Drop, Reason::Ban));
    kernel.set(Ban(WHO, 1));
    assert_eq!(kernel.judge(&frame), (Action::Pass, Reason::Pass));
}
