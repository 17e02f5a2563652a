//! Whether a `Received` field names a host of ours, and whether another server received a message first.
//!
//! Ours are the hosts that the configuration names. Ours are also the names by which our mail servers greeted the edge,
//! and every name in a domain of ours, but these only where the field's own author vouches for them: who it is (`by`), and
//! as whom it knows the client by its address. As what a client introduces itself is nobody's word: bots take names of
//! those in whose name they write.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use edge_core::mailbox::{Mailbox, canonical_domain};
use ipnet::IpNet;
use mail_parser::{HeaderName, HeaderValue, Host, Message, Received};

use crate::config::Config;

/// Most names that are learnt; the one that was learnt first makes room.
const LEARNT_MAX: usize = 64;

/// Ends of names that are in use everywhere (RFC 6761, 6762, 8375, and what routers and installers give). What stands before
/// them tells a host only where it has two labels, like `mx.company.local`.
const PRIVATE: [&str; 7] = ["local", "localhost", "localdomain", "lan", "home", "internal", "home.arpa"];

/// Services whose servers take the mail of many operators, and names that only documents have (RFC 2606): such a server's
/// name does not say whose mail it was.
const SHARED: [&str; 11] = [
    "outlook.com",
    "office365.com",
    "google.com",
    "gmail.com",
    "googlemail.com",
    "amazonaws.com",
    "mimecast.com",
    "pphosted.com",
    "example.com",
    "example.net",
    "example.org",
];

/// The operator's hosts, as far as they are known.
#[derive(Clone, Debug)]
pub(super) struct OwnHosts {
    /// In lowercase.
    names: Vec<String>,
    networks: Vec<IpNet>,
    /// The operator's domains, as lowercase A-labels.
    domains: Vec<String>,
    /// Names that forgers make up, as the operator says: a name, or `*.` and what it lies in.
    forged: Vec<String>,
    /// The operator's mail servers, wherever they are. A next hop may be anybody's.
    upstreams: Vec<SocketAddr>,
    /// What those, and others in networks of the operator's own, call themselves. At most [`LEARNT_MAX`].
    learnt: Vec<String>,
}

impl OwnHosts {
    /// The edge, the upstreams, trusted relays, and what the operator names.
    pub(super) fn of(config: &Config) -> Self {
        let mut names = vec![config.hostname.to_ascii_lowercase()];
        let mut networks: Vec<IpNet> = config.reputation.trusted_relays.clone();
        let upstreams = || config.domains.iter().flat_map(|domain| &*domain.upstream);
        // Addresses that every network has say nothing, unless the operator names them.
        let known = config.inbound.listen.iter().chain(upstreams());
        networks.extend(
            known.map(|address| address.ip().to_canonical()).filter(|ip| is_public(*ip)).map(IpNet::from),
        );
        for host in &config.watch.own_hosts {
            match host.parse::<IpNet>().or_else(|_| host.parse::<IpAddr>().map(IpNet::from)) {
                Ok(network) => networks.push(network),
                Err(_) => names.push(canonical(host)),
            }
        }
        Self {
            names,
            networks,
            domains: config.domains_by_name().into_keys().collect(),
            forged: config.watch.forged_hosts.iter().map(|host| pattern(host)).collect(),
            upstreams: upstreams().copied().collect(),
            learnt: Vec::new(),
        }
    }

    /// The same, with the names that `before` had learnt.
    pub(super) fn knowing(self, before: &Self) -> Self {
        Self { learnt: before.learnt.clone(), ..self }
    }

    /// The name by which a mail server at `address` is known from now on, if it is to be: a server of ours, and a name that
    /// no stranger's server has too.
    pub(super) fn to_learn(&self, address: SocketAddr, name: &str) -> Option<String> {
        if self.learnt.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return None;
        }
        let name = canonical_domain(name)?.into_owned();
        let is_ours = self.upstreams.contains(&address) || !is_public(address.ip().to_canonical());
        let is_telling = !self.is_known(&name) && is_no_default(&name) && !lies_in_any(&name, &SHARED);
        (is_ours && is_telling).then_some(name)
    }

    /// Knows a name from [`Self::to_learn`] from now on.
    pub(super) fn learn(&mut self, name: String) {
        if self.is_known(&name) {
            return;
        }
        if self.learnt.len() >= LEARNT_MAX {
            self.learnt.remove(0);
        }
        self.learnt.push(name);
    }

    /// The host or address of ours that the oldest `Received` field of `original` names.
    pub(super) fn in_first_received(&self, original: &Message<'_>) -> Option<String> {
        let oldest = received(original).last()?;
        let hosts =
            [&oldest.by, &oldest.from, &oldest.helo].into_iter().flatten().filter_map(|host| match host {
                Host::Name(name) => Some(plain(name)).filter(|name| self.has(name)),
                Host::IpAddr(ip) => self.address(*ip),
            });
        let address = oldest.from_ip.and_then(|ip| self.address(ip));
        let by = oldest.by.as_ref().and_then(|host| match host {
            Host::Name(name) => Some(plain(name)),
            Host::IpAddr(_) => None,
        });
        let by_address = oldest.from_iprev.as_deref().map(plain);
        let vouched = by.into_iter().chain(by_address);
        hosts.chain(address).chain(vouched.filter(|name| self.is_known(name) && !self.is_forged(name))).next()
    }

    /// Whether a host of ours has this name, in lowercase, whoever says it.
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|ours| ours == name) && !self.is_forged(name)
    }

    /// Whether a name, in lowercase, is one of ours where it is vouched for.
    pub(super) fn is_known(&self, name: &str) -> bool {
        let known = self.names.iter().chain(&self.learnt).any(|known| known == name);
        known || lies_in_any(name, &self.domains)
    }

    /// Whether the operator says that this name is none of his.
    fn is_forged(&self, name: &str) -> bool {
        self.forged.iter().any(|forged| match forged.strip_prefix("*.") {
            Some(domain) => name != domain && lies_in_any(name, &[domain]),
            None => forged == name,
        })
    }

    fn address(&self, ip: IpAddr) -> Option<String> {
        let ip = ip.to_canonical();
        self.networks.iter().any(|network| network.contains(&ip)).then(|| ip.to_string())
    }
}

/// A name of the configuration as fields have it.
fn canonical(name: &str) -> String {
    canonical_domain(name).map_or_else(|| name.to_ascii_lowercase(), Cow::into_owned)
}

/// The same, where `*.` may stand before it.
fn pattern(host: &str) -> String {
    host.strip_prefix("*.").map_or_else(|| canonical(host), |domain| format!("*.{}", canonical(domain)))
}

/// A host's name as it is compared.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Whether a name is one of these domains' or lies in one of them.
fn lies_in_any(name: &str, domains: &[impl AsRef<str>]) -> bool {
    domains.iter().any(|domain| {
        let rest = name.strip_suffix(domain.as_ref());
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// Whether a name is one that somebody chose for his host, and not what many hosts are called by themselves.
fn is_no_default(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let labels = name.split('.').count();
    let private =
        PRIVATE.iter().find(|end| lies_in_any(name, &[**end])).map_or(0, |end| end.split('.').count());
    let chosen = if private == 0 { 2 } else { private + 2 };
    labels >= chosen && !last.bytes().all(|octet| octet.is_ascii_digit())
}

/// The domain of the mailbox elsewhere that another server received `bounce` for before it came here: it came from
/// outside to that server, for an address that is not of ours.
pub(super) fn passed_on_from(
    bounce: &Message<'_>,
    is_ours: &(dyn Fn(&str) -> bool + Sync),
) -> Option<String> {
    received(bounce).find_map(|field| {
        field.from.as_ref()?;
        let mailbox = Mailbox::parse(field.for_.as_deref()?.trim_matches(['<', '>']))?;
        (!is_ours(mailbox.domain())).then(|| mailbox.domain().to_owned())
    })
}

fn received<'m>(message: &'m Message<'_>) -> impl DoubleEndedIterator<Item = &'m Received<'m>> {
    message.headers().iter().filter(|header| header.name == HeaderName::Received).filter_map(|header| {
        match &header.value {
            HeaderValue::Received(received) => Some(&**received),
            // Somebody else's enum: what could not be read as the field that it is.
            _ => None,
        }
    })
}

/// Whether an address belongs to one host on the Internet, and not to one in every network.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !(v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified()),
        IpAddr::V6(v6) => {
            !(v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use mail_parser::MessageParser;

    use super::*;

    fn own() -> OwnHosts {
        let text = r#"
            hostname = "mx.example.jp"
            inbound.listen = ["192.0.2.25:25", "0.0.0.0:26"]
            signature.keys = "/nowhere"
            watch.own_hosts = ["Shop.Example.JP", "203.0.113.0/24", "10.9.9.9", "ours.far.example"]
            watch.forged_hosts = ["Win7.example.jp", "*.pool.example.jp"]
            reputation.trusted_relays = ["198.51.100.7"]
            [[domain]]
            name = "example.jp"
            upstream = "127.0.0.1:25"
        "#;
        OwnHosts::of(
            &crate::config::parse(text, std::path::Path::new("test"))
                .unwrap_or_else(|e| panic!("{e}"))
                .config,
        )
    }

    fn first(received: &[&str]) -> Option<String> {
        first_known_by(&own(), received)
    }

    fn first_known_by(own: &OwnHosts, received: &[&str]) -> Option<String> {
        let text: String = received
            .iter()
            .map(|field| format!("Received: {field}; Tue, 24 Nov 2026 00:00:00 +0000\r\n"))
            .collect();
        let text = text + "Subject: x\r\n\r\n";
        own.in_first_received(&MessageParser::default().parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn only_the_oldest_field_counts_and_only_hosts_of_ours() {
        let rows: [(&[&str], Option<&str>); 9] = [
            (&["from pc ([192.0.2.99]) by shop.example.jp with ESMTP id 1"], Some("shop.example.jp")),
            (
                &["from MX.example.jp. (a [192.0.2.1]) by mx.far.example with ESMTP id 1"],
                Some("mx.example.jp"),
            ),
            (&["from pc (pc [203.0.113.9]) by mx.far.example with ESMTP id 1"], Some("203.0.113.9")),
            (&["from pc (pc [10.9.9.9]) by mx.far.example with ESMTP id 1"], Some("10.9.9.9")),
            (&["from r (r [198.51.100.7]) by mx.far.example with ESMTP id 1"], Some("198.51.100.7")),
            (&["from localhost (localhost [127.0.0.1]) by mx.far.example with ESMTP id 1"], None),
            (&["from bot (bot [192.0.2.99]) by mx.far.example with ESMTP id 1"], None),
            (
                &[
                    "from bot by shop.example.jp with ESMTP id 2",
                    "from bot (bot [192.0.2.99]) by mx.far.example with ESMTP id 1",
                ],
                None,
            ),
            (&[], None),
        ];
        for (fields, host) in rows {
            assert_eq!(first(fields).as_deref(), host, "{fields:?}");
        }
    }

    #[test]
    fn a_name_in_a_domain_of_ours_counts_where_the_fields_author_vouches_for_it() {
        let rows = [
            (
                "from pc (pc [192.0.2.9]) by mx7.sub.Example.jp (Postfix) with ESMTP id 1",
                Some("mx7.sub.example.jp"),
            ),
            ("from pc by example.jp. with ESMTP id 1", Some("example.jp")),
            ("(qmail 1 invoked by uid 33) by web.example.jp", Some("web.example.jp")),
            ("from x (web.example.jp [192.0.2.9]) by mx.far.example with ESMTP id 1", Some("web.example.jp")),
            // As what a bot introduces itself.
            ("from web.example.jp (unknown [192.0.2.9]) by mx.far.example with ESMTP id 1", None),
            ("from bot (HELO web.example.jp) (192.0.2.9) by mx.far.example with SMTP id 1", None),
            ("from pc by notexample.jp with ESMTP id 1", None),
            ("from pc by example.jp.far.example with ESMTP id 1", None),
            // What the operator says is none of his.
            ("from pc by WIN7.example.jp with ESMTP id 1", None),
            ("from pc by a.b.pool.example.jp with ESMTP id 1", None),
            ("from pc by pool.example.jp with ESMTP id 1", Some("pool.example.jp")),
            ("from pc by xwin7.example.jp with ESMTP id 1", Some("xwin7.example.jp")),
            ("from pc (pc [203.0.113.9]) by win7.example.jp with ESMTP id 1", Some("203.0.113.9")),
        ];
        for (field, host) in rows {
            assert_eq!(first(&[field]).as_deref(), host, "{field}");
        }
    }

    #[test]
    fn a_mail_server_of_ours_is_known_by_what_it_calls_itself_unless_strangers_are_called_so() {
        let upstream = "127.0.0.1:25";
        for (server, name, learnt) in [
            (upstream, "MX7.inside.example", true),
            (upstream, "mx.company.local", true),
            ("10.1.2.3:25", "relay.inside.example", true),
            ("198.51.100.9:25", "smtp.provider.example", false),
            (upstream, "localhost", false),
            (upstream, "localhost.localdomain", false),
            (upstream, "mail.local", false),
            (upstream, "mx.home.arpa", false),
            (upstream, "mailserver", false),
            (upstream, "[127.0.0.1]", false),
            (upstream, "10.0.0.1", false),
            (upstream, "ESMTP", false),
            (upstream, "", false),
            (upstream, "a.mail.protection.outlook.com", false),
            (upstream, "mail.example.com", false),
            // Known anyway.
            (upstream, "mail.example.jp", false),
            (upstream, "ours.far.example", false),
        ] {
            let mut own = own();
            let name_learnt = own.to_learn(server.parse().unwrap(), name);
            assert_eq!(name_learnt.is_some(), learnt, "{name} at {server}");
            let Some(name_learnt) = name_learnt else { continue };
            own.learn(name_learnt);
            assert_eq!(own.to_learn(server.parse().unwrap(), name), None, "once");
            let by = |own: &OwnHosts| first_known_by(own, &[&format!("from pc by {name} with ESMTP id 1")]);
            assert_eq!(by(&own), Some(name.to_ascii_lowercase()));
            let helo = format!("from {name} (unknown [192.0.2.9]) by mx.far.example with ESMTP id 1");
            assert_eq!(first_known_by(&own, &[&helo]), None, "anybody can introduce himself so");
            assert_eq!(
                by(&super::tests::own().knowing(&own)),
                Some(name.to_ascii_lowercase()),
                "after a reload"
            );
        }
    }

    #[test]
    fn servers_that_call_themselves_differently_each_time_fill_no_memory() {
        let mut own = own();
        for number in 0..3 * LEARNT_MAX {
            let name = own.to_learn("127.0.0.1:25".parse().unwrap(), &format!("mx{number}.inside.example"));
            let name = name.unwrap();
            own.learn(name.clone());
            own.learn(name);
        }
        assert_eq!(own.learnt.len(), LEARNT_MAX);
        assert!(own.is_known(&format!("mx{}.inside.example", 3 * LEARNT_MAX - 1)), "the latest stay");
    }

    #[test]
    fn who_received_a_bounce_first_for_a_mailbox_elsewhere_passed_it_on() {
        let ours = |domain: &str| domain == "example.jp";
        let from = |field: &str| {
            let text = format!("Received: {field}; Tue, 24 Nov 2026 00:00:00 +0000\r\nSubject: x\r\n\r\n");
            passed_on_from(&MessageParser::default().parse(text.as_bytes()).unwrap(), &ours)
        };
        let rows = [
            (
                "from mx.far.example (mx [192.0.2.1]) by mail.univ.example with ESMTP id 1 for <ann@univ.example>",
                Some("univ.example"),
            ),
            (
                "from mx.far.example (mx [192.0.2.1]) by mail.univ.example with ESMTP id 1 for <ann@example.jp>",
                None,
            ),
            ("by mx.far.example (Postfix) id 1", None),
            ("by mx.far.example (Postfix) id 1 for <ann@far.example>", None),
        ];
        for (field, domain) in rows {
            assert_eq!(from(field).as_deref(), domain, "{field}");
        }
    }
}
