//! The sections about sources: what the NIC does, how they are judged, and when a flood is on.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::section::{defaults, section};

section! {
    /// `[xdp]`
    pub struct Xdp {
        /// The interface that mail comes in at.
        pub interface: String,
        /// `auto` tries native and falls back to generic with a warning; `native` or fail; `generic`.
        pub mode: XdpMode = XdpMode::Auto,
        /// Count what would be dropped, and pass it.
        pub watch: bool = true,
        /// The protected ports. Nothing else is ever judged.
        pub ports: Vec<u16> = vec![25],
        /// Where program, link and maps are pinned.
        pub pin_dir: PathBuf = "/sys/fs/bpf/backstop".into(),
        /// Prefixes that always pass (besides own addresses, upstreams and the default gateway).
        pub allow: Vec<IpNet> = Vec::new(),
        /// Prefixes that always drop; what gets past the NIC is answered 421.
        pub block: Vec<IpNet> = Vec::new(),
        /// SYNs a second that a source may send.
        pub syn_per_sec: u32 = 50,
        /// SYNs at once before the rate counts.
        pub syn_burst: u32 = 200,
        /// Most bans at once.
        pub bans_max: u32 = 131_072,
        /// Most sources whose SYNs are counted at once; the longest unseen make room.
        pub sources_max: u32 = 262_144,
        /// Most prefixes, of each IP version, in each of the lists: allowed, never banned, blocked.
        pub prefixes_max: u32 = 65_536,
        /// Drops a second that are reported one by one, of each CPU; the counters count them all.
        pub samples_per_sec: u32 = 10,
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

section! {
    /// `[reputation]`
    pub struct Reputation {
        /// Prefixes that keep their budgets but are never banned: big providers' outbound ranges.
        pub never_ban: Vec<IpNet> = Vec::new(),
        /// The operator's own gateways and backup MXs: never banned either.
        pub trusted_relays: Vec<IpNet> = Vec::new(),
        /// Recipients that no honest sender writes to: whoever does is banned.
        pub traps: Vec<String> = Vec::new(),
        /// Sources without credit that are remembered.
        pub newcomers_max: usize = 262_144,
        /// Sources with credit that are remembered; newcomers never push them out.
        pub credited_max: usize = 131_072,
        /// Bans that are remembered, in force or over.
        pub bans_max: usize = 131_072,
        /// Domains our users wrote to that are remembered: mail from them earns its source credit.
        pub correspondents_max: usize = 200_000,
        /// Connections a second that a source may make.
        pub connections_per_sec: f64 = 10.0,
        /// Connections at once before the rate counts.
        pub connections_burst: f64 = 100.0,
        /// Unproven bounces a second that a source may send.
        pub unproven_per_sec: f64 = 10.0,
        /// Unproven bounces before the rate counts. Over it a source hears 421 and is never banned for that.
        pub unproven_burst: f64 = 1000.0,
        /// 421s for connections over their budget (or for guessed tags), within a minute, after which a source is banned
        /// (those less than half a second apart are one).
        pub over_budget_strikes: u32 = 10,
        /// Unproven bounces in one flood after which a source is banned from which nothing good came lately.
        pub flood_unproven_max: u32 = 2000,
        /// The first ban, in seconds; each further one doubles.
        pub ban_first_secs: u64 = 60,
        /// The longest ban, in seconds.
        pub ban_max_secs: u64 = 86_400,
        /// The longest ban for nothing but unproven bounces in a flood, in seconds.
        pub ban_flood_max_secs: u64 = 600,
        /// How fast credit halves, and how long proven bounces and wanted mail protect from bans, in days.
        pub credit_half_life_days: u32 = 14,
    }
}

section! {
    /// `[flood]`
    pub struct Flood {
        /// A flood has at least this many unproven bounces within `window_secs`.
        pub unproven_min: u32 = 100,
        /// And at least this many times the baseline's.
        pub factor: f64 = 5.0,
        /// The time over which unproven bounces are counted, in seconds.
        pub window_secs: u64 = 60,
        /// How long it must be calm before a flood is over, in seconds.
        pub calm_after_secs: u64 = 600,
    }
}

defaults!(Reputation, Flood);
