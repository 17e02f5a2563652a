//! What is known of each upstream: whether it answers, and what it offered last.

mod asking;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use edge_core::smtp::{Capabilities, Offer};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub(super) use self::asking::{ask_all, watch_health};
use super::health::{Health, Report, State};
use super::upstream::kept::Kept;
use super::upstream::{Fault, Patience, Stage, Upstream, UpstreamError};
use super::{Edge, locked};
use crate::config::Config;
use crate::telemetry::{Direction, Event, Level};

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
    /// By address.
    all: Vec<Known>,
    /// Told when kept connections should be looked at: somebody waits for a place, or the settings changed.
    wanted: Notify,
    /// How often it was changed how upstreams are spoken to.
    settings: AtomicUsize,
    /// What may be offered, inbound and outbound: written when an upstream says something new, read by each session.
    offers: [Packed; 2],
    /// Of two who renew them, the second has seen what the first one said.
    renewing: Mutex<()>,
    /// Those who keep connections: one for each worker.
    keepers: Mutex<Vec<Weak<Kept>>>,
    /// Most connections for mail to each.
    connections_max: usize,
}

/// An [`Offer`] and the size beside it, in one word: no session waits for who writes it.
#[derive(Debug, Default)]
struct Packed(AtomicU64);

impl Packed {
    /// The flags are in the lowest bits, the size above them; 0 is no size.
    const SIZE_FROM_BIT: u32 = 4;
    const SIZE_MAX: u64 = u64::MAX >> Self::SIZE_FROM_BIT;

    fn set(&self, (offer, size): (Offer, Option<u64>)) {
        let Offer { eight_bit_mime, smtputf8, dsn, starttls } = offer;
        let flags = [eight_bit_mime, smtputf8, dsn, starttls];
        let flags = (0..).zip(flags).fold(0, |all, (bit, flag)| all | u64::from(flag) << bit);
        let size = size.map_or(0, |size| size.clamp(1, Self::SIZE_MAX));
        self.0.store(size << Self::SIZE_FROM_BIT | flags, Ordering::Relaxed);
    }

    fn get(&self) -> (Offer, Option<u64>) {
        let word = self.0.load(Ordering::Relaxed);
        let [eight_bit_mime, smtputf8, dsn, starttls] = [0, 1, 2, 3].map(|bit| word >> bit & 1 == 1);
        let size = Some(word >> Self::SIZE_FROM_BIT).filter(|size| *size != 0);
        (Offer { eight_bit_mime, smtputf8, dsn, starttls }, size)
    }
}

#[derive(Debug)]
struct Known {
    address: SocketAddr,
    inbound: bool,
    outbound: bool,
    health: Mutex<Health>,
    /// Whether that says that it is down: what sessions ask it.
    is_down: AtomicBool,
    /// Told when a session found it down.
    lost: Notify,
    /// It was said already that it has the edge's own name.
    named_alike: AtomicBool,
    /// The connections for mail that it may be given besides those that are open.
    places: Arc<Semaphore>,
    /// Sessions that wait for one.
    waiting: AtomicUsize,
}

impl Upstreams {
    pub(super) fn new(config: &Config) -> Self {
        let inbound = || config.domains.iter().flat_map(|domain| domain.upstream.iter());
        let outbound = || config.outbound.iter().flat_map(|side| side.next_hop.iter());
        let mut addresses: Vec<_> = inbound().chain(outbound()).copied().collect();
        addresses.sort_unstable();
        addresses.dedup();
        let known = |address| Known {
            address,
            inbound: inbound().any(|upstream| *upstream == address),
            outbound: outbound().any(|next_hop| *next_hop == address),
            health: Mutex::new(Health::UNASKED),
            is_down: AtomicBool::new(false),
            lost: Notify::new(),
            named_alike: AtomicBool::new(false),
            places: Arc::new(Semaphore::new(config.limits.upstream_connections_max)),
            waiting: AtomicUsize::new(0),
        };
        let upstreams = Self {
            all: addresses.into_iter().map(known).collect(),
            wanted: Notify::new(),
            settings: AtomicUsize::new(0),
            offers: Default::default(),
            renewing: Mutex::default(),
            keepers: Mutex::default(),
            connections_max: config.limits.upstream_connections_max,
        };
        upstreams.renew_offers();
        upstreams
    }

    fn known(&self, address: SocketAddr) -> Option<&Known> {
        let place = self.all.binary_search_by_key(&address, |known| known.address).ok()?;
        self.all.get(place)
    }

    /// A place among an upstream's connections, waited for in bounded time. `None`: none became free.
    async fn place(&self, address: SocketAddr, patience: Duration) -> Option<OwnedSemaphorePermit> {
        let known = self.known(address)?;
        if let Ok(place) = Arc::clone(&known.places).try_acquire_owned() {
            return Some(place);
        }
        let _waits = Waits::for_place(&known.waiting);
        // Whoever keeps one that is idle gives it up.
        self.wanted.notify_waiters();
        timeout(patience, Arc::clone(&known.places).acquire_owned()).await.ok()?.ok()
    }

    /// Whether somebody waits for a place among this upstream's connections.
    pub(super) fn is_waited_for(&self, address: SocketAddr) -> bool {
        self.known(address).is_some_and(|known| known.waiting.load(Ordering::Relaxed) > 0)
    }

    /// The number of the settings by which connections are opened now.
    pub(super) fn settings(&self) -> usize {
        self.settings.load(Ordering::Relaxed)
    }

    /// It was changed how upstreams are spoken to: what was opened before serves no further transaction.
    pub(super) fn settings_changed(&self) {
        self.settings.fetch_add(1, Ordering::Relaxed);
        self.wanted.notify_waiters();
    }

    /// Waits until somebody waits so, or the settings changed.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// What may be offered to a client: what every upstream that its mail could go to offers, as far as it is known.
    /// And the largest message they all take, where they state one.
    pub(super) fn offer(&self, direction: Direction) -> (Offer, Option<u64>) {
        self.offers[direction as usize].get()
    }

    fn renew_offers(&self) {
        let _one_by_one = locked(&self.renewing);
        for direction in [Direction::Inbound, Direction::Outbound] {
            self.offers[direction as usize].set(self.offer_by_all(direction));
        }
    }

    fn offer_by_all(&self, direction: Direction) -> (Offer, Option<u64>) {
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
            let of = locked(&known.health).state.capabilities().unwrap_or(WHILE_UNKNOWN);
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
        self.known(address).is_some_and(|known| locked(&known.health).state != State::Unasked)
    }

    /// Whether it did not answer the last time.
    pub(super) fn is_down(&self, address: SocketAddr) -> bool {
        self.known(address).is_some_and(|known| known.is_down.load(Ordering::Relaxed))
    }

    /// Tells how it is: before, and now.
    fn set(&self, address: SocketAddr, tell: impl FnOnce(&mut Health) -> State) -> Option<(State, State)> {
        let known = self.known(address)?;
        let mut health = locked(&known.health);
        let before = tell(&mut health);
        let after = health.state;
        known.is_down.store(matches!(after, State::Down(_)), Ordering::Relaxed);
        drop(health);
        if before.capabilities() != after.capabilities() {
            self.renew_offers();
        }
        Some((before, after))
    }

    /// A worker keeps connections here: who asks for the state of things asks it how many.
    pub(super) fn keeper(&self, kept: &Arc<Kept>) {
        let mut keepers = locked(&self.keepers);
        keepers.retain(|keeper| keeper.strong_count() > 0);
        keepers.push(Arc::downgrade(kept));
    }

    /// How each of them is doing, by address.
    pub(super) fn reports(&self) -> Vec<Report> {
        let keepers: Vec<Arc<Kept>> = locked(&self.keepers).iter().filter_map(Weak::upgrade).collect();
        let report = |known: &Known| Report {
            inbound: known.inbound,
            outbound: known.outbound,
            connections: self.connections_max.saturating_sub(known.places.available_permits()),
            connections_max: self.connections_max,
            kept: keepers.iter().map(|kept| kept.count(known.address)).sum(),
            waiting: known.waiting.load(Ordering::Relaxed),
            ..locked(&known.health).report(known.address)
        };
        self.all.iter().map(report).collect()
    }
}

/// One who waits for a place.
struct Waits<'w>(&'w AtomicUsize);

impl<'w> Waits<'w> {
    fn for_place(waiting: &'w AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Edge {
    /// An upstream answered.
    pub(crate) fn upstream_is_up(&self, address: SocketAddr, capabilities: Capabilities) {
        let now = self.now();
        let change = self.upstreams.set(address, |health| health.is_now(State::Up(capabilities), now));
        if let Some((State::Down(_), State::Up(_))) = change {
            self.log.event(Event::UpstreamUp { upstream: address });
        }
    }

    /// An upstream cannot be reached, or did not answer as it should. Logged when it is news.
    pub(crate) fn upstream_is_down(&self, error: &UpstreamError) {
        // We asked for too much; nothing is wrong with it.
        if matches!(error.fault, Fault::Full(_)) {
            return;
        }
        let now = self.now();
        let mut is_news = false;
        let change = self.upstreams.set(error.address, |health| {
            let before = health.state;
            is_news = health.failed(error.to_string(), now);
            before
        });
        if is_news {
            self.log.event(Event::UpstreamDown { upstream: error.address, error: error.to_string() });
        }
        if let Some((State::Up(_) | State::Unasked, State::Down(_))) = change
            && let Some(known) = self.upstreams.known(error.address)
        {
            known.lost.notify_one();
        }
    }

    /// An upstream calls itself as the edge does. Logged once.
    fn upstream_is_named_alike(&self, address: SocketAddr) {
        if self.upstreams.known(address).is_some_and(|known| !known.named_alike.swap(true, Ordering::Relaxed))
        {
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

    /// A new connection to an upstream for mail, its EHLO done: one of those that it may be given at once.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        patience: Patience,
    ) -> Result<Upstream, UpstreamError> {
        let wait = Duration::from_secs(self.config.limits.upstream_wait_secs);
        let Some(place) = self.upstreams.place(address, wait).await else {
            self.metrics.upstream_connections_full.add(1);
            return Err(UpstreamError { address, stage: Stage::Connect, fault: Fault::Full(wait) });
        };
        let settings = self.upstreams.settings();
        let mut upstream = self.open_with(address, patience).await?;
        upstream.holds(place, settings);
        self.metrics.upstream_connections.add(1);
        Ok(upstream)
    }

    /// A connection to the first of `servers` that answers, beside those for clients' mail.
    pub(crate) async fn open_first(&self, servers: &[SocketAddr]) -> Result<Upstream, UpstreamError> {
        let address = servers.first().copied().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
        let mut opened = Err(UpstreamError { address, stage: Stage::Connect, fault: Fault::Closed });
        for server in servers {
            opened = self.open_upstream(*server).await;
            if opened.is_ok() {
                break;
            }
        }
        opened
    }

    /// A connection to an upstream beside those for clients' mail, its EHLO done.
    pub(crate) async fn open_upstream(&self, address: SocketAddr) -> Result<Upstream, UpstreamError> {
        self.open_with(address, self.upstream_patience()).await
    }

    async fn open_with(&self, address: SocketAddr, patience: Patience) -> Result<Upstream, UpstreamError> {
        match self.open_as_configured(address, patience).await {
            Ok(upstream) => {
                self.upstream_is_up(address, upstream.capabilities());
                self.watch.met(address, upstream.names());
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
    async fn open_as_configured(
        &self,
        address: SocketAddr,
        patience: Patience,
    ) -> Result<Upstream, UpstreamError> {
        let open = |tls| Upstream::open(address, &self.config.hostname, patience, tls);
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
        if error.stage == Stage::StartTls {
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
