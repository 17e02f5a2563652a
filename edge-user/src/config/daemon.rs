//! The sections about the daemon itself: its limits, what it keeps on disk, its control socket, its log.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::section::{defaults, section};

/// Octets of a session's read buffer: a command line must fit into it.
pub const READ_BUFFER_BYTES: usize = 16 << 10;

/// Mailboxes whose rate of forwarded mail is counted at once.
pub const FORWARDED_MAILBOXES_MAX: usize = 65_536;

section! {
    /// `[limits]`
    pub struct Limits {
        /// Most sessions at once.
        pub sessions_max: usize = 8192,
        /// Of these, places that only the outbound listener's sessions get, where there is one: strangers cannot keep the
        /// operator's own mail from going out. More than half of all counts as half.
        pub sessions_outbound_reserved: usize = 64,
        /// Most sessions at once of one source.
        pub sessions_per_source_max: usize = 50,
        /// Longest command line, CRLF included, in octets, at most 16,384 (RFC 5321 section 4.5.3.1.4; SMTPUTF8 and DSN add
        /// to it).
        pub line_bytes_max: usize = 2048,
        /// Most recipients a transaction (RFC 5321 section 4.5.3.1.8).
        pub recipients_max: usize = 100,
        /// Most refused commands a session.
        pub errors_max: u32 = 10,
        /// Largest message, in octets.
        pub message_bytes_max: u64 = 50 << 20,
        /// Most octets of a bounce held until it is proven.
        pub hold_bytes_max: usize = 256 << 10,
        /// Most octets held in all.
        pub hold_total_bytes_max: usize = 256 << 20,
        /// Longest header section of outgoing mail, in octets.
        pub header_bytes_max: usize = 256 << 10,
        /// How long a client may be silent, in seconds (RFC 5321 section 4.5.3.2.7).
        pub client_idle_secs: u64 = 300,
        /// How long a client may be silent before its first whole command, in seconds.
        pub client_greet_secs: u64 = 60,
        /// How long the edge waits for a client, all in all, until one of its messages is answered, in seconds. Commands
        /// give none of it back; the octets of a message do.
        pub progress_secs: u64 = 600,
        /// So many octets of a message a second a client must send to stay, on average.
        pub body_bytes_per_sec_min: u32 = 1024,
        /// How long to wait for an upstream's connection, in seconds.
        pub upstream_connect_secs: u64 = 10,
        /// How long to wait for an upstream's reply, in seconds; the final dot has twice that.
        pub upstream_reply_secs: u64 = 300,
        /// Most connections for mail to one upstream, or to the next hop, at once. A server may take fewer: Postfix 100
        /// (`default_process_limit`), from one address that is none of its `mynetworks` 50.
        pub upstream_connections_max: usize = 500,
        /// How long a transaction waits for one when so many are open, in seconds; then it is deferred (451).
        pub upstream_wait_secs: u64 = 10,
        /// Most connections that are kept for each upstream between two transactions. 0: each has one of its own.
        pub upstream_idle_max: usize = 40,
        /// How long one is kept so, in seconds. Less than the server waits: Postfix 300, under stress 10 (`smtpd_timeout`).
        pub upstream_idle_secs: u64 = 8,
        /// Messages after which a connection is ended. Less than the server takes: Exim 1,000
        /// (`smtp_accept_max_per_connection`).
        pub upstream_messages_max: u32 = 500,
        /// How old a connection may be and still be kept, in seconds.
        pub upstream_age_secs: u64 = 300,
        /// Mailboxes whose existence is remembered.
        pub mailbox_cache_max: usize = 100_000,
    }
}

section! {
    /// `[state]`
    pub struct State {
        /// The directory where the edge keeps what must outlive it. It is made where it is not there.
        pub dir: PathBuf = "/var/lib/backstop".into(),
    }
}

section! {
    /// `[quarantine]`
    pub struct Quarantine {
        /// Most messages in it.
        pub messages_max: usize = 10_000,
        /// Most octets of all of them.
        pub bytes_max: u64 = 1 << 30,
        /// Most messages of one source (an IPv4 address, an IPv6 /64): no stranger shuts out all others.
        pub messages_per_source_max: usize = 500,
        /// Most octets of them.
        pub bytes_per_source_max: u64 = 64 << 20,
        /// How long a message is kept, in days.
        pub days: u32 = 30,
        /// So many octets of its file system stay free, whatever comes; 0: it may be filled to the last.
        pub free_bytes_min: u64 = 256 << 20,
    }
}

section! {
    /// `[control]`
    pub struct Control {
        /// The Unix socket's path.
        pub socket: PathBuf = "/run/backstop/control.sock".into(),
        /// The group that may change things, besides root and the daemon's own user.
        pub write_group: Option<String>,
        /// The group that may read. The socket is this group's where both are set: who may change is a member of it too.
        pub read_group: Option<String>,
    }
}

section! {
    /// `[log]`
    pub struct Log {
        /// `human` or `json`.
        pub format: LogFormat = LogFormat::Human,
        /// Write local parts of mailboxes as keyed hashes; domains stay readable.
        pub hash_addresses: bool = false,
        /// Most lines that wait to be written; what comes beyond is lost and counted. Bans, floods and what the operator
        /// changes have further places.
        pub queue_lines_max: usize = 16_384,
    }
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For eyes.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

defaults!(Limits, State, Quarantine, Control, Log);
