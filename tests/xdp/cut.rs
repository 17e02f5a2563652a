//! Frames that are cut off: never a fault, never a drop.

use edge_ebpf::{Action, NEVER, Reason};

use crate::frame::{Extension, Frame, syn};
use crate::kernel::{Entry, Kernel};

const WHO: &str = "198.18.9.9";
const WHO6: &str = "2001:2:0:9::9";
/// `BPF_PROG_TEST_RUN` takes no less than an Ethernet header; no driver delivers less either.
const SHORTEST: usize = 14;

#[test]
fn a_frame_cut_at_any_byte_of_its_headers_passes() {
    use Extension::{Authentication, DestinationOptions, Fragment, HopByHop, Routing};
    let all = [HopByHop, DestinationOptions, Routing, Fragment(0, true), Authentication, DestinationOptions];
    let kinds: [(&str, Frame); 8] = [
        ("IPv4", syn(WHO, 25)),
        ("IPv4 in a VLAN", syn(WHO, 25).vlans(&[0x8100])),
        ("IPv4 in QinQ", syn(WHO, 25).vlans(&[0x88a8, 0x8100])),
        ("IPv4 with options", syn(WHO, 25).options(40)),
        ("IPv6", syn(WHO6, 25)),
        ("IPv6 in QinQ", syn(WHO6, 25).vlans(&[0x88a8, 0x8100])),
        ("IPv6 with every extension header", syn(WHO6, 25).extensions(&all)),
        ("IPv6 with a header that points far behind the frame", syn(WHO6, 25).extensions(&[HopByHop; 5])),
    ];
    let mut kernel = Kernel::with(&[
        Entry::Ban(WHO, NEVER),
        Entry::Ban(WHO6, NEVER),
        Entry::Block("0.0.0.0/0", NEVER),
        Entry::Block("::/0", NEVER),
    ]);
    for (kind, frame) in kinds {
        let whole = frame.bytes();
        for cut in SHORTEST..whole.len() {
            let judged = kernel.judge(&whole[..cut]);
            assert_eq!(judged, (Action::Pass, Reason::Malformed), "{kind}, cut before byte {cut}");
        }
        assert_eq!(kernel.judge(&whole), (Action::Drop, Reason::Ban), "{kind}, whole");
    }
}

#[test]
fn any_value_of_any_header_byte_is_judged_without_a_fault() {
    let mut kernel = Kernel::with(&[Entry::Ban(WHO, NEVER), Entry::Ban(WHO6, NEVER)]);
    for frame in [syn(WHO, 25).options(8), syn(WHO6, 25).extensions(&[Extension::HopByHop])] {
        let whole = frame.bytes();
        for place in 12..whole.len() {
            for value in [0, 1, 6, 0x0f, 0x40, 0x45, 0x60, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[place] = value;
                let (action, reason) = kernel.judge(&bytes);
                assert_eq!(action, reason.action(), "byte {place} is {value}");
            }
        }
    }
}
