//! Whether it is too early for a change: it would stop unproven mail that was delivered before, and not enough clean
//! days have passed to know that none of them answers mail of ours. The days of an edge that runs by another file say
//! nothing: it has other domains and filters, and may stand before other servers.

use std::path::{Path, PathBuf};

use edge_core::policy::{NewlyStopped, Policy};
use edge_core::watch::{CLEAN_DAYS, Summary};
use serde_json::{Value, json};

use super::other_file;
use crate::cli::{Answer, print, print_json, watched};
use crate::config::Config;
use crate::control::{Client, ClientError};

/// The flag that overrules it.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(super) struct Force {
    /// Stop unproven bounces although fewer than 14 clean days have passed, or another file's edge is running.
    #[arg(long)]
    pub(super) force: bool,
}

/// A change that comes too early.
pub(in crate::cli) struct Early {
    /// Whose mail it would stop.
    newly_stopped: NewlyStopped,
    /// What is known; or why nothing is.
    watched: Result<Option<Summary>, String>,
    /// Nothing was asked, because the edge that runs reads this file.
    other_file: Option<PathBuf>,
    /// For how many days filters are held back after the first signature.
    grace_days: u32,
}

impl Early {
    /// `None`: it stops nobody's mail newly, or enough clean days have passed.
    /// `file`: where both are from.
    pub(super) fn of(before: &Config, after: &Config, file: &Path) -> Option<Self> {
        Self::since(&before.policy(), after, file)
    }

    /// The same of a file as a whole, as if the edge had only monitored before.
    pub(in crate::cli) fn at_all(config: &Config, file: &Path) -> Option<Self> {
        Self::since(&Policy::default(), config, file)
    }

    fn since(before: &Policy, after: &Config, file: &Path) -> Option<Self> {
        let newly_stopped = after.policy().newly_stopped(before);
        if newly_stopped.is_empty() {
            return None;
        }
        let other_file = running_by_another(after, file);
        let watched = match &other_file {
            Ok(None) => watched::summary(after).map_err(|error| format!("{error:#}")),
            Ok(Some(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        };
        match &watched {
            Ok(Some(summary)) if summary.is_ready() => None,
            Ok(_) | Err(_) => Some(Self {
                newly_stopped,
                watched,
                other_file: other_file.ok().flatten(),
                grace_days: after.policy.grace_days,
            }),
        }
    }

    /// Says why nothing was done.
    pub(super) fn refuse(&self, json: bool) -> anyhow::Result<Answer> {
        if json {
            print_json(&json!({ "done": "refused", "early": self.json() }))?;
        } else {
            print(&format!("{}\nnothing was changed; to do it all the same, add --force", self.text()))?;
        }
        Ok(Answer::No)
    }

    pub(in crate::cli) fn json(&self) -> Value {
        let summary = self.watched.as_ref().ok().and_then(Option::as_ref);
        let mut json = json!(self.newly_stopped);
        json["clean_days"] = summary.map_or(0, |summary| summary.clean_days).into();
        json["clean_days_wanted"] = CLEAN_DAYS.into();
        json["days_left"] = summary.map_or(CLEAN_DAYS, Summary::days_left).into();
        json["ours"] = json!(summary.map(|summary| &summary.ours));
        json["error"] = json!(self.watched.as_ref().err());
        json["running_file"] = json!(self.other_file);
        json
    }

    /// Why it is too early, with all that looks like ours.
    pub(in crate::cli) fn text(&self) -> String {
        let mut text = format!("this stops {}, and ", self.newly_stopped);
        match (&self.other_file, &self.watched) {
            (Some(other), _) => {
                text += &format!(
                    "the running edge reads another file, {}: its clean days say nothing of this one",
                    other.display()
                );
            }
            (None, Ok(summary)) => text += &watched::why_early(summary.as_ref()),
            (None, Err(error)) => text += &format!("what watching found cannot be told: {error}"),
        }
        let grace = match &self.watched {
            Ok(Some(summary)) => summary.grace,
            Ok(None) | Err(_) => self.grace_days > 0,
        };
        if grace {
            text += &format!(
                "\nfor {} days after the first signature they are delivered in any case (`grace_days` of [policy])",
                self.grace_days
            );
        }
        text
    }
}

/// The file that the running edge reads, if there is one that reads another than `file`.
fn running_by_another(config: &Config, file: &Path) -> Result<Option<PathBuf>, ClientError> {
    match Client::connect(&config.control.socket) {
        Ok(mut edge) => other_file(&mut edge, file),
        Err(ClientError::NotRunning(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use edge_core::time::UnixMillis;
    use edge_core::watch::{Evidence, Example, Ledger, Verified};

    use super::*;
    use crate::config::parse;
    use crate::control::{Daemon, Listener, Reply, Request};
    use crate::engine::{clock, watch::book};
    use crate::state::StateDir;

    const DAY: Duration = Duration::from_secs(86_400);

    fn config(state: &std::path::Path, action: &str) -> Config {
        let text = format!(
            r#"hostname = "mx.example.jp"
            control.socket = "/nonexistent/control.sock"
            state.dir = "{}"
            inbound.listen = ["192.0.2.1:25"]
            signature.keys = "/etc/backstop/keys"
            [[domain]]
            name = "example.jp"
            upstream = "127.0.0.1:10025"
            [[filter]]
            covers = ["*"]
            action = "{action}"
            "#,
            state.display()
        );
        parse(&text, std::path::Path::new("test.toml")).unwrap_or_else(|error| panic!("{error}")).config
    }

    /// A ledger of so many days before today, each watched whole, that began to sign on the day before.
    fn ledger(days: u32) -> Ledger {
        let today = UnixMillis::from_secs(clock::system_now().days() * 86_400);
        let begun = today.minus(DAY * days);
        let mut ledger = Ledger::begin(begun, None);
        ledger.signed(begun.minus(DAY));
        let mut now = begun;
        while now <= today {
            ledger.beat(now);
            now = now.plus(Duration::from_secs(120));
        }
        ledger
    }

    /// What is said of a change from monitor to `action` after that, with no edge running.
    fn early(ledger: Option<&Ledger>, action: &str) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        if let Some(ledger) = ledger {
            book::save(&StateDir::open(dir.path()).unwrap(), ledger).unwrap();
        }
        let before = config(dir.path(), "monitor");
        Early::of(&before, &config(dir.path(), action), Path::new("test.toml")).map(|early| early.text())
    }

    #[test]
    fn without_any_history_it_is_too_early_and_the_reason_is_said() {
        for action in ["reject", "discard"] {
            let said = early(None, action).unwrap();
            assert!(
                said.contains("example.jp") && said.contains("14 clean days are still to come"),
                "{said}"
            );
        }
        assert_eq!(early(None, "mark"), None, "a mark stops nothing");
    }

    #[test]
    fn fourteen_clean_days_are_enough_and_thirteen_are_not() {
        let said = early(Some(&ledger(13)), "reject").unwrap();
        assert!(said.contains("13 of 14 clean days have passed, 1 to go"), "{said}");
        assert!(said.contains("`grace_days`"), "{said}");
        assert_eq!(early(Some(&ledger(14)), "reject"), None);
    }

    /// A running edge with its file, and with 14 clean days.
    struct Ready(PathBuf);

    impl Daemon for Ready {
        fn answer(&self, request: &Request) -> Reply {
            let grace = edge_core::policy::Grace::default();
            match request {
                Request::Version => Reply::Version { version: "0".into(), file: self.0.clone() },
                Request::Watched => {
                    Reply::Watched(Box::new(ledger(14).summary(clock::system_now(), grace, false, 9)))
                }
                other => panic!("{other:?} was not to be asked"),
            }
        }

        fn log(&self, _: u32, _: String, _: String) {}
    }

    #[test]
    fn the_clean_days_of_an_edge_that_reads_another_file_say_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().canonicalize().unwrap().join("this.toml");
        std::fs::write(&file, "").unwrap();
        // The other's ledger also lies where this one's would.
        book::save(&StateDir::open(dir.path()).unwrap(), &ledger(14)).unwrap();
        for (number, (theirs, is_early)) in
            [(file.clone(), false), ("/etc/other.toml".into(), true)].into_iter().enumerate()
        {
            let [mut before, mut after] = ["monitor", "reject"].map(|action| config(dir.path(), action));
            before.control.socket = dir.path().join(format!("{number}.sock"));
            after.control = before.control.clone();
            let server = Listener::bind(&after.control).unwrap().serve(Arc::new(Ready(theirs))).unwrap();
            let early = Early::of(&before, &after, &file);
            assert_eq!(early.is_some(), is_early, "{number}");
            if let Some(early) = early {
                let said = early.text();
                assert!(said.contains("reads another file, /etc/other.toml"), "{said}");
                assert_eq!(early.json()["running_file"], "/etc/other.toml");
                assert_eq!(early.json()["clean_days"], 0);
            }
            drop(server);
        }
    }

    #[test]
    fn what_looks_like_ours_is_listed_and_begins_the_count_anew() {
        let mut ledger = ledger(20);
        let evidence = Evidence::Dkim {
            domain: "example.jp".into(),
            selector: "shop".into(),
            verified: Verified::Message,
        };
        let example = Example { source: "198.51.100.7".into(), ..Example::default() };
        ledger.looks_like_ours(evidence, example, clock::system_now().minus(3 * DAY));
        let said = early(Some(&ledger), "reject").unwrap();
        for part in ["2 of 14", "12 to go", "selector shop", "198.51.100.7"] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
    }

    #[test]
    fn a_day_of_which_too_much_was_not_looked_at_is_named_and_a_little_is_only_counted() {
        let day_before = clock::system_now().minus(2 * DAY);
        let mut seen = ledger(14);
        (0..9_900).for_each(|_| seen.looks_foreign(day_before));
        seen.missed(100, day_before);
        assert_eq!(early(Some(&seen), "reject"), None, "a hundredth");
        seen.missed(1, day_before);
        let said = early(Some(&seen), "reject").unwrap();
        for part in [
            "13 of 14",
            "101 of 10,001 unproven messages were not looked at",
            "more than 1 %",
            ": 101 not looked at, of 10,001",
        ] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        assert!(!seen_text(&ledger(14)).contains("not looked at"));
        assert!(seen_text(&seen).contains(": 101 not looked at, of 10,001"), "status says it too");
    }

    fn seen_text(ledger: &Ledger) -> String {
        let grace = edge_core::policy::Grace::default();
        watched::section(&ledger.summary(clock::system_now(), grace, false, 9))
    }

    #[test]
    fn an_installation_that_signs_nothing_is_never_ready() {
        let mut ledger = ledger(20);
        let text = serde_json::to_value(&ledger).unwrap();
        let mut text = text;
        text["first_signature"] = serde_json::Value::Null;
        ledger = serde_json::from_value(text).unwrap();
        let said = early(Some(&ledger), "reject").unwrap();
        assert!(said.contains("nothing was signed yet"), "{said}");
    }
}
