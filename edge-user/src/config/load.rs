//! Reading the file.

use std::path::Path;

use toml::de::DeTable;

use super::problem::{ConfigError, Level, Problem, Problems};
use super::reader::{Places, Reader};
use super::section::Section as _;
use super::{Config, validate};

/// A configuration, and what may not be meant so.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings, in the file's order.
    pub warnings: Vec<Problem>,
    /// Where its keys stand, for problems that only the machine shows.
    pub places: Places,
}

/// Reads the configuration at `path`.
///
/// # Errors
/// It cannot be read, or does not say what it should: all problems, each with line, column and what was expected.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    read(path).map(|loaded| loaded.config)
}

/// The same, with the warnings.
///
/// # Errors
/// As [`load`].
pub fn read(path: &Path) -> Result<Loaded, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|cause| ConfigError::Unreadable { file: path.to_owned(), cause })?;
    Ok(parse(&text, path)?)
}

/// Reads the configuration in `text`; `file` names it in problems.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(text: &str, file: &Path) -> Result<Loaded, Problems> {
    let mut reader = Reader::new(text, Config::FIELDS);
    let config = table(text, &mut reader);
    let failed = reader.has_errors();
    let (problems, places) = reader.finish();
    match config {
        Some(config) if !failed => Ok(Loaded { config, warnings: problems, places }),
        Some(_) | None => Err(Problems { file: file.to_owned(), problems }),
    }
}

fn table(text: &str, reader: &mut Reader<'_>) -> Option<Config> {
    let (table, faults) = DeTable::parse_recoverable(text);
    for fault in &faults {
        let place = fault.span().unwrap_or(0..0);
        reader.problem_at(
            Level::Error,
            place,
            String::new(),
            format!("this is no TOML: {}", fault.message()),
        );
    }
    if !faults.is_empty() {
        // What was recovered is a guess: problems with it would be noise.
        return None;
    }
    let mut config = Config::of_table(table.get_ref(), "", reader)?;
    validate::validate(&mut config, reader);
    Some(config)
}
