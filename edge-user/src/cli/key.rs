//! `backstop key`: make, list, rotate and retire signing keys.
//!
//! It works on files alone; a running edge looks for changed keys once a minute, and takes them over by itself.

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use edge_core::signature::{Key, Keys};
use edge_core::time::UnixMillis;
use serde::Serialize;

use super::{Answer, print, print_json};
use crate::config::keys;
use crate::engine::clock;

/// What the command takes.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Make a key; it signs from now on, being the newest. The directory is made where it does not exist.
    New {
        #[command(flatten)]
        common: Common,
    },
    /// Show all keys, the newest first. Exit code 1: none of them signs.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Make a key and retire all others: they verify what they signed, and sign no more.
    Rotate {
        #[command(flatten)]
        common: Common,
    },
    /// Let a key sign no more.
    Retire {
        /// Its id, as `key list` shows it.
        id: u8,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(ClapArgs, Debug)]
struct Common {
    /// The directory of the keys.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// A key as it is shown; never its secret.
#[derive(Serialize)]
struct Row {
    id: u8,
    created: String,
    retired: Option<String>,
    /// Whether it is the one that signs now.
    signs: bool,
    file: PathBuf,
}

impl Row {
    fn of(dir: &Path, key: &Key, signer: Option<u8>) -> Self {
        Self {
            id: key.id(),
            created: keys::rfc3339(key.created()),
            retired: key.retired().map(keys::rfc3339),
            signs: signer == Some(key.id()),
            file: keys::path_of(dir, key.id()),
        }
    }

    fn line(&self) -> String {
        let state = match (&self.retired, self.signs) {
            (Some(retired), _) => format!("retired {retired}"),
            (None, true) => "signs".to_owned(),
            (None, false) => "verifies".to_owned(),
        };
        format!("{:3}  created {}  {state:29}  {}", self.id, self.created, self.file.display())
    }
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<Answer> {
    let now = clock::system_now();
    match args.what {
        What::New { common } => {
            let key = keys::create(&common.dir, now)?;
            changed(&common, &key, now)
        }
        What::List { common } => list(&common, now),
        What::Rotate { common } => {
            let key = keys::rotate(&common.dir, now)?;
            changed(&common, &key, now)
        }
        What::Retire { id, common } => {
            let key = keys::retire(&common.dir, id, now)?;
            changed(&common, &key, now)
        }
    }
}

fn signer(keys: &Keys, now: UnixMillis) -> Option<u8> {
    keys.signer(now).map(Key::id)
}

/// Shows the key that was changed, and says on stderr what becomes of that.
fn changed(common: &Common, key: &Key, now: UnixMillis) -> anyhow::Result<Answer> {
    let signer = signer(&keys::load(&common.dir)?, now);
    let row = Row::of(&common.dir, key, signer);
    if common.json {
        print_json(&row)?
    } else {
        print(&row.line())?
    }
    match signer {
        Some(_) => eprintln!(
            "backstop: a running edge takes this over within a minute; at once: systemctl reload backstop, or kill -HUP"
        ),
        None => eprintln!(
            "backstop: no key signs any more: a running edge goes on with those that it has, and logs an error; make \
             one: backstop key new --dir {}",
            common.dir.display()
        ),
    }
    Ok(Answer::Yes)
}

fn list(common: &Common, now: UnixMillis) -> anyhow::Result<Answer> {
    let keys = keys::load(&common.dir)?;
    let signer = signer(&keys, now);
    let rows: Vec<Row> = keys.iter().map(|key| Row::of(&common.dir, key, signer)).collect();
    if common.json {
        print_json(&serde_json::json!({ "keys": rows }))?;
    } else {
        print(&rows.iter().map(Row::line).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(if signer.is_some() { Answer::Yes } else { Answer::No })
}
