//! The operator's domains: where mail for each goes, and the traps among their addresses.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use anyhow::Context as _;
use edge_core::bounce::{Reading, read};
use edge_core::mailbox::Mailbox;
use foldhash::fast::RandomState;

use crate::config::{Config, Servers};

/// Where a domain's mail goes: which mail servers may take it. Equal for domains with the same list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Route(usize);

/// The operator's domains, by their names as lowercase A-labels.
#[derive(Debug)]
pub(crate) struct Domains {
    routes: HashMap<String, Route, RandomState>,
    /// The mail servers of each route: each list once.
    servers: Vec<Servers>,
    /// Domains that one of the operator's lies in, of two labels or more.
    above: HashSet<String>,
    tagging: HashSet<String>,
    first: String,
    traps: HashSet<Mailbox>,
}

impl Domains {
    pub(crate) fn of(config: &Config) -> anyhow::Result<Self> {
        let first = &config.domains.first().context("there is no [[domain]]")?.name;
        let name =
            Mailbox::parse(&format!("x@{first}")).with_context(|| format!("`{first}` is no domain name"))?;
        let by_name = config.domains_by_name();
        let tagging =
            by_name.iter().filter(|(_, domain)| domain.tag).map(|(name, _)| name.to_string()).collect();
        let mut servers: Vec<Servers> = Vec::new();
        let mut route = |upstream: Servers| {
            let place = servers.iter().position(|known| *known == upstream);
            Route(place.unwrap_or_else(|| {
                servers.push(upstream);
                servers.len() - 1
            }))
        };
        let above = by_name.keys().flat_map(|name| parents(name)).filter(|parent| parent.contains('.'));
        let above = above.map(str::to_owned).collect();
        let routes = by_name.into_iter().map(|(name, domain)| (name, route(domain.upstream))).collect();
        Ok(Self { above, tagging, routes, servers, first: name.domain().to_owned(), traps: config.traps() })
    }

    /// Where the mail of a domain goes, given as a lowercase A-label. `None`: it is not ours.
    pub(super) fn route(&self, domain: &str) -> Option<Route> {
        self.routes.get(domain).copied()
    }

    /// The mail servers of a route, in the order in which they are tried.
    pub(super) fn servers(&self, route: Route) -> &[SocketAddr] {
        self.servers.get(route.0).map_or(&[], |servers| servers)
    }

    /// Whether a domain, given as a lowercase A-label, is the operator's.
    pub(super) fn is_ours(&self, domain: &str) -> bool {
        self.routes.contains_key(domain)
    }

    /// Whether a domain, given as a lowercase A-label, is the operator's or lies in one of his.
    pub(super) fn holds(&self, domain: &str) -> bool {
        self.is_ours(domain) || parents(domain).any(|parent| self.is_ours(parent))
    }

    /// What a message says of itself to its receiver, the operator.
    pub(crate) fn reading_of<'p>(&self, pieces: impl IntoIterator<Item = &'p [u8]>) -> Reading {
        read(pieces, &|domain| self.are_reported_by(domain))
    }

    /// Whether a report on a domain, given as a lowercase A-label, may be meant for the operator: it is his, lies in one of
    /// his, or one of his lies in it (RFC 7489 section 3.2: the record of an organization's domain holds below it, too).
    fn are_reported_by(&self, domain: &str) -> bool {
        self.holds(domain) || self.above.contains(domain)
    }

    /// Whether senders in this domain of ours get tags.
    pub(super) fn tags(&self, domain: &str) -> bool {
        self.tagging.contains(domain)
    }

    /// The domain that `<postmaster>` belongs to.
    pub(super) fn first(&self) -> &str {
        &self.first
    }

    pub(super) fn is_trap(&self, mailbox: &Mailbox) -> bool {
        self.traps.contains(mailbox)
    }

    /// All upstreams, each once.
    pub(super) fn upstreams(&self) -> Vec<SocketAddr> {
        let mut all: Vec<_> = self.servers.iter().flat_map(|servers| servers.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The domains that a domain lies in, the nearest first.
fn parents(domain: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(domain.split_once('.'), |(_, parent)| parent.split_once('.'))
        .map(|(_, parent)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_of_ours_has_others_below_and_above_it() {
        let text = r#"
            hostname = "mx.example.jp"
            inbound.listen = ["192.0.2.25:25"]
            signature.keys = "/nowhere"
            [[domain]]
            name = "mail.Example.jp"
            upstream = "127.0.0.1:25"
        "#;
        let config = crate::config::parse(text, std::path::Path::new("test")).expect("it is right").config;
        let domains = Domains::of(&config).unwrap();
        for (domain, holds, reported) in [
            ("mail.example.jp", true, true),
            ("a.b.mail.example.jp", true, true),
            ("example.jp", false, true),
            ("web.example.jp", false, false),
            ("notmail.example.jp", false, false),
            ("jp", false, false),
            ("", false, false),
        ] {
            assert_eq!(
                (domains.holds(domain), domains.are_reported_by(domain)),
                (holds, reported),
                "{domain}"
            );
        }
    }
}
