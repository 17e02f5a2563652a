//! What a change of the policy does to those whose null-sender mail was delivered unproven before.

use std::fmt;

use serde::Serialize;

use super::{Facts, KindRule, KindRules, Policy, Situation};
use crate::bounce::Kind;
use crate::mailbox::Mailbox;

/// Domains or mailboxes that are named in words; of more only the number is said.
const NAMED_MAX: usize = 5;

/// Whose unproven mail a policy stops, and the one before did not. Each is a domain, for all mailboxes in it that no
/// policy names, or a mailbox that one names.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct NewlyStopped {
    /// Whose bounces.
    #[serde(rename = "newly_stopped")]
    pub bounces: Vec<String>,
    /// Whose mail of other kinds, or of a kind of bounces that fares otherwise.
    #[serde(rename = "newly_stopped_kinds")]
    pub kinds: Vec<NewlyStoppedKinds>,
}

/// Kinds that fare alike.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NewlyStoppedKinds {
    /// The kinds.
    pub kinds: Vec<Kind>,
    /// Whose mail of them.
    pub whose: Vec<String>,
}

impl NewlyStopped {
    /// Nobody's is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bounces.is_empty() && self.kinds.is_empty()
    }
}

/// `unproven bounces to example.jp, and unproven mail of the kinds auto_reply, list to ann@example.jp`
impl fmt::Display for NewlyStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Vec::new();
        if !self.bounces.is_empty() {
            said.push(format!("unproven bounces to {}", Listed(&self.bounces)));
        }
        for NewlyStoppedKinds { kinds, whose } in &self.kinds {
            let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
            let word = if kinds.len() == 1 { "kind" } else { "kinds" };
            said.push(format!("unproven mail of the {word} {} to {}", names.join(", "), Listed(whose)));
        }
        f.write_str(&said.join(", and "))
    }
}

/// The first of a list in words, and how many more there are.
struct Listed<'n>(&'n [String]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (named, more) = self.0.split_at(self.0.len().min(NAMED_MAX));
        write!(f, "{}", named.join(", "))?;
        if more.is_empty() { Ok(()) } else { write!(f, " and {} more", more.len()) }
    }
}

impl Policy {
    /// Whose unproven mail this policy stops, and `before` did not. Grace and floods are left out of account.
    #[must_use]
    pub fn newly_stopped(&self, before: &Self) -> NewlyStopped {
        let bounces = self.newly_stopped_of(Kind::Unknown, before);
        let usual = KindRules::default();
        let mut kinds: Vec<NewlyStoppedKinds> = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Unknown) {
            let whose = self.newly_stopped_of(kind, before);
            let said = usual.of(kind) == KindRule::Bounce && whose == bounces;
            if said || whose.is_empty() {
                continue;
            }
            match kinds.iter_mut().find(|alike| alike.whose == whose) {
                Some(alike) => alike.kinds.push(kind),
                None => kinds.push(NewlyStoppedKinds { kinds: vec![kind], whose }),
            }
        }
        NewlyStopped { bounces, kinds }
    }

    fn newly_stopped_of(&self, kind: Kind, before: &Self) -> Vec<String> {
        let newly_stops = |mailbox: &Mailbox| self.stops(mailbox, kind) && !before.stops(mailbox, kind);
        let mut newly = Vec::new();
        for (domain, _) in &self.require_tag {
            if self.unnamed(before, domain).is_some_and(|unnamed| newly_stops(&unnamed)) {
                newly.push(domain.clone());
            }
        }
        for mailbox in self.named().chain(before.named()).filter(newly_stops) {
            // Said already, where it fares as its domain does.
            let said = |text: &str| newly.iter().any(|newly| newly == text);
            if !said(mailbox.domain()) && !said(mailbox.as_str()) {
                newly.push(mailbox.as_str().to_owned());
            }
        }
        newly
    }

    /// Whether unproven mail of a kind to this recipient is kept from its mailbox, on a day like any other.
    fn stops(&self, recipient: &Mailbox, kind: Kind) -> bool {
        let facts = Facts {
            recipient,
            proof: None,
            overused: false,
            too_big_to_prove: false,
            flood: false,
            grace: false,
            kind,
            over_rate: false,
            forwarded: false,
        };
        self.judge(&facts).action.stops() || self.refuses_at_data(recipient, None, Situation::default())
    }

    /// The mailboxes that are named one by one.
    fn named(&self) -> impl Iterator<Item = Mailbox> + '_ {
        let covered = self.filters.iter().flat_map(|filter| &filter.covers).filter_map(|cover| match cover {
            super::Cover::Mailbox(mailbox) => Some(mailbox.clone()),
            super::Cover::All | super::Cover::Domain(_) => None,
        });
        let exempt = self.exempt_recipients.iter().flat_map(|exempt| {
            let domains = self.require_tag.iter().map(|(domain, _)| domain.as_str());
            match exempt.strip_suffix('@') {
                Some(_) => {
                    domains.filter_map(|domain| Mailbox::parse(&format!("{exempt}{domain}"))).collect()
                }
                None => Mailbox::parse(exempt).into_iter().collect::<Vec<_>>(),
            }
        });
        covered.chain(exempt)
    }

    /// A mailbox of the domain that neither policy names.
    fn unnamed(&self, before: &Self, domain: &str) -> Option<Mailbox> {
        let named: Vec<Mailbox> = self.named().chain(before.named()).collect();
        (0..=named.len())
            .filter_map(|number| Mailbox::parse(&format!("unnamed-{number}@{domain}")))
            .find(|mailbox| !named.contains(mailbox))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Action, Cover, Filter, RequireTag};

    fn filter(cover: &str, action: Action) -> Filter {
        let cover = match cover {
            "*" => Cover::All,
            mailbox if mailbox.contains('@') => Cover::Mailbox(Mailbox::parse(mailbox).unwrap()),
            domain => Cover::Domain(domain.into()),
        };
        Filter { memo: String::new(), covers: vec![cover], action, on: true, record: true }
    }

    fn policy(filters: Vec<Filter>) -> Policy {
        Policy {
            filters,
            require_tag: vec![
                ("example.jp".into(), RequireTag::Never),
                ("example.net".into(), RequireTag::Never),
            ],
            exempt_recipients: vec!["postmaster@".into()],
            ..Policy::default()
        }
    }

    fn bounces(to: &[&str]) -> NewlyStopped {
        NewlyStopped { bounces: to.iter().map(|to| (*to).to_owned()).collect(), kinds: vec![] }
    }

    #[test]
    fn only_whom_it_stops_and_did_not_before_is_named() {
        use Action::{Deliver, Discard, Mark, Monitor, Quarantine, Reject};
        let all = |action| vec![filter("*", action)];
        let ann = |action, rest| vec![filter("ann@example.jp", action), filter("*", rest)];
        let off = |action| vec![Filter { on: false, ..filter("*", action) }];
        let rows: [(Vec<Filter>, Vec<Filter>, &[&str]); 12] = [
            (all(Monitor), all(Reject), &["example.jp", "example.net"]),
            (vec![], all(Quarantine), &["example.jp", "example.net"]),
            (all(Monitor), all(Mark), &[]),
            (all(Reject), all(Discard), &[]),
            (all(Reject), all(Monitor), &[]),
            (off(Reject), all(Reject), &["example.jp", "example.net"]),
            (all(Monitor), off(Reject), &[]),
            (all(Monitor), vec![filter("example.net", Reject), filter("*", Monitor)], &["example.net"]),
            (all(Monitor), ann(Discard, Monitor), &["ann@example.jp"]),
            (ann(Deliver, Reject), ann(Reject, Reject), &["ann@example.jp"]),
            // A filter that spared somebody is removed.
            (ann(Deliver, Reject), all(Reject), &["ann@example.jp"]),
            (ann(Deliver, Monitor), all(Reject), &["example.jp", "example.net"]),
        ];
        for (before, after, newly) in rows {
            assert_eq!(
                policy(after.clone()).newly_stopped(&policy(before.clone())),
                bounces(newly),
                "{before:?} to {after:?}"
            );
        }
    }

    #[test]
    fn a_tag_that_is_required_and_an_exemption_that_ends_stop_too() {
        let monitor = policy(vec![filter("*", Action::Monitor)]);
        let required =
            Policy { require_tag: vec![("example.jp".into(), RequireTag::Always)], ..monitor.clone() };
        let newly = required.newly_stopped(&monitor);
        assert_eq!(newly.bounces, ["example.jp"]);
        let others = "auto_reply, receipt, calendar, list, complaint, dmarc_report, tls_report";
        let said = "unproven bounces to example.jp, and unproven mail of the kinds";
        assert_eq!(newly.to_string(), format!("{said} {others} to example.jp"));
        let reject = policy(vec![filter("*", Action::Reject)]);
        let no_exemption = Policy { exempt_recipients: vec![], ..reject.clone() };
        let newly = no_exemption.newly_stopped(&reject);
        assert_eq!(newly, bounces(&["postmaster@example.jp", "postmaster@example.net"]));
    }

    #[test]
    fn a_kind_that_is_newly_stopped_is_named() {
        use Action::{Discard, Monitor, Reject};
        let with = |action, rules: &[(Kind, KindRule)]| {
            let mut policy = policy(vec![filter("*", action)]);
            rules.iter().for_each(|(kind, rule)| policy.kinds.set(*kind, *rule));
            policy
        };
        let all = "example.jp, example.net";
        let rows: [(Policy, Policy, String); 9] = [
            (
                with(Monitor, &[]),
                with(Monitor, &[(Kind::AutoReply, KindRule::Reject), (Kind::List, KindRule::Discard)]),
                format!("unproven mail of the kinds auto_reply, list to {all}"),
            ),
            (
                with(Monitor, &[]),
                with(Reject, &[(Kind::Receipt, KindRule::Quarantine)]),
                format!("unproven bounces to {all}, and unproven mail of the kind receipt to {all}"),
            ),
            // As a bounce it is stopped where bounces are.
            (
                with(Reject, &[]),
                with(Reject, &[(Kind::Calendar, KindRule::Bounce)]),
                format!("unproven mail of the kind calendar to {all}"),
            ),
            (
                with(Monitor, &[(Kind::Calendar, KindRule::Bounce)]),
                with(Discard, &[(Kind::Calendar, KindRule::Bounce)]),
                format!("unproven bounces to {all}, and unproven mail of the kind calendar to {all}"),
            ),
            // A kind of bounces is named where it fares otherwise.
            (
                with(Monitor, &[]),
                with(Monitor, &[(Kind::Delay, KindRule::Reject)]),
                format!("unproven mail of the kind delay to {all}"),
            ),
            (
                with(Monitor, &[]),
                with(Reject, &[(Kind::Unknown, KindRule::Deliver), (Kind::Success, KindRule::Monitor)]),
                format!("unproven mail of the kinds failure, delay, challenge to {all}"),
            ),
            (
                with(Monitor, &[(Kind::List, KindRule::Reject)]),
                with(Monitor, &[(Kind::List, KindRule::Discard)]),
                String::new(),
            ),
            (with(Monitor, &[]), with(Monitor, &[(Kind::List, KindRule::Mark)]), String::new()),
            (with(Monitor, &[(Kind::List, KindRule::Reject)]), with(Monitor, &[]), String::new()),
        ];
        for (before, after, said) in rows {
            let newly = after.newly_stopped(&before);
            assert_eq!(newly.to_string(), said);
            assert_eq!(newly.is_empty(), said.is_empty());
        }
    }

    #[test]
    fn of_many_only_a_few_are_named() {
        let many: Vec<String> = (0..8).map(|number| format!("d{number}.example")).collect();
        let newly = NewlyStopped { bounces: many, kinds: vec![] };
        let said =
            "unproven bounces to d0.example, d1.example, d2.example, d3.example, d4.example and 3 more";
        assert_eq!(newly.to_string(), said);
    }
}
