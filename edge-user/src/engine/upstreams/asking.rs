//! Asks the upstreams how they are and what they offer: all of them at the start, then each again and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::engine::Edge;

/// How often an upstream's health is asked.
const HEALTH_INTERVAL: Duration = Duration::from_secs(30);
/// How soon again while it is down.
const HEALTH_INTERVAL_DOWN: Duration = Duration::from_secs(2);

/// Asks all upstreams at once for their EHLO replies, so that the first clients are offered the right extensions.
pub(in crate::engine) async fn ask_all(edge: &Arc<Edge>) {
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
pub(in crate::engine) async fn watch_health(edge: Arc<Edge>) {
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
