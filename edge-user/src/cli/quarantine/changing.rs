//! Releasing, deleting and expiring.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::looking::not_there;
use crate::cli::{Answer, print, print_json};
use crate::config::Config;
use crate::control::{Client, ClientError, QuarantineReply, QuarantineRequest};
use crate::engine::clock::system_now;
use crate::engine::quarantine::{DIR, Id, Quarantine};
use crate::state::StateDir;

/// Replies of an upstream that one release waits for, each at most `upstream_reply_secs`; the final dot's twice that.
const REPLIES: u64 = 10;

pub(super) fn release(ids: &[Id], config: &Config, json: bool) -> anyhow::Result<Answer> {
    let mut daemon = Client::connect(&config.control.socket)
        .context("only a running edge releases: it has the connection to the mail server")?;
    let limits = &config.limits;
    daemon.be_patient(Duration::from_secs(
        limits.upstream_connect_secs + REPLIES.saturating_mul(limits.upstream_reply_secs),
    ))?;
    let (mut told, mut all) = (Vec::new(), Answer::Yes);
    for id in ids {
        let request = QuarantineRequest::Release { id: id.to_string() };
        let (delivered, words) = match daemon.ask_quarantine(request)? {
            QuarantineReply::Released { delivered, words } => (delivered, words),
            QuarantineReply::NotThere { .. } => (false, "it is not in the quarantine".into()),
            QuarantineReply::Messages { .. }
            | QuarantineReply::Part { .. }
            | QuarantineReply::Deleted { .. } => return Err(daemon.unexpected().into()),
        };
        if !delivered {
            all = Answer::No;
        }
        if json {
            told.push(json!({ "id": id.to_string(), "delivered": delivered, "reply": words }));
        } else if delivered {
            print(&format!("{id} is delivered: {words}"))?;
        } else {
            print(&format!("{id} is NOT delivered: {words}"))?;
        }
    }
    if json {
        print_json(&json!({ "released": told }))?;
    }
    Ok(all)
}

pub(super) fn delete(ids: &[Id], config: &Config, json: bool) -> anyhow::Result<Answer> {
    let mut place = Place::open(config)?;
    let (mut told, mut all): (Vec<Value>, _) = (Vec::new(), Answer::Yes);
    for id in ids {
        let deleted = match &mut place {
            Place::Daemon(daemon) => {
                let request = QuarantineRequest::Delete { id: id.to_string() };
                match daemon.ask_quarantine(request)? {
                    QuarantineReply::Deleted { messages } => messages > 0,
                    QuarantineReply::NotThere { .. } => false,
                    QuarantineReply::Messages { .. }
                    | QuarantineReply::Part { .. }
                    | QuarantineReply::Released { .. } => return Err(daemon.unexpected().into()),
                }
            }
            Place::Disk(there) => there.delete_by_id(*id).with_context(|| format!("cannot delete {id}"))?,
        };
        if json {
            told.push(json!({ "id": id.to_string(), "deleted": deleted }));
        } else if deleted {
            print(&format!("{id} is deleted"))?;
        } else {
            not_there(*id, false)?;
        }
        if !deleted {
            all = Answer::No;
        }
    }
    if json {
        print_json(&json!({ "deleted": told }))?;
    }
    Ok(all)
}

pub(super) fn expire(older: Option<Duration>, config: &Config, json: bool) -> anyhow::Result<Answer> {
    let messages = match Place::open(config)? {
        Place::Daemon(mut daemon) => {
            let older_than_secs = older.map(|older| older.as_secs());
            match daemon.ask_quarantine(QuarantineRequest::Expire { older_than_secs })? {
                QuarantineReply::Deleted { messages } => messages,
                QuarantineReply::Messages { .. }
                | QuarantineReply::Part { .. }
                | QuarantineReply::Released { .. }
                | QuarantineReply::NotThere { .. } => return Err(daemon.unexpected().into()),
            }
        }
        Place::Disk(there) => {
            let older = older.unwrap_or_else(|| there.keeping());
            there.expire(system_now().minus(older)).context("cannot expire messages")?
        }
    };
    if json {
        print_json(&json!({ "deleted": messages }))?;
    } else {
        print(&format!("{messages} deleted"))?;
    }
    Ok(Answer::Yes)
}

/// Who deletes.
enum Place {
    Daemon(Client),
    /// No daemon runs, and none can start meanwhile: the state directory is locked.
    Disk(LockedQuarantine),
}

/// The quarantine of no running edge.
struct LockedQuarantine {
    quarantine: std::sync::Arc<Quarantine>,
    _lock: StateDir,
}

impl std::ops::Deref for LockedQuarantine {
    type Target = Quarantine;

    fn deref(&self) -> &Quarantine {
        &self.quarantine
    }
}

impl Place {
    fn open(config: &Config) -> anyhow::Result<Self> {
        match Client::connect(&config.control.socket) {
            Ok(daemon) => Ok(Self::Daemon(daemon)),
            Err(gone @ ClientError::NotRunning(_)) => {
                let dir = config.state.dir.join(DIR);
                ensure!(dir.exists(), "{gone}; and there is no {}", dir.display());
                let lock = StateDir::open(&config.state.dir)?;
                let quarantine = Quarantine::open(&lock, &config.hostname, &config.quarantine)?;
                Ok(Self::Disk(LockedQuarantine { quarantine, _lock: lock }))
            }
            Err(error) => Err(error.into()),
        }
    }
}
