//! Telling systemd how the daemon is (`sd_notify(3)`), where systemd asks for it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::net;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::control::{SOCKETS_AT_ONCE, send_with};
use crate::engine::{Listeners, Liveness};

/// So many looks at the edge between two words that systemd must hear: one or two may find it busy.
const LOOKS: u32 = 4;

/// The daemon serves.
pub(super) fn ready() {
    tell("READY=1");
}

/// The daemon begins to stop.
pub(super) fn stopping() {
    tell("STOPPING=1");
}

/// Has systemd keep the listening sockets (`FileDescriptorStoreMax=`): it gives them to the next process, and whoever
/// connects before that waits instead of being refused. What it has already it does not keep twice.
pub(super) fn keep(listeners: &Listeners) {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let mut by_address = BTreeMap::<_, Vec<BorrowedFd<'_>>>::new();
    for socket in listeners.sockets() {
        if let Ok(address) = socket.local_addr() {
            by_address.entry(address).or_default().push(socket.as_fd());
        }
    }
    for (address, sockets) in by_address {
        let state = format!("FDSTORE=1\nFDNAME={}", name(address));
        let kept = sockets.chunks(SOCKETS_AT_ONCE).try_for_each(|some| send(&place, &state, some));
        if let Err(error) = kept {
            tracing::warn!("systemd was not asked to keep the sockets at {address}: {error}");
        }
    }
}

/// Has systemd forget the sockets of an address that is listened at no more.
pub(super) fn forget(address: net::SocketAddr) {
    tell(&format!("FDSTOREREMOVE=1\nFDNAME={}", name(address)));
}

/// What systemd calls the sockets of an address: any text without colons.
fn name(address: net::SocketAddr) -> String {
    format!("smtp-{address}").replace(':', ".")
}

/// Tells systemd that the edge is well (`WatchdogSec=`), as long as every one of its threads says so.
#[derive(Debug)]
pub(super) struct Watchdog {
    every: Duration,
    silent: Vec<String>,
}

impl Watchdog {
    /// The one that systemd asks this process for.
    pub(super) fn wanted() -> Option<Self> {
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let within = Duration::from_micros(number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0)?);
        Some(Self { every: within / LOOKS, silent: Vec::new() })
    }

    /// How often to look.
    pub(super) fn every(&self) -> Duration {
        self.every
    }

    /// Looks, and tells.
    pub(super) fn look(&mut self, liveness: &Liveness) {
        match liveness.ask() {
            Ok(()) => {
                if !self.silent.is_empty() {
                    tracing::warn!("{} again", answers(&self.silent));
                }
                self.silent.clear();
                tell("WATCHDOG=1");
            }
            Err(silent) => {
                // The first look may come before the threads do.
                if self.silent.is_empty() && !silent.is_empty() {
                    tracing::error!(
                        "{} not: systemd is not told that all is well, and restarts the edge if it stays so",
                        answers(&silent)
                    );
                }
                self.silent = silent;
            }
        }
    }
}

fn answers(who: &[String]) -> String {
    format!("{} {}", who.join(", "), if who.len() == 1 { "answers" } else { "answer" })
}

fn tell(state: &str) {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&place, state, &[]) {
        tracing::warn!("systemd was not told {state}: {error}");
    }
}

fn send(place: &OsStr, state: &str, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    // A name that begins with `@` is in the abstract namespace.
    let address = match place.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        Some(_) | None => SocketAddr::from_pathname(place)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    send_with(&socket, state.as_bytes(), sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_hears_what_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&place).unwrap();
        send(place.as_os_str(), "READY=1", &[]).unwrap();
        let mut heard = [0; 16];
        let length = systemd.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"READY=1");
    }

    #[test]
    fn an_abstract_name_reaches_systemd_too() {
        let name = format!("backstop-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let systemd = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), "STOPPING=1", &[]).unwrap();
        let mut heard = [0; 16];
        let length = systemd.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"STOPPING=1");
    }
}
