//! Bans, on their way from reputation to the NIC.
//!
//! Before a ban is written to the NIC, the source's open sessions end at their next command border, so that no
//! honest mail is cut in the middle of its body; those that do not are aborted after [`BORDER_PATIENCE`].

use std::sync::Arc;
use std::time::Duration;

use edge_core::reputation::{Ban, Cause};
use edge_core::source::Source;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Edge;
use super::registry::Leave;
use crate::dataplane::DropSample;
use crate::telemetry::Event;

/// How long a banned source's sessions have to reach a command border.
const BORDER_PATIENCE: Duration = Duration::from_secs(10);
/// How long aborted sessions have to be gone.
const ABORT_PATIENCE: Duration = Duration::from_secs(1);
/// Orders are also looked for so often, whoever forgot to tell.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Takes over the bans that outlived the last daemon.
pub(super) fn adopt(edge: &Edge) {
    let Some(dataplane) = &edge.dataplane else { return };
    let now = edge.now();
    match dataplane.bans() {
        Ok(bans) => {
            let mut adopted = 0;
            for ban in bans {
                let cause = Cause::of_number(ban.cause);
                let restored = Ban { source: ban.source, until: now.plus(ban.left), cause };
                match edge.reputation.restore(restored, now) {
                    Ok(()) => adopted += 1,
                    // The configuration changed: this prefix is never banned now.
                    Err(_) => {
                        if let Err(error) = dataplane.unban(ban.source) {
                            edge.log.event(Event::BanFailed { source: ban.source, error: error.to_string() });
                        }
                    }
                }
            }
            if adopted > 0 {
                edge.log.event(Event::BansAdopted { bans: adopted });
            }
        }
        Err(error) => tracing::error!("the bans in the kernel cannot be read: {error}"),
    }
}

/// Attends to the program at the NIC, and logs the drops that it samples, for ever.
pub(super) async fn attend_nic(edge: Arc<Edge>) {
    let Some(dataplane) = &edge.dataplane else { return };
    let log = |drop: DropSample| {
        edge.log.event(Event::NicDrop { source: drop.source, reason: drop.reason.name() });
    };
    dataplane.attend(log).await;
}

/// Carries out the orders of reputation, for ever.
pub(super) async fn carry_out(edge: Arc<Edge>) {
    let mut leaving = JoinSet::new();
    loop {
        // Told or not: orders are looked for.
        let _ = timeout(LOOK_INTERVAL, edge.orders.notified()).await;
        while leaving.try_join_next().is_some() {}
        let orders = edge.reputation.orders();
        for ban in orders {
            edge.metrics.bans.add(1);
            match edge.registry.ask(ban.source, Leave::AtBorder) {
                false => enforce(&edge, ban.source),
                true => {
                    leaving.spawn(enforce_when_gone(Arc::clone(&edge), ban.source));
                }
            }
        }
    }
}

async fn enforce_when_gone(edge: Arc<Edge>, source: Source) {
    if timeout(BORDER_PATIENCE, edge.registry.gone(source)).await.is_err() {
        edge.registry.ask(source, Leave::Now);
        // What is still there then holds a connection that the NIC starves.
        let _ = timeout(ABORT_PATIENCE, edge.registry.gone(source)).await;
    }
    enforce(&edge, source);
}

/// In seconds that have begun: some time has passed since the ban was ordered, and a ban for a minute is one for 60 s.
fn whole_secs(length: Duration) -> u64 {
    length.as_secs() + u64::from(length.subsec_nanos() > 0)
}

/// Writes the ban that is in force now: since it was ordered, the operator may have set a longer one, or lifted it.
fn enforce(edge: &Edge, source: Source) {
    let Some(ban) = edge.reputation.explain(source, edge.now()).ban else { return };
    let length = ban.until.since(edge.now());
    // A short ban may be over before the last session has left.
    let Some(dataplane) = edge.dataplane.as_ref().filter(|_| !length.is_zero()) else {
        edge.log.event(Event::Ban {
            source: ban.source,
            cause: ban.cause,
            secs: whole_secs(length),
            at_nic: false,
        });
        return;
    };
    match dataplane.ban(ban.source, length, ban.cause.number()) {
        Ok(()) => edge.log.event(Event::Ban {
            source: ban.source,
            cause: ban.cause,
            secs: whole_secs(length),
            at_nic: true,
        }),
        Err(error) => edge.log.event(Event::BanFailed { source: ban.source, error: error.to_string() }),
    }
}
