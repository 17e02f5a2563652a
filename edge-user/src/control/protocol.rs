//! What is asked and answered over the control socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use edge_core::reputation::Cause;
use edge_core::watch::Summary;
use serde::{Deserialize, Serialize};

use super::quarantine::{QuarantineReply, QuarantineRequest, QuarantineStatus};

/// One request: one line of JSON, e.g. `{"request":"ban","source":"192.0.2.7","secs":3600}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Which version runs, by which file?
    Version,
    /// How is the edge doing?
    Status,
    /// Which bans are in force?
    Bans,
    /// Ban a source.
    Ban {
        /// An address, or an IPv6 `/64`.
        source: String,
        /// For how long.
        secs: u64,
    },
    /// Lift a ban.
    Unban {
        /// An address, or an IPv6 `/64`.
        source: String,
    },
    /// What is known of a source?
    Explain {
        /// An address, or an IPv6 `/64`.
        source: String,
    },
    /// What did watching find, with all sources?
    Watched,
    /// What lies in the quarantine, and what is to become of it.
    Quarantine(QuarantineRequest),
    /// Read filters and keys anew.
    Reload,
    /// Let the process that asks take the listening sockets over.
    HandOver,
}

/// What a request needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Access {
    /// To ask.
    Read,
    /// To change something.
    Change,
    /// To take its place.
    Replace,
}

impl Request {
    pub(super) fn needs(&self) -> Access {
        match self {
            Self::Version | Self::Status | Self::Bans | Self::Explain { .. } | Self::Watched => Access::Read,
            Self::Quarantine(request) => request.needs(),
            Self::Ban { .. } | Self::Unban { .. } | Self::Reload => Access::Change,
            Self::HandOver => Access::Replace,
        }
    }

    /// The request in words, for the log.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Version => "version".into(),
            Self::Status => "status".into(),
            Self::Bans => "ban list".into(),
            Self::Ban { source, secs } => format!("ban add {source} for {secs} s"),
            Self::Unban { source } => format!("ban del {source}"),
            Self::Explain { source } => format!("ban explain {source}"),
            Self::Watched => "watched".into(),
            Self::Quarantine(request) => request.words(),
            Self::Reload => "reload".into(),
            Self::HandOver => "hand over".into(),
        }
    }
}

/// One reply: one line of JSON.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The daemon's version.
    Version {
        /// As in `backstop --version`.
        version: String,
        /// The configuration that it reads; empty: the daemon is older than that.
        #[serde(default)]
        file: PathBuf,
    },
    /// How the edge is doing.
    Status(Box<Status>),
    /// The bans in force.
    Bans {
        /// Sorted by source.
        bans: Vec<BanRow>,
    },
    /// The source is banned.
    Banned(BanRow),
    /// The ban is lifted.
    Unbanned {
        /// Whether there was one.
        was_banned: bool,
    },
    /// What is known of a source.
    Explained(Explained),
    /// What watching found.
    Watched(Box<Summary>),
    /// What was asked of the quarantine.
    Quarantine(QuarantineReply),
    /// Filters and keys were read anew.
    Reloaded {
        /// Filters in force.
        filters: usize,
        /// Keys in force.
        keys: usize,
        /// The configuration that it read; empty: the daemon is older than that.
        #[serde(default)]
        file: PathBuf,
    },
    /// The caller may have the listening sockets, which follow.
    HandedOver {
        /// How many.
        sockets: usize,
    },
    /// It could not be done.
    Failed {
        /// Why, and what to do.
        error: String,
    },
}

/// How the edge is doing.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Since when it runs, in seconds.
    pub uptime_secs: u64,
    /// Sessions open now.
    pub sessions: usize,
    /// Bans in force.
    pub bans: usize,
    /// A flood is on, for how many seconds.
    pub flood_secs: Option<u64>,
    /// The NIC's protection; none where there is none.
    pub xdp: Option<XdpStatus>,
    /// What watching found, with the sources that come first; none: the daemon is older than that.
    #[serde(default)]
    pub watch: Option<Summary>,
    /// How full the quarantine is; none: there is none, or the daemon is older than that.
    #[serde(default)]
    pub quarantine: Option<QuarantineStatus>,
    /// Upstreams and next hops, by address; none: the daemon is older than that.
    #[serde(default)]
    pub upstreams: Vec<UpstreamStatus>,
    /// The daemon's counters ([`crate::telemetry::Metrics`]), since its start.
    pub counters: BTreeMap<String, u64>,
    /// Log lines lost because the log's queue was full.
    pub log_lines_lost: u64,
}

/// How an upstream, or a next hop, is doing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// As it stands behind `upstream` or `next_hop`.
    pub address: SocketAddr,
    /// Mail from the Internet goes there.
    pub inbound: bool,
    /// Mail to the Internet goes there.
    pub outbound: bool,
    /// Whether it answers; none: it was not asked yet.
    pub up: Option<bool>,
    /// For how long it does, or does not, in seconds.
    pub since_secs: Option<u64>,
    /// What went wrong last since the daemon's start, also where all is well again.
    pub last_error: Option<String>,
    /// How long ago that was, in seconds.
    pub last_error_secs: Option<u64>,
    /// Connections for mail that are open, kept ones included.
    pub connections: usize,
    /// How many may be (`upstream_connections_max`).
    pub connections_max: usize,
    /// Connections that are kept for the next transaction.
    pub kept: usize,
    /// Sessions that wait for a connection.
    pub waiting: usize,
}

/// How the NIC's protection is doing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct XdpStatus {
    /// At which interface.
    pub interface: String,
    /// `native` or `generic`; [`Self::OFF`]: somebody took the program off.
    pub mode: String,
    /// Whether it was taken over from an earlier daemon.
    pub adopted: bool,
    /// Whether it only counts what it would drop.
    pub watch: bool,
    /// Packets by reason, since the program was attached.
    pub packets: BTreeMap<String, u64>,
}

impl XdpStatus {
    /// The mode of a program that is no longer at the interface.
    pub const OFF: &str = "off";
}

/// A ban in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BanRow {
    /// Who.
    pub source: String,
    /// Why.
    pub cause: Cause,
    /// How long it still lasts, in seconds.
    pub left_secs: u64,
}

/// What is known of a source.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Explained {
    /// Who.
    pub source: String,
    /// The ban in force, if any.
    pub ban: Option<BanRow>,
    /// What it earned: proven bounces and wanted mail, halved with time.
    pub credit: f64,
    /// How often it was banned within memory.
    pub bans_before: u32,
    /// Proven bounces seen.
    pub proven: u64,
    /// Unproven bounces seen.
    pub unproven: u64,
    /// Wanted mail seen.
    pub wanted: u64,
    /// Connections it may still make at once.
    pub connections_left: f64,
    /// Unproven bounces it may still send at once.
    pub unproven_left: f64,
    /// Whether it lies in a prefix that is never banned.
    pub never_ban: bool,
}
