//! The tokio shell: per-core workers, listeners, buffers, upstream connections. It moves the bytes; `edge_core` decides.
//!
//! ```text
//! serve ─► worker (a thread a core) ─► accept ─► reputation, place ─► a seat's task ─► inbound | outbound
//!      └─► housekeeping: bans to the NIC, upstreams' health, probes for mailboxes, the flood's end
//! ```

mod bans;
mod blocks;
mod client;
pub mod clock;
mod decided;
mod domains;
mod doubt;
mod flood;
mod health;
mod inbound;
mod listeners;
mod liveness;
mod mailboxes;
mod outbound;
mod passing;
mod pool;
pub mod quarantine;
mod reactor;
pub mod record;
mod registry;
mod seat;
mod seats;
mod serve;
mod socket;
pub mod sources;
mod stream;
mod stripes;
pub mod tls;
mod upstream;
mod upstreams;
pub mod watch;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use edge_core::bounce;
use edge_core::policy::{Policy, Situation};
use edge_core::signature::record::Record;
use edge_core::signature::{Keys, tags};
use edge_core::time::UnixMillis;
use tokio::sync::Notify;

use self::blocks::Blocks;
use self::clock::Clock;
use self::decided::{Allowances, Correspondents, Uses};
pub(crate) use self::domains::Domains;
use self::domains::Route;
use self::doubt::Doubts;
use self::flood::Flood;
pub(crate) use self::health::Report;
pub use self::listeners::Listeners;
pub use self::liveness::Liveness;
use self::mailboxes::Mailboxes;
pub(crate) use self::outbound::tenants::Tenants;
pub(crate) use self::pool::Pool;
use self::quarantine::Quarantine;
use self::registry::Registry;
#[cfg(test)]
use self::serve::housekeeping;
pub use self::serve::{Late, serve, serve_at, workers};
use self::sources::Sources;
use self::tls::{Acceptor, Certificates, Connectors};
pub(crate) use self::upstream::{Patience, Stage, Upstream, UpstreamError};
use self::upstreams::Upstreams;
pub use self::watch::Watch;

use crate::config::{Config, FORWARDED_MAILBOXES_MAX};
use crate::dataplane::Dataplane;
use crate::state::StateDir;
use crate::telemetry::{EventLog, Metrics};

/// Most idle read buffers that are kept (16 KiB each).
const IDLE_BUFFERS_MAX: usize = 4096;

/// Everything that the workers and the control socket share.
#[derive(Debug)]
pub struct Edge {
    /// The configuration this edge started with.
    pub config: Config,
    /// The keys that sign and verify; swapped whole on reload.
    pub keys: ArcSwap<Keys>,
    /// The filters; swapped whole on reload.
    pub policy: ArcSwap<Policy>,
    /// What is known of all sources.
    pub reputation: Sources,
    /// The domains that our users wrote to.
    correspondents: Correspondents,
    /// Watches for floods.
    flood: Flood,
    /// Uses of tokens, tags and messages of the record.
    uses: Uses,
    /// What the rules of kinds let through to mailboxes, for each kind.
    by_kind: Allowances,
    /// What was sent.
    pub record: RwLock<Record>,
    /// What mailboxes got from trusted forwarders.
    forwarded: Allowances,
    /// The NIC's protection, where there is one.
    pub dataplane: Option<Dataplane>,
    /// What outlives the daemon; none: it keeps nothing.
    pub state: Option<StateDir>,
    /// What watching found.
    pub watch: Watch,
    /// Bounces kept for the operator; none without a state directory: what should go there is deferred.
    pub quarantine: Option<Arc<Quarantine>>,
    /// Counters.
    pub metrics: Metrics,
    /// The event log.
    pub log: EventLog,
    /// What time it is.
    pub clock: Clock,
    /// Read buffers, and the count of what is held.
    pub pool: Arc<Pool>,
    /// The open sessions.
    pub registry: Arc<Registry>,
    /// Messages between their final dot and their reply.
    pub doubts: Doubts,
    /// Whether the threads still turn.
    pub liveness: Liveness,
    /// Told when bans wait in [`Sources::orders`]: whoever may have banned calls [`Self::tell_orders`].
    orders: Notify,
    /// Its own name, as sessions share it.
    hostname: Arc<str>,
    /// TLS towards clients.
    pub acceptor: Acceptor,
    connectors: ArcSwap<Connectors>,
    blocks: Blocks,
    domains: Domains,
    tenants: ArcSwap<Tenants>,
    upstreams: Upstreams,
    mailboxes: Mailboxes,
    messages: AtomicU64,
}

impl Edge {
    /// An edge that serves nobody yet.
    ///
    /// # Errors
    /// A name or address in the configuration is none, a certificate or the state directory cannot be used.
    pub fn new(
        config: Config,
        keys: Keys,
        dataplane: Option<Dataplane>,
        log: EventLog,
        state: Option<StateDir>,
    ) -> anyhow::Result<Arc<Self>> {
        bounce::prepare();
        let limits = &config.limits;
        let pool = Pool::new(limits.sessions_max.min(IDLE_BUFFERS_MAX), limits.hold_total_bytes_max);
        let reserved = config.outbound.as_ref().map_or(0, |_| limits.sessions_outbound_reserved);
        let registry = Registry::new(limits.sessions_max, reserved, limits.sessions_per_source_max);
        let domains = Domains::of(&config)?;
        let quarantine =
            state.as_ref().map(|state| Quarantine::open(state, &config.hostname, &config.quarantine));
        // Who passes at the NIC whatever happens is not banned here either: what is banned here is banned there.
        let mut spared = config.spared();
        spared.extend(dataplane.iter().flat_map(Dataplane::spared_prefixes));
        let watch = Watch::open(&config, state.as_ref(), &keys, Clock::System.now());
        Ok(Arc::new(Self {
            watch,
            record: record::open(&config, state.as_ref(), Clock::System.now()),
            keys: ArcSwap::from_pointee(keys),
            policy: ArcSwap::from_pointee(config.policy()),
            reputation: Sources::new(config.reputation_limits(), spared),
            correspondents: Correspondents::new(config.reputation.correspondents_max),
            flood: Flood::new(config.flood_limits()),
            uses: Uses::new(config.signature.uses_max, config.token_age_max().max(tags::AGE_MAX)),
            by_kind: Allowances::new(config.kinds.mailboxes_max),
            forwarded: Allowances::new(FORWARDED_MAILBOXES_MAX),
            dataplane,
            state,
            quarantine: quarantine.transpose()?,
            metrics: Metrics::default(),
            log,
            clock: Clock::System,
            pool,
            registry,
            doubts: Doubts::new(),
            liveness: Liveness::new(),
            orders: Notify::new(),
            acceptor: Acceptor::new(&config.tls, Certificates::configured(&config.tls)?)?,
            connectors: ArcSwap::from_pointee(Connectors::configured(&config.tls)?),
            hostname: config.hostname.as_str().into(),
            blocks: Blocks::of(&config),
            tenants: ArcSwap::from_pointee(Tenants::of(&config)?),
            upstreams: Upstreams::new(&config),
            mailboxes: Mailboxes::new(limits.mailbox_cache_max, &domains),
            domains,
            // Ids go on after a restart: no two messages of a day share one.
            messages: AtomicU64::new(Clock::System.now().0 << 16),
            config,
        }))
    }

    /// Lets another process have the state directory and the network card: this one changes nothing there any more.
    pub(crate) fn let_go(&self) {
        self.state.iter().for_each(StateDir::let_go);
        self.dataplane.iter().for_each(Dataplane::let_go);
    }

    /// Holds both again after [`Self::let_go`].
    ///
    /// # Errors
    /// Another process has one of them.
    pub(crate) fn hold_again(&self) -> anyhow::Result<()> {
        self.state.iter().try_for_each(StateDir::hold_again)?;
        Ok(self.dataplane.iter().try_for_each(Dataplane::hold_again)?)
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// What goes on now, whatever comes.
    pub(crate) fn situation(&self) -> Situation {
        self.flood_heard();
        let flood = self.in_flood_since().is_some();
        let first_signature = self.watch.first_signature();
        Situation { flood, grace: self.policy().grace.holds(first_signature, self.now(), flood) }
    }

    pub(crate) fn keys(&self) -> Guard<Arc<Keys>> {
        self.keys.load()
    }

    pub(crate) fn policy(&self) -> Guard<Arc<Policy>> {
        self.policy.load()
    }

    /// Networks that many share, and their secrets.
    pub(crate) fn tenants(&self) -> Guard<Arc<Tenants>> {
        self.tenants.load()
    }

    /// Mail that comes from now on must bring the secret of one of these.
    pub(crate) fn set_tenants(&self, tenants: Tenants) {
        self.tenants.store(Arc::new(tenants));
    }

    /// How servers are spoken to by TLS.
    pub(crate) fn connectors(&self) -> Guard<Arc<Connectors>> {
        self.connectors.load()
    }

    /// Connections that are opened from now on go by these.
    pub(crate) fn set_connectors(&self, connectors: Connectors) {
        self.connectors.store(Arc::new(connectors));
        self.upstreams.settings_changed();
    }

    /// How upstreams and next hops are doing.
    pub(crate) fn upstream_reports(&self) -> Vec<Report> {
        self.upstreams.reports()
    }

    pub(crate) fn max_age(&self) -> Duration {
        self.config.token_age_max()
    }

    pub(crate) fn upstream_patience(&self) -> Patience {
        Patience {
            connect: Duration::from_secs(self.config.limits.upstream_connect_secs),
            reply: Duration::from_secs(self.config.limits.upstream_reply_secs),
        }
    }

    pub(crate) fn client_patience(&self) -> Duration {
        Duration::from_secs(self.config.limits.client_idle_secs)
    }

    /// Whoever carries out bans is told, if there are any that wait for it: a refusal of who is banned already wakes nobody.
    pub(crate) fn tell_orders(&self) {
        if self.reputation.has_orders() {
            self.orders.notify_one();
        }
    }

    /// Names the next message.
    pub(crate) fn next_id(&self) -> u64 {
        self.messages.fetch_add(1, Ordering::Relaxed)
    }
}

/// The lock, also when a session panicked that held it: what the tables hold is whole after each call.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same, unless somebody has it just now.
pub(crate) fn locked_if_free<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
