//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// How bad a problem is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The edge does not start with it.
    Error,
    /// It starts, but perhaps not as meant.
    Warning,
}

/// One problem, with its place in the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub level: Level,
    /// Its line, from 1; 0 where it is about no line of the file.
    pub line: usize,
    /// Its column in characters, from 1; 0 where it is about no line of the file.
    pub column: usize,
    /// What it is about, e.g. `limits.recipients_max` or `filter[0].covers`.
    pub key: String,
    /// What is wrong and what was expected.
    pub text: String,
}

impl Problem {
    /// The problem as one line, as compilers write it: `file:line:column: error: key: text`.
    #[must_use]
    pub fn in_file<'a>(&'a self, file: &'a Path) -> impl fmt::Display + 'a {
        InFile { problem: self, file }
    }
}

struct InFile<'a> {
    problem: &'a Problem,
    file: &'a Path,
}

impl fmt::Display for InFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { level, line, column, key, text } = self.problem;
        write!(f, "{}", self.file.display())?;
        if *line > 0 {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(match level {
            Level::Error => ": error: ",
            Level::Warning => ": warning: ",
        })?;
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        f.write_str(text)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {cause}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It does not say what it should.
    #[error(transparent)]
    Invalid(#[from] Problems),
}

/// All problems of a file that has at least one error, in the file's order.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Problems {
    /// The file.
    pub file: PathBuf,
    /// Errors and warnings.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.problems.iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            problem.in_file(&self.file).fmt(f)?;
        }
        Ok(())
    }
}
