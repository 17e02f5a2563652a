//! The edge cannot lock anybody out: SSH's port, ARP, ICMP and IPv6 neighbour discovery pass whatever the maps say.

use std::time::Duration;

use edge_ebpf::{Action, NEVER, Reason, Settings};
use edge_user::dataplane::Dataplane;

use crate::frame::syn;
use crate::kernel::{ENFORCE, Entry, Kernel};
use crate::veth::{EDGE, EDGE6, OTHER, OTHER6, PEER, PEER6, on_veth};

const WHO: &str = "198.18.9.9";
const WHO6: &str = "2001:2:0:9::9";
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const UDP: u8 = 17;
const ARP: u16 = 0x0806;

/// The worst that maps can say: everybody is banned and blocked for ever, no SYN has a budget, and every port there
/// is protected, SSH's too.
fn hostile() -> Kernel {
    let nothing = Settings { syn_interval_ns: NEVER, syn_burst: 0, ..ENFORCE };
    let mut kernel = Kernel::with(&[
        Entry::Ban(WHO, NEVER),
        Entry::Ban(WHO6, NEVER),
        Entry::Block("0.0.0.0/0", NEVER),
        Entry::Block("::/0", NEVER),
        Entry::Settings(nothing),
    ]);
    for port in 0..=u16::MAX {
        if port % 64 == 22 || port < 64 {
            kernel.set(Entry::Port(port));
        }
    }
    kernel
}

#[test]
fn sshs_port_arp_icmp_and_neighbour_discovery_pass_whatever_the_maps_say() {
    let mut kernel = hostile();
    let frames = [
        ("a SYN to SSH", syn(WHO, 22)),
        ("a SYN to SSH, IPv6", syn(WHO6, 22)),
        ("a SYN to SSH in QinQ", syn(WHO, 22).vlans(&[0x88a8, 0x8100])),
        ("ARP", syn(WHO, 25).ether_type(ARP)),
        ("ARP in a VLAN", syn(WHO, 25).ether_type(ARP).vlans(&[0x8100])),
        ("ICMP", syn(WHO, 25).protocol(ICMP)),
        ("ICMPv6, neighbour discovery too", syn(WHO6, 25).protocol(ICMPV6)),
        ("UDP", syn(WHO, 25).protocol(UDP)),
    ];
    for (name, frame) in frames {
        assert_eq!(kernel.judge(&frame.bytes()), (Action::Pass, Reason::NotOurs), "{name}");
    }
    // And the maps do say so: the port beside SSH's is shut.
    assert_eq!(kernel.judge(&syn(WHO, 23).bytes()), (Action::Drop, Reason::Ban));
    assert_eq!(kernel.judge(&syn(OTHER, 23).bytes()), (Action::Drop, Reason::Block));
}

#[test]
fn sshs_port_cannot_be_protected() {
    on_veth(|veth| {
        let mut settings = veth.settings();
        settings.ports = vec![25, 22];
        let error = Dataplane::attach(&settings, &[], &[]).unwrap_err().to_string();
        assert!(error.contains("port 22") && error.contains("xdp.ports"), "{error}");
    });
}

#[test]
fn on_a_wire_who_is_shut_out_of_mail_still_reaches_everything_else() {
    on_veth(|veth| {
        let mut settings = veth.settings();
        settings.block = vec!["198.18.0.0/15".parse().unwrap(), "2001:2::/32".parse().unwrap()];
        settings.syn_burst = 0;
        let dataplane = Dataplane::attach(&settings, &[], &[]).unwrap();
        for source in [PEER, PEER6] {
            dataplane.ban(source.parse().unwrap(), Duration::MAX, 0).unwrap();
        }
        for source in [PEER, OTHER, PEER6, OTHER6] {
            veth.forget_neighbours();
            assert!(veth.is_dropped(source, 25), "{source} reaches port 25");
            assert!(veth.connects(source, 22), "{source} does not reach SSH");
            assert!(veth.answers_ping(source), "{source} gets no answer to a ping");
            let edge = if source.contains(':') { EDGE6 } else { EDGE };
            assert!(veth.knows_neighbour(edge), "{source} cannot resolve {edge}");
        }
    });
}
