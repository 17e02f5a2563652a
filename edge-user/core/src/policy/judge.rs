//! The decisions themselves.

use super::{Action, Cover, Facts, Filter, Policy, Reason, RequireTag, Verdict};
use crate::mailbox::Mailbox;
use crate::signature::Proof;

impl Cover {
    /// Whether it covers `recipient`.
    #[must_use]
    pub fn covers(&self, recipient: &Mailbox) -> bool {
        match self {
            Self::All => true,
            Self::Domain(domain) => domain == recipient.domain(),
            Self::Mailbox(mailbox) => mailbox == recipient,
        }
    }
}

impl Filter {
    /// Whether it is on and covers `recipient`.
    #[must_use]
    pub fn applies_to(&self, recipient: &Mailbox) -> bool {
        self.on && self.covers.iter().any(|cover| cover.covers(recipient))
    }
}

impl Policy {
    /// Whether the domain's `require_tag` refuses here, in answer to DATA: no valid tag, and the recipient is not exempt.
    ///
    /// Only a tag can be known before the body, so a domain that requires it gives up what a token inside would prove.
    #[must_use]
    pub fn refuses_at_data(&self, recipient: &Mailbox, proof: Option<Proof>, flood: bool) -> bool {
        let in_force = match self.required_tag(recipient.domain()) {
            RequireTag::Never => false,
            RequireTag::Flood => flood,
            RequireTag::Always => true,
        };
        let tagged = match proof {
            Some(Proof::Tag) => true,
            Some(Proof::Token | Proof::Record) | None => false,
        };
        in_force && !tagged && !self.exempts(recipient)
    }

    /// The verdict for a bounce at its end, or where the hold is full.
    #[must_use]
    pub fn judge(&self, facts: &Facts<'_>) -> Verdict {
        let deliver = |reason| Verdict { action: Action::Deliver, reason, filter: None };
        if facts.proof.is_some() && !facts.overused {
            return deliver(Reason::Proven);
        }
        if self.exempts(facts.recipient) {
            return deliver(Reason::ExemptRecipient);
        }
        if facts.proof.is_some() {
            // An honest message may bring about more bounces than expected; a replayed token pays only in a flood.
            let action = if facts.flood { self.overused_in_flood } else { Action::Deliver };
            return Verdict { action, reason: Reason::Overused, filter: None };
        }
        let Some(place) = self.filters.iter().position(|filter| filter.applies_to(facts.recipient)) else {
            return Verdict { action: Action::Monitor, reason: Reason::NoFilter, filter: None };
        };
        let reason = if facts.too_big_to_prove { Reason::TooBigToProve } else { Reason::Unproven };
        Verdict { action: self.filters[place].action, reason, filter: Some(place) }
    }

    /// Whether the recipient's bounces are delivered unproven.
    #[must_use]
    pub fn exempts(&self, recipient: &Mailbox) -> bool {
        self.exempt_recipients.iter().any(|exempt| match exempt.strip_suffix('@') {
            Some(local) => local == recipient.local(),
            None => exempt == recipient.as_str(),
        })
    }

    fn required_tag(&self, domain: &str) -> RequireTag {
        self.require_tag.iter().find(|(name, _)| name == domain).map_or(RequireTag::Never, |(_, when)| *when)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounce::Kind;

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).expect("the tests' addresses are addresses")
    }

    fn filter(covers: Vec<Cover>, action: Action) -> Filter {
        Filter { memo: String::new(), covers, action, on: true }
    }

    /// One filter for one mailbox, one that is off, one for a domain, one for all.
    fn policy() -> Policy {
        Policy {
            filters: vec![
                filter(vec![Cover::Mailbox(mailbox("ann@example.jp"))], Action::Discard),
                Filter { on: false, ..filter(vec![Cover::All], Action::Deliver) },
                filter(
                    vec![Cover::Domain("example.net".into()), Cover::Domain("example.jp".into())],
                    Action::Reject,
                ),
                filter(vec![Cover::Domain("example.jp".into())], Action::Mark),
            ],
            require_tag: vec![
                ("example.jp".into(), RequireTag::Flood),
                ("always.example".into(), RequireTag::Always),
            ],
            exempt_recipients: vec!["postmaster@".into(), "help@example.net".into()],
            overused_in_flood: Action::Reject,
        }
    }

    #[derive(Clone, Copy)]
    enum Given {
        Nothing,
        Token,
        Overused,
        OverusedInFlood,
        UnprovenInFlood,
        TooBig,
    }

    #[test]
    fn the_first_filter_that_is_on_and_covers_the_recipient_decides() {
        use Action::{Deliver, Discard, Monitor, Reject};
        use Given as G;
        let policy = policy();
        let rows: [(&str, Given, Action, Reason, Option<usize>); 15] = [
            ("ann@example.jp", G::Nothing, Discard, Reason::Unproven, Some(0)),
            ("bob@example.jp", G::Nothing, Reject, Reason::Unproven, Some(2)),
            ("bob@example.net", G::Nothing, Reject, Reason::Unproven, Some(2)),
            ("bob@example.net", G::UnprovenInFlood, Reject, Reason::Unproven, Some(2)),
            ("ann@other.example", G::Nothing, Monitor, Reason::NoFilter, None),
            ("ann@other.example", G::TooBig, Monitor, Reason::NoFilter, None),
            ("ann@example.jp", G::TooBig, Discard, Reason::TooBigToProve, Some(0)),
            ("ann@example.jp", G::Token, Deliver, Reason::Proven, None),
            ("ann@example.jp", G::Overused, Deliver, Reason::Overused, None),
            ("ann@example.jp", G::OverusedInFlood, Reject, Reason::Overused, None),
            ("postmaster@example.jp", G::Nothing, Deliver, Reason::ExemptRecipient, None),
            ("postmaster@example.jp", G::OverusedInFlood, Deliver, Reason::ExemptRecipient, None),
            ("postmaster@example.jp", G::TooBig, Deliver, Reason::ExemptRecipient, None),
            ("help@example.net", G::Nothing, Deliver, Reason::ExemptRecipient, None),
            ("help@example.jp", G::Nothing, Reject, Reason::Unproven, Some(2)),
        ];
        for (recipient, given, action, reason, filter) in rows {
            let (proof, overused, too_big_to_prove, flood) = match given {
                G::Nothing => (None, false, false, false),
                G::Token => (Some(Proof::Token), false, false, false),
                G::Overused => (Some(Proof::Token), true, false, false),
                G::OverusedInFlood => (Some(Proof::Token), true, false, true),
                G::UnprovenInFlood => (None, false, false, true),
                G::TooBig => (None, false, true, false),
            };
            let recipient = mailbox(recipient);
            let kind = Kind::Unknown;
            let facts = Facts { recipient: &recipient, proof, overused, too_big_to_prove, flood, kind };
            assert_eq!(policy.judge(&facts), Verdict { action, reason, filter }, "{recipient:?}");
        }
    }

    #[test]
    fn a_tag_is_required_only_where_and_when_the_domain_says_so() {
        let policy = policy();
        let rows = [
            ("ann@example.jp", None, false, false),
            ("ann@example.jp", None, true, true),
            ("ann@example.jp", Some(Proof::Tag), true, false),
            ("ann@always.example", None, false, true),
            ("ann@always.example", Some(Proof::Tag), false, false),
            ("postmaster@always.example", None, true, false),
            ("ann@example.net", None, true, false),
        ];
        for (recipient, proof, flood, refused) in rows {
            let answer = policy.refuses_at_data(&mailbox(recipient), proof, flood);
            assert_eq!(answer, refused, "{recipient}, proof {proof:?}, flood {flood}");
        }
    }

    #[test]
    fn a_new_installation_only_monitors() {
        let recipient = mailbox("ann@example.jp");
        let facts = Facts {
            recipient: &recipient,
            proof: None,
            overused: false,
            too_big_to_prove: false,
            flood: true,
            kind: Kind::Unknown,
        };
        assert_eq!(Policy::default().judge(&facts).action, Action::Monitor);
        assert!(!Policy::default().refuses_at_data(&recipient, None, true));
    }
}
