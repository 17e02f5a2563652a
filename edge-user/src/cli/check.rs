//! `backstop check`: what is wrong with a configuration, its keys or this machine; or what was understood.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Answer, CONFIG_PATH, print, print_json};
use crate::config::{Config, ConfigError, Level, Loaded, Machine, Problem, keys, read};
use crate::engine::clock::system_now;

/// What the command takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The configuration's file.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
    config: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<Answer> {
    let (config, problems) = match read(&args.config) {
        Ok(Loaded { config, mut warnings }) => {
            warnings.extend(beyond_the_file(&config)?);
            (Some(config), warnings)
        }
        Err(ConfigError::Invalid(problems)) => (None, problems.problems),
        Err(error @ ConfigError::Unreadable { .. }) => return Err(error.into()),
    };
    let answer =
        if problems.iter().any(|problem| problem.level == Level::Error) { Answer::No } else { Answer::Yes };
    if args.json {
        print_json(&json!({
            "ok": answer == Answer::Yes,
            "file": args.config,
            "problems": problems,
            "config": config,
        }))?;
    } else {
        let mut told: String =
            problems.iter().map(|problem| format!("{}\n", problem.in_file(&args.config))).collect();
        if let (Some(config), Answer::Yes) = (&config, answer) {
            told += &understood(config, &args.config);
        }
        print(&told)?;
    }
    Ok(answer)
}

/// What is wrong with the keys and with this machine.
fn beyond_the_file(config: &Config) -> anyhow::Result<Vec<Problem>> {
    let mut problems = Machine::here()?.problems(config);
    let problem =
        |level, text: String| Problem { level, line: 0, column: 0, key: "signature.keys".into(), text };
    match keys::load(&config.signature.keys) {
        Ok(keys) if keys.signer(system_now()).is_some() => {}
        Ok(_) => problems.push(problem(
            Level::Error,
            format!(
                "no key signs any more; make one: backstop key new --dir {}",
                config.signature.keys.display()
            ),
        )),
        Err(error) => problems.push(problem(Level::Error, error.to_string())),
    }
    Ok(problems)
}

/// The configuration in a few lines.
fn understood(config: &Config, file: &Path) -> String {
    let list = |items: Vec<String>| items.join(", ");
    let mut told = format!("{} is in order\n", file.display());
    let listen = config.inbound.listen.iter().map(ToString::to_string).collect();
    told += &format!("inbound   {} as {}\n", list(listen), config.hostname);
    match &config.outbound {
        Some(outbound) => {
            let listen = outbound.listen.iter().map(ToString::to_string).collect();
            let networks = outbound.networks.iter().map(ToString::to_string).collect();
            told += &format!(
                "outbound  {} for {}, signed and handed to {}\n",
                list(listen),
                list(networks),
                outbound.next_hop
            );
        }
        None => told += "outbound  none: nothing is signed, so no bounce can be proven\n",
    }
    for domain in &config.domains {
        let tag = if domain.tag { ", tagged" } else { "" };
        told += &format!("domain    {} at {}{tag}\n", domain.name, domain.upstream);
    }
    for (place, filter) in config.filters.iter().enumerate() {
        told += &format!("filter    {place}: {}\n", super::filter::line(filter));
    }
    if config.filters.is_empty() {
        told += "filter    none: every bounce is delivered, and logged\n";
    }
    match &config.xdp {
        Some(xdp) => {
            let ports = xdp.ports.iter().map(ToString::to_string).collect();
            let watch = if xdp.watch { ", watching only" } else { "" };
            told += &format!("xdp       {} for ports {}{watch}\n", xdp.interface, list(ports));
        }
        None => told += "xdp       none: the network card drops nothing\n",
    }
    told
}
