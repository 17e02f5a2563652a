//! The XDP program from userspace: load, attach, pin, adopt; bans, limits, counters, samples.
//!
//! The NIC's protection outlives the daemon: program, link and maps are pinned (`pins.rs`), every ban carries its own
//! end, and the next start adopts what it finds and replaces only the program, atomically (`load.rs`). The kernel's
//! maps are a projection of what the daemon knows; `ALLOW`, never-ban prefixes and blocks are brought up to date by
//! difference (`lists.rs`), in this order, so nothing of ours is ever dropped in between.
//!
//! Bound: every map has a size, from the configuration or in [`edge_ebpf`]. What this module leaves to others: who is
//! banned and for how long (reputation), and when to write it (the engine, after the source's open sessions ended).

mod allow;
mod attend;
mod bans;
mod clock;
mod counters;
mod error;
mod interface;
mod lists;
mod load;
mod lock;
mod look;
mod netdev;
mod pins;
mod samples;
mod verify;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use aya_log::EbpfLogger;
use edge_core::source::Source;
use edge_ebpf::{Ban, Settings, SourceKey};
use ipnet::IpNet;
use serde::Serialize;

pub use allow::refuse_own;
pub use error::{DataplaneError, Difference};
pub use look::{Nic, PinDir, Whose, look_at_nic, look_at_pins, try_kernel};
pub use netdev::XdpFeatures;
pub use samples::{DropSample, Samples};

use crate::config::{Config, Xdp};
use allow::Spared;
use lock::PinLock;

/// The compiled XDP program.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/edge-ebpf"));

/// The attached program and its maps.
///
/// Dropping it changes nothing at the NIC: what is pinned stays.
pub struct Dataplane {
    mode: AttachedMode,
    adopted: bool,
    bans_max: u32,
    spared: Vec<Spared>,
    bans: Mutex<HashMap<MapData, SourceKey, Ban>>,
    settings: Mutex<Array<MapData, Settings>>,
    counters: PerCpuArray<MapData, u64>,
    interface: String,
    program: u32,
    pin_dir: PathBuf,
    /// Held by who attached, not by who only looks.
    lock: Mutex<Option<PinLock>>,
    samples: Mutex<Option<Samples>>,
    kernel_log: Option<Mutex<EbpfLogger<&'static dyn log::Log>>>,
}

/// How the program is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// After the socket buffer was allocated.
    Generic,
}

impl AttachedMode {
    /// Its name, as everywhere in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

impl fmt::Display for AttachedMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A ban as the kernel holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct KernelBan {
    /// Who.
    #[serde(skip)]
    pub source: Source,
    /// How long it still lasts; [`Duration::MAX`]: for ever.
    pub left: Duration,
    /// Why: the numbers of [`edge_core::reputation::Cause`], in its order.
    pub cause: u32,
}

/// The kernel's counters, summed over all CPUs: `(reason, packets)`, one for each of [`edge_ebpf::Reason::ALL`], in
/// its order.
pub type Counters = Vec<(&'static str, u64)>;

impl Dataplane {
    /// Loads and attaches the program, or adopts what is pinned and replaces its program. `always_pass`: own addresses
    /// and upstreams; the default gateways and this host's addresses are found here. `never_ban`: prefixes for which
    /// [`Self::ban`] fails, and which no ban or block that stands already drops.
    ///
    /// # Errors
    /// With the kernel's call, what it said, and what to do.
    pub fn attach(
        settings: &Xdp,
        always_pass: &[IpAddr],
        never_ban: &[IpNet],
    ) -> Result<Self, DataplaneError> {
        load::attach(settings, always_pass, never_ban)
    }

    /// The same for a whole configuration: its listening addresses, upstreams and next hop always pass, `never_ban`
    /// and `trusted_relays` are never banned. `None` where it has no `[xdp]`.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn attach_configured(config: &Config) -> Result<Option<Self>, DataplaneError> {
        let Some(xdp) = &config.xdp else { return Ok(None) };
        let always_pass = allow::always_pass(config);
        let never_ban = [&config.reputation.never_ban[..], &config.reputation.trusted_relays[..]].concat();
        Self::attach(xdp, &always_pass, &never_ban).map(Some)
    }

    /// Opens the maps of a program that is pinned, without touching it (for `status` without a daemon).
    ///
    /// # Errors
    /// Nothing is pinned there, or by another ABI version, or it is not attached to the interface.
    pub fn open_pinned(settings: &Xdp) -> Result<Self, DataplaneError> {
        load::open_pinned(settings)
    }

    /// Takes the program off the interface and removes the pins. Does nothing where nothing is pinned.
    ///
    /// # Errors
    /// A daemon holds them, or the kernel refused.
    pub fn detach(settings: &Xdp) -> Result<(), DataplaneError> {
        load::detach(settings)
    }

    /// The same, also under a daemon, which protects nothing at the NIC from then on.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn detach_by_force(settings: &Xdp) -> Result<(), DataplaneError> {
        load::detach_by_force(settings)
    }

    /// Whether the program is still on the interface: an operator may have taken it off, or the interface is gone.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        matches!(interface::attached(&self.interface), Ok(Some(attached)) if attached.program == self.program)
    }

    /// How it is attached.
    #[must_use]
    pub fn mode(&self) -> AttachedMode {
        self.mode
    }

    /// Whether it was adopted from pins.
    #[must_use]
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// The sampled drops. The kernel's ring has one reader, so this is `None` the second time, and after
    /// [`Self::open_pinned`].
    pub fn take_samples(&self) -> Option<Samples> {
        lock(&self.samples).take()
    }

    /// Passes the program's own messages on to the log.
    fn flush_kernel_log(&self) {
        if let Some(kernel_log) = &self.kernel_log {
            lock(kernel_log).flush();
        }
    }

    /// Whether watch mode is on.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn watch(&self) -> Result<bool, DataplaneError> {
        let settings = lock(&self.settings);
        Ok(settings.get(&0, 0).map_err(DataplaneError::map("read", edge_ebpf::map_names::SETTINGS))?.watch
            != 0)
    }

    /// Writes the settings that are there once more: whether this process may still change the maps.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn rewrite_settings(&self) -> Result<(), DataplaneError> {
        self.watch().and_then(|watch| self.set_watch(watch))
    }

    /// Switches watch mode: count what would be dropped, and pass it. The program stays attached.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_watch(&self, watch: bool) -> Result<(), DataplaneError> {
        const NAME: &str = edge_ebpf::map_names::SETTINGS;
        let mut settings = lock(&self.settings);
        let now = settings.get(&0, 0).map_err(DataplaneError::map("read", NAME))?;
        let new = Settings { watch: watch.into(), ..now };
        settings.set(0, new, 0).map_err(DataplaneError::map("write", NAME))
    }
}

impl fmt::Debug for Dataplane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataplane")
            .field("mode", &self.mode)
            .field("adopted", &self.adopted)
            .finish_non_exhaustive()
    }
}

/// A map handle has no state that a panic could leave half-changed, so a poisoned lock is as good as a free one.
impl Dataplane {
    /// Lets another daemon attach here: what is pinned stays in force.
    pub(crate) fn let_go(&self) {
        *lock(&self.lock) = None;
    }

    /// Holds it again after [`Self::let_go`].
    ///
    /// # Errors
    /// Another daemon does.
    pub(crate) fn hold_again(&self) -> Result<(), DataplaneError> {
        *lock(&self.lock) = Some(PinLock::take(&self.pin_dir)?);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
