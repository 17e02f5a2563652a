//! The operator's domains: where mail for each goes, and the traps among their addresses.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use anyhow::Context as _;
use edge_core::mailbox::Mailbox;

use crate::config::{Config, Servers};

/// Where a domain's mail goes: which mail servers may take it. Equal for domains with the same list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Route(usize);

/// The operator's domains, by their names as lowercase A-labels.
#[derive(Debug)]
pub(super) struct Domains {
    routes: HashMap<String, Route>,
    /// The mail servers of each route: each list once.
    servers: Vec<Servers>,
    tagging: HashSet<String>,
    first: String,
    traps: HashSet<Mailbox>,
}

impl Domains {
    pub(super) fn of(config: &Config) -> anyhow::Result<Self> {
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
        let routes = by_name.into_iter().map(|(name, domain)| (name, route(domain.upstream))).collect();
        Ok(Self { tagging, routes, servers, first: name.domain().to_owned(), traps: config.traps() })
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
