//! The hosts and their versions, at the end.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::host::{Facts, HostName};
use super::rollout::Outcome;

/// A host's line.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) host: HostName,
    pub(super) outcome: Outcome,
    pub(super) error: Option<String>,
    /// The release before this run.
    pub(super) before: Option<String>,
    pub(super) facts: Option<Facts>,
}

impl Outcome {
    fn words(&self) -> &'static str {
        match self {
            Self::Deployed => "deployed",
            Self::Unchanged => "unchanged",
            Self::RolledBack => "rolled back",
            Self::AsItWas => "FAILED, is as it was",
            Self::NeedsALook => "FAILED, NEEDS A LOOK",
            Self::Untouched => "not touched",
            Self::Looked => "",
            Self::Unreachable => "NOT REACHED",
        }
    }
}

/// For eyes.
pub(super) fn render(rows: &[Row]) -> String {
    let mut lines = vec![["HOST", "RELEASE", "BEFORE", "UNIT", "HEALTH", "UP", ""].map(String::from)];
    for row in rows {
        let facts = row.facts.as_ref();
        let of = |text: Option<&str>| text.unwrap_or("-").to_owned();
        let release = facts.and_then(|facts| facts.release.as_deref());
        let by_hand = facts.is_some_and(|facts| facts.found).then_some("(by hand)");
        lines.push([
            row.host.to_string(),
            of(release.or(by_hand)),
            of(before(row)),
            of(facts.map(|facts| facts.unit.as_str()).filter(|unit| !unit.is_empty())),
            of(facts.map(health)),
            facts.and_then(Facts::uptime_secs).map_or_else(|| "-".into(), uptime),
            words(row),
        ]);
    }
    let widths: Vec<usize> = (0..7)
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    for row in rows {
        if let Some(error) = &row.error {
            let _ = writeln!(text, "{}: {error}", row.host);
        }
        if let Some(next) = next(row) {
            let _ = writeln!(text, "{}: next: {next}", row.host);
        }
    }
    text
}

/// What to do with a host that needs a look.
fn next(row: &Row) -> Option<String> {
    if row.outcome != Outcome::NeedsALook {
        return None;
    }
    let host = &row.host;
    let Some(facts) = &row.facts else {
        return Some(format!(
            "`cargo xtask deploy --status {host}` when it answers again; it goes on by itself meanwhile"
        ));
    };
    if facts.switching_secs.is_some() {
        return Some(format!("wait, and look with `cargo xtask deploy --status {host}`"));
    }
    let log = format!("`ssh {host} journalctl --unit backstop --lines 50` says more");
    Some(match &facts.interrupted {
        Some(new) => format!(
            "{log}. What is left of the switch to {new} is taken back first by the next `cargo xtask deploy {host}`, \
             so run that again when the cause is mended"
        ),
        None => format!(
            "{log}. Nothing is left half done: mend the cause and `ssh {host} systemctl restart backstop`, or deploy a \
             release that works"
        ),
    })
}

/// For scripts.
pub(super) fn object(rows: &[Row], done: bool) -> Value {
    let hosts: Vec<Value> = rows
        .iter()
        .map(|row| {
            let facts = row.facts.as_ref();
            json!({
                "host": row.host.as_str(),
                "outcome": row.outcome,
                "error": row.error,
                "next": next(row),
                "before": before(row),
                "release": facts.and_then(|facts| facts.release.as_deref()),
                "version": facts.and_then(|facts| facts.status["version"].as_str()),
                "sha256": facts.and_then(|facts| facts.sha256.as_deref()),
                "kept": facts.map(|facts| &facts.kept),
                "unit": facts.map(|facts| facts.unit.as_str()),
                "healthy": facts.map(Facts::is_healthy),
                "uptime_secs": facts.and_then(Facts::uptime_secs),
                "locked_by": facts.and_then(|facts| facts.holder.as_deref()),
                "interrupted": facts.and_then(|facts| facts.interrupted.as_deref()),
            })
        })
        .collect();
    json!({ "ok": done, "hosts": hosts })
}

/// What `--rollback` would go back to, where this run changed nothing.
fn before(row: &Row) -> Option<&str> {
    let previous = || row.facts.as_ref().and_then(|facts| facts.previous.as_deref());
    row.before.as_deref().or_else(previous)
}

fn health(facts: &Facts) -> &'static str {
    if facts.is_healthy() {
        "healthy"
    } else if facts.release.is_none() && !facts.found {
        "not installed"
    } else if facts.unit == "active" && facts.running != facts.sha256 {
        "another program runs"
    } else {
        "NOT HEALTHY"
    }
}

/// The outcome, and what else is to be known.
fn words(row: &Row) -> String {
    let mut words: Vec<String> =
        Some(row.outcome.words()).filter(|words| !words.is_empty()).map(String::from).into_iter().collect();
    if let (Some(facts), Outcome::Looked) = (&row.facts, &row.outcome) {
        words.extend(facts.holder.as_ref().map(|holder| format!("locked by {holder}")));
        words.extend(facts.interrupted.as_ref().map(|to| format!("a switch to {to} was cut off")));
    }
    words.join("; ")
}

fn uptime(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{} min", secs / 60),
        3600..172_800 => format!("{} h", secs / 3600),
        _ => format!("{} days", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_host_and_the_errors_below() {
        let mut facts = Facts::default();
        for (name, value) in [
            ("release", "0.1.0-0123456789ab"),
            ("sha256", "aa"),
            ("running", "aa"),
            ("unit", "active"),
            ("status", r#"{"running":true,"uptime_secs":90,"version":"0.1.0"}"#),
        ] {
            facts.take(name, value);
        }
        let row = |host: &str, outcome, error: Option<&str>, facts| Row {
            host: host.parse().unwrap(),
            outcome,
            error: error.map(String::from),
            before: None,
            facts,
        };
        let rows = [
            row("mx1", Outcome::Deployed, None, Some(facts)),
            row("mx2.example.jp", Outcome::Unreachable, Some("no route to host"), None),
        ];
        let text = render(&rows);
        assert_eq!(
            text,
            "HOST            RELEASE             BEFORE  UNIT    HEALTH   UP\n\
             mx1             0.1.0-0123456789ab  -       active  healthy  1 min  deployed\n\
             mx2.example.jp  -                   -       -       -        -      NOT REACHED\n\
             mx2.example.jp: no route to host\n"
        );
        let object = object(&rows, false);
        assert_eq!(object["hosts"][0]["outcome"], "deployed");
        assert_eq!(object["hosts"][0]["healthy"], true);
        assert_eq!(object["hosts"][1]["healthy"], Value::Null);
    }

    #[test]
    fn a_host_that_needs_a_look_is_shown_what_to_do() {
        let facts = |name: &str, value: &str| {
            let mut facts = Facts::default();
            facts.take(name, value);
            Some(facts)
        };
        for (facts, wanted) in [
            (None, "--status mx1` when it answers"),
            (facts("switching", "900"), "wait, and look"),
            (facts("interrupted", "0.2.0-aa"), "left of the switch to 0.2.0-aa is taken back first"),
            (facts("unit", "failed"), "Nothing is left half done"),
        ] {
            let host = "mx1".parse().unwrap();
            let row = Row { host, outcome: Outcome::NeedsALook, error: None, before: None, facts };
            let text = render(&[row]);
            assert!(text.contains("mx1: next: ") && text.contains(wanted), "{text}");
        }
    }
}
