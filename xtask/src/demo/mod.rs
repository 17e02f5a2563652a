//! `cargo xtask demo`: the three cases, played through in the lab.

use std::process::ExitCode;

use clap::Args;

/// `demo`
#[derive(Args)]
pub(crate) struct Options {
    /// End with one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// Plays the three cases.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    anyhow::bail!("demo (json: {}) is not built yet", options.json)
}
