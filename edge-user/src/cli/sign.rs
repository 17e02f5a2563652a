//! `backstop sign`: not built yet.

use super::Answer;

/// What the command takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {}

/// Runs it.
pub(crate) fn run(_args: Args) -> anyhow::Result<Answer> {
    anyhow::bail!("`sign` is not built yet")
}
