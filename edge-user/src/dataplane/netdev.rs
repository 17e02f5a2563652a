//! What a network card's driver can do for XDP, by the kernel's own word: generic netlink, family `netdev` (Linux 6.3,
//! commit d3d854fd6a1d). Asking changes nothing and needs no privilege.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use super::interface::attribute;

/// What a driver can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XdpFeatures {
    /// It runs XDP programs itself, before a socket buffer is made (`NETDEV_XDP_ACT_BASIC`).
    pub native: bool,
    /// A frame may be larger than one buffer (`NETDEV_XDP_ACT_RX_SG`).
    pub fragments: bool,
}

/// Octets of an answer; the kernel's are some hundred.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Octets in front of the attributes: `struct nlmsghdr` and `struct genlmsghdr`.
const HEADERS: usize = 20;

/// The family that knows the families (`GENL_ID_CTRL`), what is asked of it, and two attributes of its.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// `NETDEV_CMD_DEV_GET`, `NETDEV_A_DEV_IFINDEX`, `NETDEV_A_DEV_XDP_FEATURES`.
const DEV_GET: u8 = 1;
const DEV_INDEX: u16 = 1;
const DEV_XDP_FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_BASIC`, `NETDEV_XDP_ACT_RX_SG`.
const BASIC: u64 = 1;
const RX_SG: u64 = 1 << 5;

/// What the driver of the interface with this index can do; `None`: the kernel does not say.
pub(super) fn xdp_features(index: u32) -> io::Result<Option<XdpFeatures>> {
    let answer = ask(CONTROL, GET_FAMILY, FAMILY_NAME, b"netdev\0")?;
    let family = value(&answer, FAMILY_ID).and_then(|id| id.try_into().ok()).map(u16::from_ne_bytes);
    let Some(family) = family else { return Ok(None) };
    let answer = ask(family, DEV_GET, DEV_INDEX, &index.to_ne_bytes())?;
    Ok(read(&answer))
}

fn read(answer: &[u8]) -> Option<XdpFeatures> {
    let bits = u64::from_ne_bytes(value(answer, DEV_XDP_FEATURES)?.try_into().ok()?);
    Some(XdpFeatures { native: bits & BASIC != 0, fragments: bits & RX_SG != 0 })
}

/// An attribute of an answer that is no error.
fn value(answer: &[u8], wanted: u16) -> Option<&[u8]> {
    let kind = answer.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]))?;
    if i32::from(kind) == libc::NLMSG_ERROR {
        return None;
    }
    attribute(answer.get(HEADERS..)?, wanted)
}

fn ask(family: u16, command: u8, kind: u16, payload: &[u8]) -> io::Result<Vec<u8>> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkGeneric)?;
    sendto(
        socket.as_raw_fd(),
        &request(family, command, kind, payload),
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}

/// A request with one attribute.
fn request(family: u16, command: u8, kind: u16, payload: &[u8]) -> Vec<u8> {
    let attribute = 4 + payload.len();
    let length = HEADERS + attribute.next_multiple_of(4);
    let mut request = Vec::with_capacity(length);
    // struct nlmsghdr: length, type, flags, sequence, port
    request.extend((length as u32).to_ne_bytes());
    request.extend(family.to_ne_bytes());
    request.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request.extend(1u32.to_ne_bytes());
    request.extend(0u32.to_ne_bytes());
    // struct genlmsghdr: command, version, reserved
    request.extend([command, 1, 0, 0]);
    request.extend((attribute as u16).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(payload);
    request.resize(length, 0);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_no_native_xdp() {
        let lo = super::super::interface::index("lo").unwrap();
        // A kernel before 6.3 does not say; none says that it has.
        if let Some(features) = xdp_features(lo).unwrap() {
            assert!(!features.native, "{features:?}");
        }
    }

    #[test]
    fn the_features_are_read_and_an_answer_cut_anywhere_is_no_panic() {
        // An answer has the shape of a request, with the features as its attribute.
        let whole = request(0x20, DEV_GET, DEV_XDP_FEATURES, &(BASIC | RX_SG).to_ne_bytes());
        assert_eq!(read(&whole), Some(XdpFeatures { native: true, fragments: true }));
        let none = request(0x20, DEV_GET, DEV_XDP_FEATURES, &0u64.to_ne_bytes());
        assert_eq!(read(&none), Some(XdpFeatures { native: false, fragments: false }));
        for cut in 0..whole.len() {
            let _ = read(&whole[..cut]);
        }
        let error = request(libc::NLMSG_ERROR as u16, DEV_GET, DEV_XDP_FEATURES, &BASIC.to_ne_bytes());
        assert_eq!(read(&error), None);
    }
}
