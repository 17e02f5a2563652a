//! Commands that go to an upstream together (PIPELINING, RFC 2920), and their replies one by one.
//!
//! MAIL, RCPT and DATA that can be said at once are queued, and go out in one write with the first [`Upstream::answer`];
//! an upstream that does not offer PIPELINING gets them one by one, each when its answer is asked for. Either way every
//! command has its own reply, in its order, and whoever asks decides at each whether the rest still makes sense: if not,
//! [`Upstream::take_back`].

use std::collections::VecDeque;

use edge_core::smtp::UpstreamReply;

use super::{Fault, Stage, Upstream, UpstreamError};

/// Commands whose replies were not read, oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Each with the length of its line, CRLF included.
    commands: VecDeque<(Stage, usize)>,
    /// So many of them were sent.
    sent: usize,
    /// The lines of the others.
    lines: Vec<u8>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Takes out the lines that go out now: all of them, or the first.
    fn take_lines(&mut self, all: bool) -> Vec<u8> {
        let unsent = self.commands.iter().skip(self.sent);
        let count = if all { self.commands.len() - self.sent } else { 1 };
        let length = unsent.take(count).map(|(_, length)| length).sum();
        self.sent += count;
        let rest = self.lines.split_off(length);
        std::mem::replace(&mut self.lines, rest)
    }
}

impl Upstream {
    /// Queues MAIL: a transaction begins. `sender` is what stands between the angle brackets.
    ///
    /// # Errors
    /// As [`Self::queue_line`].
    pub(crate) fn queue_mail(&mut self, sender: &[u8], params: &[u8]) -> Result<(), UpstreamError> {
        self.transactions = self.transactions.saturating_add(1);
        self.tail = *b"\r\n";
        self.in_body = false;
        self.queue_path(Stage::Mail, b"MAIL FROM:<", sender, params)
    }

    /// Queues RCPT. `recipient` is what stands between the angle brackets.
    ///
    /// # Errors
    /// As [`Self::queue_line`].
    pub(crate) fn queue_rcpt(&mut self, recipient: &[u8], params: &[u8]) -> Result<(), UpstreamError> {
        self.queue_path(Stage::Rcpt, b"RCPT TO:<", recipient, params)
    }

    /// Queues DATA, which must be the last.
    ///
    /// # Errors
    /// None that can happen.
    pub(crate) fn queue_data(&mut self) -> Result<(), UpstreamError> {
        self.queue_line(Stage::Data, &[b"DATA"])
    }

    fn queue_path(
        &mut self,
        stage: Stage,
        verb: &[u8],
        path: &[u8],
        params: &[u8],
    ) -> Result<(), UpstreamError> {
        if params.is_empty() {
            self.queue_line(stage, &[verb, path, b">"])
        } else {
            self.queue_line(stage, &[verb, path, b"> ", params])
        }
    }

    /// Queues one command line, given in parts and without its CRLF.
    ///
    /// # Errors
    /// It has a CR or LF in it, and would be two commands.
    pub(super) fn queue_line(&mut self, stage: Stage, parts: &[&[u8]]) -> Result<(), UpstreamError> {
        let is_broken = |part: &&[u8]| part.iter().any(|octet| matches!(octet, b'\r' | b'\n'));
        if parts.iter().any(is_broken) {
            return Err(self.error(stage, Fault::BrokenLine));
        }
        let before = self.queue.lines.len();
        for part in parts.iter().chain([&&b"\r\n"[..]]) {
            self.queue.lines.extend_from_slice(part);
        }
        self.queue.commands.push_back((stage, self.queue.lines.len() - before));
        Ok(())
    }

    /// The reply to the oldest command that has none yet. Sends what was not sent.
    ///
    /// # Errors
    /// It gave none.
    pub(crate) async fn answer(&mut self) -> Result<UpstreamReply<'_>, UpstreamError> {
        let Some((stage, _)) = self.queue.commands.front().copied() else {
            return Err(self.error(Stage::Reset, Fault::Unasked));
        };
        if self.queue.sent == 0 {
            self.forget_reply();
            if !self.input.is_empty() {
                // The next reply would be taken for the answer to another command than it is.
                return Err(self.error(stage, Fault::Unasked));
            }
            let mut lines = self.queue.take_lines(self.capabilities.pipelining);
            self.write(stage, &[&lines]).await?;
            if self.queue.lines.is_empty() {
                // Its room is used again.
                lines.clear();
                self.queue.lines = lines;
            }
        }
        self.queue.commands.pop_front();
        self.queue.sent -= 1;
        self.reply(stage, self.patience.reply).await
    }

    /// Takes back what was queued: what was not sent is forgotten, the replies to the rest are read. Whether all of them
    /// were refusals, so that nothing is open there because of them.
    ///
    /// # Errors
    /// A reply did not come.
    pub(crate) async fn take_back(&mut self) -> Result<bool, UpstreamError> {
        self.queue.commands.truncate(self.queue.sent);
        self.queue.lines.clear();
        let mut refused = true;
        while !self.queue.is_empty() {
            refused &= self.answer().await?.code >= 400;
        }
        Ok(refused)
    }
}
