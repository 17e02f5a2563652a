//! What is asked and answered about the quarantine.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge_core::time::UnixMillis;
use serde::{Deserialize, Serialize};

use super::daemon::EdgeDaemon;
use super::protocol::Access;
use crate::engine::quarantine::{self, Head, Id, Quarantine, Released, Row, Which};

/// A request about the quarantine, e.g. `{"request":"quarantine","what":"release","id":"19a3c"}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum QuarantineRequest {
    /// Which messages are there?
    List {
        /// Only those to this address or domain.
        recipient: Option<String>,
        /// Only those that came at or after this time, in milliseconds since 1970.
        since_ms: Option<u64>,
    },
    /// A part of a message.
    Read {
        /// Which.
        id: String,
        /// From which octet on.
        offset: u64,
    },
    /// Give a message to its upstream.
    Release {
        /// Which.
        id: String,
    },
    /// Delete a message.
    Delete {
        /// Which.
        id: String,
    },
    /// Delete old messages.
    Expire {
        /// Those that are older than so many seconds; without, as the configuration says.
        older_than_secs: Option<u64>,
    },
}

impl QuarantineRequest {
    pub(super) fn needs(&self) -> Access {
        match self {
            Self::List { .. } | Self::Read { .. } => Access::Read,
            Self::Release { .. } | Self::Delete { .. } | Self::Expire { .. } => Access::Change,
        }
    }

    pub(super) fn words(&self) -> String {
        match self {
            Self::List { .. } => "quarantine list".into(),
            Self::Read { id, .. } => format!("quarantine show {id}"),
            Self::Release { id } => format!("quarantine release {id}"),
            Self::Delete { id } => format!("quarantine delete {id}"),
            Self::Expire { older_than_secs: Some(secs) } => format!("quarantine expire, older than {secs} s"),
            Self::Expire { older_than_secs: None } => "quarantine expire".into(),
        }
    }
}

/// An answer about the quarantine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum QuarantineReply {
    /// The messages that are there, the oldest first.
    Messages {
        /// Each.
        messages: Vec<Row>,
    },
    /// A part of a message.
    Part {
        /// What is known of it.
        head: Box<Head>,
        /// Its octets in all.
        total: u64,
        /// The part, in base64.
        octets: String,
    },
    /// What became of a release.
    Released {
        /// Whether the upstream took it; else it is still in the quarantine.
        delivered: bool,
        /// The upstream's words, or why it could not be asked.
        words: String,
    },
    /// Messages were deleted.
    Deleted {
        /// How many.
        messages: u64,
    },
    /// The message is not there.
    NotThere {
        /// Which.
        id: String,
    },
}

impl QuarantineReply {
    /// For the log of changes.
    pub(super) fn outcome(&self) -> String {
        match self {
            Self::Messages { .. } | Self::Part { .. } => "done".into(),
            Self::Released { delivered: true, words } => format!("done: {}", codes(words)),
            Self::Released { delivered: false, words } => match codes(words) {
                "" => "not delivered".into(),
                codes => format!("not delivered: {codes}"),
            },
            Self::Deleted { messages } => format!("done: {messages} deleted"),
            Self::NotThere { .. } => "not there".into(),
        }
    }
}

/// The codes that a reply begins with: its words may name the recipient, and the log may not.
fn codes(words: &str) -> &str {
    let end =
        words.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ' ' | '-'))).unwrap_or(words.len());
    words[..end].trim_end()
}

/// How full the quarantine is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QuarantineStatus {
    /// Messages in it.
    pub messages: usize,
    /// Most that may be.
    pub messages_max: usize,
    /// Their octets.
    pub bytes: u64,
    /// Most that may be.
    pub bytes_max: u64,
    /// Why it takes no more, where it refused the last message.
    pub trouble: Option<String>,
}

impl EdgeDaemon {
    pub(super) fn quarantine_status(&self) -> Option<QuarantineStatus> {
        let settings = &self.edge.config.quarantine;
        let load = self.edge.quarantine.as_ref()?.load();
        Some(QuarantineStatus {
            messages: load.messages,
            messages_max: settings.messages_max,
            bytes: load.bytes,
            bytes_max: settings.bytes_max,
            trouble: load.trouble,
        })
    }

    pub(super) fn quarantine(&self, request: &QuarantineRequest) -> Result<QuarantineReply, String> {
        let there =
            self.edge.quarantine.as_ref().ok_or("this edge has no state directory, and no quarantine")?;
        match request {
            QuarantineRequest::List { recipient, since_ms } => {
                let which = Which { recipient: recipient.clone(), since: since_ms.map(UnixMillis) };
                let messages = quarantine::list(there.shelf(), &which).map_err(said(there))?;
                Ok(QuarantineReply::Messages { messages })
            }
            QuarantineRequest::Read { id, offset } => {
                let part = there.read(parse(id)?, *offset).map_err(said(there))?;
                Ok(part.map_or_else(
                    || QuarantineReply::NotThere { id: id.clone() },
                    |part| QuarantineReply::Part {
                        head: Box::new(part.head),
                        total: part.total,
                        octets: STANDARD.encode(part.octets),
                    },
                ))
            }
            QuarantineRequest::Release { id } => self.release(there, parse(id)?),
            QuarantineRequest::Delete { id } => match there.delete_by_id(parse(id)?) {
                Ok(true) => Ok(QuarantineReply::Deleted { messages: 1 }),
                Ok(false) => Ok(QuarantineReply::NotThere { id: id.clone() }),
                Err(error) => Err(said(there)(error)),
            },
            QuarantineRequest::Expire { older_than_secs } => {
                let older = older_than_secs.map_or_else(|| there.keeping(), std::time::Duration::from_secs);
                let messages = there.expire(self.edge.now().minus(older)).map_err(said(there))?;
                self.edge.metrics.quarantine_expired.add(messages);
                Ok(QuarantineReply::Deleted { messages })
            }
        }
    }

    /// On the caller's own thread, which may wait for the upstream: no worker is concerned.
    fn release(&self, there: &Quarantine, id: Id) -> Result<QuarantineReply, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
        let (delivered, words) = match runtime.block_on(quarantine::release(&self.edge, there, id)) {
            Released::Delivered(words) => (true, words),
            Released::Refused(words) | Released::Failed(words) => (false, words),
            Released::NotThere => return Ok(QuarantineReply::NotThere { id: id.to_string() }),
        };
        Ok(QuarantineReply::Released { delivered, words })
    }
}

fn parse(id: &str) -> Result<Id, String> {
    id.parse().map_err(|error: quarantine::NotAnId| error.to_string())
}

fn said(there: &Quarantine) -> impl FnOnce(io::Error) -> String {
    let dir = there.shelf().dir().display().to_string();
    move |error| format!("the quarantine at {dir}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_the_codes_of_a_release_and_no_address() {
        let outcome = |delivered, words: &str| {
            QuarantineReply::Released { delivered, words: words.to_owned() }.outcome()
        };
        assert_eq!(outcome(true, "250 2.0.0 Ok: queued as AB12"), "done: 250 2.0.0");
        assert_eq!(outcome(false, "550 5.1.1 <ann@example.jp>: unknown"), "not delivered: 550 5.1.1");
        assert_eq!(outcome(false, "550-ann@example.jp is unknown"), "not delivered: 550-");
        assert_eq!(outcome(false, "no [[domain]] is that of ann@example.jp"), "not delivered");
    }

    #[test]
    fn who_reads_may_look_and_only_who_changes_may_release_or_delete() {
        let id = || "ab12".to_owned();
        for (request, access) in [
            (QuarantineRequest::List { recipient: None, since_ms: None }, Access::Read),
            (QuarantineRequest::Read { id: id(), offset: 0 }, Access::Read),
            (QuarantineRequest::Release { id: id() }, Access::Change),
            (QuarantineRequest::Delete { id: id() }, Access::Change),
            (QuarantineRequest::Expire { older_than_secs: None }, Access::Change),
        ] {
            assert_eq!(request.needs(), access, "{request:?}");
            let line = serde_json::to_string(&crate::control::Request::Quarantine(request.clone())).unwrap();
            let read: crate::control::Request = serde_json::from_str(&line).unwrap();
            assert_eq!(read, crate::control::Request::Quarantine(request), "{line}");
        }
        let example = r#"{"request":"quarantine","what":"release","id":"19a3c"}"#;
        assert!(serde_json::from_str::<crate::control::Request>(example).is_ok());
    }
}
