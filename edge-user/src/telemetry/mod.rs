//! Counters for work done, and the event log: one line a verdict.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use edge_core::policy::{Action, Reason};
use edge_core::signature::Proof;
use edge_core::time::UnixMillis;
use serde::Serialize;

/// A counter that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `by`.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All counters of the daemon (the kernel's own are the dataplane's).
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections accepted, inbound.
    pub connections_inbound: Counter,
    /// Connections accepted, outbound.
    pub connections_outbound: Counter,
    /// Connections answered 421: over a budget or banned.
    pub refused_budget: Counter,
    /// Connections answered 421: no slot free.
    pub refused_full: Counter,
    /// Octets read from clients.
    pub bytes_in: Counter,
    /// Octets of messages sent to upstreams.
    pub bytes_upstream: Counter,
    /// Recipients refused.
    pub recipients_refused: Counter,
    /// Mail with a sender that the upstream accepted.
    pub mail_delivered: Counter,
    /// Mail with a sender that was refused (5xx).
    pub mail_refused: Counter,
    /// Messages answered 4xx.
    pub deferred: Counter,
    /// Bounces proven by a tag and delivered.
    pub bounces_tag: Counter,
    /// Bounces proven by a token and delivered.
    pub bounces_token: Counter,
    /// Unproven bounces delivered (monitor, deliver, mark, exempt).
    pub bounces_unproven_delivered: Counter,
    /// Unproven bounces rejected.
    pub bounces_rejected: Counter,
    /// Unproven bounces discarded.
    pub bounces_discarded: Counter,
    /// Outgoing messages signed.
    pub signed: Counter,
    /// Outgoing messages passed on unsigned.
    pub relayed_unsigned: Counter,
    /// Messages whose upstream died between the final dot and its reply (RFC 1047): they may arrive twice.
    pub in_doubt: Counter,
    /// Bans ordered.
    pub bans: Counter,
    /// Log lines lost because the log's queue was full.
    pub log_lines_lost: Counter,
}

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
    /// Whether it came by the inbound or the outbound listener.
    pub direction: Direction,
    /// What the filter decided; none for mail with a sender.
    pub action: Option<Action>,
    /// Why.
    pub reason: Option<Reason>,
    /// What proved it.
    pub proof: Option<Proof>,
    /// The filter's place in the configuration.
    pub filter: Option<usize>,
    /// The reply's code to the final dot (or to DATA).
    pub reply: u16,
    /// Octets of the message.
    pub bytes: u64,
    /// What the report in the bounce says: its type, status and reporting server.
    pub report: Option<Report>,
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

/// What a bounce's machine-readable part says (RFC 3464).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `report-type` of `multipart/report`.
    pub kind: Option<String>,
    /// The first `Status` field.
    pub status: Option<String>,
    /// The `Reporting-MTA` field.
    pub reporting_mta: Option<String>,
}

/// Where verdict lines go: a bounded queue that a thread of its own writes out, so that the hot path never waits.
#[derive(Debug)]
pub struct EventLog {}

impl EventLog {
    /// Queues a line. When the queue is full the line is lost and counted.
    pub fn verdict(&self, _line: VerdictLine) {
        todo!()
    }
}
