//! `cargo xtask setup`: what building, tests and demo need.

use std::process::ExitCode;

use clap::Args;

/// `setup`
#[derive(Args)]
pub(crate) struct Options {
    /// Change nothing; list what is missing and exit 1 if anything is.
    #[arg(long)]
    check: bool,
}

/// Installs what is missing, or lists it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    anyhow::bail!("setup (check: {}) is not built yet", options.check)
}
