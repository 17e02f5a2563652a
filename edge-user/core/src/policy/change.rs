//! What a change of the policy does to those whose bounces were delivered unproven before.

use super::{Facts, Policy, Situation};
use crate::bounce::Kind;
use crate::mailbox::Mailbox;

impl Policy {
    /// Whose unproven bounces this policy stops, and `before` did not: a domain, for all mailboxes in it that no policy
    /// names, or one of those that are named. Grace and floods are left out of account.
    #[must_use]
    pub fn newly_stopped(&self, before: &Self) -> Vec<String> {
        let mut newly = Vec::new();
        for (domain, _) in &self.require_tag {
            if let Some(unnamed) = self.unnamed(before, domain)
                && self.stops(&unnamed)
                && !before.stops(&unnamed)
            {
                newly.push(domain.clone());
            }
        }
        let named =
            self.named().chain(before.named()).filter(|named| self.stops(named) && !before.stops(named));
        for mailbox in named {
            // Said already, where it fares as its domain does.
            let said = |text: &str| newly.iter().any(|newly| newly == text);
            if !said(mailbox.domain()) && !said(mailbox.as_str()) {
                newly.push(mailbox.as_str().to_owned());
            }
        }
        newly
    }

    /// Whether an unproven bounce to this recipient is kept from its mailbox, on a day like any other.
    fn stops(&self, recipient: &Mailbox) -> bool {
        let facts = Facts {
            recipient,
            proof: None,
            overused: false,
            too_big_to_prove: false,
            flood: false,
            grace: false,
            kind: Kind::Unknown,
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
                newly,
                "{before:?} to {after:?}"
            );
        }
    }

    #[test]
    fn a_tag_that_is_required_and_an_exemption_that_ends_stop_too() {
        let monitor = policy(vec![filter("*", Action::Monitor)]);
        let required =
            Policy { require_tag: vec![("example.jp".into(), RequireTag::Always)], ..monitor.clone() };
        assert_eq!(required.newly_stopped(&monitor), ["example.jp"]);
        let reject = policy(vec![filter("*", Action::Reject)]);
        let no_exemption = Policy { exempt_recipients: vec![], ..reject.clone() };
        assert_eq!(no_exemption.newly_stopped(&reject), ["postmaster@example.jp", "postmaster@example.net"]);
    }
}
