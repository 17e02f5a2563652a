//! What is known of each upstream: whether it answers, and what it offered last.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edge_core::smtp::{Capabilities, Offer};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::upstream::{Fault, Stage, Upstream, UpstreamError};
use super::{Edge, locked};
use crate::config::Config;
use crate::telemetry::{Direction, Event, Level};

/// How often an upstream's health is asked.
const HEALTH_INTERVAL: Duration = Duration::from_secs(30);
/// How soon again while it is down.
const HEALTH_INTERVAL_DOWN: Duration = Duration::from_secs(2);

/// What an upstream that never answered is taken to offer. A client that is not offered these bounces its mail for
/// good, or rewrites it and breaks its signatures; one that is meets a 451 until the upstream is there.
const WHILE_UNKNOWN: Capabilities = Capabilities {
    eight_bit_mime: true,
    smtputf8: true,
    size: None,
    pipelining: false,
    dsn: false,
    starttls: false,
};

/// All upstreams, and the next hop of outgoing mail.
#[derive(Debug)]
pub(super) struct Upstreams {
    all: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    address: SocketAddr,
    inbound: bool,
    outbound: bool,
    state: Mutex<State>,
    /// Told when a session found it down.
    lost: Notify,
    /// It was said already that it has the edge's own name.
    named_alike: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Not asked yet.
    Unasked,
    /// It answered EHLO so.
    Up(Capabilities),
    /// It did not answer; what it offered before, if it ever did.
    Down(Option<Capabilities>),
}

impl State {
    fn capabilities(self) -> Option<Capabilities> {
        match self {
            Self::Unasked => None,
            Self::Up(capabilities) => Some(capabilities),
            Self::Down(before) => before,
        }
    }
}

impl Upstreams {
    pub(super) fn new(config: &Config) -> Self {
        let next_hop = config.outbound.as_ref().map(|side| side.next_hop);
        let mut addresses: Vec<_> =
            config.domains.iter().map(|domain| domain.upstream).chain(next_hop).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let known = |address| Known {
            address,
            inbound: config.domains.iter().any(|domain| domain.upstream == address),
            outbound: next_hop == Some(address),
            state: Mutex::new(State::Unasked),
            lost: Notify::new(),
            named_alike: AtomicBool::new(false),
        };
        Self { all: addresses.into_iter().map(known).collect() }
    }

    /// What may be offered to a client: what every upstream that its mail could go to offers, as far as it is known.
    /// And the largest message they all take, where they state one.
    pub(super) fn offer(&self, direction: Direction) -> (Offer, Option<u64>) {
        let mut offer = Offer { eight_bit_mime: true, smtputf8: true, dsn: true, starttls: false };
        let mut size: Option<u64> = None;
        for known in &self.all {
            let concerned = match direction {
                Direction::Inbound => known.inbound,
                Direction::Outbound => known.outbound,
            };
            if !concerned {
                continue;
            }
            let of = locked(&known.state).capabilities().unwrap_or(WHILE_UNKNOWN);
            offer.eight_bit_mime &= of.eight_bit_mime;
            offer.smtputf8 &= of.smtputf8;
            offer.dsn &= of.dsn;
            // 0 says that there is no limit (RFC 1870 section 3).
            if let Some(stated @ 1..) = of.size {
                size = Some(size.map_or(stated, |least| least.min(stated)));
            }
        }
        (offer, size)
    }

    /// Whether an upstream was asked what it offers, since the start.
    pub(super) fn was_asked(&self, address: SocketAddr) -> bool {
        let known = self.all.iter().find(|known| known.address == address);
        known.is_some_and(|known| *locked(&known.state) != State::Unasked)
    }

    /// Whether it did not answer the last time.
    pub(super) fn is_down(&self, address: SocketAddr) -> bool {
        let known = self.all.iter().find(|known| known.address == address);
        known.is_some_and(|known| matches!(*locked(&known.state), State::Down(_)))
    }

    fn set(&self, address: SocketAddr, next: impl Fn(State) -> State) -> Option<(State, State)> {
        let mut state = locked(&self.all.iter().find(|known| known.address == address)?.state);
        let before = *state;
        *state = next(before);
        Some((before, *state))
    }
}

impl Edge {
    /// An upstream answered.
    pub(crate) fn upstream_is_up(&self, address: SocketAddr, capabilities: Capabilities) {
        if let Some((State::Down(_), State::Up(_))) = self.upstreams.set(address, |_| State::Up(capabilities))
        {
            self.log.event(Event::UpstreamUp { upstream: address });
        }
    }

    /// An upstream cannot be reached, or did not answer as it should. Logged when it is news.
    pub(crate) fn upstream_is_down(&self, error: &UpstreamError) {
        let change = self.upstreams.set(error.address, |before| State::Down(before.capabilities()));
        if let Some((State::Up(_) | State::Unasked, State::Down(_))) = change {
            self.log.event(Event::UpstreamDown { upstream: error.address, error: error.to_string() });
            if let Some(known) = self.upstreams.all.iter().find(|known| known.address == error.address) {
                known.lost.notify_one();
            }
        }
    }

    /// An upstream calls itself as the edge does. Logged once.
    fn upstream_is_named_alike(&self, address: SocketAddr) {
        let known = self.upstreams.all.iter().find(|known| known.address == address);
        if known.is_some_and(|known| !known.named_alike.swap(true, Ordering::Relaxed)) {
            self.log.event(Event::Diagnostic {
                level: Level::Warn,
                target: "backstop::upstream".into(),
                message: format!(
                    "{address} calls itself {}, as the edge does: each will take the other's mail for a loop; give \
                     the edge a `hostname` of its own",
                    self.config.hostname
                ),
            });
        }
    }

    /// A connection to an upstream, its EHLO done.
    pub(crate) async fn open_upstream(&self, address: SocketAddr) -> Result<Upstream, UpstreamError> {
        match self.open_as_configured(address).await {
            Ok(upstream) => {
                self.upstream_is_up(address, upstream.capabilities());
                if upstream.is_called(&self.config.hostname) {
                    self.upstream_is_named_alike(address);
                }
                Ok(upstream)
            }
            Err(error) => {
                self.upstream_is_down(&error);
                Err(error)
            }
        }
    }
}

impl Edge {
    /// By TLS, where the configuration says so. One whose handshake fails is tried in clear, where that is allowed (RFC
    /// 7435), and is then spoken to so for a while.
    async fn open_as_configured(&self, address: SocketAddr) -> Result<Upstream, UpstreamError> {
        let open = |tls| Upstream::open(address, &self.config.hostname, self.upstream_patience(), tls);
        let connector = self.connectors().get(address).filter(|connector| !connector.is_clear(self.now()));
        let Some(connector) = connector else { return open(None).await };
        let error = match open(Some((&*connector, &self.pool))).await {
            Ok(upstream) => {
                if upstream.is_secured() {
                    self.metrics.tls_upstream.add(1);
                    connector.is_secured();
                }
                return Ok(upstream);
            }
            Err(error) => error,
        };
        let handshake = matches!(error.fault, Fault::Handshake(_) | Fault::TimedOut(_));
        if error.stage == Stage::StartTls && handshake {
            self.metrics.tls_upstream_failed.add(1);
            if connector.may_be_clear() {
                if let Some(pause) = connector.go_clear(self.now()) {
                    let (error, secs) = (error.fault.to_string(), pause.as_secs());
                    self.log.event(Event::UpstreamInClear { upstream: address, error, secs });
                }
                return open(None).await;
            }
        }
        Err(error)
    }
}

/// Asks all upstreams at once for their EHLO replies, so that the first clients are offered the right extensions.
pub(super) async fn ask_all(edge: &Arc<Edge>) {
    let mut tasks = JoinSet::new();
    for known in &edge.upstreams.all {
        let (edge, address) = (Arc::clone(edge), known.address);
        tasks.spawn(async move {
            // A fault is logged, and asked for again by `watch_health`.
            if let Ok(upstream) = edge.open_upstream(address).await {
                upstream.quit().await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Asks each upstream for its EHLO reply, again and again.
pub(super) async fn watch_health(edge: Arc<Edge>) {
    let mut tasks = JoinSet::new();
    for place in 0..edge.upstreams.all.len() {
        tasks.spawn(watch_one(Arc::clone(&edge), place));
    }
    while tasks.join_next().await.is_some() {}
}

async fn watch_one(edge: Arc<Edge>, place: usize) {
    let known = &edge.upstreams.all[place];
    let mut pause = if edge.upstreams.was_asked(known.address) { HEALTH_INTERVAL } else { Duration::ZERO };
    loop {
        if timeout(pause, known.lost.notified()).await.is_ok() {
            tokio::time::sleep(HEALTH_INTERVAL_DOWN).await;
        }
        pause = match edge.open_upstream(known.address).await {
            Ok(upstream) => {
                upstream.quit().await;
                HEALTH_INTERVAL
            }
            // It is logged; here it only means to ask again soon.
            Err(_) => HEALTH_INTERVAL_DOWN,
        };
    }
}
