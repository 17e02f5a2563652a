//! The instructions a session that are on record (`benches/smtp/instructions.json`), and what a new figure says beside them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// A figure may grow by so many percent of what is on record.
const GROWTH_PERCENT_MAX: u64 = 10;
/// Below the record by more than so many percent, the record no longer guards anything.
const FALL_PERCENT_MAX: u64 = 25;

/// Instructions of Backstop's own code a session, by row.
#[derive(Debug, Default)]
pub(super) struct Recorded(BTreeMap<String, u64>);

/// A new figure beside the one on record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Beside {
    /// There is none.
    None,
    /// About the same.
    Holds { recorded: u64 },
    /// More than it may be.
    Grew { recorded: u64 },
    /// So much less that later growth would not be seen.
    Fell { recorded: u64 },
}

impl Beside {
    /// Whether what is on record still holds.
    pub(super) const fn holds(self) -> bool {
        match self {
            Self::None | Self::Holds { .. } => true,
            Self::Grew { .. } | Self::Fell { .. } => false,
        }
    }

    /// In words, with what is to be done.
    pub(super) fn text(self, row: &str, now: u64) -> String {
        let again = format!("cargo xtask bench smtp --instructions --only {row} --record");
        match self {
            Self::None => format!("nothing is on record (`{again}`)"),
            Self::Holds { recorded } => format!("{recorded} on record"),
            Self::Grew { recorded } => format!(
                "MORE than the {recorded} on record by {} percent, and {GROWTH_PERCENT_MAX} are allowed: \
                 `callgrind_annotate` says where they are; if they are worth it, record them: `{again}`",
                percent(now - recorded, recorded)
            ),
            Self::Fell { recorded } => format!(
                "{} percent less than the {recorded} on record: record it, so that it stays so: `{again}`",
                percent(recorded - now, recorded)
            ),
        }
    }
}

fn percent(part: u64, of: u64) -> u64 {
    (part * 100).checked_div(of).unwrap_or(100)
}

impl Recorded {
    /// What the tree has.
    ///
    /// # Errors
    /// The file is there and is none.
    pub(super) fn read() -> Result<Self> {
        let path = path();
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let figures = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        Ok(Self(figures))
    }

    /// What a figure is beside the one on record.
    pub(super) fn beside(&self, row: &str, now: u64) -> Beside {
        match self.0.get(row).copied() {
            None => Beside::None,
            Some(recorded) if now > recorded + recorded * GROWTH_PERCENT_MAX / 100 => {
                Beside::Grew { recorded }
            }
            Some(recorded) if now < recorded - recorded * FALL_PERCENT_MAX / 100 => Beside::Fell { recorded },
            Some(recorded) => Beside::Holds { recorded },
        }
    }

    /// Puts a figure on record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn put(&mut self, row: &str, now: u64) -> Result<()> {
        self.0.insert(row.to_owned(), now);
        let path = path();
        let text = serde_json::to_string_pretty(&self.0)? + "\n";
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn path() -> PathBuf {
    lab::program::root().join("benches/smtp/instructions.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_more_holds_and_what_is_beyond_it_does_not() {
        let recorded = Recorded([("refused_rcpt".to_owned(), 20_000)].into());
        let beside = |now| recorded.beside("refused_rcpt", now);
        for now in [15_000, 20_000, 22_000] {
            assert_eq!(beside(now), Beside::Holds { recorded: 20_000 }, "{now}");
            assert!(beside(now).holds());
        }
        assert!(!beside(22_001).holds() && !beside(14_999).holds());
        let text = beside(25_000).text("refused_rcpt", 25_000);
        assert!(text.contains("by 25 percent") && text.contains("--only refused_rcpt --record"), "{text}");
        let text = beside(10_000).text("refused_rcpt", 10_000);
        assert!(text.contains("50 percent less") && text.contains("--record"), "{text}");
        assert_eq!(recorded.beside("proxied_4k", 1), Beside::None);
    }

    #[test]
    fn the_refused_session_is_on_record() {
        let recorded = Recorded::read().unwrap();
        assert_ne!(recorded.beside("refused_rcpt", 0), Beside::None);
    }
}
