//! Reading the file.

use std::path::Path;

use anyhow::Context as _;

use super::Config;

/// Reads the configuration at `path`.
///
/// # Errors
/// It cannot be read, or does not say what it should: file, line and what was expected.
pub fn load(path: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("in {}", path.display()))
}
