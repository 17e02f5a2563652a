//! `cargo xtask test`: every test there is.

use std::process::ExitCode;

use clap::Args;

/// `test`
#[derive(Args)]
pub(crate) struct Options {
    /// Run only what needs no root, XDP or mail server, and say what was left out.
    #[arg(long)]
    unprivileged: bool,
    /// Only tests whose name contains one of these.
    filters: Vec<String>,
}

/// Runs the tests.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    anyhow::bail!("test (unprivileged: {}, {:?}) is not built yet", options.unprivileged, options.filters)
}
