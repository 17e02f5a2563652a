//! What systemd does with the sockets that a service has it keep: takes them (`FDSTORE=1`), and gives them to the next
//! process (`LISTEN_FDS`), sd_notify(3) and sd_listen_fds(3).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;

use anyhow::{Context as _, Result};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Descriptors that one message may bring (the kernel's own bound), and where a shell finds those that it passes on: high
/// above the numbers it gives them.
const AT_ONCE: usize = 253;
const PASSED_FROM: i32 = 500;
/// Octets of the longest message that is read.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The sockets that are kept: by the inode, as systemd tells one from another; with its name.
#[derive(Debug, Default)]
pub struct Store(pub BTreeMap<u64, (String, OwnedFd)>);

impl Store {
    /// A service said this, and sent these with it.
    ///
    /// # Errors
    /// A descriptor that is none.
    ///
    /// # Panics
    /// Where systemd would not take the name.
    pub fn hear(&mut self, said: &str, sockets: Vec<OwnedFd>) -> Result<()> {
        let name = said.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
        assert!(!name.contains(':'), "systemd takes no such name: {name}");
        if said.lines().any(|line| line == "FDSTORE=1") {
            for socket in sockets {
                let inode = std::fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd()))?.ino();
                self.0.entry(inode).or_insert((name.to_owned(), socket));
            }
        } else if said.lines().any(|line| line == "FDSTOREREMOVE=1") {
            self.0.retain(|_, (kept, _)| kept != name);
        }
        Ok(())
    }

    /// Lines of a shell that then becomes the service, and the descriptors that it must inherit meanwhile.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn passed_on(&self) -> Result<(String, Vec<OwnedFd>)> {
        let mut script = String::new();
        let mut passed = Vec::new();
        for (number, (_, socket)) in (3..).zip(self.0.values()) {
            let copy = fcntl_dupfd_cloexec(socket, PASSED_FROM)?;
            fcntl_setfd(&copy, FdFlags::empty())?;
            writeln!(script, "exec {number}<&{0} {0}<&-", copy.as_raw_fd())?;
            passed.push(copy);
        }
        if !passed.is_empty() {
            writeln!(script, "export LISTEN_PID=$$ LISTEN_FDS={}", passed.len())?;
        }
        Ok((script, passed))
    }

    /// Sends them, as a service would, to whoever keeps them from now on.
    ///
    /// # Errors
    /// Nobody hears.
    pub fn send(&self, to: &UnixDatagram) -> Result<()> {
        for (name, socket) in self.0.values() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let sockets = [socket.as_fd()];
            control.push(SendAncillaryMessage::ScmRights(&sockets));
            let said = format!("FDSTORE=1\nFDNAME={name}");
            sendmsg(to, &[IoSlice::new(said.as_bytes())], &mut control, SendFlags::empty())
                .with_context(|| format!("cannot pass {name} on"))?;
        }
        Ok(())
    }
}

/// A message, and the descriptors that came with it.
///
/// # Errors
/// None came in the socket's time.
pub fn receive(from: &UnixDatagram) -> Result<(String, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let (mut control, mut octets) = (RecvAncillaryBuffer::new(&mut space), [0; MESSAGE_BYTES_MAX]);
    let got = recvmsg(from, &mut [IoSliceMut::new(&mut octets)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors);
        }
    }
    Ok((String::from_utf8_lossy(&octets[..got.bytes]).into_owned(), sockets))
}
