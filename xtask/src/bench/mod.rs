//! `cargo xtask bench NAME`: what Backstop costs, beside the least that can be and beside others.
//!
//! Progress goes to stderr, the table or one JSON object to stdout. Exit code 1: it was measured, and a goal is missed.

mod cores;
mod flood;
mod smtp;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

/// `bench`
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// CPU time of SMTP sessions: the floor, Backstop, and Debian's servers by turns (root; under 10 minutes).
    Smtp(smtp::Options),
    /// Honest mail under a flood of forged bounces: Backstop, and Postfix without it (root; about 10 minutes).
    Flood(flood::Options),
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    match &options.bench {
        Bench::Smtp(options) => smtp::run(options),
        Bench::Flood(options) => flood::run(options),
    }
}
