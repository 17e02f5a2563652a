//! The configuration: one TOML file. Each field's doc comment is its manual, and `backstop init` writes it out.
//!
//! [`parse`] reports everything that is wrong at once, each problem with line, column, what was expected and the
//! nearest right spelling: first what does not fit the schema, then (once everything could be read) what contradicts
//! itself. A [`Config`] that exists is sound: domains and covered addresses are in canonical form, no limit is zero.

mod convert;
mod daemon;
mod edit;
pub mod keys;
mod load;
mod machine;
mod mail;
mod manual;
mod problem;
mod reader;
mod section;
mod servers;
mod sources;
mod tenants;
#[cfg(test)]
mod tests;
mod tls;
mod validate;
mod value;

pub(crate) use convert::domain_name;
pub use daemon::{
    Control, FORWARDED_MAILBOXES_MAX, Limits, Log, LogFormat, Quarantine, READ_BUFFER_BYTES, State,
};
pub use edit::{Edit, EditError};
pub use load::{Loaded, load, parse, read};
pub use machine::Machine;
pub use mail::{
    Domain, Filter, Inbound, Kinds, Outbound, Policy, Record, Signature, Tenant, TrustedForwarder, Watch,
};
pub use manual::Answers;
pub use problem::{ConfigError, Level, Problem, Problems};
pub use reader::Places;
pub use section::{Field, Kind};
pub use servers::{SERVERS_MAX, Servers};
pub use sources::{Flood, Reputation, Xdp, XdpMode};
pub use tenants::{SecretError, TenantSecret};
pub use tls::{Tls, TlsCertificate, TlsMode, TlsUpstream};

use section::section;

section! {
    /// The whole file.
    pub struct Config {
        /// The edge's own name, as it stands in the greeting and in `Received`.
        pub hostname: String,
        /// Where mail from the Internet comes in.
        pub inbound: Inbound,
        /// Where the operator's own server hands its outgoing mail to be signed. Absent: no such listener.
        pub outbound: Option<Outbound>,
        /// The operator's domains.
        #[key = "domain"]
        pub domains: Vec<Domain>,
        /// TLS: certificates for STARTTLS, and the servers that mail is handed to by it.
        pub tls: Tls,
        /// Keys, tags and tokens.
        pub signature: Signature,
        /// The record of what was sent: it proves bounces that return neither token nor tag, but the Message-ID.
        pub record: Record,
        /// The backscatter filters, in order; the first that is on and covers the recipient decides. None: all is
        /// delivered, and logged.
        #[key = "filter"]
        pub filters: Vec<Filter> = Vec::new(),
        /// A user's other mailbox, at another provider, that passes everything on to him: bounces of mail that he sent
        /// from there too, which nothing here can prove. They are delivered all the same.
        #[key = "trusted_forwarder"]
        pub trusted_forwarders: Vec<TrustedForwarder> = Vec::new(),
        /// What stands beside the filters.
        pub policy: Policy,
        /// How what nothing proves is looked at.
        pub watch: Watch,
        /// What becomes of null-sender mail that nothing proves, by its kind: `bounce` (the filters judge it as an unproven
        /// bounce), or an action as a filter has. During a flood, and over the mailbox's rate, what a rule would let through
        /// is judged as a bounce.
        pub kinds: Kinds,
        /// The NIC's protection. Absent: none.
        pub xdp: Option<Xdp>,
        /// How sources are judged.
        pub reputation: Reputation,
        /// When a wave of unproven bounces counts as a flood.
        pub flood: Flood,
        /// Limits on sessions, messages and memory.
        pub limits: Limits,
        /// What outlives the daemon.
        pub state: State,
        /// Bounces that a filter with the action `quarantine` keeps for the operator: a Maildir, `quarantine` in the
        /// state directory. What has no room there is deferred (452), and nothing is thrown out before its time.
        pub quarantine: Quarantine,
        /// The control socket.
        pub control: Control,
        /// The log.
        pub log: Log,
    }
}

impl Config {
    /// All keys of the file, with their manual.
    #[must_use]
    pub fn manual() -> &'static [Field] {
        <Self as section::Section>::FIELDS
    }
}
