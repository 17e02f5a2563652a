//! A bounce goes to the quarantine: what is held of it at once, then piece by piece as it comes.
//!
//! While the disk works, the session waits and reads nothing from its client; the other sessions of its thread go on.

use std::ops::Range;

use edge_core::message::Happening;
use edge_core::policy::Reason;

use super::Inbound;
use crate::engine::quarantine::{Draft, Head, NotKept};

impl Inbound {
    /// Begins it, with our `Received` field and all that is held.
    pub(super) async fn keep(&mut self) -> Option<Happening> {
        let begun = self.begin_draft().await;
        let message = self.message.as_mut()?;
        match begun {
            Ok(draft) => {
                message.held.let_go();
                message.draft = Some(draft);
                None
            }
            Err(error) => Some(self.is_not_kept(&error)),
        }
    }

    async fn begin_draft(&self) -> Result<Draft, NotKept> {
        let message = self.message.as_ref().ok_or(NotKept::Broken)?;
        let id = self.edge.next_id();
        let head = self.head(id).ok_or(NotKept::Broken)?;
        let mut draft = self.edge.draft(id, &head)?;
        let mut front = Vec::new();
        self.write_received(id, &mut front);
        draft.take(&front).await?;
        for piece in message.held.pieces(self.client.input.buffer()) {
            draft.take(piece).await?;
        }
        Ok(draft)
    }

    /// What is known of it besides itself.
    fn head(&self, id: u64) -> Option<Head> {
        let (message, transaction) = (self.message.as_ref()?, self.transaction.as_ref()?);
        let recipient = transaction.recipients.first()?;
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        Some(Head {
            id: format!("{id:x}"),
            at: self.edge.now(),
            source: self.client.peer.ip(),
            client_name: text(self.session.client_name().0),
            sender: transaction.sender.text(),
            mail_params: text(&transaction.sender.params),
            recipient: recipient.text(),
            rcpt_params: text(&recipient.params),
            reason: message.verdict.map(|verdict| word(verdict.reason)).unwrap_or_default(),
            filter: message.verdict.and_then(|verdict| verdict.filter),
            kind: message.reading.as_ref().map(|reading| reading.kind).unwrap_or_default(),
            report: message.reading.as_ref().and_then(|reading| reading.report.clone()),
        })
    }

    /// The next piece: the octets `range` of the read buffer.
    pub(super) async fn keep_piece(&mut self, range: Range<usize>) {
        let Some(draft) = self.message.as_mut().and_then(|message| message.draft.as_mut()) else { return };
        if let Err(error) = draft.take(self.client.input.octets(range)).await {
            let happening = self.is_not_kept(&error);
            self.tell(happening).await;
        }
    }

    /// All of it came: brings it to disk.
    pub(super) async fn seal(&mut self) -> Happening {
        let draft = self.message.as_mut().and_then(|message| message.draft.take());
        let sealed = match draft {
            Some(draft) => draft.seal().await,
            None => Err(NotKept::Broken),
        };
        match sealed {
            Ok(sealed) => {
                if let Some(message) = &mut self.message {
                    message.quarantine = Some(sealed.keep().to_string());
                }
                self.edge.kept();
                Happening::Sealed
            }
            Err(error) => self.is_not_kept(&error),
        }
    }

    fn is_not_kept(&self, error: &NotKept) -> Happening {
        self.edge.not_kept(error);
        Happening::NotKept(error.unkept())
    }
}

/// A reason by the word that the log has for it.
fn word(reason: Reason) -> String {
    let word = serde_json::to_value(reason).ok();
    word.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}
