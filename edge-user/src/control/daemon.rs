//! Answers from a running edge.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edge_core::incident::State;
use edge_core::reputation::{Ban, Cause};
use edge_core::source::Source;
use edge_core::time::UnixMillis;

use super::handover::Successor;
use super::listener::Daemon;
use super::protocol::{BanRow, Explained, Reply, Request, Status, UpstreamStatus, XdpStatus};
use crate::dataplane::refuse_own;
use crate::engine::{Edge, Report};
use crate::telemetry::Event;

/// The longest ban that an operator may order: a year. What should last longer belongs into `block` of `[xdp]`.
const BAN_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Sources that `status` shows of what watching found.
const SOURCES_SHOWN: usize = 10;

/// What `reload` does: reads filters and keys anew, and says how many there are of each.
pub type Reload = dyn Fn() -> anyhow::Result<(usize, usize)> + Send + Sync;

/// What a process that wants this one's place brings about.
pub type HandOver = dyn Fn(Successor) + Send + Sync;

/// A running edge as the control socket sees it.
pub struct EdgeDaemon {
    pub(super) edge: Arc<Edge>,
    started: UnixMillis,
    /// What `reload` reads.
    file: PathBuf,
    reload: Box<Reload>,
    hand_over: Box<HandOver>,
}

impl EdgeDaemon {
    /// Answers for `edge`, which starts now with the configuration in `file`.
    #[must_use]
    pub fn new(edge: Arc<Edge>, file: PathBuf, reload: Box<Reload>, hand_over: Box<HandOver>) -> Self {
        Self { started: edge.now(), edge, file, reload, hand_over }
    }

    fn status(&self, now: UnixMillis) -> Result<Status, String> {
        let edge = &self.edge;
        let flood = edge.flood_state();
        let bans = edge.reputation.bans(now).len();
        let flood_secs = match flood {
            State::Calm => None,
            State::Flood { since } => Some(now.since(since).as_secs()),
        };
        let names = |counters: Vec<(&'static str, u64)>| -> BTreeMap<String, u64> {
            counters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
        };
        let xdp = match (&edge.dataplane, &edge.config.xdp) {
            (Some(dataplane), Some(settings)) => Some(XdpStatus {
                interface: settings.interface.clone(),
                mode: if dataplane.is_attached() { dataplane.mode().name() } else { XdpStatus::OFF }.into(),
                adopted: dataplane.adopted(),
                watch: dataplane.watch().map_err(|error| error.to_string())?,
                packets: names(dataplane.counters().map_err(|error| error.to_string())?),
            }),
            (Some(_) | None, _) => None,
        };
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_secs: now.since(self.started).as_secs(),
            sessions: edge.registry.sessions(),
            bans,
            flood_secs,
            xdp,
            watch: Some(edge.watched(SOURCES_SHOWN)),
            quarantine: self.quarantine_status(),
            upstreams: edge.upstream_reports().into_iter().map(|report| upstream(report, now)).collect(),
            counters: names(edge.metrics.snapshot()),
            log_lines_lost: edge.log.lines_lost(),
        })
    }

    fn bans(&self, now: UnixMillis) -> Vec<BanRow> {
        let mut bans = self.edge.reputation.bans(now);
        bans.sort_by_key(|ban| ban.source);
        bans.into_iter().map(|ban| row(ban, now)).collect()
    }

    fn ban(&self, source: &str, secs: u64, now: UnixMillis) -> Result<Reply, String> {
        let source = parse(source)?;
        let length = Duration::from_secs(secs);
        if length.is_zero() || length > BAN_MAX {
            return Err(format!("a ban lasts from 1 second to {} days", BAN_MAX.as_secs() / 86_400));
        }
        let address = source.address();
        if address.is_unspecified() || address.is_multicast() {
            return Err(format!("{source} is no host's address: nothing comes from there"));
        }
        refuse_own(&self.edge.config, source).map_err(|error| error.to_string())?;
        if let Some(dataplane) = &self.edge.dataplane {
            dataplane.refuse_spared(source).map_err(|error| error.to_string())?;
        }
        let ban = Ban { source, until: now.plus(length), cause: Cause::Operator };
        self.edge
            .reputation
            .ban(ban.source, ban.until, ban.cause, now)
            .map_err(|refused| format!("{refused}; take it out of `never_ban` or `trusted_relays` first"))?;
        self.edge.tell_orders();
        Ok(Reply::Banned(row(ban, now)))
    }

    fn unban(&self, source: &str, now: UnixMillis) -> Result<Reply, String> {
        let source = parse(source)?;
        let known = self.edge.reputation.unban(source, now);
        let at_nic = match &self.edge.dataplane {
            Some(dataplane) => dataplane.unban(source).map_err(|error| error.to_string())?,
            None => false,
        };
        let was_banned = known || at_nic;
        if was_banned {
            self.edge.log.event(Event::BanLifted { source });
        }
        Ok(Reply::Unbanned { was_banned })
    }

    fn explain(&self, source: &str, now: UnixMillis) -> Result<Reply, String> {
        let source = parse(source)?;
        let known = self.edge.reputation.explain(source, now);
        Ok(Reply::Explained(Explained {
            source: known.source.to_string(),
            ban: known.ban.map(|ban| row(ban, now)),
            credit: known.credit,
            bans_before: known.bans_before,
            proven: known.proven,
            unproven: known.unproven,
            wanted: known.wanted,
            connections_left: known.connections_left,
            unproven_left: known.unproven_left,
            never_ban: known.never_ban,
        }))
    }

    fn reload(&self) -> Result<Reply, String> {
        match (self.reload)() {
            Ok((filters, keys)) => Ok(Reply::Reloaded { filters, keys, file: self.file.clone() }),
            Err(error) => Err(format!("{error:#}")),
        }
    }
}

impl Daemon for EdgeDaemon {
    fn answer(&self, request: &Request) -> Reply {
        let now = self.edge.now();
        let reply = match request {
            Request::Version => {
                Ok(Reply::Version { version: env!("CARGO_PKG_VERSION").into(), file: self.file.clone() })
            }
            Request::Status => self.status(now).map(|status| Reply::Status(Box::new(status))),
            Request::Bans => Ok(Reply::Bans { bans: self.bans(now) }),
            Request::Ban { source, secs } => self.ban(source, *secs, now),
            Request::Unban { source } => self.unban(source, now),
            Request::Explain { source } => self.explain(source, now),
            Request::Watched => Ok(Reply::Watched(Box::new(self.edge.watched(usize::MAX)))),
            Request::Quarantine(request) => self.quarantine(request).map(Reply::Quarantine),
            Request::Reload => self.reload(),
            // What it needs is the connection.
            Request::HandOver => Err("a handover is no question".into()),
        };
        reply.unwrap_or_else(|error| Reply::Failed { error })
    }

    fn hand_over(&self, successor: Successor) {
        (self.hand_over)(successor);
    }

    fn log(&self, uid: u32, request: String, outcome: String) {
        self.edge.log.event(Event::Control { uid, request, outcome });
    }
}

fn upstream(report: Report, now: UnixMillis) -> UpstreamStatus {
    let Report { address, inbound, outbound, up, since, last_fault, .. } = report;
    let Report { connections, connections_max, kept, waiting, .. } = report;
    let (last_error, last_error_secs) =
        last_fault.map(|fault| (fault.text, now.since(fault.at).as_secs())).unzip();
    UpstreamStatus {
        address,
        inbound,
        outbound,
        up,
        since_secs: since.map(|since| now.since(since).as_secs()),
        last_error,
        last_error_secs,
        connections,
        connections_max,
        kept,
        waiting,
    }
}

fn parse(source: &str) -> Result<Source, String> {
    source.parse().map_err(|error: edge_core::source::NotASource| error.to_string())
}

fn row(ban: Ban, now: UnixMillis) -> BanRow {
    BanRow { source: ban.source.to_string(), cause: ban.cause, left_secs: ban.until.since(now).as_secs() }
}
