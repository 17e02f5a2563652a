//! `backstop quarantine`: bounces that a filter kept, to look at, to release to the mail server, or to delete.
//!
//! The daemon is asked, and logs every change with the caller's uid. Without one, what lies on disk can be listed, shown,
//! deleted and expired by who may read it; a release needs the daemon.

mod changing;
mod checking;
mod looking;

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

pub(super) use self::checking::problems;

use super::{Answer, CONFIG_PATH, words};
use crate::config::Config;
use crate::control::{Client, ClientError};
use crate::engine::quarantine::{DIR, Id, Shelf};

/// What the command takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH, global = true)]
    config: PathBuf,
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum What {
    /// List what is there, the oldest first.
    List(looking::List),
    /// Show a message: what is known of it, and its header section. Exit code 1: it is not there.
    Show(looking::Show),
    /// Give messages to the mail server, as they would have come there at first. Exit code 1: one is still there.
    Release {
        /// As `quarantine list` shows them.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<Id>,
    },
    /// Delete messages, for good. Exit code 1: one was not there.
    Delete {
        /// As `quarantine list` shows them.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<Id>,
    },
    /// Delete old messages. The daemon does it by itself every hour, as `days` of [quarantine] says.
    Expire {
        /// Those that are older: 12h, 30d. Without, as the configuration says.
        #[arg(long, value_name = "TIME", value_parser = words::parse_duration)]
        older_than: Option<Duration>,
    },
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<Answer> {
    let config = super::asking::configuration(&args.config)?;
    match args.what {
        What::List(list) => looking::list(list, &config, args.json),
        What::Show(show) => looking::show(&show, &config, args.json),
        What::Release { ids } => changing::release(&ids, &config, args.json),
        What::Delete { ids } => changing::delete(&ids, &config, args.json),
        What::Expire { older_than } => changing::expire(older_than, &config, args.json),
    }
}

/// Where messages are looked for.
enum Place {
    Daemon(Client),
    Disk(Shelf),
}

/// The daemon, or the disk where none runs: a note on stderr says so.
fn place(config: &Config) -> anyhow::Result<Place> {
    match Client::connect(&config.control.socket) {
        Ok(daemon) => Ok(Place::Daemon(daemon)),
        Err(ClientError::NotRunning(_)) => {
            let dir = config.state.dir.join(DIR);
            anyhow::ensure!(
                dir.exists(),
                "no daemon answers at {}, and there is no {}: nothing was ever quarantined",
                config.control.socket.display(),
                dir.display()
            );
            eprintln!("backstop: no daemon answers; this is what lies in {}", dir.display());
            Ok(Place::Disk(Shelf::at(&dir)))
        }
        Err(error) => Err(error.into()),
    }
}
