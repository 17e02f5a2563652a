//! Filters and their verdicts: what becomes of a message with a null reverse-path.
//!
//! In: what is known of one bounce ([`Facts`]). Out: one [`Verdict`], with its reason. This is the only place that
//! decides it; the engine carries it out, `reputation` hears of it, the log names it. Nothing here keeps state, so a
//! [`Policy`] is swapped whole when the configuration is read again.

mod change;
mod forwarder;
mod grace;
mod judge;
mod kinds;

use serde::{Deserialize, Serialize};

pub use self::change::{NewlyStopped, NewlyStoppedKinds};
pub use self::forwarder::TrustedForwarder;
pub use self::grace::Grace;
pub use self::kinds::{KindRule, KindRules};
use crate::bounce::Kind;
use crate::mailbox::Mailbox;
use crate::signature::Proof;

/// The longest memo of a filter, in characters of any language (not octets).
pub const MEMO_CHARS_MAX: usize = 80;

/// What a filter does with an unproven bounce.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Deliver it unchanged, and log what would have been done.
    #[default]
    Monitor,
    /// Deliver it unchanged.
    Deliver,
    /// Deliver it with the field `Backstop-Verdict: unproven` in front.
    Mark,
    /// 550 5.7.1 after the final dot.
    Reject,
    /// 250 after the final dot, once it is on the edge's own disk; the operator looks at it, and releases it or not.
    Quarantine,
    /// 250 after the final dot, and nothing is kept.
    Discard,
}

/// When a domain refuses untagged bounces in answer to DATA.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequireTag {
    /// Never.
    #[default]
    Never,
    /// During a flood.
    Flood,
    /// Always.
    Always,
}

/// Whom a filter covers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cover {
    /// `*`: everybody.
    All,
    /// A domain, as a lowercase A-label.
    Domain(String),
    /// One mailbox.
    Mailbox(Mailbox),
}

/// One filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// The operator's note, at most [`MEMO_CHARS_MAX`] characters.
    pub memo: String,
    /// Whom it covers.
    pub covers: Vec<Cover>,
    /// What it does.
    pub action: Action,
    /// Whether the record of what was sent proves a bounce here.
    pub record: bool,
    /// Whether it is on.
    pub on: bool,
}

/// All filters, and what stands beside them. The first filter that is on and covers the recipient decides.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// In the configuration's order.
    pub filters: Vec<Filter>,
    /// `require_tag` by domain (lowercase A-label).
    pub require_tag: Vec<(String, RequireTag)>,
    /// Recipients whose bounces are delivered unproven: a local part with `@` (`postmaster@`), or an address; both
    /// in canonical form, as [`Mailbox`] has it.
    pub exempt_recipients: Vec<String>,
    /// Forwarders of users' other mailboxes: the first that passes mail on from the client to the recipient counts.
    pub trusted_forwarders: Vec<TrustedForwarder>,
    /// What becomes of a bounce whose token was used too often, outside a flood `deliver`.
    pub overused_in_flood: Action,
    /// How long unproven bounces are delivered at the start.
    pub grace: Grace,
    /// What becomes of each kind of null-sender mail that nothing proves.
    pub kinds: KindRules,
}

/// What is known of a bounce when it is judged.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its recipient, tag removed.
    pub recipient: &'a Mailbox,
    /// What proved it.
    pub proof: Option<Proof>,
    /// The token that proved it was used too often.
    pub overused: bool,
    /// The hold was full before a proof was found.
    pub too_big_to_prove: bool,
    /// A flood is on.
    pub flood: bool,
    /// Mail that was sent before the first signature can still bounce ([`Grace::holds`]).
    pub grace: bool,
    /// What it is, as far as it could be told.
    pub kind: Kind,
    /// The rules of kinds let through as much to this mailbox lately as they may.
    pub over_rate: bool,
    /// A trusted forwarder passed it on, and the recipient may get one more of its messages.
    pub forwarded: bool,
}

/// What goes on when a bounce comes, whatever it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Situation {
    /// A flood is on.
    pub flood: bool,
    /// Mail that was sent before the first signature can still bounce ([`Grace::holds`]).
    pub grace: bool,
}

/// Why a verdict is what it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It was proven.
    Proven,
    /// Nothing proved it.
    Unproven,
    /// Larger than the hold, without a proof before.
    TooBigToProve,
    /// Its token was used too often.
    Overused,
    /// The recipient is exempt.
    ExemptRecipient,
    /// A trusted forwarder passed it on.
    TrustedForwarder,
    /// The domain requires a tag (in answer to DATA, but for what a trusted forwarder passes on too often).
    TagRequired,
    /// Its kind of null-sender mail has a rule of its own.
    KindRule,
    /// Nothing proved it, and mail that was sent before the first signature can still bounce: it is delivered where the
    /// filter named would have rejected, quarantined or discarded it.
    Grace,
    /// No filter covers the recipient.
    NoFilter,
}

/// What was decided for one bounce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// What to do. A proven bounce has `Deliver`, unless its token was used too often and a flood is on.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The filter that decided, by its place in the configuration.
    pub filter: Option<usize>,
}

impl Verdict {
    /// Whether the rule of its kind lets it through: that takes from the mailbox's rate, and counts for no flood.
    #[must_use]
    pub fn by_kind_lets_through(&self) -> bool {
        self.reason == Reason::KindRule && !self.action.stops()
    }
}
