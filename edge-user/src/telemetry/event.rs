//! What the log tells: a verdict on a message, or something that happened to the edge.

use std::net::{IpAddr, SocketAddr};

use edge_core::bounce::Reading;
use edge_core::policy::Action;
use edge_core::policy::NewlyStopped;
use edge_core::reputation::Cause;
use edge_core::signature::Proof;
use edge_core::source::Source;
use edge_core::time::UnixMillis;
use serde::{Serialize, Serializer};

use super::Why;

/// One line of the log. In JSON the variant's name stands under `event`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// What was decided for one message.
    Verdict(VerdictLine),
    /// The edge serves.
    Started {
        /// Its version.
        version: &'static str,
        /// Where mail from the Internet comes in.
        inbound: Vec<SocketAddr>,
        /// Where the operator's own mail comes in.
        outbound: Vec<SocketAddr>,
        /// How the NIC is protected: `native`, `generic` or `none`.
        xdp: &'static str,
    },
    /// The edge was asked to stop, and by what.
    Stopping {
        /// The signal's name.
        signal: &'static str,
    },
    /// The edge has stopped: no session is left.
    Stopped {},
    /// The program at the NIC is in place.
    XdpAttached {
        /// At which interface.
        interface: String,
        /// `native` or `generic`.
        mode: &'static str,
        /// Whether it was found pinned, and taken over.
        adopted: bool,
        /// Whether it only counts what it would drop.
        watch: bool,
    },
    /// Bans that outlived the last daemon were found in the kernel and taken over.
    BansAdopted {
        /// How many.
        bans: usize,
    },
    /// A source is banned from now on.
    Ban {
        /// Who.
        #[serde(serialize_with = "text")]
        source: Source,
        /// Why.
        cause: Cause,
        /// For how long, in seconds.
        secs: u64,
        /// Whether the NIC enforces it; else the edge alone answers 421.
        at_nic: bool,
    },
    /// The NIC did not take a ban; the edge answers the source 421 meanwhile.
    BanFailed {
        /// Who.
        #[serde(serialize_with = "text")]
        source: Source,
        /// What the kernel said.
        error: String,
    },
    /// The NIC dropped a packet, or would have in watch mode: a sample, at most `xdp.samples_per_sec` of them.
    NicDrop {
        /// From whom.
        #[serde(serialize_with = "text")]
        source: Source,
        /// The kernel's counter that it moved, such as `ban` or `watched_ban`.
        reason: &'static str,
    },
    /// A ban was lifted before its time.
    BanLifted {
        /// Who.
        #[serde(serialize_with = "text")]
        source: Source,
    },
    /// A wave of unproven bounces began.
    FloodBegin {
        /// Unproven bounces so far.
        unproven: u64,
    },
    /// The wave is over.
    FloodEnd {
        /// How long it lasted, in seconds.
        secs: u64,
        /// Unproven bounces in it.
        unproven: u64,
    },
    /// An upstream died between the final dot and its reply (RFC 1047): the message may arrive twice.
    InDoubt {
        /// Which upstream.
        upstream: SocketAddr,
        /// The message's first recipient.
        recipient: String,
    },
    /// An upstream cannot be reached, or does not answer as it should.
    UpstreamDown {
        /// Which.
        upstream: SocketAddr,
        /// What went wrong.
        error: String,
    },
    /// It answers again.
    UpstreamUp {
        /// Which.
        upstream: SocketAddr,
    },
    /// A client's TLS handshake failed; its session is over.
    TlsFailed {
        /// Who.
        source: IpAddr,
        /// What went wrong.
        error: String,
    },
    /// An upstream's TLS handshake failed, and mail goes to it in clear, as it may.
    UpstreamInClear {
        /// Which.
        upstream: SocketAddr,
        /// What went wrong.
        error: String,
        /// After how many seconds TLS is tried again.
        secs: u64,
    },
    /// The quarantine takes no more messages: what should go there is deferred.
    QuarantineFailed {
        /// Why, and what to do.
        error: String,
    },
    /// It takes them again.
    QuarantineRecovered {},
    /// Quarantined messages were deleted because their time was over.
    QuarantineExpired {
        /// How many.
        messages: u64,
    },
    /// Filters and keys were read anew.
    Reloaded {
        /// Filters in force.
        filters: usize,
        /// Keys in force.
        keys: usize,
    },
    /// Filters, kinds' rules and `require_tag` stop unproven mail that was let through, and fewer clean days have passed than are wanted.
    EarlyToEnforce {
        /// Whose mail.
        #[serde(flatten)]
        newly_stopped: NewlyStopped,
        /// Clean days that have passed.
        clean_days: u32,
        /// And that are wanted.
        clean_days_wanted: u32,
        /// What among the unproven looks like ours.
        ours: Vec<String>,
    },
    /// They could not be; the old ones stay in force.
    ReloadFailed {
        /// Why.
        error: String,
    },
    /// Somebody changed something, or tried to, by the control socket.
    Control {
        /// The caller's user id.
        uid: u32,
        /// What was asked.
        request: String,
        /// `done`, or why it was refused.
        outcome: String,
    },
    /// The log's queue was full: these lines are missing.
    LinesLost {
        /// How many since the last such line.
        lines: u64,
    },
    /// A message of the program about itself.
    Diagnostic {
        /// How much it matters. The line says it already.
        #[serde(skip)]
        level: Level,
        /// The module that says it.
        target: String,
        /// What it says.
        message: String,
    },
}

/// How much a line matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something failed.
    Error,
    /// Something should be looked at.
    Warn,
    /// For the record.
    Info,
    /// For those who search a fault.
    Debug,
}

/// Who makes lines like this one: the more of them a stranger can make, the sooner they are lost in a full queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// Each message or packet may.
    Traffic,
    /// The edge, about sources, floods and servers.
    Edge,
    /// The operator, and the edge's start and stop.
    Operator,
}

impl Event {
    /// Who makes such lines.
    pub(super) fn origin(&self) -> Origin {
        match self {
            Self::Verdict(_) | Self::NicDrop { .. } | Self::TlsFailed { .. } | Self::Diagnostic { .. } => {
                Origin::Traffic
            }
            Self::Ban { .. }
            | Self::BanFailed { .. }
            | Self::BanLifted { .. }
            | Self::FloodBegin { .. }
            | Self::FloodEnd { .. }
            | Self::InDoubt { .. }
            | Self::UpstreamDown { .. }
            | Self::UpstreamUp { .. }
            | Self::UpstreamInClear { .. }
            | Self::QuarantineFailed { .. }
            | Self::QuarantineRecovered {}
            | Self::QuarantineExpired { .. }
            | Self::LinesLost { .. } => Origin::Edge,
            Self::Started { .. }
            | Self::Stopping { .. }
            | Self::Stopped {}
            | Self::XdpAttached { .. }
            | Self::BansAdopted { .. }
            | Self::Reloaded { .. }
            | Self::ReloadFailed { .. }
            | Self::EarlyToEnforce { .. }
            | Self::Control { .. } => Origin::Operator,
        }
    }

    /// How much it matters.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::BanFailed { .. }
            | Self::UpstreamDown { .. }
            | Self::QuarantineFailed { .. }
            | Self::ReloadFailed { .. } => Level::Error,
            Self::FloodBegin { .. }
            | Self::InDoubt { .. }
            | Self::UpstreamInClear { .. }
            | Self::LinesLost { .. }
            | Self::EarlyToEnforce { .. } => Level::Warn,
            Self::Verdict(_)
            | Self::Started { .. }
            | Self::Stopping { .. }
            | Self::Stopped {}
            | Self::XdpAttached { .. }
            | Self::BansAdopted { .. }
            | Self::Ban { .. }
            | Self::NicDrop { .. }
            | Self::BanLifted { .. }
            | Self::FloodEnd { .. }
            | Self::UpstreamUp { .. }
            | Self::TlsFailed { .. }
            | Self::QuarantineRecovered {}
            | Self::QuarantineExpired { .. }
            | Self::Reloaded { .. }
            | Self::Control { .. } => Level::Info,
            Self::Diagnostic { level, .. } => *level,
        }
    }
}

fn text<S: Serializer>(value: &impl std::fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// Most recipients of a message that its line names, the first included; the others are counted.
pub const RECIPIENTS_NAMED_MAX: usize = 20;

/// What was decided for one message, as it is logged.
#[derive(Clone, Debug, Serialize)]
pub struct VerdictLine {
    /// When.
    #[serde(skip)]
    pub at: UnixMillis,
    /// The client.
    pub source: IpAddr,
    /// The envelope sender; empty is `<>`.
    pub sender: String,
    /// The first recipient, as the upstream sees it.
    pub recipient: String,
    /// The next ones, so that a search for any of them finds the line; with the first at most [`RECIPIENTS_NAMED_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also_to: Vec<String>,
    /// How many recipients it has, those that are not named included.
    pub recipients: usize,
    /// Whether it came by the inbound or the outbound listener.
    pub direction: Direction,
    /// What the filter decided; none for mail with a sender.
    pub action: Option<Action>,
    /// Why it was answered so.
    pub reason: Why,
    /// What proved it.
    pub proof: Option<Proof>,
    /// The filter's place in the configuration.
    pub filter: Option<usize>,
    /// Its id in the quarantine, where it is there.
    pub quarantine: Option<String>,
    /// The reply's code to the final dot (or to DATA).
    pub reply: u16,
    /// Octets of the message.
    pub bytes: u64,
    /// What the message says of itself, where it was asked: its kind, what told it, and what its report says.
    #[serde(flatten)]
    pub reading: Option<Reading>,
}

/// Which way a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the Internet.
    Inbound,
    /// To the Internet.
    Outbound,
}
