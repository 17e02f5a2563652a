//! `idle_clear` and `idle_tls`: what a connection that does nothing takes of the server's own memory, and whether an active
//! session feels so many of them.
//!
//! The figure is a slope: what the server has more with more connections, between the first step and the last. What it
//! has without any counts nowhere.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bench_smtp::held::{self, Held};
use bench_smtp::memory::{self, Memory};
use bench_smtp::row::Row;

use super::Options;
use super::beside::{Beside, Figures, Sessions, Turns};
use super::subject::{Place, SOURCE_FIRST, SOURCES, Subject};

/// Connections at the last step; the first has a quarter of them, the second half.
const CONNECTIONS: usize = 16_000;
/// Active sessions each time.
pub(super) const SESSIONS: u64 = 1000;
/// How long the server has to come to rest.
const REST: Duration = Duration::from_secs(1);
/// Own memory, in octets, that a connection may take.
const CLEAR_MAX: f64 = 4096.0;
const TLS_MAX: f64 = 24.0 * 1024.0;
/// So many times as long as without the others a session may take: the median, and its 99th percentile.
const MEDIAN_MAX: f64 = 1.15;
const P99_MAX: f64 = 1.5;

/// Measures.
pub(super) fn measure(
    place: &Place,
    row: Beside,
    options: &Options,
    tell: &impl Fn(&str),
) -> Result<Figures> {
    let connections = options.connections.map_or(CONNECTIONS, |count| count as usize);
    let is_tls = row == Beside::IdleTls;
    let config = limits(connections);
    let tls = is_tls.then(|| held::clients(&place.lab.path("bench/chain.pem"))).transpose()?;
    let (mut server, mut calm) =
        (place.start_with(Subject::Backstop, &config)?, place.start_with(Subject::Calm, &config)?);
    let sessions = Sessions { row: Row::RefusedRcpt, each: options.sessions.unwrap_or(SESSIONS), at_once: 1 };
    sessions.warm_up(place)?;
    let pid = server.pid();
    let sources = (SOURCE_FIRST.parse().context("an address")?, SOURCES);
    let mut held = Held::new(Subject::Backstop.address(), sources, tls);
    let mut steps: Vec<(usize, Memory)> = Vec::new();
    for count in steps_of(connections) {
        tell(&format!("{}: {count} idle connections", row.name()));
        place
            .on_last_core(|| held.open_until(count))
            .with_context(|| place.log(Subject::Backstop, &server))?;
        std::thread::sleep(REST);
        steps.push((count, memory::of(pid)?));
    }
    tell(&format!(
        "{}: {} times {} sessions beside them and alone",
        row.name(),
        options.pairs,
        sessions.each
    ));
    let mut turns = Turns::default();
    for pair in 0..options.pairs {
        if pair % 2 == 0 {
            turns.alone(place, &sessions)?;
            turns.beside(place, &sessions)?;
        } else {
            turns.beside(place, &sessions)?;
            turns.alone(place, &sessions)?;
        }
    }
    held.ensure_open()?;
    ensure!(server.process().is_running() && calm.process().is_running(), "a server ended meanwhile");
    figures(row, &steps, &turns)
}

/// How many connections there are at each step.
pub(super) const fn steps_of(connections: usize) -> [usize; 3] {
    [connections / 4, connections / 2, connections]
}

/// What the steps and the turns come to.
pub(super) fn figures(row: Beside, steps: &[(usize, Memory)], turns: &Turns) -> Result<Figures> {
    let [.., (most, _)] = steps else { anyhow::bail!("nothing was measured") };
    let value = slope(steps, |memory| memory.private).context("connections of one number only")?;
    let proportional = slope(steps, |memory| memory.proportional).unwrap_or_default();
    let halves: Vec<f64> = steps.windows(2).filter_map(|pair| slope(pair, |memory| memory.private)).collect();
    let max = if row == Beside::IdleTls { TLS_MAX } else { CLEAR_MAX };
    let [median, p99] = turns.latencies()?;
    let counted = [
        ("of it as PSS", proportional),
        ("the first steps'", halves.first().copied().unwrap_or_default()),
        ("the last steps'", halves.last().copied().unwrap_or_default()),
    ];
    Ok(Figures {
        row: row.name(),
        subject: Subject::Backstop.name(),
        value,
        unit: "octets a connection",
        connections: *most,
        counted: BTreeMap::from(counted),
        goal: format!("<= {max} octets, median <= {MEDIAN_MAX}, p99 <= {P99_MAX} alone"),
        // Where they are too few to be seen, nothing is shown.
        met: value > 0.0 && value <= max && median.ratio <= MEDIAN_MAX && p99.ratio <= P99_MAX,
        median: Some(median),
        p99: Some(p99),
    })
}

/// Octets more for each connection more, between the first step and the last.
fn slope(steps: &[(usize, Memory)], of: impl Fn(&Memory) -> u64) -> Option<f64> {
    let [(fewest, least), .., (most, greatest)] = steps else { return None };
    let connections = most.checked_sub(*fewest).filter(|more| *more > 0)?;
    Some((of(greatest) as f64 - of(least) as f64) / connections as f64)
}

/// Places for all of them and for the active ones, more than a sixteenth besides, so that none has to make room; and time
/// enough to measure: what is looked at is memory.
pub(super) fn limits(connections: usize) -> String {
    format!(
        "[limits]\nsessions_max = {}\nclient_idle_secs = 3600\nclient_greet_secs = 600\nprogress_secs = 7200\n",
        places(connections)
    )
}

/// Sessions that a server has room for.
pub(super) const fn places(connections: usize) -> usize {
    connections + connections / 12 + 500
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_has_without_connections_does_not_count() {
        let at = |private: u64| Memory { private, proportional: private / 2 };
        let steps = [(1000, at(50_000_000)), (2000, at(53_000_000)), (4000, at(62_000_000))];
        assert_eq!(slope(&steps, |memory| memory.private), Some(4000.0));
        assert_eq!(slope(&steps, |memory| memory.proportional), Some(2000.0));
        assert_eq!(slope(&steps[..1], |memory| memory.private), None);
    }
}
