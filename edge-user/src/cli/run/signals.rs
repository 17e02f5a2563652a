//! What the daemon does on signals: SIGTERM and SIGINT stop it, SIGHUP has filters and keys read anew. Between them it
//! looks whether keys changed on disk, and tells systemd's watchdog that the edge is well.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use super::stop::Stop;
use super::{notify, reload};
use crate::config::keys;
use crate::engine::Edge;
use crate::telemetry::Event;

/// How often to look whether keys changed on disk.
const KEYS_EVERY: Duration = Duration::from_secs(60);

/// Between two looks for a watchdog that is not there.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// Waits for signals on a thread of its own from now on.
pub(super) fn start(
    edge: Arc<Edge>,
    path: PathBuf,
    mut keys: keys::Watch,
    stop: Arc<Stop>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // From here on signals no longer end the process by themselves.
    let entered = runtime.enter();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hup = signal(SignalKind::hangup())?;
    drop(entered);
    let mut watchdog = notify::Watchdog::wanted();
    let wait = async move {
        let mut look = tokio::time::interval(KEYS_EVERY);
        let beat_every = watchdog.as_ref().map_or(NEVER, notify::Watchdog::every);
        let mut beat = tokio::time::interval_at(Instant::now() + beat_every, beat_every);
        // After a pause of the whole process, the threads need a moment too.
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let asked_by = loop {
            tokio::select! {
                _ = term.recv() => break "SIGTERM",
                _ = int.recv() => break "SIGINT",
                _ = beat.tick() => if let Some(watchdog) = &mut watchdog {
                    watchdog.look(&edge.liveness);
                },
                _ = look.tick() => reload::changed_keys(&edge, &mut keys),
                _ = hup.recv() => {
                    // The reload reads them whether they changed or not.
                    keys.changed();
                    // What went wrong is in the log; there is nobody else to tell.
                    let _ = reload::reload(&edge, &path);
                }
            }
        };
        edge.log.event(Event::Stopping { signal: asked_by });
        notify::stopping();
        stop.now();
        // Whoever asks twice does not want to wait for the transactions that are still open.
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        edge.log.flush(super::FLUSH_MAX);
        std::process::exit(2);
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(wait))?;
    Ok(())
}
