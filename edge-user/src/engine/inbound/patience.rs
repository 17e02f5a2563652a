//! How long a client may keep its place without getting anything done.
//!
//! Only waiting for the client uses its time up, not what the upstream takes. A command gives none of it back (NOOP
//! for ever is no reason to stay), an octet of a message a little, and an answered message all of it. So a message
//! ends within `progress_secs` and its size by `body_bytes_per_sec_min`.

use std::io;
use std::time::Duration;

use super::{Ending, Inbound};
use crate::config::Limits;
use crate::engine::client::Read;
use crate::engine::clock::{Deadline, Since};
use crate::engine::doubt::Doubt;

/// Who made the edge wait for less than this in all, since its last message, is not slow.
pub(in crate::engine) const SLOW: Duration = Duration::from_secs(1);

/// A client's time.
#[derive(Debug)]
pub(super) struct Patience {
    left: Duration,
    max: Duration,
    /// What an octet of a message gives back.
    by_octet: Duration,
    /// A message of this session was answered.
    answered: bool,
}

impl Patience {
    pub(super) fn new(limits: &Limits) -> Self {
        let max = Duration::from_secs(limits.progress_secs);
        let by_octet = Duration::from_secs(1) / limits.body_bytes_per_sec_min.max(1);
        Self { left: max, max, by_octet, answered: false }
    }

    /// Octets of a message came.
    pub(super) fn octets_came(&mut self, count: usize) {
        let back = self.by_octet.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        self.left = self.max.min(self.left.saturating_add(back));
    }

    /// A message was answered.
    pub(super) fn message_answered(&mut self) {
        self.left = self.max;
        self.answered = true;
    }

    /// How much of its time is left.
    pub(super) fn left(&self) -> Duration {
        self.left
    }

    /// The client was waited for, and `left` of its time remains.
    pub(super) fn waited(&mut self, left: Duration) {
        self.left = left;
    }

    /// Whether so much of it is used up that the session may have to make room.
    pub(super) fn is_slow(&self) -> bool {
        self.used() >= SLOW
    }

    fn used(&self) -> Duration {
        self.max.saturating_sub(self.left)
    }
}

impl Inbound {
    /// Whether the session, now over, kept its place for nothing: time went by in which no message was answered.
    pub(super) fn held_idle(&self) -> bool {
        let limits = &self.edge.config.limits;
        let for_nothing = self.transaction.is_some() || !self.patience.answered;
        self.patience.left.is_zero()
            || for_nothing && self.patience.used() >= Duration::from_secs(limits.client_greet_secs)
    }

    /// Writes what waits to be written.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.client.try_flush()? {
            self.doubts.drain(..).for_each(Doubt::settle);
            return Ok(());
        }
        let by = Deadline::after(self.patience.left);
        let flushed = self.client.flush(self.edge.client_patience().min(self.patience.left)).await;
        self.patience.waited(by.left());
        if flushed.is_ok() {
            self.doubts.drain(..).for_each(Doubt::settle);
        }
        flushed
    }

    /// Writes what waits to be written, and reads on.
    pub(super) async fn more(&mut self) -> Option<Ending> {
        if self.flush().await.is_err() {
            return Some(Ending::Gone);
        }
        // One look at the clock before a wait, and one behind it: there are many waits.
        let now = Since::now();
        let idle = self.edge.client_patience();
        let by = *self.by.get_or_insert_with(|| Deadline::from(now, idle));
        let patience = by.left_at(now).min(self.patience.left);
        // Octets that lie there already would come through a wait of no length.
        if patience.is_zero() {
            return Some(Ending::Silent);
        }
        let holds = self.message.as_ref().is_some_and(|message| message.held.bytes() > 0);
        self.client.ticket.waits(Deadline::from(now, self.patience.left), holds);
        let read = self.read(Deadline::from(now, patience)).await;
        self.client.ticket.waits_no_more();
        self.patience.waited(self.patience.left.saturating_sub(now.passed()));
        self.edge.metrics.bytes_in.add(self.client.take_bytes_in());
        match read {
            Read::More => None,
            Read::Closed => Some(Ending::Gone),
            Read::TimedOut => Some(Ending::Silent),
            Read::Leave | Read::Abort => Some(Ending::Leave),
            Read::MakeRoom if self.has_credit() => {
                self.client.ticket.stays();
                None
            }
            Read::MakeRoom => Some(Ending::Crowded),
        }
    }

    async fn read(&mut self, by: Deadline) -> Read {
        let border = self.message.is_none();
        let held = self.message.as_mut().map(|message| &mut message.held);
        self.client.read(by, border, held).await
    }
}
