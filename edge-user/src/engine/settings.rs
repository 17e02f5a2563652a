//! The configuration as the core wants it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use edge_core::mailbox::Mailbox;
use edge_core::policy::{Cover, Filter, Policy};
use edge_core::{incident, reputation};

use crate::config::{Config, Flood};

/// Most idle read buffers that are kept (16 KiB each).
pub(super) const IDLE_BUFFERS_MAX: usize = 4096;

/// Where mail for each of the operator's domains goes, and the traps among its addresses.
#[derive(Debug)]
pub(super) struct Domains {
    upstreams: HashMap<String, SocketAddr>,
    first: String,
    traps: Vec<Mailbox>,
}

impl Domains {
    pub(super) fn of(config: &Config) -> anyhow::Result<Self> {
        let mut upstreams = HashMap::new();
        let mut first = None;
        for domain in &config.domains {
            let name = a_label(&domain.name)?;
            first.get_or_insert_with(|| name.clone());
            upstreams.insert(name, domain.upstream);
        }
        let trap =
            |text: &String| Mailbox::parse(text).with_context(|| format!("the trap `{text}` is no address"));
        Ok(Self {
            upstreams,
            first: first.context("there is no [[domain]]")?,
            traps: config.reputation.traps.iter().map(trap).collect::<Result<_, _>>()?,
        })
    }

    /// The upstream of a domain, given as a lowercase A-label. `None`: it is not ours.
    pub(super) fn upstream(&self, domain: &str) -> Option<SocketAddr> {
        self.upstreams.get(domain).copied()
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

/// A domain's name as a lowercase A-label.
fn a_label(name: &str) -> anyhow::Result<String> {
    let mailbox = Mailbox::parse(&format!("x@{name}"));
    Ok(mailbox.with_context(|| format!("`{name}` is no domain name"))?.domain().to_owned())
}

pub(super) fn policy(config: &Config) -> anyhow::Result<Policy> {
    let cover = |text: &String| -> anyhow::Result<Cover> {
        Ok(if text == "*" {
            Cover::All
        } else if text.contains('@') {
            Cover::Mailbox(
                Mailbox::parse(text).with_context(|| format!("`{text}` in `covers` is no address"))?,
            )
        } else {
            Cover::Domain(a_label(text)?)
        })
    };
    let mut filters = Vec::new();
    for filter in &config.filters {
        let covers = filter.covers.iter().map(cover).collect::<anyhow::Result<_>>()?;
        filters.push(Filter { memo: filter.memo.clone(), covers, action: filter.action, on: filter.on });
    }
    let mut require_tag = Vec::new();
    for domain in &config.domains {
        require_tag.push((a_label(&domain.name)?, domain.require_tag));
    }
    Ok(Policy {
        filters,
        require_tag,
        exempt_recipients: config.policy.exempt_recipients.clone(),
        overused_in_flood: config.policy.overused_in_flood,
    })
}

pub(super) fn reputation(config: &Config) -> reputation::Reputation {
    let of = &config.reputation;
    let limits = reputation::Limits {
        newcomers_max: of.newcomers_max,
        credited_max: of.credited_max,
        connections_per_sec: of.connections_per_sec,
        connections_burst: of.connections_burst,
        unproven_per_sec: of.unproven_per_sec,
        unproven_burst: of.unproven_burst,
        over_budget_strikes: of.over_budget_strikes,
        ban_first: Duration::from_secs(of.ban_first_secs),
        ban_max: Duration::from_secs(of.ban_max_secs),
        ban_flood_max: Duration::from_secs(of.ban_flood_max_secs),
        flood_unproven_max: of.flood_unproven_max,
        credit_half_life: Duration::from_secs(u64::from(of.credit_half_life_days) * 86_400),
    };
    let never_ban = of.never_ban.iter().chain(&of.trusted_relays).copied().collect();
    reputation::Reputation::new(limits, never_ban)
}

pub(super) fn flood(of: &Flood) -> incident::Limits {
    incident::Limits {
        unproven_min: of.unproven_min,
        factor: of.factor,
        window: Duration::from_secs(of.window_secs),
        calm_after: Duration::from_secs(of.calm_after_secs),
    }
}

/// How long a token is believed.
pub(super) fn max_age(config: &Config) -> Duration {
    Duration::from_secs(u64::from(config.signature.max_age_days) * 86_400)
}
