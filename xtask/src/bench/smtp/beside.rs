//! What is beside an active session, and what that costs: idle connections ([`super::idle`]) or slow senders
//! ([`super::slow`]).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use bench_smtp::pairs::Spread;
use bench_smtp::row::{MAILBOXES, Row};
use serde::Serialize;

use super::measure::play_first;
use super::subject::{Place, Subject};
use super::{Options, idle, slow};

/// Such a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Beside {
    /// Idle connections in clear.
    IdleClear,
    /// Idle connections by TLS.
    IdleTls,
    /// Slow senders.
    Slow,
}

impl Beside {
    /// All, in the order of the table.
    pub(super) const ALL: [Self; 3] = [Self::IdleClear, Self::IdleTls, Self::Slow];

    /// Its name in the table.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::IdleClear => "idle_clear",
            Self::IdleTls => "idle_tls",
            Self::Slow => "slow",
        }
    }

    /// Measures it.
    pub(super) fn measure(self, place: &Place, options: &Options, tell: &impl Fn(&str)) -> Result<Figures> {
        match self {
            Self::IdleClear | Self::IdleTls => idle::measure(place, self, options, tell),
            Self::Slow => slow::measure(place, options, tell),
        }
    }
}

/// Active sessions by turns: how long they take with nothing beside them, and with what the row is about.
#[derive(Debug, Default)]
pub(super) struct Turns {
    alone: Vec<[f64; 2]>,
    beside: Vec<[f64; 2]>,
}

/// One latency: its median, and its 99th percentile.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Latency {
    /// Microseconds with nothing beside.
    pub(super) alone_us: f64,
    /// Microseconds beside the others.
    pub(super) beside_us: f64,
    /// The median of the pairs' ratios.
    pub(super) ratio: f64,
    /// The least and the most of them.
    pub(super) ratio_spread: [f64; 2],
}

impl Turns {
    /// Sessions of the server that has nothing beside.
    pub(super) fn alone(&mut self, place: &Place, sessions: &Sessions) -> Result<()> {
        self.push_alone(sessions.play(place, Subject::Calm)?);
        Ok(())
    }

    /// Sessions of the other.
    pub(super) fn beside(&mut self, place: &Place, sessions: &Sessions) -> Result<()> {
        self.push_beside(sessions.play(place, Subject::Backstop)?);
        Ok(())
    }

    /// Sessions that were measured with nothing beside: the median and the 99th percentile, in microseconds.
    pub(super) fn push_alone(&mut self, micros: [f64; 2]) {
        self.alone.push(micros);
    }

    /// The same beside the others.
    pub(super) fn push_beside(&mut self, micros: [f64; 2]) {
        self.beside.push(micros);
    }

    fn latency(&self, which: usize) -> Option<Latency> {
        let of = |turns: &[[f64; 2]]| turns.iter().map(|turn| turn[which]).collect::<Vec<_>>();
        let (alone, beside) = (of(&self.alone), of(&self.beside));
        let ratios = Spread::of_ratios(&beside, &alone)?;
        Some(Latency {
            alone_us: Spread::of(&alone)?.median,
            beside_us: Spread::of(&beside)?.median,
            ratio: ratios.median,
            ratio_spread: [ratios.least, ratios.most],
        })
    }

    /// Median and 99th percentile.
    pub(super) fn latencies(&self) -> Result<[Latency; 2]> {
        let both =
            [self.latency(0), self.latency(1)].map(|latency| latency.context("no session was measured"));
        let [median, p99] = both;
        Ok([median?, p99?])
    }
}

/// Active sessions: so many each turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sessions {
    pub(super) row: Row,
    pub(super) each: u64,
    pub(super) at_once: u32,
}

impl Sessions {
    fn play(&self, place: &Place, subject: Subject) -> Result<[f64; 2]> {
        let took = play_first(place, subject, self.row, self.each, self.at_once)?;
        ensure!(took.sessions == self.each, "{} of {} sessions", took.sessions, self.each);
        Ok(took.micros)
    }

    /// Each mailbox is asked for once, at both servers.
    pub(super) fn warm_up(&self, place: &Place) -> Result<()> {
        for subject in [Subject::Calm, Subject::Backstop] {
            for row in [self.row, Row::ScannedDiscarded] {
                play_first(place, subject, row, u64::from(MAILBOXES), self.at_once)?;
            }
            self.play(place, subject)?;
        }
        Ok(())
    }
}

/// What such a row found: one line of the table, one object of `--json`.
#[derive(Serialize)]
pub(super) struct Figures {
    pub(super) row: &'static str,
    pub(super) subject: &'static str,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    /// Connections that were beside, when active sessions were measured.
    pub(super) connections: usize,
    /// More that was counted.
    pub(super) counted: BTreeMap<&'static str, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) median: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p99: Option<Latency>,
    pub(super) goal: String,
    pub(super) met: bool,
}

/// The table for eyes.
pub(super) fn render(all: &[Figures]) -> String {
    let mut text = String::new();
    if all.is_empty() {
        return text;
    }
    let _ = writeln!(
        text,
        "\nActive sessions (ms from connection to 221) beside others, and what those cost the server"
    );
    let _ = writeln!(
        text,
        "{:<11} {:>11} {:<22} {:>6} {:>20} {:>20}  met",
        "row", "", "", "others", "median alone/beside", "p99 alone/beside"
    );
    for one in all {
        let latency = |latency: &Option<Latency>| {
            latency.map_or_else(String::new, |Latency { alone_us, beside_us, ratio, .. }| {
                format!("{:.2}/{:.2} ({ratio:.2})", alone_us / 1000.0, beside_us / 1000.0)
            })
        };
        let _ = writeln!(
            text,
            "{:<11} {:>11.1} {:<22} {:>6} {:>20} {:>20}  {} ({})",
            one.row,
            one.value,
            one.unit,
            one.connections,
            latency(&one.median),
            latency(&one.p99),
            if one.met { "yes" } else { "no" },
            one.goal
        );
        let counted: Vec<String> =
            one.counted.iter().map(|(what, count)| format!("{what}: {count:.0}")).collect();
        let _ = writeln!(text, "{:<11} {}", "", counted.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_held_against_the_one_measured_with_it() {
        let turns = Turns {
            alone: vec![[100.0, 200.0], [100.0, 200.0], [300.0, 900.0]],
            beside: vec![[110.0, 300.0], [120.0, 200.0], [330.0, 900.0]],
        };
        let [median, p99] = turns.latencies().unwrap();
        assert!((median.ratio - 1.1).abs() < 1e-9 && (p99.ratio - 1.0).abs() < 1e-9, "{median:?} {p99:?}");
        assert!((median.alone_us - 100.0).abs() < 1e-9 && (median.beside_us - 120.0).abs() < 1e-9);
        assert!(Turns::default().latencies().is_err());
    }
}
