//! What the file says, in the core's terms.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use edge_core::bounce::Kind;
use edge_core::mailbox::Mailbox;
use edge_core::policy::{Action, Cover, KindRule};
use edge_core::{incident, policy, reputation, smtp};
use ipnet::IpNet;

use super::{Config, Domain, Kinds};

impl Config {
    /// The filters and what stands beside them.
    #[must_use]
    pub fn policy(&self) -> policy::Policy {
        policy::Policy {
            filters: self
                .filters
                .iter()
                .map(|filter| policy::Filter {
                    memo: filter.memo.clone(),
                    covers: filter.covers.iter().filter_map(|text| cover(text)).collect(),
                    action: filter.action,
                    record: filter.record,
                    on: filter.on,
                })
                .collect(),
            require_tag: self
                .domains
                .iter()
                .filter_map(|domain| Some((domain_name(&domain.name)?, domain.require_tag)))
                .collect(),
            exempt_recipients: self
                .policy
                .exempt_recipients
                .iter()
                .filter_map(|text| exempt_recipient(text))
                .collect(),
            trusted_forwarders: self
                .trusted_forwarders
                .iter()
                .map(|forwarder| policy::TrustedForwarder {
                    memo: forwarder.memo.clone(),
                    networks: forwarder.networks.clone(),
                    recipients: forwarder.recipients.iter().filter_map(|text| cover(text)).collect(),
                    per_hour: forwarder.per_hour,
                })
                .collect(),
            overused_in_flood: self.policy.overused_in_flood,
            grace: policy::Grace {
                length: days(self.policy.grace_days),
                in_flood: self.policy.grace_in_flood,
            },
            kinds: self.kinds.rules(),
        }
    }

    /// Whether anything may go to the quarantine.
    pub(super) fn may_quarantine(&self) -> bool {
        let rules = self.kinds.rules();
        self.filters.iter().any(|filter| filter.action == Action::Quarantine)
            || self.policy.overused_in_flood == Action::Quarantine
            || Kind::ALL.into_iter().any(|kind| rules.of(kind) == KindRule::Quarantine)
    }

    /// All mail servers that mail is handed to, either way, each once.
    #[must_use]
    pub fn servers(&self) -> HashSet<SocketAddr> {
        let next_hops = self.outbound.iter().flat_map(|side| side.next_hop.iter());
        self.domains.iter().flat_map(|domain| domain.upstream.iter()).chain(next_hops).copied().collect()
    }

    /// The operator's domains by name (lowercase A-label).
    #[must_use]
    pub fn domains_by_name(&self) -> HashMap<String, Domain> {
        self.domains.iter().filter_map(|domain| Some((domain_name(&domain.name)?, domain.clone()))).collect()
    }

    /// The recipients that no honest sender writes to.
    #[must_use]
    pub fn traps(&self) -> HashSet<Mailbox> {
        self.reputation.traps.iter().filter_map(|text| Mailbox::parse(text)).collect()
    }

    /// How sources are judged.
    #[must_use]
    pub fn reputation_limits(&self) -> reputation::Limits {
        let settings = &self.reputation;
        reputation::Limits {
            newcomers_max: settings.newcomers_max,
            credited_max: settings.credited_max,
            bans_max: settings.bans_max,
            connections_per_sec: settings.connections_per_sec,
            connections_burst: settings.connections_burst,
            unproven_per_sec: settings.unproven_per_sec,
            unproven_burst: settings.unproven_burst,
            over_budget_strikes: settings.over_budget_strikes,
            ban_first: Duration::from_secs(settings.ban_first_secs),
            ban_max: Duration::from_secs(settings.ban_max_secs),
            ban_flood_max: Duration::from_secs(settings.ban_flood_max_secs),
            flood_unproven_max: settings.flood_unproven_max,
            credit_half_life: days(settings.credit_half_life_days),
        }
    }

    /// All prefixes that can never be banned: `never_ban` and `trusted_relays`.
    #[must_use]
    pub fn never_ban(&self) -> Vec<IpNet> {
        self.reputation.never_ban.iter().chain(&self.reputation.trusted_relays).copied().collect()
    }

    /// All prefixes that the configuration lets pass at the NIC, whoever bans them: [`Self::never_ban`] and `xdp.allow`.
    #[must_use]
    pub fn spared(&self) -> Vec<IpNet> {
        let allowed = self.xdp.iter().flat_map(|xdp| &xdp.allow).copied();
        self.never_ban().into_iter().chain(allowed).collect()
    }

    /// When a wave counts as a flood.
    #[must_use]
    pub fn flood_limits(&self) -> incident::Limits {
        incident::Limits {
            unproven_min: self.flood.unproven_min,
            factor: self.flood.factor,
            window: Duration::from_secs(self.flood.window_secs),
            calm_after: Duration::from_secs(self.flood.calm_after_secs),
        }
    }

    /// The limits of one SMTP session.
    #[must_use]
    pub fn session_limits(&self) -> smtp::Limits {
        smtp::Limits {
            line_bytes_max: self.limits.line_bytes_max,
            recipients_max: self.limits.recipients_max,
            errors_max: self.limits.errors_max,
            message_bytes_max: self.limits.message_bytes_max,
        }
    }

    /// How long a token is believed.
    #[must_use]
    pub fn token_age_max(&self) -> Duration {
        days(self.signature.max_age_days)
    }
}

impl Kinds {
    /// The rule of each kind.
    fn rules(&self) -> policy::KindRules {
        let mut rules = policy::KindRules::default();
        rules.per_hour = self.per_mailbox_per_hour;
        for kind in Kind::ALL {
            let rule = match kind {
                Kind::Unknown => self.unknown,
                Kind::Failure => self.failure,
                Kind::Delay => self.delay,
                Kind::Success => self.success,
                Kind::AutoReply => self.auto_reply,
                Kind::Receipt => self.receipt,
                Kind::Calendar => self.calendar,
                Kind::List => self.list,
                Kind::Challenge => self.challenge,
                Kind::Complaint => self.complaint,
                Kind::DmarcReport => self.dmarc_report,
                Kind::TlsReport => self.tls_report,
            };
            rules.set(kind, rule);
        }
        rules
    }
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 86_400)
}

/// A domain name as a lowercase A-label. `None`: it is none.
pub(crate) fn domain_name(text: &str) -> Option<String> {
    // An address of that domain: so what is a domain here is one in an envelope too.
    if text.contains('@') {
        return None;
    }
    Mailbox::parse(&format!("x@{text}")).map(|mailbox| mailbox.domain().to_owned())
}

/// Whom a filter covers: `*`, a domain or an address. `None`: it is none of them.
pub(super) fn cover(text: &str) -> Option<Cover> {
    match text {
        "*" => Some(Cover::All),
        _ if text.contains('@') => Mailbox::parse(text).map(Cover::Mailbox),
        _ => domain_name(text).map(Cover::Domain),
    }
}

/// An exempt recipient in canonical form: `local@` or an address. `None`: it is neither.
pub(super) fn exempt_recipient(text: &str) -> Option<String> {
    match text.strip_suffix('@') {
        Some(local) => {
            Mailbox::parse(&format!("{local}@example.com")).map(|mailbox| format!("{}@", mailbox.local()))
        }
        None => Mailbox::parse(text).map(|mailbox| mailbox.as_str().to_owned()),
    }
}
