//! `cargo xtask lab`: a lab that stays until it is taken down.

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// `lab`
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make the namespaces.
    Up,
    /// Remove them, and end what runs in them.
    Down,
    /// Run a command in one of them.
    Exec {
        /// `internet`, `edge` or `mta`.
        host: String,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
}

/// Does what the verb says.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    match &options.verb {
        Verb::Up | Verb::Down => anyhow::bail!("the lab is not built yet"),
        Verb::Exec { host, command } => anyhow::bail!("no lab to run {command:?} in {host}"),
    }
}
