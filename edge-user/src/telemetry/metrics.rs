//! Counters for work done by the daemon. The kernel's own are the dataplane's.

//!
//! Each worker has a row of its own, and all rows are summed when somebody asks: no core waits for a cache line that
//! another one writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;
use edge_core::bounce::Kind;

use super::shard::{self, SHARDS};

/// A counter that only grows.
#[derive(Debug)]
pub struct Counter {
    rows: Arc<Rows>,
    /// Its place in each row.
    place: usize,
}

type Rows = [CachePadded<Box<[AtomicU64]>>; SHARDS];

fn rows(counters: usize) -> Arc<Rows> {
    // No two rows share a cache line: their ends are kept free.
    let spare = size_of::<CachePadded<()>>() / size_of::<AtomicU64>();
    let row = || (0..counters + spare).map(|_| AtomicU64::new(0)).collect();
    Arc::new(std::array::from_fn(|_| CachePadded::new(row())))
}

impl Counter {
    /// Adds `by`.
    pub fn add(&self, by: u64) {
        let count = &self.rows[shard::here()][self.place];
        if shard::is_alone() {
            count.store(count.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
        } else {
            count.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.rows.iter().map(|row| row[self.place].load(Ordering::Relaxed)).sum()
    }

    /// What it is of each thread that has counted anything.
    #[cfg(test)]
    pub(crate) fn by_shards(&self) -> Vec<u64> {
        let counts = self.rows.iter().map(|row| row[self.place].load(Ordering::Relaxed));
        counts.filter(|count| *count > 0).collect()
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self { rows: rows(1), place: 0 }
    }
}

/// Declares the counters once: their fields, and the list by which `status` shows them.
macro_rules! metrics {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// All counters of the daemon (the kernel's own are the dataplane's).
        #[derive(Debug)]
        pub struct Metrics {
            $($(#[$doc])+ pub $name: Counter,)+
        }

        impl Default for Metrics {
            fn default() -> Self {
                let rows = rows([$(stringify!($name)),+].len());
                let mut places = 0..;
                let mut next =
                    || Counter { rows: Arc::clone(&rows), place: places.next().unwrap_or_default() };
                Self { $($name: next(),)+ }
            }
        }

        impl Metrics {
            /// Every counter by its name, in the order they are declared in.
            #[must_use]
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)+]
            }
        }
    };
}

metrics! {
    /// Connections accepted, inbound.
    connections_inbound,
    /// Connections accepted, outbound.
    connections_outbound,
    /// Connections answered 421: over a budget or banned.
    refused_budget,
    /// Connections answered 421: `xdp.block` holds them, and they got past the NIC.
    refused_blocked,
    /// Connections answered 421: no slot free.
    refused_full,
    /// Sessions that were ended for others to have room: they had got least done in the longest wait.
    evicted,
    /// Connections to the outbound listener from outside the configured networks.
    refused_outsiders,
    /// Outgoing messages from networks that many share, refused for want of a tenant's secret.
    refused_tenants,
    /// TLS handshakes with clients that were done.
    tls_sessions,
    /// Of these, resumed ones.
    tls_resumed,
    /// Of these, such with TLS 1.2.
    tls_version_1_2,
    /// TLS handshakes with clients that failed.
    tls_failed,
    /// STARTTLS answered 454: as many handshakes were going on as may.
    tls_deferred,
    /// Connections to upstreams and the next hop that went over to TLS.
    tls_upstream,
    /// Connections to upstreams and the next hop that did not go over to TLS as they should.
    tls_upstream_failed,
    /// Octets read from clients.
    bytes_in,
    /// Octets of messages sent to upstreams.
    bytes_upstream,
    /// Connections opened to upstreams and next hops for mail: most messages need none of their own.
    upstream_connections,
    /// Kept ones that the other side ended while they waited.
    upstream_connections_ended,
    /// Transactions that got none: `upstream_connections_max` were open, and none became free.
    upstream_connections_full,
    /// Recipients refused.
    recipients_refused,
    /// Mail with a sender that the upstream accepted.
    mail_delivered,
    /// Mail with a sender that was refused (5xx).
    mail_refused,
    /// Messages answered 4xx.
    deferred,
    /// Bounces proven by a tag and delivered.
    bounces_tag,
    /// Bounces proven by a token and delivered.
    bounces_token,
    /// Bounces proven by the record of what was sent, and delivered.
    bounces_record,
    /// Bounces that nothing proved, whatever became of them.
    unproven,
    /// Unproven bounces delivered (monitor, deliver, mark, exempt).
    bounces_unproven_delivered,
    /// Null-sender mail that a trusted forwarder passed on, delivered without a proof.
    bounces_forwarded,
    /// Unproven bounces rejected.
    bounces_rejected,
    /// Unproven bounces discarded.
    bounces_discarded,
    /// Unproven bounces kept in the quarantine.
    bounces_quarantined,
    /// Messages that the quarantine could not take: they were deferred.
    quarantine_failed,
    /// Quarantined messages that were released, and that their upstream took.
    quarantine_released,
    /// Quarantined messages that were deleted because their time was over.
    quarantine_expired,
    /// Null-sender mail that nothing proved and the rule of its kind let through; `unproven` leaves it out.
    kinds_let_through,
    /// Null-sender mail delivered, proven or not, of no known kind. (What a tag proved is never read, and counted under none.)
    delivered_unknown,
    /// The same: delivery failures.
    delivered_failure,
    /// The same: delays.
    delivered_delay,
    /// The same: successes.
    delivered_success,
    /// The same: automatic replies.
    delivered_auto_reply,
    /// The same: read receipts.
    delivered_receipt,
    /// The same: invitations and their answers.
    delivered_calendar,
    /// The same: mail of lists.
    delivered_list,
    /// The same: challenges.
    delivered_challenge,
    /// The same: complaints.
    delivered_complaint,
    /// The same: DMARC reports.
    delivered_dmarc_report,
    /// The same: TLS reports.
    delivered_tls_report,
    /// Outgoing messages remembered, once for each mailbox.
    record_kept,
    /// Outgoing messages not remembered: the day's record was full.
    record_full,
    /// Outgoing messages signed.
    signed,
    /// Outgoing messages passed on unsigned.
    relayed_unsigned,
    /// Messages whose upstream died between the final dot and its reply (RFC 1047): they may arrive twice.
    in_doubt,
    /// Bans ordered.
    bans,
    /// Sessions that a fault of the program ended.
    sessions_panicked,
}

impl Metrics {
    /// The counter of null-sender mail of this kind that was delivered.
    #[must_use]
    pub fn delivered_of(&self, kind: Kind) -> &Counter {
        match kind {
            Kind::Unknown => &self.delivered_unknown,
            Kind::Failure => &self.delivered_failure,
            Kind::Delay => &self.delivered_delay,
            Kind::Success => &self.delivered_success,
            Kind::AutoReply => &self.delivered_auto_reply,
            Kind::Receipt => &self.delivered_receipt,
            Kind::Calendar => &self.delivered_calendar,
            Kind::List => &self.delivered_list,
            Kind::Challenge => &self.delivered_challenge,
            Kind::Complaint => &self.delivered_complaint,
            Kind::DmarcReport => &self.delivered_dmarc_report,
            Kind::TlsReport => &self.delivered_tls_report,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_workers_count_is_one_sum() {
        // As many as can have a shard of their own, and more.
        for workers in [1, SHARDS - 1, SHARDS, 2 * SHARDS] {
            let metrics = Metrics::default();
            std::thread::scope(|scope| {
                for worker in 0..workers {
                    let metrics = &metrics;
                    scope.spawn(move || {
                        shard::is_workers(worker, workers);
                        (0..1000).for_each(|_| metrics.unproven.add(1));
                    });
                }
                (0..1000).for_each(|_| metrics.unproven.add(1));
            });
            assert_eq!(metrics.unproven.get(), 1000 * (workers as u64 + 1), "{workers} workers");
        }
    }

    #[test]
    fn the_snapshot_names_each_counter_with_its_value() {
        let metrics = Metrics::default();
        metrics.bounces_token.add(2);
        metrics.bounces_token.add(1);
        let snapshot = metrics.snapshot();
        assert!(snapshot.contains(&("bounces_token", 3)));
        assert_eq!(snapshot.iter().map(|(_, value)| value).sum::<u64>(), 3);
    }
}
