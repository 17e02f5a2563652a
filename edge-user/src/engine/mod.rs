//! The tokio shell: per-core workers, listeners, buffers, upstream connections. It moves the bytes; `edge_core` decides.

use std::sync::{Arc, Mutex, RwLock};

use edge_core::incident::Detector;
use edge_core::policy::Policy;
use edge_core::reputation::Reputation;
use edge_core::signature::{Keys, Uses};

use crate::config::Config;
use crate::dataplane::Dataplane;
use crate::telemetry::{EventLog, Metrics};

/// Everything that the workers and the control socket share.
#[derive(Debug)]
pub struct Edge {
    /// The configuration this edge started with.
    pub config: Config,
    /// The keys that sign and verify; swapped whole on reload.
    pub keys: RwLock<Arc<Keys>>,
    /// The filters; swapped whole on reload.
    pub policy: RwLock<Arc<Policy>>,
    /// What is known of all sources.
    pub reputation: Mutex<Reputation>,
    /// Watches for floods.
    pub flood: Mutex<Detector>,
    /// Uses of tokens.
    pub uses: Mutex<Uses>,
    /// The NIC's protection, where there is one.
    pub dataplane: Option<Dataplane>,
    /// Counters.
    pub metrics: Metrics,
    /// The event log.
    pub log: EventLog,
}

/// Serves until `stop` says so: binds the listeners, starts one worker a core, and returns when all have ended.
///
/// # Errors
/// A listener cannot be bound.
pub fn serve(_edge: Arc<Edge>, _stop: tokio::sync::watch::Receiver<bool>) -> anyhow::Result<()> {
    todo!()
}
