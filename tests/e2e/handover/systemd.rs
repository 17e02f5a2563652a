//! What systemd does with the sockets that a service has it keep: takes them (`FDSTORE=1`), and gives them to the next
//! process (`LISTEN_FDS`), sd_notify(3) and sd_listen_fds(3). By a real notification socket; only the unit's settings
//! are not read here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::edge::CONFIG;
use lab::{Host, Lab, Process};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Descriptors that one message may bring (the kernel's own bound), and where the shell finds those it passes on: high
/// above the numbers it gives them.
const AT_ONCE: usize = 253;
const PASSED_FROM: i32 = 500;
/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// The service manager.
pub(super) struct Systemd {
    heard: UnixDatagram,
    /// By the inode, as systemd tells one socket from another; with its name.
    pub(super) kept: BTreeMap<u64, (String, OwnedFd)>,
}

impl Systemd {
    pub(super) fn new(lab: &Lab) -> Result<Self> {
        let path = lab.path("edge/notify");
        let heard = UnixDatagram::bind(&path).with_context(|| format!("cannot bind {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        heard.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { heard, kept: BTreeMap::new() })
    }

    /// Starts the service with what is kept, and waits until it is ready.
    pub(super) fn start(&mut self, lab: &Lab, binary: &str) -> Result<Process> {
        let mut script = String::new();
        let mut passed = Vec::new();
        for (number, (_, socket)) in (3..).zip(self.kept.values()) {
            let copy = fcntl_dupfd_cloexec(socket, PASSED_FROM)?;
            fcntl_setfd(&copy, FdFlags::empty())?;
            writeln!(script, "exec {number}<&{0} {0}<&-", copy.as_raw_fd())?;
            passed.push(copy);
        }
        if !passed.is_empty() {
            writeln!(script, "export LISTEN_PID=$$ LISTEN_FDS={}", passed.len())?;
        }
        write!(script, "export NOTIFY_SOCKET=/run/lab/edge/notify\nexec {binary} run --config {CONFIG}")?;
        let process = lab.spawn("backstop", Host::Edge, &["bash", "-euc", &script])?;
        self.hear_until("READY=1").with_context(|| format!("it said:\n{}", process.tail(20)))?;
        Ok(process)
    }

    /// `systemctl restart`.
    pub(super) fn restart(&mut self, lab: &Lab, binary: &str, running: &mut Process) -> Result<()> {
        running.stop(PATIENCE)?;
        *running = self.start(lab, binary)?;
        Ok(())
    }

    /// Does what the service asks for, until it says this.
    pub(super) fn hear_until(&mut self, word: &str) -> Result<()> {
        loop {
            let (said, sockets) = self.hear().with_context(|| format!("waiting for {word}"))?;
            let name = said.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
            assert!(!name.contains(':'), "systemd takes no such name: {name}");
            if said.lines().any(|line| line == "FDSTORE=1") {
                for socket in sockets {
                    let inode = std::fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd()))?.ino();
                    self.kept.entry(inode).or_insert((name.to_owned(), socket));
                }
            } else if said.lines().any(|line| line == "FDSTOREREMOVE=1") {
                self.kept.retain(|_, (kept, _)| kept != name);
            }
            if said.lines().any(|line| line == word) {
                return Ok(());
            }
        }
    }

    fn hear(&self) -> Result<(String, Vec<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let (mut control, mut octets) = (RecvAncillaryBuffer::new(&mut space), [0; 4096]);
        let got =
            recvmsg(&self.heard, &mut [IoSliceMut::new(&mut octets)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                sockets.extend(descriptors);
            }
        }
        Ok((String::from_utf8_lossy(&octets[..got.bytes]).into_owned(), sockets))
    }
}
