//! What the real servers and the edge wrote into their logs about the mass.

use std::collections::{BTreeMap, BTreeSet};

use crate::EDGE;

/// What became of the real reflector's bounces, by its own log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RealReflector {
    /// Bounces that the edge refused.
    pub refused: u64,
    /// Bounces that the edge took.
    pub taken: u64,
    /// Tries that ended with 4xx or without an answer.
    pub deferred: u64,
}

impl RealReflector {
    /// What was seen since `earlier`.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            refused: self.refused - earlier.refused,
            taken: self.taken - earlier.taken,
            deferred: self.deferred - earlier.deferred,
        }
    }

    /// Counts the lines of a Postfix log about deliveries to the edge.
    pub(super) fn read(log: &[String]) -> Self {
        let mut seen = Self::default();
        let edge = format!("relay={EDGE}[");
        // Where no connection came about Postfix logs `relay=none`.
        let to_edge = log.iter().filter(|line| line.contains(&edge) || line.contains("relay=none"));
        for line in to_edge {
            if line.contains("status=bounced") {
                seen.refused += 1;
            } else if line.contains("status=sent") {
                seen.taken += 1;
            } else if line.contains("status=deferred") {
                seen.deferred += 1;
            }
        }
        seen
    }
}

/// Every ban in the edge's JSON log, by source, with its causes.
#[must_use]
pub fn banned(log: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let mut banned: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in log {
        let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        if event["event"] == "ban"
            && let (Some(source), Some(cause)) = (event["source"].as_str(), event["cause"].as_str())
        {
            banned.entry(source.to_owned()).or_default().insert(cause.to_owned());
        }
    }
    banned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_postfix_log_is_read_for_bounces_to_the_edge_only() {
        let log = [
            "postfix/smtp[9]: 1: to=<alice@example.jp>, relay=198.18.0.10[198.18.0.10]:25, dsn=5.7.1, status=bounced (host",
            "postfix/smtp[9]: 2: to=<alice@example.jp>, relay=198.18.0.10[198.18.0.10]:25, dsn=4.7.0, status=deferred (",
            "postfix/smtp[9]: 3: to=<bob@example.jp>, relay=198.18.0.10[198.18.0.10]:25, dsn=2.0.0, status=sent (250",
            "postfix/local[8]: 4: to=<nobody-1@postfix.example>, relay=local, dsn=5.1.1, status=bounced (unknown user)",
        ];
        let seen = RealReflector::read(&log.map(str::to_owned));
        assert_eq!(seen, RealReflector { refused: 1, taken: 1, deferred: 1 });
        assert_eq!(seen.since(seen), RealReflector::default());
    }

    #[test]
    fn bans_are_read_from_the_json_log() {
        let log = [
            r#"{"at":"x","event":"ban","source":"198.18.144.2","cause":"not_smtp","secs":5,"at_nic":true}"#,
            r#"{"at":"x","event":"ban","source":"198.18.144.2","cause":"over_budget","secs":10,"at_nic":true}"#,
            r#"{"at":"x","event":"verdict","source":"198.18.128.1"}"#,
            "no JSON",
        ];
        let banned = banned(&log.map(str::to_owned));
        assert_eq!(banned.len(), 1);
        assert_eq!(banned["198.18.144.2"].len(), 2);
    }
}
