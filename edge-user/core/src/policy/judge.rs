//! The decisions themselves.

use super::{Action, Cover, Facts, Filter, Policy, Reason, RequireTag, Situation, Verdict};
use crate::bounce::Kind;
use crate::mailbox::Mailbox;
use crate::signature::{Proof, tags};

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

impl Action {
    /// Whether it keeps an unproven bounce from its mailbox.
    #[must_use]
    pub fn stops(self) -> bool {
        match self {
            Self::Reject | Self::Quarantine | Self::Discard => true,
            Self::Monitor | Self::Deliver | Self::Mark => false,
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
    /// Whether bounces to the domain may be refused in answer to DATA.
    #[must_use]
    pub fn may_require_tag(&self, domain: &str) -> bool {
        self.required_tag(domain) != RequireTag::Never
    }

    /// Whether the domain's `require_tag` refuses here, in answer to DATA: no valid tag, and the recipient is not exempt.
    ///
    /// Only a tag can be known before the body, so a domain that requires it gives up what a token inside would prove.
    /// In grace it does not: mail that went out before the first signature has neither.
    /// An address that could not get a tag is not asked for one.
    #[must_use]
    pub fn refuses_at_data(&self, recipient: &Mailbox, proof: Option<Proof>, now: Situation) -> bool {
        let in_force = match self.required_tag(recipient.domain()) {
            RequireTag::Never => false,
            RequireTag::Flood => now.flood,
            RequireTag::Always => true,
        };
        let tagged = match proof {
            Some(Proof::Tag) => true,
            Some(Proof::Token | Proof::Record) | None => false,
        };
        in_force && !now.grace && !tagged && tags::fits(recipient.local()) && !self.exempts(recipient)
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
        if facts.forwarded {
            return deliver(Reason::TrustedForwarder);
        }
        let now = Situation { flood: facts.flood, grace: facts.grace };
        if self.refuses_at_data(facts.recipient, facts.proof, now) {
            // A trusted forwarder's were let through to here; this one is beyond their rate.
            return Verdict { action: Action::Reject, reason: Reason::TagRequired, filter: None };
        }
        if let Some(action) = self.kind_action(facts) {
            return spared_in_grace(Verdict { action, reason: Reason::KindRule, filter: None }, facts.grace);
        }
        let Some(place) = self.decides(facts.recipient) else {
            return Verdict { action: Action::Monitor, reason: Reason::NoFilter, filter: None };
        };
        let reason = if facts.too_big_to_prove { Reason::TooBigToProve } else { Reason::Unproven };
        spared_in_grace(
            Verdict { action: self.filters[place].action, reason, filter: Some(place) },
            facts.grace,
        )
    }

    /// What the rule of its kind says, where it is not to be judged as a bounce. A rule that lets it through holds only
    /// outside a flood and within the mailbox's rate: so it opens no door to who can write any kind he likes.
    fn kind_action(&self, facts: &Facts<'_>) -> Option<Action> {
        let holds = |action: &Action| action.stops() || !facts.flood && !facts.over_rate;
        self.kinds.of(facts.kind).action().filter(holds)
    }

    /// Whether the record, the weakest proof, is one for this recipient: as the filter says that decides there.
    #[must_use]
    pub fn record_proves(&self, recipient: &Mailbox) -> bool {
        self.decides(recipient).is_none_or(|place| self.filters[place].record)
    }

    /// The place of the filter that decides for `recipient`.
    fn decides(&self, recipient: &Mailbox) -> Option<usize> {
        self.filters.iter().position(|filter| filter.applies_to(recipient))
    }

    /// Whether anything may be quarantined: then a place for it must be there.
    #[must_use]
    pub fn quarantines(&self) -> bool {
        let by_filter = self.filters.iter().any(|filter| filter.on && filter.action == Action::Quarantine);
        let by_kind = Kind::ALL.iter().any(|kind| self.kinds.of(*kind).action() == Some(Action::Quarantine));
        by_filter || by_kind || self.overused_in_flood == Action::Quarantine
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

/// Grace changes only what would keep a bounce from its mailbox; a mark stays.
fn spared_in_grace(verdict: Verdict, grace: bool) -> Verdict {
    if grace && verdict.action.stops() {
        Verdict { action: Action::Monitor, reason: Reason::Grace, ..verdict }
    } else {
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Grace, KindRules};

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).expect("the tests' addresses are addresses")
    }

    fn filter(covers: Vec<Cover>, action: Action) -> Filter {
        Filter { memo: String::new(), covers, action, record: true, on: true }
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
                filter(
                    vec![Cover::Domain("example.jp".into()), Cover::Domain("mark.example".into())],
                    Action::Mark,
                ),
            ],
            require_tag: vec![
                ("example.jp".into(), RequireTag::Flood),
                ("always.example".into(), RequireTag::Always),
            ],
            exempt_recipients: vec!["postmaster@".into(), "help@example.net".into()],
            trusted_forwarders: Vec::new(),
            overused_in_flood: Action::Reject,
            grace: Grace::default(),
            kinds: KindRules::default(),
        }
    }

    /// An unproven bounce on a day like any other.
    fn nothing(recipient: &Mailbox) -> Facts<'_> {
        Facts {
            recipient,
            proof: None,
            overused: false,
            too_big_to_prove: false,
            flood: false,
            grace: false,
            kind: Kind::Unknown,
            over_rate: false,
            forwarded: false,
        }
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Given {
        Nothing,
        Token,
        Overused,
        OverusedInFlood,
        UnprovenInFlood,
        TooBig,
        InGrace,
        TooBigInGrace,
        OverusedInGraceAndFlood,
        Forwarded,
        ForwardedInFlood,
        ForwardedOverused,
    }

    #[test]
    fn the_first_filter_that_is_on_and_covers_the_recipient_decides() {
        use Action::{Deliver, Discard, Mark, Monitor, Reject};
        use Given as G;
        let policy = policy();
        let rows: [(&str, Given, Action, Reason, Option<usize>); 28] = [
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
            ("ann@example.jp", G::InGrace, Monitor, Reason::Grace, Some(0)),
            ("bob@example.jp", G::InGrace, Monitor, Reason::Grace, Some(2)),
            ("bob@example.jp", G::TooBigInGrace, Monitor, Reason::Grace, Some(2)),
            ("joe@mark.example", G::InGrace, Mark, Reason::Unproven, Some(3)),
            ("ann@other.example", G::InGrace, Monitor, Reason::NoFilter, None),
            ("postmaster@example.jp", G::InGrace, Deliver, Reason::ExemptRecipient, None),
            // Its token was made after the first signature.
            ("ann@example.jp", G::OverusedInGraceAndFlood, Reject, Reason::Overused, None),
            ("bob@example.jp", G::Forwarded, Deliver, Reason::TrustedForwarder, None),
            ("bob@always.example", G::ForwardedInFlood, Deliver, Reason::TrustedForwarder, None),
            ("bob@example.jp", G::ForwardedOverused, Deliver, Reason::Overused, None),
            ("bob@always.example", G::Nothing, Reject, Reason::TagRequired, None),
            ("bob@example.jp", G::UnprovenInFlood, Reject, Reason::TagRequired, None),
            ("srs0=aaaa=bb=far.example=x@example.jp", G::UnprovenInFlood, Reject, Reason::Unproven, Some(2)),
        ];
        for (recipient, given, action, reason, filter) in rows {
            let recipient = mailbox(recipient);
            let nothing = nothing(&recipient);
            let facts = match given {
                G::Nothing => nothing,
                G::Token => Facts { proof: Some(Proof::Token), ..nothing },
                G::Overused => Facts { proof: Some(Proof::Token), overused: true, ..nothing },
                G::OverusedInFlood => {
                    Facts { proof: Some(Proof::Token), overused: true, flood: true, ..nothing }
                }
                G::UnprovenInFlood => Facts { flood: true, ..nothing },
                G::TooBig => Facts { too_big_to_prove: true, ..nothing },
                G::InGrace => Facts { grace: true, ..nothing },
                G::TooBigInGrace => Facts { grace: true, too_big_to_prove: true, ..nothing },
                G::OverusedInGraceAndFlood => {
                    Facts { proof: Some(Proof::Token), overused: true, flood: true, grace: true, ..nothing }
                }
                G::Forwarded => Facts { forwarded: true, ..nothing },
                G::ForwardedInFlood => Facts { forwarded: true, flood: true, ..nothing },
                G::ForwardedOverused => {
                    Facts { proof: Some(Proof::Token), overused: true, forwarded: true, ..nothing }
                }
            };
            assert_eq!(policy.judge(&facts), Verdict { action, reason, filter }, "{recipient:?}");
        }
    }

    #[test]
    fn the_record_proves_as_the_filter_says_that_decides() {
        let mut policy = policy();
        policy.filters[2].record = false;
        // It is off, and the last one decides for nobody: neither has a say.
        policy.filters[1].record = false;
        policy.filters[3].record = false;
        for (recipient, proves) in
            [("ann@example.jp", true), ("bob@example.jp", false), ("ann@other.example", true)]
        {
            assert_eq!(policy.record_proves(&mailbox(recipient)), proves, "{recipient}");
        }
    }

    #[test]
    fn a_tag_is_required_only_where_and_when_the_domain_says_so() {
        let policy = policy();
        let calm = Situation::default();
        let flood = Situation { flood: true, grace: false };
        let (grace, both) = (Situation { flood: false, grace: true }, Situation { flood: true, grace: true });
        let rows = [
            ("ann@example.jp", None, calm, false),
            ("ann@example.jp", None, flood, true),
            ("ann@example.jp", Some(Proof::Tag), flood, false),
            ("ann@always.example", None, calm, true),
            ("ann@always.example", Some(Proof::Tag), calm, false),
            ("postmaster@always.example", None, flood, false),
            ("srs0=aaaa=bb=far.example=x@always.example", None, flood, false),
            ("ann@example.net", None, flood, false),
            ("ann@always.example", None, grace, false),
            ("ann@always.example", None, both, false),
            ("ann@example.jp", None, both, false),
        ];
        for (recipient, proof, now, refused) in rows {
            let answer = policy.refuses_at_data(&mailbox(recipient), proof, now);
            assert_eq!(answer, refused, "{recipient}, proof {proof:?}, {now:?}");
        }
    }

    #[test]
    fn whether_anything_may_be_quarantined_is_known_beforehand() {
        let mut with = [Policy::default(), Policy::default(), Policy::default()];
        with[0].filters = vec![filter(vec![Cover::All], Action::Quarantine)];
        with[1].overused_in_flood = Action::Quarantine;
        with[2].kinds.set(Kind::Challenge, crate::policy::KindRule::Quarantine);
        assert!(with.iter().all(Policy::quarantines));
        with[0].filters[0].on = false;
        assert!(![&with[0], &Policy::default(), &policy()].into_iter().any(Policy::quarantines));
    }

    #[test]
    fn a_new_installation_only_monitors() {
        let recipient = mailbox("ann@example.jp");
        let facts = Facts { flood: true, ..nothing(&recipient) };
        assert_eq!(Policy::default().judge(&facts).action, Action::Monitor);
        assert!(!Policy::default().refuses_at_data(
            &recipient,
            None,
            Situation { flood: true, grace: false }
        ));
    }
}
