//! A rule for each kind of null-sender mail.

use serde::{Deserialize, Serialize};

use super::Action;
use crate::bounce::Kind;

/// What becomes of null-sender mail of one kind that nothing proves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KindRule {
    /// The filters judge it as any unproven bounce.
    Bounce,
    /// [`Action::Monitor`]
    Monitor,
    /// [`Action::Deliver`]
    Deliver,
    /// [`Action::Mark`]
    Mark,
    /// [`Action::Reject`]
    Reject,
    /// [`Action::Quarantine`]
    Quarantine,
    /// [`Action::Discard`]
    Discard,
}

impl KindRule {
    /// Its action. `None`: the filters decide.
    #[must_use]
    pub const fn action(self) -> Option<Action> {
        match self {
            Self::Bounce => None,
            Self::Monitor => Some(Action::Monitor),
            Self::Deliver => Some(Action::Deliver),
            Self::Mark => Some(Action::Mark),
            Self::Reject => Some(Action::Reject),
            Self::Quarantine => Some(Action::Quarantine),
            Self::Discard => Some(Action::Discard),
        }
    }
}

/// By default: more answers than a mailbox gets in an hour to mail that nobody signed, and no flood of them.
const KINDS_PER_HOUR: u32 = 60;

/// The rules of all kinds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KindRules {
    rules: [KindRule; Kind::ALL.len()],
    /// How many messages of each kind they let through to one mailbox in an hour.
    pub per_hour: u32,
}

impl KindRules {
    /// The rule of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> KindRule {
        self.rules[kind as usize]
    }

    /// Gives a kind another rule.
    pub fn set(&mut self, kind: Kind, rule: KindRule) {
        self.rules[kind as usize] = rule;
    }
}

impl Default for KindRules {
    /// What reports on a delivery, asks for one's own confirmation or cannot be told is a bounce; all else is delivered.
    fn default() -> Self {
        let rules = Kind::ALL.map(|kind| match kind {
            Kind::Unknown | Kind::Failure | Kind::Delay | Kind::Success | Kind::Challenge => KindRule::Bounce,
            Kind::AutoReply
            | Kind::Receipt
            | Kind::Calendar
            | Kind::List
            | Kind::Complaint
            | Kind::DmarcReport
            | Kind::TlsReport => KindRule::Deliver,
        });
        Self { rules, per_hour: KINDS_PER_HOUR }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::Mailbox;
    use crate::policy::{Cover, Facts, Filter, Policy, Reason};
    use crate::signature::Proof;

    #[test]
    fn each_kind_has_a_place_of_its_own() {
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
            let name = serde_json::to_value(kind).unwrap();
            assert_eq!(name, kind.name());
            let mut rules = KindRules::default();
            rules.set(kind, KindRule::Mark);
            for other in Kind::ALL {
                assert_eq!(rules.of(other) == KindRule::Mark, other == kind);
            }
        }
    }

    #[test]
    fn a_kind_has_its_own_rule_outside_a_flood_and_within_the_rate() {
        use Action::{Deliver, Discard, Mark, Reject};
        use Reason::{ExemptRecipient, KindRule as Rule, Proven, Unproven};
        let filter =
            Filter { memo: String::new(), covers: vec![Cover::All], action: Reject, on: true, record: true };
        let mut policy = Policy {
            filters: vec![filter],
            exempt_recipients: vec!["postmaster@".into()],
            ..Policy::default()
        };
        policy.kinds.set(Kind::Receipt, KindRule::Mark);
        policy.kinds.set(Kind::Calendar, KindRule::Discard);
        policy.kinds.set(Kind::List, KindRule::Bounce);
        policy.kinds.set(Kind::Failure, KindRule::Deliver);
        let recipient = Mailbox::parse("ann@example.jp").unwrap();
        let exempt = Mailbox::parse("postmaster@example.jp").unwrap();
        let calm = Facts {
            recipient: &recipient,
            proof: None,
            overused: false,
            too_big_to_prove: false,
            flood: false,
            grace: false,
            kind: Kind::Unknown,
            over_rate: false,
            forwarded: false,
        };
        let flood = Facts { flood: true, ..calm };
        let over = Facts { over_rate: true, ..calm };
        let big = Facts { too_big_to_prove: true, ..calm };
        let grace = Facts { grace: true, ..calm };
        let proven = Facts { proof: Some(Proof::Token), ..flood };
        for (kind, given, action, reason) in [
            (Kind::AutoReply, calm, Deliver, Rule),
            (Kind::AutoReply, flood, Reject, Unproven),
            (Kind::AutoReply, over, Reject, Unproven),
            (Kind::AutoReply, big, Deliver, Rule),
            (Kind::AutoReply, proven, Deliver, Proven),
            (Kind::AutoReply, grace, Deliver, Rule),
            (Kind::Receipt, calm, Mark, Rule),
            (Kind::Receipt, flood, Reject, Unproven),
            (Kind::Calendar, calm, Discard, Rule),
            (Kind::Calendar, flood, Discard, Rule),
            (Kind::Calendar, over, Discard, Rule),
            (Kind::Calendar, grace, Action::Monitor, Reason::Grace),
            (Kind::Calendar, proven, Deliver, Proven),
            (Kind::List, calm, Reject, Unproven),
            (Kind::Failure, calm, Deliver, Rule),
            (Kind::Delay, calm, Reject, Unproven),
            (Kind::Success, calm, Reject, Unproven),
            (Kind::Challenge, calm, Reject, Unproven),
            (Kind::Unknown, calm, Reject, Unproven),
            (Kind::Complaint, calm, Deliver, Rule),
            (Kind::DmarcReport, calm, Deliver, Rule),
            (Kind::TlsReport, calm, Deliver, Rule),
        ] {
            let facts = Facts { kind, ..given };
            let verdict = policy.judge(&facts);
            assert_eq!((verdict.action, verdict.reason), (action, reason), "{facts:?}");
            assert_eq!(verdict.filter.is_some(), reason == Unproven, "{facts:?}");
            assert_eq!(verdict.by_kind_lets_through(), reason == Rule && action != Discard, "{facts:?}");
            let verdict = policy.judge(&Facts { recipient: &exempt, ..facts });
            let expected = if facts.proof.is_some() { Proven } else { ExemptRecipient };
            assert_eq!((verdict.action, verdict.reason), (Deliver, expected), "{facts:?}");
        }
    }
}
