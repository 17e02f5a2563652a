//! The figures for eyes, and for scripts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bench_smtp::pairs::Spread;
use bench_smtp::row::Row;
use serde::Serialize;

use super::beside::Figures;
use super::measure::{Measured, costs};
use super::subject::Subject;

/// What `--json` ends with.
#[derive(Serialize)]
pub(super) struct Object<'a> {
    pub(super) bench: &'static str,
    #[serde(flatten)]
    pub(super) conditions: Conditions,
    pub(super) rows: Vec<Any<'a>>,
}

/// What the figures were measured with.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Conditions {
    /// Of Backstop.
    pub(super) version: &'static str,
    /// `release`; in `dev` no figure means anything.
    pub(super) build: &'static str,
    pub(super) pairs: u32,
}

/// A row of either kind.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Any<'a> {
    Cost(&'a Line),
    Beside(&'a Figures),
}

impl<'a> Object<'a> {
    /// Of all that was measured.
    pub(super) fn new(conditions: Conditions, rows: &'a [Line], beside: &'a [Figures]) -> Self {
        let rows = rows.iter().map(Any::Cost).chain(beside.iter().map(Any::Beside)).collect();
        Self { bench: "smtp", conditions, rows }
    }
}

/// One server in one row.
#[derive(Serialize)]
pub(super) struct Line {
    pub(super) row: &'static str,
    pub(super) subject: &'static str,
    /// The median of its CPU time for a session.
    pub(super) value: f64,
    pub(super) unit: &'static str,
    /// Its cost as a ratio to each of the others in the same pairs: the median.
    pub(super) ratio: BTreeMap<&'static str, f64>,
    /// The least and the most of the same.
    pub(super) ratio_spread: BTreeMap<&'static str, [f64; 2]>,
    /// What is to be reached: Backstop's alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) goal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) met: Option<bool>,
    /// The load's CPU time for a session, in the same unit.
    pub(super) load: f64,
    /// Sessions a second.
    pub(super) rate: f64,
    /// Messages (or refusals) a session.
    pub(super) messages: u32,
    /// Octets a message, where it is large enough to be said in octets a CPU second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mb_a_cpu_second: Option<f64>,
    #[serde(skip)]
    against: Option<(&'static str, f64)>,
}

/// The lines of the table.
pub(super) fn rows(measured: &[Measured]) -> Vec<Line> {
    measured.iter().filter_map(|one| line(one, measured)).collect()
}

fn line(one: &Measured, all: &[Measured]) -> Option<Line> {
    let spreads: BTreeMap<_, _> = costs(all, one.row)
        .into_iter()
        .filter(|(name, _)| *name != one.subject.name())
        .filter_map(|(name, costs)| Some((name, Spread::of_ratios(&one.cost, costs)?)))
        .collect();
    let ratio: BTreeMap<_, _> = spreads.iter().map(|(name, spread)| (*name, spread.median)).collect();
    let is_ours = one.subject == Subject::Backstop;
    let against = ratio.get(one.goal.of.name()).map(|ratio| (one.goal.of.name(), *ratio)).filter(|_| is_ours);
    let value = Spread::of(&one.cost)?.median;
    let bytes = one.row.message_bytes();
    Some(Line {
        row: one.row.name(),
        subject: one.subject.name(),
        value,
        unit: "CPU s/1000",
        ratio,
        ratio_spread: spreads.iter().map(|(name, spread)| (*name, [spread.least, spread.most])).collect(),
        goal: is_ours.then(|| format!("<= {} {}", one.goal.times, one.goal.of.name())),
        met: against.map(|(_, ratio)| ratio <= one.goal.times),
        load: Spread::of(&one.load)?.median,
        rate: Spread::of(&one.rate)?.median,
        messages: one.row.messages(),
        mb_a_cpu_second: (one.row == Row::Proxied10m).then(|| bytes as f64 / 1000.0 / value),
        against,
    })
}

/// The table for eyes.
pub(super) fn render(lines: &[Line], cores: (usize, usize)) -> String {
    let mut text = String::new();
    if lines.is_empty() {
        return text;
    }
    let _ = writeln!(
        text,
        "CPU ms a session (= CPU s / 1000), user and system; the server alone on core {}, load and sink on core {}",
        cores.0, cores.1
    );
    let _ = writeln!(
        text,
        "{:<18} {:<10} {:>8} {:>8} {:>15} {:>8} {:>9}  {:<14} {:<6}",
        "row", "server", "CPU ms", "x floor", "(least-most)", "load ms", "rate /s", "goal", "met"
    );
    let mut last = "";
    for line in lines {
        let row = if line.row == last { "" } else { line.row };
        last = line.row;
        let floor = line.ratio.get("floor").map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let spread = line.ratio_spread.get("floor");
        let spread = spread.map_or_else(String::new, |[least, most]| format!("({least:.2}-{most:.2})"));
        let met = match (line.met, line.against) {
            (Some(met), Some((name, ratio))) => {
                format!("{} ({ratio:.2} x {name})", if met { "yes" } else { "no" })
            }
            _ if line.goal.is_some() => "not measured".to_owned(),
            _ => String::new(),
        };
        let goal = line.goal.as_deref().unwrap_or_default();
        let _ = write!(
            text,
            "{row:<18} {:<10} {:>8.4} {floor:>8} {spread:>15} {:>8.4} {:>9.0}  {goal:<14} {met}",
            line.subject, line.value, line.load, line.rate
        );
        if line.messages > 1 {
            let _ = write!(text, "  [{:.4} a message]", line.value / f64::from(line.messages));
        }
        if let Some(rate) = line.mb_a_cpu_second {
            let _ = write!(text, "  [{rate:.0} MB a CPU second]");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::smtp::plan;

    fn measured(subject: Subject, cost: &[f64]) -> Measured {
        let row = Row::RefusedRcpt;
        let (load, rate) = (vec![0.01; cost.len()], vec![9000.0; cost.len()]);
        Measured { row, subject, goal: plan::of(row).goal, cost: cost.to_vec(), load, rate }
    }

    #[test]
    fn a_goal_is_held_against_the_median_of_the_pairs() {
        // The second pair was hit by something else: it does not count.
        let all = [measured(Subject::Floor, &[1.0, 1.0, 2.0]), measured(Subject::Backstop, &[1.1, 9.0, 2.4])];
        let lines = rows(&all);
        assert_eq!((lines[0].met, lines[1].met), (None, Some(true)));
        assert!((lines[1].ratio["floor"] - 1.2).abs() < 1e-9);
        let missed = [measured(Subject::Floor, &[1.0, 1.0]), measured(Subject::Backstop, &[1.3, 1.3])];
        assert_eq!(rows(&missed)[1].met, Some(false));
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let lines = rows(&[measured(Subject::Backstop, &[1.0])]);
        assert_eq!(lines[0].met, None);
        assert!(render(&lines, (0, 1)).contains("not measured"));
    }

    #[test]
    fn the_object_has_what_scripts_ask_for() {
        let lines = rows(&[measured(Subject::Floor, &[1.0]), measured(Subject::Backstop, &[1.1])]);
        let conditions = Conditions { version: "1.2.3", build: "release", pairs: 5 };
        let json = serde_json::to_value(Object::new(conditions, &lines, &[])).unwrap();
        assert_eq!(
            (&json["version"], &json["build"], &json["pairs"]),
            (&"1.2.3".into(), &"release".into(), &5.into())
        );
        assert_eq!(json["rows"][1]["subject"], "backstop");
        assert_eq!(json["rows"][1]["goal"], "<= 1.2 floor");
        assert_eq!(json["rows"][1]["met"], true);
        assert!(json["rows"][0].get("met").is_none());
    }
}
