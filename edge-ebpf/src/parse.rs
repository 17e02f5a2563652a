//! From a frame to the TCP segment that may be judged, or the reason why it passes unjudged.
//!
//! Ethernet, up to [`VLAN_TAGS_MAX`] VLAN tags (IEEE 802.1Q, 802.1ad), IPv4 with options (RFC 791) or IPv6 with up to
//! [`EXTENSION_HEADERS_MAX`] extension headers (RFC 8200), TCP (RFC 9293). One pointer and one bounds check for each
//! header. What is cut off or contradicts itself passes: the network stack drops it better than we can. That is not so
//! of a first fragment that ends within its TCP header, which the stack puts together with the next one (IPv4, and IPv6
//! before Linux 5.11): it is a segment of its own [`Kind`]. More extension headers than are looked behind pass too; the
//! daemon answers such sources as it answers everybody.

use core::mem::size_of;

use aya_ebpf::programs::XdpContext;
use edge_ebpf::Reason;

use crate::maps::protected;

/// Most VLAN tags that are looked behind.
const VLAN_TAGS_MAX: usize = 2;
/// Most IPv6 extension headers that are looked behind. RFC 8200 section 4.1 names six that can precede TCP.
const EXTENSION_HEADERS_MAX: usize = 6;

const ETHER_IPV4: u16 = 0x0800;
const ETHER_IPV6: u16 = 0x86dd;
const ETHER_VLAN: u16 = 0x8100;
const ETHER_QINQ: u16 = 0x88a8;

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

const FLAG_SYN: u8 = 0x02;
const FLAG_ACK: u8 = 0x10;

/// A TCP segment to a protected port.
pub(crate) struct Segment {
    /// Where it comes from.
    pub(crate) source: Address,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What is known of a segment.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// It opens a connection.
    Opening,
    /// It does not.
    Other,
    /// A first fragment that names its port, and ends within its TCP header (RFC 1858): no honest host sends one.
    Tiny,
}

/// An IP address in network order.
pub(crate) enum Address {
    /// IPv4.
    V4([u8; 4]),
    /// IPv6.
    V6([u8; 16]),
}

#[repr(C)]
struct Ethernet {
    destination: [u8; 6],
    source: [u8; 6],
    ether_type: [u8; 2],
}

#[repr(C)]
struct Vlan {
    tag: [u8; 2],
    ether_type: [u8; 2],
}

#[repr(C)]
struct Ipv4 {
    version_and_length: u8,
    service: u8,
    total_length: [u8; 2],
    identification: [u8; 2],
    flags_and_fragment: [u8; 2],
    time_to_live: u8,
    protocol: u8,
    checksum: [u8; 2],
    source: [u8; 4],
    destination: [u8; 4],
}

#[repr(C)]
struct Ipv6 {
    version_class_flow: [u8; 4],
    payload_length: [u8; 2],
    next_header: u8,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
}

/// The first eight octets that every extension header has.
#[repr(C)]
struct Extension {
    next_header: u8,
    length: u8,
    /// Of a fragment header: offset and flags.
    fragment: [u8; 2],
    rest: [u8; 4],
}

/// What a TCP header begins with.
#[repr(C)]
struct Ports {
    _source: [u8; 2],
    destination: [u8; 2],
}

#[repr(C)]
struct Tcp {
    source: [u8; 2],
    destination: [u8; 2],
    sequence: [u8; 4],
    acknowledgement: [u8; 4],
    data_offset: u8,
    flags: u8,
    window: [u8; 2],
    checksum: [u8; 2],
    urgent: [u8; 2],
}

const _: () = assert!(size_of::<Ethernet>() == 14 && size_of::<Vlan>() == 4 && size_of::<Ipv4>() == 20);
const _: () = assert!(size_of::<Ipv6>() == 40 && size_of::<Extension>() == 8 && size_of::<Tcp>() == 20);
const _: () = assert!(size_of::<Ports>() == 4);

/// The header at this offset, if the frame holds the whole of it.
#[inline(always)]
fn header<T>(ctx: &XdpContext, offset: usize) -> Result<&T, Reason> {
    const { assert!(align_of::<T>() == 1) };
    let start = ctx.data() + offset;
    if start + size_of::<T>() > ctx.data_end() {
        return Err(Reason::Malformed);
    }
    // SAFETY: the octets from `start` on were just checked to lie in the packet, which lives as long as the context;
    // every header is made of octets, so it needs no alignment and any value is one.
    Ok(unsafe { &*(start as *const T) })
}

/// Finds the TCP segment to a protected port in a frame, or why there is none.
#[inline(always)]
pub(crate) fn segment(ctx: &XdpContext) -> Result<Segment, Reason> {
    let mut ether_type = u16::from_be_bytes(header::<Ethernet>(ctx, 0)?.ether_type);
    let mut offset = size_of::<Ethernet>();
    for _ in 0..VLAN_TAGS_MAX {
        if ether_type != ETHER_VLAN && ether_type != ETHER_QINQ {
            break;
        }
        ether_type = u16::from_be_bytes(header::<Vlan>(ctx, offset)?.ether_type);
        offset += size_of::<Vlan>();
    }
    match ether_type {
        ETHER_IPV4 => ipv4(ctx, offset),
        ETHER_IPV6 => ipv6(ctx, offset),
        _ => Err(Reason::NotOurs),
    }
}

#[inline(always)]
fn ipv4(ctx: &XdpContext, offset: usize) -> Result<Segment, Reason> {
    let ip: &Ipv4 = header(ctx, offset)?;
    let header_length = usize::from(ip.version_and_length & 0x0f) * 4;
    if ip.version_and_length >> 4 != 4 || header_length < size_of::<Ipv4>() {
        return Err(Reason::Malformed);
    }
    if ip.protocol != TCP {
        return Err(Reason::NotOurs);
    }
    // The upper three bits are flags; "more fragments" alone is the first fragment, which has the TCP header.
    let fragment = u16::from_be_bytes(ip.flags_and_fragment);
    if fragment & 0x1fff != 0 {
        return Err(Reason::LaterFragment);
    }
    let first_fragment = fragment & 0x2000 != 0;
    // The frame may be longer: Ethernet pads to 60 octets.
    let length = usize::from(u16::from_be_bytes(ip.total_length)).saturating_sub(header_length);
    let source = ip.source;
    let kind = tcp(ctx, offset + header_length, length, first_fragment)?;
    Ok(Segment { source: Address::V4(source), kind })
}

#[inline(always)]
fn ipv6(ctx: &XdpContext, offset: usize) -> Result<Segment, Reason> {
    let ip: &Ipv6 = header(ctx, offset)?;
    if ip.version_class_flow[0] >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    let payload_length = usize::from(u16::from_be_bytes(ip.payload_length));
    let source = ip.source;
    let mut next_header = ip.next_header;
    let payload = offset + size_of::<Ipv6>();
    let mut offset = payload;
    let mut first_fragment = false;
    for _ in 0..EXTENSION_HEADERS_MAX {
        let length = match next_header {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | AUTHENTICATION | FRAGMENT => {
                let extension: &Extension = header(ctx, offset)?;
                // The upper 13 bits are the offset, the lowest is "more fragments".
                if next_header == FRAGMENT {
                    let fragment = u16::from_be_bytes(extension.fragment);
                    if fragment & 0xfff8 != 0 {
                        return Err(Reason::LaterFragment);
                    }
                    first_fragment |= fragment & 1 != 0;
                }
                let units = usize::from(extension.length);
                let length = match next_header {
                    FRAGMENT => 8,
                    AUTHENTICATION => (units + 2) * 4, // RFC 4302 section 2.2
                    _ => (units + 1) * 8,
                };
                next_header = extension.next_header;
                length
            }
            _ => break,
        };
        offset += length;
    }
    match next_header {
        TCP => {}
        HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | AUTHENTICATION | FRAGMENT => {
            return Err(Reason::Malformed);
        }
        _ => return Err(Reason::NotOurs),
    }
    let length = payload_length.saturating_sub(offset - payload);
    let kind = tcp(ctx, offset, length, first_fragment)?;
    Ok(Segment { source: Address::V6(source), kind })
}

/// What the segment at this offset is, of which the datagram has `length` octets.
#[inline(always)]
fn tcp(ctx: &XdpContext, offset: usize, length: usize, first_fragment: bool) -> Result<Kind, Reason> {
    if length < size_of::<Tcp>() {
        if !first_fragment || length < size_of::<Ports>() {
            return Err(Reason::Malformed);
        }
        let ports: &Ports = header(ctx, offset)?;
        return match protected(u16::from_be_bytes(ports.destination)) {
            true => Ok(Kind::Tiny),
            false => Err(Reason::NotOurs),
        };
    }
    let tcp: &Tcp = header(ctx, offset)?;
    if !protected(u16::from_be_bytes(tcp.destination)) {
        return Err(Reason::NotOurs);
    }
    if usize::from(tcp.data_offset >> 4) * 4 < size_of::<Tcp>() {
        return Err(Reason::Malformed);
    }
    match tcp.flags & (FLAG_SYN | FLAG_ACK) {
        FLAG_SYN => Ok(Kind::Opening),
        _ => Ok(Kind::Other),
    }
}
