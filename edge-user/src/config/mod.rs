//! The configuration: one TOML file. Each field's doc comment is its manual.

mod convert;
mod load;

pub use load::load;

use std::net::SocketAddr;
use std::path::PathBuf;

use edge_core::policy::{Action, RequireTag};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The edge's own name, as it stands in the greeting and in `Received`.
    pub hostname: String,
    /// Where mail from the Internet comes in.
    pub inbound: Inbound,
    /// Where the operator's own server hands its outgoing mail to be signed. Absent: no such listener.
    pub outbound: Option<Outbound>,
    /// The operator's domains.
    #[serde(rename = "domain")]
    pub domains: Vec<Domain>,
    /// Keys, tags and tokens.
    pub signature: Signature,
    /// The backscatter filters, in order; the first that is on and covers the recipient decides.
    #[serde(default, rename = "filter")]
    pub filters: Vec<Filter>,
    /// What stands beside the filters.
    #[serde(default)]
    pub policy: Policy,
    /// The NIC's protection. Absent: none.
    pub xdp: Option<Xdp>,
    /// How sources are judged.
    #[serde(default)]
    pub reputation: Reputation,
    /// When a wave of unproven bounces counts as a flood.
    #[serde(default)]
    pub flood: Flood,
    /// Limits on sessions, messages and memory.
    #[serde(default)]
    pub limits: Limits,
    /// The control socket.
    #[serde(default)]
    pub control: Control,
    /// The log.
    #[serde(default)]
    pub log: Log,
}

/// `[inbound]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Inbound {
    /// Addresses and ports to listen at.
    pub listen: Vec<SocketAddr>,
}

/// `[outbound]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    /// Addresses and ports to listen at.
    pub listen: Vec<SocketAddr>,
    /// The only networks that may hand mail in.
    pub networks: Vec<IpNet>,
    /// Where signed mail goes: the one next hop.
    pub next_hop: SocketAddr,
}

/// `[[domain]]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// The domain's name.
    pub name: String,
    /// The mail server behind the edge.
    pub upstream: SocketAddr,
    /// Whether outgoing mail gets a BATV tag in its envelope sender, beside the token.
    #[serde(default)]
    pub tag: bool,
    /// When untagged bounces are refused in answer to DATA.
    #[serde(default)]
    pub require_tag: RequireTag,
}

/// `[signature]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The directory of the keys (`backstop key new --dir`).
    pub keys: PathBuf,
    /// How long a token is believed, in days.
    #[serde(default = "Signature::max_age_days")]
    pub max_age_days: u32,
    /// How many tokens' uses are counted at once.
    #[serde(default = "Signature::uses_max")]
    pub uses_max: usize,
}

impl Signature {
    fn max_age_days() -> u32 {
        16
    }
    fn uses_max() -> usize {
        1_000_000
    }
}

/// `[[filter]]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// A note, at most 80 characters, any language.
    #[serde(default)]
    pub memo: String,
    /// Domains and addresses it covers; `*` is all.
    pub covers: Vec<String>,
    /// What it does with an unproven bounce.
    pub action: Action,
    /// Whether it is on.
    #[serde(default = "yes")]
    pub on: bool,
}

fn yes() -> bool {
    true
}

/// `[policy]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Recipients whose bounces are delivered unproven: `local@` in every domain, or an address.
    pub exempt_recipients: Vec<String>,
    /// During a flood, what becomes of a bounce whose token was used too often. Outside it is delivered.
    pub overused_in_flood: Action,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            exempt_recipients: vec!["postmaster@".into(), "abuse@".into()],
            overused_in_flood: Action::Reject,
        }
    }
}

/// `[xdp]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Xdp {
    /// The interface that mail comes in at.
    pub interface: String,
    /// `auto` tries native and falls back to generic with a warning.
    #[serde(default)]
    pub mode: XdpMode,
    /// Count what would be dropped, and pass it.
    #[serde(default = "yes")]
    pub watch: bool,
    /// The protected ports. Nothing else is ever judged.
    #[serde(default = "Xdp::ports")]
    pub ports: Vec<u16>,
    /// Where program, link and maps are pinned.
    #[serde(default = "Xdp::pin_dir")]
    pub pin_dir: PathBuf,
    /// Prefixes that always pass (besides own addresses, upstreams and the default gateway).
    #[serde(default)]
    pub allow: Vec<IpNet>,
    /// Prefixes that always drop.
    #[serde(default)]
    pub block: Vec<IpNet>,
    /// SYNs a second that a source may send.
    #[serde(default = "Xdp::syn_per_sec")]
    pub syn_per_sec: u32,
    /// SYNs at once before the rate counts.
    #[serde(default = "Xdp::syn_burst")]
    pub syn_burst: u32,
    /// Most bans at once.
    #[serde(default = "Xdp::bans_max")]
    pub bans_max: u32,
    /// Most sources whose SYNs are counted at once; the longest unseen make room.
    #[serde(default = "Xdp::sources_max")]
    pub sources_max: u32,
}

impl Xdp {
    fn ports() -> Vec<u16> {
        vec![25]
    }
    fn pin_dir() -> PathBuf {
        "/sys/fs/bpf/backstop".into()
    }
    fn syn_per_sec() -> u32 {
        50
    }
    fn syn_burst() -> u32 {
        200
    }
    fn bans_max() -> u32 {
        131_072
    }
    fn sources_max() -> u32 {
        262_144
    }
}

/// How the XDP program is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// Native, or generic with a warning.
    #[default]
    Auto,
    /// Native or fail.
    Native,
    /// Generic.
    Generic,
}

/// `[reputation]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reputation {
    /// Prefixes that keep their budgets but are never banned: big providers' outbound ranges.
    pub never_ban: Vec<IpNet>,
    /// The operator's own gateways and backup MXs: never banned either.
    pub trusted_relays: Vec<IpNet>,
    /// Recipients that no honest sender writes to: whoever does is banned.
    pub traps: Vec<String>,
    /// Sources without credit that are remembered.
    pub newcomers_max: usize,
    /// Sources with credit that are remembered.
    pub credited_max: usize,
    /// Bans that are remembered, in force or over.
    pub bans_max: usize,
    /// Domains our users wrote to that are remembered: mail from them earns its source credit.
    pub correspondents_max: usize,
    /// Connections a second that a source may make.
    pub connections_per_sec: f64,
    /// Connections at once before the rate counts.
    pub connections_burst: f64,
    /// Unproven bounces a second that a source may send.
    pub unproven_per_sec: f64,
    /// Unproven bounces before the rate counts.
    pub unproven_burst: f64,
    /// 421s for being over a budget, within a minute, after which a source is banned.
    pub over_budget_strikes: u32,
    /// Unproven bounces in a flood, and nothing else, after which a source without credit is banned.
    pub flood_unproven_max: u32,
    /// The first ban, in seconds; each further one doubles.
    pub ban_first_secs: u64,
    /// The longest ban, in seconds.
    pub ban_max_secs: u64,
    /// The longest ban for nothing but unproven bounces in a flood, in seconds.
    pub ban_flood_max_secs: u64,
    /// How fast credit halves, in days.
    pub credit_half_life_days: u32,
}

impl Default for Reputation {
    fn default() -> Self {
        Self {
            never_ban: Vec::new(),
            trusted_relays: Vec::new(),
            traps: Vec::new(),
            newcomers_max: 262_144,
            credited_max: 131_072,
            bans_max: 131_072,
            correspondents_max: 200_000,
            connections_per_sec: 10.0,
            connections_burst: 100.0,
            unproven_per_sec: 10.0,
            unproven_burst: 1000.0,
            over_budget_strikes: 10,
            flood_unproven_max: 2000,
            ban_first_secs: 60,
            ban_max_secs: 86_400,
            ban_flood_max_secs: 600,
            credit_half_life_days: 14,
        }
    }
}

/// `[flood]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flood {
    /// A flood has at least this many unproven bounces within `window_secs`.
    pub unproven_min: u32,
    /// And at least this many times the baseline's.
    pub factor: f64,
    /// The time over which unproven bounces are counted, in seconds.
    pub window_secs: u64,
    /// How long it must be calm before a flood is over, in seconds.
    pub calm_after_secs: u64,
}

impl Default for Flood {
    fn default() -> Self {
        Self { unproven_min: 100, factor: 5.0, window_secs: 60, calm_after_secs: 600 }
    }
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most sessions at once.
    pub sessions_max: usize,
    /// Most sessions at once of one source.
    pub sessions_per_source_max: usize,
    /// Longest command line, CRLF included, in octets (RFC 5321 section 4.5.3.1.4; SMTPUTF8 and DSN add to it).
    pub line_bytes_max: usize,
    /// Most recipients a transaction (RFC 5321 section 4.5.3.1.8).
    pub recipients_max: usize,
    /// Most refused commands a session.
    pub errors_max: u32,
    /// Largest message, in octets.
    pub message_bytes_max: u64,
    /// Most octets of a bounce held until it is proven.
    pub hold_bytes_max: usize,
    /// Most octets held in all.
    pub hold_total_bytes_max: usize,
    /// Longest header section of outgoing mail, in octets.
    pub header_bytes_max: usize,
    /// How long a client may be silent, in seconds (RFC 5321 section 4.5.3.2.7).
    pub client_idle_secs: u64,
    /// How long a client may be silent before its first whole command, in seconds.
    pub client_greet_secs: u64,
    /// How long to wait for an upstream's connection, in seconds.
    pub upstream_connect_secs: u64,
    /// How long to wait for an upstream's reply, in seconds; the final dot has twice that.
    pub upstream_reply_secs: u64,
    /// Mailboxes whose existence is remembered.
    pub mailbox_cache_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions_max: 10_000,
            sessions_per_source_max: 50,
            line_bytes_max: 2048,
            recipients_max: 100,
            errors_max: 10,
            message_bytes_max: 50 << 20,
            hold_bytes_max: 256 << 10,
            hold_total_bytes_max: 256 << 20,
            header_bytes_max: 256 << 10,
            client_idle_secs: 300,
            client_greet_secs: 60,
            upstream_connect_secs: 10,
            upstream_reply_secs: 300,
            mailbox_cache_max: 100_000,
        }
    }
}

/// `[control]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// The Unix socket's path.
    pub socket: PathBuf,
    /// The group that may change things, besides root and the daemon's own user.
    pub write_group: Option<String>,
    /// The group that may read.
    pub read_group: Option<String>,
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: "/run/backstop/control.sock".into(), write_group: None, read_group: None }
    }
}

/// `[log]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `human` or `json`.
    pub format: LogFormat,
    /// Write local parts of mailboxes as keyed hashes; domains stay readable.
    pub hash_addresses: bool,
    /// Most lines that wait to be written; what comes beyond is lost and counted.
    pub queue_lines_max: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, hash_addresses: false, queue_lines_max: 16_384 }
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
