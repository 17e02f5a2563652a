//! The daemon's control socket: a Unix socket, one JSON line a request and one a reply.
//!
//! Who calls is known by the kernel's word alone (`SO_PEERCRED`): root and the daemon's own user may do all,
//! `read_group` may ask, `write_group` may change. Every change, and every refusal, is logged with the caller's uid.
//! Whose sockets another process takes over ([`Predecessor`]) hears it here too; that is root's and its own user's to ask.
//! Bounded: [`REQUEST_BYTES_MAX`] a request, [`CONNECTIONS_MAX`] callers at once, each with a thread of its own and
//! [`IDLE_MAX`] to speak. Nothing here runs on the engine's workers: a flood does not make `status` wait.

mod client;
mod daemon;
mod handover;
mod listener;
mod peer;
mod protocol;
mod quarantine;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use client::{Client, ClientError};
pub use daemon::{EdgeDaemon, HandOver, Reload};
pub use handover::{Predecessor, SOCKETS_AT_ONCE, Successor, send_with};
pub use listener::{BindError, Daemon, Listener, Server, check_groups};
pub use protocol::{BanRow, Explained, Reply, Request, Status, UpstreamStatus, XdpStatus};
pub use quarantine::{QuarantineReply, QuarantineRequest, QuarantineStatus};

/// Longest request, newline included, in octets.
pub const REQUEST_BYTES_MAX: u64 = 4096;
/// Longest reply, newline included, in octets: room for every ban that the largest table holds.
pub const REPLY_BYTES_MAX: u64 = 256 << 20;
/// Most callers at once.
pub const CONNECTIONS_MAX: usize = 16;
/// How long a caller may be silent, and how long either side waits for the other to take its line.
pub const IDLE_MAX: Duration = Duration::from_secs(30);
