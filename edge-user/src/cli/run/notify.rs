//! Telling systemd how the daemon is (`sd_notify(3)`), where systemd asks for it.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::engine::Liveness;

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
    if let Err(error) = send(&place, state) {
        tracing::warn!("systemd was not told {state}: {error}");
    }
}

fn send(place: &OsStr, state: &str) -> io::Result<()> {
    // A name that begins with `@` is in the abstract namespace.
    let address = match place.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        Some(_) | None => SocketAddr::from_pathname(place)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_hears_what_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&place).unwrap();
        send(place.as_os_str(), "READY=1").unwrap();
        let mut heard = [0; 16];
        let length = systemd.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"READY=1");
    }

    #[test]
    fn an_abstract_name_reaches_systemd_too() {
        let name = format!("backstop-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let systemd = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        let mut heard = [0; 16];
        let length = systemd.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"STOPPING=1");
    }
}
