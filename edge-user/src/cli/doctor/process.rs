//! What `/proc` tells of processes: capabilities, limits, who holds a socket.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::Subject;
use crate::control::Client;

/// A process of this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Its name, at most 15 octets of it (`/proc/PID/comm`).
    pub(super) name: String,
}

/// A capability's number, its name, and what it is needed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Capability {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) purpose: &'static str,
}

pub(super) const NET_BIND_SERVICE: Capability =
    Capability { number: 10, name: "CAP_NET_BIND_SERVICE", purpose: "listening at a port below 1024" };
pub(super) const NET_ADMIN: Capability =
    Capability { number: 12, name: "CAP_NET_ADMIN", purpose: "attaching the XDP program" };
pub(super) const BPF: Capability =
    Capability { number: 39, name: "CAP_BPF", purpose: "loading the XDP program" };
pub(super) const PERFMON: Capability = Capability {
    number: 38,
    name: "CAP_PERFMON",
    purpose: "reading packets at offsets that they say themselves",
};

/// The daemon that answers at the control socket: its process and user.
pub(super) fn daemon(subject: &Subject) -> Option<(u32, u32)> {
    Client::connect(&subject.config.control.socket).ok()?.daemon().ok()
}

/// A line of `/proc/PID/status`, by its name.
pub(super) fn status(pid: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(|line| line.trim().to_owned())
}

/// The effective capabilities of a process, one bit each.
pub(super) fn capabilities(pid: &str) -> Option<u64> {
    u64::from_str_radix(&status(pid, "CapEff")?, 16).ok()
}

/// How many descriptors a process may have: the hard limit.
pub(super) fn descriptors(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// All processes, by number.
pub(super) fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let process = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?.trim_end().to_owned();
        Some(Process { pid, name })
    };
    entries.flatten().filter_map(process).collect()
}

/// Who holds the sockets with these inodes, as far as this user may see.
pub(super) fn holders(inodes: &[u64]) -> BTreeMap<u64, Vec<Process>> {
    let mut found: BTreeMap<u64, Vec<Process>> = BTreeMap::new();
    for process in all() {
        let dir = PathBuf::from(format!("/proc/{}/fd", process.pid));
        let Ok(descriptors) = fs::read_dir(dir) else { continue };
        for descriptor in descriptors.flatten() {
            let Some(inode) = socket_inode(&descriptor.path()) else { continue };
            if inodes.contains(&inode) {
                let list = found.entry(inode).or_default();
                if !list.contains(&process) {
                    list.push(process.clone());
                }
            }
        }
    }
    found
}

/// The inode of a descriptor that is a socket.
fn socket_inode(descriptor: &std::path::Path) -> Option<u64> {
    let target = fs::read_link(descriptor).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}
