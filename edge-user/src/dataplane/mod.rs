//! The XDP program from userspace: load, attach, pin, adopt; bans, limits, counters.

use std::net::IpAddr;
use std::time::Duration;

use edge_core::source::Source;
use ipnet::IpNet;
use serde::Serialize;

use crate::config::Xdp;

/// The attached program and its maps.
#[derive(Debug)]
pub struct Dataplane {}

/// Why something could not be done at the NIC.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// Not built yet.
    #[error("not built yet")]
    Unbuilt,
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

/// A ban as the kernel holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct KernelBan {
    /// Who.
    #[serde(skip)]
    pub source: Source,
    /// How long it still lasts.
    pub left: Duration,
    /// Why: the numbers of [`edge_core::reputation::Cause`], in its order.
    pub cause: u32,
}

/// The kernel's counters, summed over all CPUs: `(reason, packets)`.
pub type Counters = Vec<(&'static str, u64)>;

impl Dataplane {
    /// Loads and attaches the program, or adopts what is pinned. `always_pass`: own addresses and upstreams; the
    /// default gateway is found here. `never_ban`: prefixes for which [`Self::ban`] fails.
    ///
    /// # Errors
    /// With the kernel's call, what it said, and what to do.
    pub fn attach(
        _settings: &Xdp,
        _always_pass: &[IpAddr],
        _never_ban: &[IpNet],
    ) -> Result<Self, DataplaneError> {
        Err(DataplaneError::Unbuilt)
    }

    /// Opens the maps of a program that is pinned, without touching it (for `status` without a daemon).
    ///
    /// # Errors
    /// Nothing is pinned there, or by another ABI version.
    pub fn open_pinned(_settings: &Xdp) -> Result<Self, DataplaneError> {
        Err(DataplaneError::Unbuilt)
    }

    /// How it is attached.
    #[must_use]
    pub fn mode(&self) -> AttachedMode {
        AttachedMode::Generic
    }

    /// Whether it was adopted from pins.
    #[must_use]
    pub fn adopted(&self) -> bool {
        false
    }

    /// Drops a source from now on, for `length`.
    ///
    /// # Errors
    /// It lies in a never-ban or allowed prefix, or the map is full.
    pub fn ban(&self, _source: Source, _length: Duration, _cause: u32) -> Result<(), DataplaneError> {
        Err(DataplaneError::Unbuilt)
    }

    /// Lifts a ban; `false` when there was none.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn unban(&self, _source: Source) -> Result<bool, DataplaneError> {
        Err(DataplaneError::Unbuilt)
    }

    /// The bans in force.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn bans(&self) -> Result<Vec<KernelBan>, DataplaneError> {
        Err(DataplaneError::Unbuilt)
    }

    /// Switches watch mode.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_watch(&self, _watch: bool) -> Result<(), DataplaneError> {
        Err(DataplaneError::Unbuilt)
    }

    /// The counters.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn counters(&self) -> Result<Counters, DataplaneError> {
        Err(DataplaneError::Unbuilt)
    }

    /// Takes the program off the interface and removes the pins.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn detach(_settings: &Xdp) -> Result<(), DataplaneError> {
        Err(DataplaneError::Unbuilt)
    }
}
