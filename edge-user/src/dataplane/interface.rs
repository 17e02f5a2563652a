//! What the kernel says about an interface: its index, and the XDP program on it (rtnetlink, `IFLA_XDP`).

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use super::AttachedMode;
use super::error::DataplaneError;

/// The program on an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Attached {
    /// How.
    pub(super) mode: AttachedMode,
    /// The program's id.
    pub(super) program: u32,
}

/// The interface's index.
pub(super) fn index(interface: &str) -> Result<u32, DataplaneError> {
    if_nametoindex(interface).map_err(|_| DataplaneError::NoInterface { interface: interface.to_owned() })
}

/// The program on the interface, if there is one.
pub(super) fn attached(interface: &str) -> Result<Option<Attached>, DataplaneError> {
    let index = index(interface)?;
    let answer = ask(index)
        .map_err(|error| DataplaneError::Netlink { interface: interface.to_owned(), source: error.into() })?;
    read(&answer).map_err(|what| DataplaneError::Netlink {
        interface: interface.to_owned(),
        source: io::Error::other(what),
    })
}

/// What kind of interface it is, where it is no device of its own: `veth`, `bridge`, `bond`, `tun` (`IFLA_INFO_KIND`).
pub(super) fn kind(interface: &str) -> Result<Option<String>, DataplaneError> {
    let answer = ask(index(interface)?)
        .map_err(|error| DataplaneError::Netlink { interface: interface.to_owned(), source: error.into() })?;
    let info = answer.get(32..).and_then(|attributes| attribute(attributes, IFLA_LINKINFO));
    let kind = info.and_then(|info| attribute(info, IFLA_INFO_KIND));
    Ok(kind.map(|kind| String::from_utf8_lossy(kind).trim_end_matches('\0').to_owned()))
}

/// Octets of an answer about one interface; the kernel's is about 1,500.
const ANSWER_BYTES_MAX: usize = 32 * 1024;

/// Sends `RTM_GETLINK` for one interface and takes the answer.
fn ask(index: u32) -> Result<Vec<u8>, Errno> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let mut request = Vec::with_capacity(32);
    // struct nlmsghdr: length, type, flags, sequence, port
    request.extend(32u32.to_ne_bytes());
    request.extend(libc::RTM_GETLINK.to_ne_bytes());
    request.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request.extend(1u32.to_ne_bytes());
    request.extend(0u32.to_ne_bytes());
    // struct ifinfomsg: family, padding, type, index, flags, change
    request.extend([0u8; 4]);
    request.extend(index.to_ne_bytes());
    request.extend([0u8; 8]);
    sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}

const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_NONE: u8 = 0;
const XDP_ATTACHED_SKB: u8 = 2;

/// Finds the program in the kernel's answer.
fn read(answer: &[u8]) -> Result<Option<Attached>, &'static str> {
    let kind = answer.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
    if kind != Some(libc::RTM_NEWLINK) {
        return Err("it answered with an error");
    }
    let attributes = answer.get(32..).ok_or("its answer is cut off")?;
    let Some(xdp) = attribute(attributes, IFLA_XDP) else { return Ok(None) };
    let mode = match attribute(xdp, IFLA_XDP_ATTACHED).and_then(<[u8]>::first) {
        None | Some(&XDP_ATTACHED_NONE) => return Ok(None),
        Some(&XDP_ATTACHED_SKB) => AttachedMode::Generic,
        Some(_) => AttachedMode::Native,
    };
    let program = attribute(xdp, IFLA_XDP_PROG_ID).and_then(|id| id.try_into().ok()).map(u32::from_ne_bytes);
    Ok(program.map(|program| Attached { mode, program }))
}

/// The payload of an attribute: `struct rtattr` is length (itself included), type; each starts at a multiple of 4.
pub(super) fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    /// The upper two bits of the type say "nested" and "network byte order".
    const TYPE_MASK: u16 = 0x3fff;
    while let Some((&[l0, l1, t0, t1], _)) = attributes.split_first_chunk() {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let payload = attributes.get(4..length)?;
        if u16::from_ne_bytes([t0, t1]) & TYPE_MASK == wanted {
            return Some(payload);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(kind: u16, payload: &[u8]) -> Vec<u8> {
        let length = 4 + payload.len();
        let mut out = Vec::from((length as u16).to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend(payload);
        out.resize(length.next_multiple_of(4), 0);
        out
    }

    fn answer(attributes: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 32];
        out[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
        out.extend(attributes);
        out
    }

    #[test]
    fn the_program_is_found_behind_other_attributes() {
        let xdp = [attr(IFLA_XDP_ATTACHED, &[1]), attr(IFLA_XDP_PROG_ID, &42u32.to_ne_bytes())].concat();
        let both = [attr(3, b"edge0\0"), attr(IFLA_XDP, &xdp)].concat();
        assert_eq!(read(&answer(&both)), Ok(Some(Attached { mode: AttachedMode::Native, program: 42 })));
    }

    #[test]
    fn an_interface_without_a_program_has_none() {
        assert_eq!(read(&answer(&attr(IFLA_XDP, &attr(IFLA_XDP_ATTACHED, &[0])))), Ok(None));
        assert_eq!(read(&answer(&attr(3, b"edge0\0"))), Ok(None));
    }

    #[test]
    fn an_answer_cut_anywhere_is_no_panic() {
        let whole = answer(&attr(IFLA_XDP, &attr(IFLA_XDP_ATTACHED, &[2])));
        for cut in 0..whole.len() {
            let _ = read(&whole[..cut]);
        }
    }

    #[test]
    fn the_loopback_interface_is_answered_for_and_an_absent_one_is_named() {
        assert_eq!(attached("lo").unwrap(), None);
        assert!(attached("no-such-if").unwrap_err().to_string().contains("no-such-if"));
    }
}
