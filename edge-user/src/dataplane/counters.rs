//! The kernel's counters.

use edge_ebpf::Reason;
use edge_ebpf::map_names::COUNTERS;

use super::error::DataplaneError;
use super::{Counters, Dataplane};

impl Dataplane {
    /// The counters.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn counters(&self) -> Result<Counters, DataplaneError> {
        let count = |reason: &Reason| {
            let cpus =
                self.counters.get(&(*reason as u32), 0).map_err(DataplaneError::map("read", COUNTERS))?;
            Ok((reason.name(), cpus.iter().sum()))
        };
        Reason::ALL.iter().map(count).collect()
    }
}
