//! What becomes of a message, from DATA to the reply to its final dot.
//!
//! ```text
//! mail with a sender, or a bounce with a proof ──────────────────────► Streaming ─► the upstream's reply
//! any other bounce ─► Deciding ─ proven, or the rule delivers ───────►    │
//!                        │     ─ the rule rejects, no room ─► Refusing ◄──┘ the upstream refuses or is lost
//!                        ├──── ─ the rule discards ─────────► Discarding
//!                        └──── ─ the rule quarantines ──────► Keeping ─► Sealing ─ it is on disk ─► Kept
//! ```
//! The engine tells what happened and does what the [`Order`] says; it decides nothing. The promise that is kept
//! here: only an upstream's 2xx, a verdict to discard, or a message that is on disk and synced becomes a 250, and a
//! fault of ours becomes a 4xx. The hold of one message is bounded here (`held_bytes_max`); the hold of all is the
//! engine's count, told as [`Happening::HoldExhausted`].

use serde::Serialize;

use crate::policy::Action;
use crate::smtp::{EndOfData, Enhanced, Reply};

/// Where a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// A bounce that nothing proved yet: all of it is held, at most `held_bytes_max` octets.
    Deciding {
        /// Octets held.
        held_bytes: usize,
        /// Most octets to hold.
        held_bytes_max: usize,
    },
    /// Each piece goes to the upstream as it comes.
    Streaming,
    /// Read on, keep nothing, and answer so at the end.
    Refusing(Refusal),
    /// Read on, keep nothing, and answer 250 at the end.
    Discarding,
    /// Each piece goes to the quarantine as it comes.
    Keeping,
    /// All of it went to the quarantine, which is to say whether it is on disk.
    Sealing,
    /// It is in the quarantine, synced: answer 250.
    Kept,
}

/// Why a message is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Nothing proved it, and the rule says reject.
    Unproven,
    /// The upstream refused it, before or after its body: its words are the reply.
    #[serde(rename = "upstream_refused")]
    ByUpstream,
    /// The upstream could not be reached, or was lost before the final dot was sent.
    UpstreamLost,
    /// The upstream was lost after the final dot and before its reply (RFC 1047): the message may arrive twice.
    InDoubt,
    /// All sessions together hold as much as they may.
    HoldExhausted,
    /// The quarantine's disk failed, or is full.
    NotKept,
    /// The quarantine holds as much as it may, in all or of this source.
    QuarantineFull,
    /// More than [`super::RECEIVED_MAX`] `Received` fields.
    Loop,
    /// A CR or LF stood alone.
    BareLineEnding,
    /// Larger than `message_bytes_max`.
    TooBig,
}

impl Refusal {
    /// What the client is told; `None` where it is the upstream's own words.
    #[must_use]
    pub const fn reply(self) -> Option<Reply> {
        Some(match self {
            Self::Unproven => {
                Reply::new(550, Enhanced(5, 7, 1), "This bounce answers no mail that was sent from here")
            }
            Self::ByUpstream => return None,
            Self::UpstreamLost => {
                Reply::new(451, Enhanced(4, 4, 1), "The mail server behind is not available, try again later")
            }
            Self::InDoubt => {
                Reply::new(451, Enhanced(4, 4, 2), "The mail server behind gave no answer, try again later")
            }
            Self::HoldExhausted | Self::NotKept | Self::QuarantineFull => {
                Reply::new(452, Enhanced(4, 3, 1), "No room now, try again later")
            }
            Self::Loop => Reply::new(554, Enhanced(5, 4, 6), "Too many hops: this message goes in circles"),
            Self::BareLineEnding => {
                Reply::new(550, Enhanced(5, 6, 11), "A CR or LF stands alone: lines end with CRLF")
            }
            Self::TooBig => Reply::new(552, Enhanced(5, 3, 4), "Message too big"),
        })
    }
}

/// What happened to a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Happening {
    /// A piece of `bytes` octets came (after it was scanned, and after [`Self::Proven`] where that found a proof).
    Piece {
        /// Octets.
        bytes: usize,
    },
    /// A proof was found.
    Proven,
    /// The policy's verdict, after [`Order::Judge`] (or at once, for a token that was used too often).
    Ruled(Action),
    /// All sessions together hold as much as they may.
    HoldExhausted,
    /// More than [`super::RECEIVED_MAX`] `Received` fields.
    Loop,
    /// The upstream said 4xx or 5xx; the engine keeps its words.
    UpstreamRefused,
    /// The upstream cannot be reached, or closed, or was silent too long, before it was sent the final dot.
    UpstreamLost,
    /// The same after it was sent the final dot.
    UpstreamLostAtEnd,
    /// After [`Order::Seal`]: the message is in the quarantine, synced.
    Sealed,
    /// After [`Order::Keep`], [`Order::KeepPiece`] or [`Order::Seal`]: it is not, and nothing of it stays there.
    NotKept(Unkept),
    /// The message is over. Told again after [`Order::Judge`], [`Order::Open`], [`Order::Keep`] and [`Order::Seal`]
    /// were carried out.
    End(EndOfData),
}

/// Why the quarantine did not keep a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unkept {
    /// Its disk failed, or is full: our fault.
    Fault,
    /// It holds as much as it may, in all or of this source: what others sent is why.
    Full,
}

/// When the policy is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JudgeWhen {
    /// At the end, with nothing found.
    AtEnd,
    /// The hold is full: `too_big_to_prove`.
    TooBigToProve,
}

/// What the engine does now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Go on.
    Nothing,
    /// Keep this piece in its buffer.
    Hold,
    /// Send this piece to the upstream.
    Stream,
    /// Forget this piece.
    Skip,
    /// Ask the policy, tell its verdict by [`Happening::Ruled`], and tell this happening again.
    Judge(JudgeWhen),
    /// Open the upstream and send it what is held, the field `Backstop-Verdict` in front where `mark` says so.
    Open {
        /// Whether to mark it.
        mark: bool,
    },
    /// Begin a message in the quarantine, with what is held.
    Keep,
    /// Put this piece into the quarantine.
    KeepPiece,
    /// Bring the quarantined message to disk, and tell [`Happening::Sealed`] or [`Happening::NotKept`].
    Seal,
    /// Free what is held; drop the upstream's connection without a final dot, and the message in the quarantine, where
    /// there is one.
    LetGo,
    /// Send the final dot: the upstream's reply is the reply.
    Finish,
    /// The reply to the final dot is this. Let go, as above.
    Refuse(Refusal),
    /// The reply to the final dot is 250.
    Accept,
}

impl Fate {
    /// A message that streams from its first octet: it has a sender, or is proven already.
    #[must_use]
    pub const fn streaming() -> Self {
        Self::Streaming
    }

    /// A bounce that nothing proved so far.
    #[must_use]
    pub const fn deciding(held_bytes_max: usize) -> Self {
        Self::Deciding { held_bytes: 0, held_bytes_max }
    }

    /// Takes what happened and says what to do.
    pub fn on(&mut self, happening: Happening) -> Order {
        let (next, order) = self.step(happening);
        *self = next;
        order
    }

    fn step(self, happening: Happening) -> (Self, Order) {
        // What is wrong with the message itself wins over everything else, whoever sent it.
        if let Happening::End(end) = happening {
            if end.bare_line_ending {
                return self.refused(Refusal::BareLineEnding);
            }
            if end.too_big {
                return self.refused(Refusal::TooBig);
            }
        }
        match self {
            Self::Deciding { held_bytes, held_bytes_max } => {
                self.decide(happening, held_bytes, held_bytes_max)
            }
            Self::Streaming => self.stream(happening),
            Self::Refusing(why) => match happening {
                Happening::Piece { .. } => (self, Order::Skip),
                Happening::End(_) => (self, Order::Refuse(why)),
                Happening::Proven
                | Happening::Ruled(_)
                | Happening::HoldExhausted
                | Happening::Loop
                | Happening::UpstreamRefused
                | Happening::UpstreamLost
                | Happening::UpstreamLostAtEnd
                | Happening::Sealed
                | Happening::NotKept(_) => (self, Order::Nothing),
            },
            Self::Discarding => match happening {
                Happening::Piece { .. } => (self, Order::Skip),
                Happening::End(_) => (self, Order::Accept),
                Happening::Loop => (Self::Refusing(Refusal::Loop), Order::LetGo),
                Happening::Proven
                | Happening::Ruled(_)
                | Happening::HoldExhausted
                | Happening::UpstreamRefused
                | Happening::UpstreamLost
                | Happening::UpstreamLostAtEnd
                | Happening::Sealed
                | Happening::NotKept(_) => (self, Order::Nothing),
            },
            Self::Keeping | Self::Sealing | Self::Kept => self.keep(happening),
        }
    }

    fn decide(self, happening: Happening, held_bytes: usize, held_bytes_max: usize) -> (Self, Order) {
        match happening {
            Happening::Piece { bytes } => {
                match held_bytes.checked_add(bytes).filter(|sum| *sum <= held_bytes_max) {
                    Some(held_bytes) => (Self::Deciding { held_bytes, held_bytes_max }, Order::Hold),
                    None => (self, Order::Judge(JudgeWhen::TooBigToProve)),
                }
            }
            Happening::Proven => (Self::Streaming, Order::Open { mark: false }),
            Happening::Ruled(action) => match action {
                Action::Monitor | Action::Deliver => (Self::Streaming, Order::Open { mark: false }),
                Action::Mark => (Self::Streaming, Order::Open { mark: true }),
                Action::Reject => (Self::Refusing(Refusal::Unproven), Order::LetGo),
                Action::Quarantine => (Self::Keeping, Order::Keep),
                Action::Discard => (Self::Discarding, Order::LetGo),
            },
            Happening::HoldExhausted => (Self::Refusing(Refusal::HoldExhausted), Order::LetGo),
            Happening::Loop => (Self::Refusing(Refusal::Loop), Order::LetGo),
            Happening::End(_) => (self, Order::Judge(JudgeWhen::AtEnd)),
            // There is no upstream yet, nor anything in the quarantine.
            Happening::UpstreamRefused
            | Happening::UpstreamLost
            | Happening::UpstreamLostAtEnd
            | Happening::Sealed
            | Happening::NotKept(_) => (self, Order::Nothing),
        }
    }

    fn stream(self, happening: Happening) -> (Self, Order) {
        match happening {
            Happening::Piece { .. } => (self, Order::Stream),
            Happening::End(_) => (self, Order::Finish),
            Happening::Loop => (Self::Refusing(Refusal::Loop), Order::LetGo),
            Happening::UpstreamRefused => (Self::Refusing(Refusal::ByUpstream), Order::LetGo),
            Happening::UpstreamLost => (Self::Refusing(Refusal::UpstreamLost), Order::LetGo),
            Happening::UpstreamLostAtEnd => self.refused(Refusal::InDoubt),
            Happening::Proven
            | Happening::Ruled(_)
            | Happening::HoldExhausted
            | Happening::Sealed
            | Happening::NotKept(_) => (self, Order::Nothing),
        }
    }

    /// Only what was sealed after its end is kept: whatever comes in another order is no 250.
    fn keep(self, happening: Happening) -> (Self, Order) {
        let not_kept = |why| (Self::Refusing(why), Order::LetGo);
        match happening {
            Happening::Piece { .. } => match self {
                Self::Keeping => (self, Order::KeepPiece),
                // Behind the end: not to happen, and surely not all of it is kept.
                Self::Sealing
                | Self::Kept
                | Self::Deciding { .. }
                | Self::Streaming
                | Self::Refusing(_)
                | Self::Discarding => not_kept(Refusal::NotKept),
            },
            Happening::End(_) => match self {
                Self::Keeping => (Self::Sealing, Order::Seal),
                Self::Kept => (self, Order::Accept),
                // A second end before an answer.
                Self::Sealing
                | Self::Deciding { .. }
                | Self::Streaming
                | Self::Refusing(_)
                | Self::Discarding => not_kept(Refusal::NotKept),
            },
            Happening::Sealed => match self {
                Self::Sealing => (Self::Kept, Order::Nothing),
                Self::Keeping
                | Self::Kept
                | Self::Deciding { .. }
                | Self::Streaming
                | Self::Refusing(_)
                | Self::Discarding => (self, Order::Nothing),
            },
            Happening::NotKept(Unkept::Fault) => not_kept(Refusal::NotKept),
            Happening::NotKept(Unkept::Full) => not_kept(Refusal::QuarantineFull),
            Happening::Loop => (Self::Refusing(Refusal::Loop), Order::LetGo),
            Happening::Proven
            | Happening::Ruled(_)
            | Happening::HoldExhausted
            | Happening::UpstreamRefused
            | Happening::UpstreamLost
            | Happening::UpstreamLostAtEnd => (self, Order::Nothing),
        }
    }

    fn refused(self, why: Refusal) -> (Self, Order) {
        (Self::Refusing(why), Order::Refuse(why))
    }
}

#[cfg(test)]
#[path = "fate_tests.rs"]
mod tests;
