//! What was found: one line, judged, with what to do where something is to be done.

use serde::Serialize;

/// How good it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it should be.
    Good,
    /// It works, but look at it; or it could not be told.
    Careful,
    /// The edge, or mail, will not work so.
    Bad,
}

impl State {
    const ALL: [Self; 3] = [Self::Good, Self::Careful, Self::Bad];

    const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Careful => "careful",
            Self::Bad => "bad",
        }
    }

    /// Its colour's number (ECMA-48, SGR): green, yellow, red.
    const fn colour(self) -> u8 {
        match self {
            Self::Good => 32,
            Self::Careful => 33,
            Self::Bad => 31,
        }
    }
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Finding {
    /// What it belongs to.
    pub(super) group: &'static str,
    /// What was asked.
    pub(super) check: String,
    /// How good the answer is.
    pub(super) state: State,
    /// The answer.
    pub(super) found: String,
    /// What to do.
    pub(super) advice: Option<String>,
}

/// The findings of one group.
#[derive(Debug)]
pub(super) struct Findings {
    group: &'static str,
    list: Vec<Finding>,
}

impl Findings {
    pub(super) fn of(group: &'static str) -> Self {
        Self { group, list: Vec::new() }
    }

    pub(super) fn good(&mut self, check: impl Into<String>, found: impl Into<String>) {
        self.add(check.into(), State::Good, found.into(), None);
    }

    pub(super) fn careful(
        &mut self,
        check: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(check.into(), State::Careful, found.into(), Some(advice.into()));
    }

    pub(super) fn bad(
        &mut self,
        check: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(check.into(), State::Bad, found.into(), Some(advice.into()));
    }

    /// What this user may not know.
    pub(super) fn untold(&mut self, check: impl Into<String>, what: impl Into<String>) {
        self.careful(check, what, "run it as root, or as the user that the edge runs as");
    }

    fn add(&mut self, check: String, state: State, found: String, advice: Option<String>) {
        self.list.push(Finding { group: self.group, check, state, found, advice });
    }

    pub(super) fn into_list(self) -> Vec<Finding> {
        self.list
    }

    /// State and check of each, for the rows of tests.
    #[cfg(test)]
    pub(super) fn states(&self) -> Vec<(State, &str)> {
        self.list.iter().map(|finding| (finding.state, finding.check.as_str())).collect()
    }

    /// All that the findings say.
    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        let words = self.list.iter().map(|finding| {
            format!("{}: {} → {}\n", finding.check, finding.found, finding.advice.as_deref().unwrap_or("-"))
        });
        words.collect()
    }
}

/// An error with its causes.
pub(super) fn all_of(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// For eyes: groups with their findings, then how many there are of each state.
pub(super) fn table(findings: &[Finding], colours: bool, is_root: bool) -> String {
    let paint = |state: State, text: &str| match colours {
        true => format!("\x1b[{}m{text}\x1b[0m", state.colour()),
        false => text.to_owned(),
    };
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    let mut group = "";
    for finding in findings {
        if finding.group != group {
            group = finding.group;
            text += &format!("{group}\n");
        }
        let state = paint(finding.state, &format!("{:7}", finding.state.word()));
        text += &format!("  {state}  {:width$}  {}\n", finding.check, finding.found);
        if let Some(advice) = &finding.advice {
            text += &format!("  {:7}  {:width$}  → {advice}\n", "", "");
        }
    }
    let counts = State::ALL.map(|state| {
        let count = findings.iter().filter(|finding| finding.state == state).count();
        let words = format!("{count} {}", state.word());
        if count == 0 { words } else { paint(state, &words) }
    });
    text += &format!("\n{}\n", counts.join(", "));
    if !is_root {
        text += "asked without root: some answers may be missing\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_counted_and_coloured_only_where_asked() {
        let mut findings = Findings::of("one");
        findings.good("short", "fine");
        findings.bad("much longer", "broken", "mend it");
        let list = findings.into_list();
        let plain = table(&list, false, true);
        assert_eq!(
            plain,
            "one\n  good     short        fine\n  bad      much longer  broken\n\
             \x20                       → mend it\n\n1 good, 0 careful, 1 bad\n"
        );
        let painted = table(&list, true, false);
        assert!(painted.contains("\x1b[31mbad    \x1b[0m") && painted.contains("without root"), "{painted}");
    }

    #[test]
    fn a_script_finds_the_five_fields() {
        let mut findings = Findings::of("one");
        findings.careful("check", "found", "advice");
        findings.good("check", "found");
        let json = serde_json::to_value(findings.into_list()).unwrap();
        assert_eq!(
            json[0],
            serde_json::json!({"group": "one", "check": "check", "state": "careful", "found": "found", "advice": "advice"})
        );
        assert_eq!(json[1]["advice"], serde_json::Value::Null);
    }
}
