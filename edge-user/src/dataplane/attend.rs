//! What the program needs while the daemon runs: bans that are over are removed, its own messages are passed on, and
//! its sampled drops handed over.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::{Dataplane, DropSample};

/// How often sampled drops and the program's own messages are looked for. The ring holds 2,048 samples: at the
/// default rate, a minute's and more of several CPUs.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often bans that are over are removed. The kernel ignores them by itself; they only take room.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);
/// How often it is looked whether the program is still on the interface.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Most samples taken at one look.
const SAMPLES_AT_ONCE: usize = 1024;

impl Dataplane {
    /// Attends to the program for ever; ends when dropped. Each sampled drop goes to `on_drop`: at most
    /// `xdp.samples_per_sec` a second and CPU, however large the flood.
    pub async fn attend(&self, mut on_drop: impl FnMut(DropSample)) {
        let mut samples = self.take_samples();
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tidy = interval(TIDY_INTERVAL);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut check = interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut attached = true;
        loop {
            tokio::select! {
                _ = look.tick() => {
                    self.flush_kernel_log();
                    let taken = samples.as_mut().map(|samples| samples.take(SAMPLES_AT_ONCE));
                    taken.into_iter().flatten().for_each(&mut on_drop);
                }
                _ = check.tick() => {
                    let before = std::mem::replace(&mut attached, self.is_attached());
                    match (before, attached) {
                        (true, false) => error!(
                            interface = self.interface,
                            "the XDP program is no longer at the interface: the NIC drops nothing, bans hold in SMTP \
                             alone; restart the edge to attach it again"
                        ),
                        (false, true) => info!(interface = self.interface, "the XDP program is attached again"),
                        (true, true) | (false, false) => {}
                    }
                }
                _ = tidy.tick() => {
                    if let Err(error) = self.remove_past_bans() {
                        let error = anyhow::Error::from(error);
                        warn!(error = format!("{error:#}"), "bans that are over stay in the kernel's map");
                    }
                }
            }
        }
    }
}
