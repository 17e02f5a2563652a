//! `cargo xtask lab`: a lab that stays until it is taken down, to try things in.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use lab::{Host, Lab, Place};

/// `lab`
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make the hosts and join them.
    Up,
    /// Remove them, and end what runs in them.
    Down,
    /// Run a command in one of them.
    Exec {
        /// `internet`, `edge` or `mta`.
        #[arg(value_parser = host)]
        host: Host,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

/// Does what the verb says.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    lab::ensure_root()?;
    match &options.verb {
        Verb::Up => up(),
        Verb::Down => down(),
        Verb::Exec { host, command } => exec(*host, command),
    }
}

fn up() -> Result<ExitCode> {
    if find().is_some() {
        println!("The lab is up already.");
        return Ok(ExitCode::SUCCESS);
    }
    let place = Lab::up_and_keep("xtask")?;
    let state = state();
    let write = || {
        std::fs::create_dir_all(state.parent().unwrap_or(&state))?;
        std::fs::write(&state, serde_json::to_vec(&place)?)
    };
    if let Err(error) = write() {
        if let Some(lab) = Lab::attach("xtask", &place) {
            lab.down()?;
        }
        return Err(error).with_context(|| format!("cannot write {}", state.display()));
    }
    println!("internet  198.18.0.1, and any address of 198.18.64.0/18 and 198.18.128.0/17 as source");
    println!(
        "edge      {} (interface {}), {} towards the mail server",
        lab::EDGE,
        lab::EDGE_INTERFACE,
        lab::EDGE_INSIDE
    );
    println!("mta       {}, {} towards the Internet", lab::MTA, lab::MTA_OUTSIDE);
    println!("Try `cargo xtask lab exec edge ip addr`; `cargo xtask lab down` removes it all.");
    Ok(ExitCode::SUCCESS)
}

fn down() -> Result<ExitCode> {
    let found = find();
    let _ = std::fs::remove_file(state());
    match found {
        Some(lab) => {
            lab.down()?;
            println!("The lab is gone, with everything that ran in it.");
        }
        None => println!("There was no lab."),
    }
    Ok(ExitCode::SUCCESS)
}

fn exec(host: Host, command: &[String]) -> Result<ExitCode> {
    let Some(lab) = find() else { bail!("no lab is up: `cargo xtask lab up`") };
    let (program, arguments) = command.split_first().context("no command")?;
    let status = lab.command(host, program).args(arguments).status().context("cannot run nsenter")?;
    // As a shell reports it: 128 and the signal's number where there is no code.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(128);
    Ok(ExitCode::from(code))
}

fn host(name: &str) -> Result<Host, String> {
    let known = || Host::ALL.map(Host::name).join(", ");
    Host::ALL
        .into_iter()
        .find(|host| host.name() == name)
        .ok_or_else(|| format!("the lab's hosts are {}", known()))
}

fn find() -> Option<Lab> {
    let place: Place = serde_json::from_slice(&std::fs::read(state()).ok()?).ok()?;
    Lab::attach("xtask", &place)
}

/// Where it is written down which lab is up.
fn state() -> PathBuf {
    lab::program::target().join("lab/up.json")
}
