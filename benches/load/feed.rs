//! Forged originals for a real mail server, which accepts them, cannot deliver them, and bounces to the victim.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::ledger::{Ledger, Report};
use crate::mass::{Post, Settings};
use crate::plan::{Kind, Phase, Planned};
use crate::reflector::Reflector;

/// Gives `count` forged originals to `settings.target`, spread over the waves, from the first bot's address. Their
/// fate here is only whether that server took them; what became of their bounces stands in its own log.
pub async fn run(settings: Settings, count: u32, far_domain: &str) -> anyhow::Result<Report> {
    anyhow::ensure!(!settings.recipients.is_empty(), "no victims: name at least one mailbox");
    let amounts = settings.amounts.clone();
    let source = settings.bots.address(0);
    let due = |number: u32| {
        let waves = amounts.waves.max(1);
        let per_wave = count.div_ceil(waves).max(1);
        let within = f64::from(number % per_wave) / f64::from(per_wave);
        amounts.before + amounts.wave_every * (number / per_wave) + amounts.wave.mul_f64(within)
    };
    let planned: Vec<_> = (0..count)
        .map(|number| Planned {
            kind: Kind::Original,
            number,
            phase: Phase::During,
            source,
            due: due(number),
        })
        .collect();
    let ledger = Rc::new(Ledger::new(amounts.seed, &planned));
    let post = Rc::new(Post::new(&settings, planned.clone(), far_domain));
    let begin = Instant::now();
    let server = Reflector::new(amounts.seed, source, planned.iter().enumerate());
    LocalSet::new().run_until(server.run(post, ledger.clone(), begin, settings.deadline)).await;
    let ledger = Rc::into_inner(ledger).ok_or_else(|| anyhow::anyhow!("a sender still holds the ledger"))?;
    Ok(ledger.close(&amounts, Vec::new(), 0, None, begin.elapsed().max(Duration::from_millis(1))))
}
