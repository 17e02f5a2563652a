//! The command line: one file a command, each with its `Args` and its `run`.
//!
//! Exit codes, as scripts rely on them: 0 yes or done, 1 no (not proven, check failed, not banned), 2 could not be
//! done; then one line on stderr says what, where and what to do. Every command that prints has `--json`.

mod asking;
mod ban;
mod check;
mod doctor;
mod filter;
mod init;
mod key;
mod output;
mod quarantine;
mod run;
mod sign;
mod status;
mod tls;
mod verify;
mod watched;
mod words;
mod xdp;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

pub(crate) use output::{print, print_json};

use crate::config::{self, Config};

/// Where a command looks for the configuration when `--config` does not say.
pub(crate) const CONFIG_PATH: &str = "/etc/backstop/backstop.toml";

/// Backstop: an SMTP edge that stops backscatter.
#[derive(Parser, Debug)]
#[command(name = "backstop", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Write a commented configuration and the first key.
    Init(init::Args),
    /// Check a configuration, its keys and this machine's limits.
    Check(check::Args),
    /// Say whether this machine, its network and the servers beside it are as the edge needs them.
    Doctor(doctor::Args),
    /// Run the edge.
    Run(run::Args),
    /// Show how a running edge is doing.
    Status(status::Args),
    /// Make, list, rotate and retire signing keys.
    Key(key::Args),
    /// Sign a message as outgoing mail is signed.
    Sign(sign::Args),
    /// Say whether a bounce answers our own mail.
    Verify(verify::Args),
    /// Ban sources, lift bans, and explain what is known of a source.
    Ban(ban::Args),
    /// Show, add, change and try backscatter filters.
    Filter(filter::Args),
    /// Look at bounces that a filter kept; release them to the mail server, or delete them.
    Quarantine(quarantine::Args),
    /// Attach, detach and inspect the program at the network card.
    Xdp(xdp::Args),
}

/// What a command found out: its exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// Yes, or done.
    Yes,
    /// No: not proven, check failed, not banned.
    No,
}

/// The command line's description: its commands, their arguments and help.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(wrong) => {
            // Where this cannot be written, nobody is there to read it.
            let _ = wrong.print();
            return ExitCode::from(if wrong.use_stderr() { 2 } else { 0 });
        }
    };
    let answer = match cli.command {
        Command::Init(args) => init::run(args),
        Command::Check(args) => check::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Run(args) => run::run(args),
        Command::Status(args) => status::run(args),
        Command::Key(args) => key::run(args),
        Command::Sign(args) => sign::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Ban(args) => ban::run(args),
        Command::Filter(args) => filter::run(args),
        Command::Quarantine(args) => quarantine::run(args),
        Command::Xdp(args) => xdp::run(args),
    };
    match answer {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err(error) => {
            output::complain(&error);
            ExitCode::from(2)
        }
    }
}

/// Reads the configuration.
///
/// # Errors
/// It is not there, or does not say what it should.
pub(crate) fn configuration(path: &Path) -> anyhow::Result<Config> {
    must_exist(path)?;
    Ok(config::load(path)?)
}

/// Says what to do where there is no configuration.
pub(crate) fn must_exist(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    Err(anyhow::anyhow!("there is no {}", path.display()))
        .context("name the configuration with --config FILE, or write one with `backstop init`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does() {
        fn check(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                assert!(sub.get_about().is_some(), "`{path}` has no description");
                check(sub, &path);
            }
        }
        check(&Cli::command(), "backstop");
    }
}
