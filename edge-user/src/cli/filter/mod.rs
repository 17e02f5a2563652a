//! `backstop filter`: the backscatter filters of a configuration. Changes keep comments and order, are checked before
//! they are written, and reach a running edge at once.

mod change;
mod early;
mod test;

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use serde_json::json;

pub(super) use self::early::Early;
use super::{Answer, CONFIG_PATH, print, print_json};
use crate::config::{Filter, load};
use crate::control::{Client, ClientError, Reply, Request};
use edge_core::policy::Action;

/// The file that a running edge reads, if that is not `file`. One that is older than to say is taken for its reader.
fn other_file(edge: &mut Client, file: &Path) -> Result<Option<PathBuf>, ClientError> {
    let Reply::Version { file: theirs, .. } = edge.ask(&Request::Version)? else {
        return Err(edge.unexpected());
    };
    let ours = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    Ok(Some(theirs).filter(|theirs| !theirs.as_os_str().is_empty() && *theirs != ours))
}

/// What the command takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// The configuration's file.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH, global = true)]
    config: PathBuf,
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// List the filters, in the order in which they decide.
    List,
    /// Add a filter, behind the others or before one of them.
    Add(change::Add),
    /// Change a filter.
    Edit(change::Edit),
    /// Remove a filter.
    Remove(change::Remove),
    /// Say what the filters would do with a bounce.
    Test(test::Test),
}

/// What `add` and `edit` can set.
#[derive(clap::Args, Debug, Default)]
struct Fields {
    /// A note, at most 80 characters.
    #[arg(long)]
    memo: Option<String>,
    /// A domain or an address that it covers, or `*` for all; may be given more than once.
    #[arg(long, value_name = "WHO", value_delimiter = ',')]
    covers: Vec<String>,
    /// What it does with an unproven bounce.
    #[arg(long, value_parser = action())]
    action: Option<Action>,
    /// Whether the record of what was sent proves a bounce.
    #[arg(long, value_name = "BOOL")]
    record: Option<bool>,
    /// Switch it on.
    #[arg(long, conflicts_with = "off")]
    on: bool,
    /// Switch it off.
    #[arg(long)]
    off: bool,
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<Answer> {
    let Args { command, config, json } = args;
    super::must_exist(&config)?;
    match command {
        Command::List => list(&config, json),
        Command::Add(add) => change::add(add, &config, json),
        Command::Edit(edit) => change::edit(edit, &config, json),
        Command::Remove(remove) => change::remove(remove, &config, json),
        Command::Test(test) => test::run(&test, &config, json),
    }
}

/// A filter on one line.
pub(super) fn line(filter: &Filter) -> String {
    let on = if filter.on { "on" } else { "off" };
    let memo = if filter.memo.is_empty() { String::new() } else { format!("  # {}", filter.memo) };
    let record = if filter.record { "" } else { "  without the record" };
    format!("{on}  {}  {}{record}{memo}", word(filter.action), filter.covers.join(", "))
}

fn list(config: &std::path::Path, json: bool) -> anyhow::Result<Answer> {
    let filters = load(config)?.filters;
    if json {
        print_json(&json!({ "filters": filters }))?;
    } else if filters.is_empty() {
        print("no filters: every bounce is delivered, and logged")?;
    } else {
        let lines = filters.iter().enumerate().map(|(place, filter)| format!("{place}  {}\n", line(filter)));
        print(&lines.collect::<String>())?;
    }
    Ok(Answer::Yes)
}

/// An action, by the word that it has in the file.
fn word(action: Action) -> &'static str {
    match action {
        Action::Monitor => "monitor",
        Action::Deliver => "deliver",
        Action::Mark => "mark",
        Action::Reject => "reject",
        Action::Quarantine => "quarantine",
        Action::Discard => "discard",
    }
}

fn action() -> impl clap::builder::TypedValueParser<Value = Action> {
    const ALL: [Action; 6] =
        [Action::Monitor, Action::Deliver, Action::Mark, Action::Reject, Action::Quarantine, Action::Discard];
    PossibleValuesParser::new(ALL.map(word)).map(|text| {
        ALL.into_iter().find(|action| word(*action) == text).expect("the parser lets only these words pass")
    })
}
