//! What the program needs while the daemon runs: bans that are over are removed, its own messages are passed on, and
//! its sampled drops handed over.

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::{Dataplane, DropSample, Samples};

/// How often the program's own messages are looked for.
const LOG_INTERVAL: Duration = Duration::from_secs(5);
/// How often bans that are over are removed. The kernel ignores them by itself; they only take room.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);
/// Samples taken before something else gets its turn.
const SAMPLES_AT_ONCE: usize = 64;

impl Dataplane {
    /// Attends to the program for ever; ends when dropped. Each sampled drop goes to `on_drop`: at most
    /// `xdp.samples_per_sec` a second and CPU, however large the flood.
    pub async fn attend(&self, mut on_drop: impl FnMut(DropSample)) {
        let mut samples = self.take_samples().and_then(|samples| {
            register(samples).inspect_err(|error| warn!(%error, "the NIC's samples cannot be read")).ok()
        });
        let mut log = interval(LOG_INTERVAL);
        let mut tidy = interval(TIDY_INTERVAL);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                taken = next(samples.as_mut()) => match taken {
                    Ok(taken) => taken.into_iter().for_each(&mut on_drop),
                    Err(error) => {
                        warn!(%error, "the NIC's samples cannot be read any more");
                        samples = None;
                    }
                },
                _ = log.tick() => self.flush_kernel_log(),
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

#[expect(unsafe_code, reason = "tokio wants a word that the descriptor stays open")]
fn register(samples: Samples) -> io::Result<AsyncFd<Samples>> {
    // SAFETY: the samples own the ring's map, whose descriptor `as_raw_fd` names: the same one each time, open for as
    // long as they live, and they live in the `AsyncFd`.
    unsafe { AsyncFd::register(samples) }.map_err(io::Error::from)
}

/// The next samples; never any where there is no ring.
async fn next(samples: Option<&mut AsyncFd<Samples>>) -> io::Result<Vec<DropSample>> {
    let Some(samples) = samples else { return pending().await };
    let mut ready = samples.readable_mut().await?;
    let taken = ready.get_inner_mut().take(SAMPLES_AT_ONCE);
    if taken.len() < SAMPLES_AT_ONCE {
        ready.clear_ready();
    }
    Ok(taken)
}
