//! `backstop ban`: ban sources, lift bans, and see what is known of a source.
//!
//! The daemon is asked. Without one, `list`, `export` and `del` work on what is pinned at the NIC, and say so.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args as ClapArgs, Subcommand};
use edge_core::reputation::Cause;
use edge_core::source::Source;
use serde::Serialize;

use super::asking::configuration;
use super::{Answer, CONFIG_PATH, print, print_json, words};
use crate::config::Config;
use crate::control::{BanRow, Client, ClientError, Explained, Reply, Request};
use crate::dataplane::Dataplane;

/// What the command takes.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Ban a source: the NIC drops it until then.
    Add {
        /// An IPv4 address, an IPv6 address (its /64 is banned), or an IPv6 /64.
        source: Source,
        /// For how long: 90s, 15m, 1h, 7d.
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = words::parse_duration)]
        length: Duration,
        #[command(flatten)]
        common: Common,
    },
    /// Lift a ban. Exit code 1: there was none.
    Del {
        /// As `ban list` shows it.
        source: Source,
        #[command(flatten)]
        common: Common,
    },
    /// Show the bans in force.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show what is known of a source, and why it is banned. Exit code 1: it is not.
    Explain {
        /// An address, or an IPv6 /64.
        source: Source,
        #[command(flatten)]
        common: Common,
    },
    /// Print the banned sources alone, one a line, for other firewalls.
    Export {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(ClapArgs, Debug)]
struct Common {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<Answer> {
    match args.what {
        What::Add { source, length, common } => add(source, length, &common),
        What::Del { source, common } => del(source, &common),
        What::List { common } => list(&common),
        What::Explain { source, common } => explain(source, &common),
        What::Export { common } => export(&common),
    }
}

fn add(source: Source, length: Duration, common: &Common) -> anyhow::Result<Answer> {
    let mut daemon = Client::connect(&configuration(&common.config)?.control.socket)?;
    match daemon.ask(&Request::Ban { source: source.to_string(), secs: length.as_secs() })? {
        Reply::Banned(row) if common.json => print_json(&row)?,
        Reply::Banned(row) => {
            print(&format!("{} is banned for {}", row.source, words::duration(length.as_secs())))?;
        }
        _other => return Err(daemon.unexpected().into()),
    }
    Ok(Answer::Yes)
}

fn del(source: Source, common: &Common) -> anyhow::Result<Answer> {
    let config = configuration(&common.config)?;
    let was_banned = match Client::connect(&config.control.socket) {
        Ok(mut daemon) => match daemon.ask(&Request::Unban { source: source.to_string() })? {
            Reply::Unbanned { was_banned } => was_banned,
            _other => return Err(daemon.unexpected().into()),
        },
        Err(gone @ ClientError::NotRunning(_)) => pinned(&config, gone)?.unban(source)?,
        Err(error) => return Err(error.into()),
    };
    if common.json {
        print_json(&serde_json::json!({ "source": source.to_string(), "was_banned": was_banned }))?;
    } else if was_banned {
        print(&format!("{source} is banned no more"))?;
    } else {
        print(&format!("{source} was not banned"))?;
    }
    Ok(if was_banned { Answer::Yes } else { Answer::No })
}

fn list(common: &Common) -> anyhow::Result<Answer> {
    let bans = bans(&configuration(&common.config)?)?;
    if common.json {
        print_json(&serde_json::json!({ "bans": bans }))?;
    } else if bans.is_empty() {
        print("no bans")?;
    } else {
        print(&table(&bans))?;
    }
    Ok(Answer::Yes)
}

fn export(common: &Common) -> anyhow::Result<Answer> {
    let sources: Vec<String> =
        bans(&configuration(&common.config)?)?.into_iter().map(|row| row.source).collect();
    if common.json {
        print_json(&serde_json::json!({ "sources": sources }))?;
    } else if !sources.is_empty() {
        print(&sources.join("\n"))?;
    }
    Ok(Answer::Yes)
}

fn explain(source: Source, common: &Common) -> anyhow::Result<Answer> {
    let mut daemon = Client::connect(&configuration(&common.config)?.control.socket)?;
    let Reply::Explained(known) = daemon.ask(&Request::Explain { source: source.to_string() })? else {
        return Err(daemon.unexpected().into());
    };
    if common.json {
        print_json(&known)?;
    } else {
        print(&sentences(&known))?;
    }
    Ok(if known.ban.is_some() { Answer::Yes } else { Answer::No })
}

/// The bans in force, from the daemon, or else from the NIC.
fn bans(config: &Config) -> anyhow::Result<Vec<BanRow>> {
    match Client::connect(&config.control.socket) {
        Ok(mut daemon) => match daemon.ask(&Request::Bans)? {
            Reply::Bans { bans } => Ok(bans),
            _other => Err(daemon.unexpected().into()),
        },
        Err(gone @ ClientError::NotRunning(_)) => pinned_bans(&pinned(config, gone)?),
        Err(error) => Err(error.into()),
    }
}

/// The bans that the NIC holds, by source.
pub(super) fn pinned_bans(dataplane: &Dataplane) -> anyhow::Result<Vec<BanRow>> {
    let mut bans = dataplane.bans()?;
    bans.sort_by_key(|ban| ban.source);
    let row = |ban: crate::dataplane::KernelBan| BanRow {
        source: ban.source.to_string(),
        cause: Cause::of_number(ban.cause),
        left_secs: ban.left.as_secs(),
    };
    Ok(bans.into_iter().map(row).collect())
}

/// What is pinned at the NIC, where no daemon answers; a note on stderr says so.
fn pinned(config: &Config, gone: ClientError) -> anyhow::Result<Dataplane> {
    let Some(settings) = &config.xdp else { bail!(gone) };
    let dataplane = Dataplane::open_pinned(settings).with_context(|| gone.to_string())?;
    eprintln!(
        "backstop: no daemon answers; this is what the NIC at {} enforces by itself",
        settings.interface
    );
    Ok(dataplane)
}

fn table(bans: &[BanRow]) -> String {
    let mut rows = vec![("SOURCE".to_owned(), "LEFT".to_owned(), "CAUSE".to_owned())];
    rows.extend(
        bans.iter().map(|row| (row.source.clone(), words::duration(row.left_secs), name(&row.cause))),
    );
    let width = |column: fn(&(String, String, String)) -> usize| rows.iter().map(column).max().unwrap_or(0);
    let (first, second) = (width(|row| row.0.len()), width(|row| row.1.len()));
    rows.iter().map(|(source, left, cause)| format!("{source:first$}  {left:second$}  {cause}\n")).collect()
}

fn sentences(known: &Explained) -> String {
    let ban = match &known.ban {
        Some(ban) => {
            format!("banned for {} more: {}", words::duration(ban.left_secs), name(&ban.cause))
        }
        None if known.never_ban => "not banned, and cannot be: it lies in a never-ban prefix".into(),
        None => "not banned".into(),
    };
    format!(
        "{}: {ban}\n\
         credit            {:.2}\n\
         proven bounces    {}\n\
         unproven bounces  {}\n\
         wanted mail       {}\n\
         bans before       {}\n\
         may still make    {:.0} connections, {:.0} unproven bounces\n",
        known.source,
        known.credit,
        known.proven,
        known.unproven,
        known.wanted,
        known.bans_before,
        known.connections_left,
        known.unproven_left,
    )
}

/// The name that JSON has for it.
fn name(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_row_for_each_ban_and_its_columns_in_line() {
        let row =
            |source: &str, left_secs| BanRow { source: source.into(), cause: Cause::NotSmtp, left_secs };
        assert_eq!(
            table(&[row("192.0.2.7", 59), row("2001:2:0:9::/64", 3600)]),
            "SOURCE           LEFT  CAUSE\n\
             192.0.2.7        59 s  not_smtp\n\
             2001:2:0:9::/64  1 h   not_smtp\n"
        );
    }
}
