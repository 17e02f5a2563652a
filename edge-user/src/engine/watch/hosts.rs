//! Whether a `Received` field names a host of ours, and whether another server received a message first.

use std::net::IpAddr;

use edge_core::mailbox::Mailbox;
use ipnet::IpNet;
use mail_parser::{HeaderName, HeaderValue, Host, Message, Received};

use crate::config::Config;

/// The operator's hosts, as far as they are known.
#[derive(Debug)]
pub(super) struct OwnHosts {
    /// In lowercase.
    names: Vec<String>,
    networks: Vec<IpNet>,
}

impl OwnHosts {
    /// The edge, the upstreams, trusted relays, and what the operator names.
    pub(super) fn of(config: &Config) -> Self {
        let mut names = vec![config.hostname.to_ascii_lowercase()];
        let mut networks: Vec<IpNet> = config.reputation.trusted_relays.clone();
        // Addresses that every network has say nothing, unless the operator names them.
        let known =
            config.inbound.listen.iter().chain(config.domains.iter().flat_map(|domain| &*domain.upstream));
        networks.extend(
            known.map(|address| address.ip().to_canonical()).filter(|ip| is_public(*ip)).map(IpNet::from),
        );
        for host in &config.watch.own_hosts {
            match host.parse::<IpNet>().or_else(|_| host.parse::<IpAddr>().map(IpNet::from)) {
                Ok(network) => networks.push(network),
                Err(_) => names.push(host.to_ascii_lowercase()),
            }
        }
        Self { names, networks }
    }

    /// The host or address of ours that the oldest `Received` field of `original` names.
    pub(super) fn in_first_received(&self, original: &Message<'_>) -> Option<String> {
        let oldest = received(original).last()?;
        let hosts =
            [&oldest.by, &oldest.from, &oldest.helo].into_iter().flatten().filter_map(|host| match host {
                Host::Name(name) => {
                    let name = name.trim_end_matches('.').to_ascii_lowercase();
                    self.has(&name).then_some(name)
                }
                Host::IpAddr(ip) => self.address(*ip),
            });
        let address = oldest.from_ip.and_then(|ip| self.address(ip));
        hosts.chain(address).next()
    }

    /// Whether a host of ours has this name, in lowercase.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|ours| ours == name)
    }

    fn address(&self, ip: IpAddr) -> Option<String> {
        let ip = ip.to_canonical();
        self.networks.iter().any(|network| network.contains(&ip)).then(|| ip.to_string())
    }
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
            watch.own_hosts = ["Shop.Example.JP", "203.0.113.0/24", "10.9.9.9"]
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
        let text: String = received
            .iter()
            .map(|field| format!("Received: {field}; Tue, 24 Nov 2026 00:00:00 +0000\r\n"))
            .collect();
        let text = text + "Subject: x\r\n\r\n";
        own().in_first_received(&MessageParser::default().parse(text.as_bytes()).unwrap())
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
