//! The operator's domains: where mail for each goes, and the traps among their addresses.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use anyhow::Context as _;
use edge_core::mailbox::Mailbox;

use crate::config::Config;

/// The operator's domains, by their names as lowercase A-labels.
#[derive(Debug)]
pub(super) struct Domains {
    upstreams: HashMap<String, SocketAddr>,
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
        Ok(Self {
            tagging,
            upstreams: by_name.into_iter().map(|(name, domain)| (name, domain.upstream)).collect(),
            first: name.domain().to_owned(),
            traps: config.traps(),
        })
    }

    /// The upstream of a domain, given as a lowercase A-label. `None`: it is not ours.
    pub(super) fn upstream(&self, domain: &str) -> Option<SocketAddr> {
        self.upstreams.get(domain).copied()
    }

    /// Whether a domain, given as a lowercase A-label, is the operator's.
    pub(super) fn is_ours(&self, domain: &str) -> bool {
        self.upstreams.contains_key(domain)
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
        let mut all: Vec<_> = self.upstreams.values().copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}
