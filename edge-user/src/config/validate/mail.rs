//! Listeners, the way out, domains, signatures.

use std::collections::HashMap;
use std::net::SocketAddr;

use edge_core::message::secret_field::SecretField;
use edge_core::policy::RequireTag;

use super::{at_least, at_most};
use crate::config::convert::domain_name;
use crate::config::reader::Reader;
use crate::config::{Config, Servers};

/// The longest that a token may be believed, in days: far beyond every queue, far below what overflows.
const MAX_AGE_DAYS_MAX: u32 = 365;

pub(super) fn validate(config: &mut Config, reader: &mut Reader<'_>) {
    match domain_name(&config.hostname) {
        Some(name) => config.hostname = name,
        None => reader.error(
            "hostname",
            format!("expected a host's name, like \"mx.example.com\", found \"{}\"", config.hostname),
        ),
    }
    listeners(config, reader);
    way_out(config, reader);
    domains(config, reader);
    at_least(reader, "signature.max_age_days", config.signature.max_age_days, 1);
    at_most(reader, "signature.max_age_days", config.signature.max_age_days, ("a year", MAX_AGE_DAYS_MAX));
    at_most(reader, "policy.grace_days", config.policy.grace_days, ("a year", MAX_AGE_DAYS_MAX));
    at_least(reader, "signature.uses_max", config.signature.uses_max, 1);
    if config.signature.max_age_days < 8 {
        reader.warning(
            "signature.max_age_days",
            "a bounce may come after queues of 5 to 7 days on two hops: 16 days lose none",
        );
    }
}

/// Every listener of the edge, with its path.
fn all_listeners(config: &Config) -> Vec<(String, SocketAddr)> {
    let inbound = config.inbound.listen.iter().enumerate();
    let outbound = config.outbound.iter().flat_map(|outbound| outbound.listen.iter().enumerate());
    inbound
        .map(|(place, address)| (format!("inbound.listen[{place}]"), *address))
        .chain(outbound.map(|(place, address)| (format!("outbound.listen[{place}]"), *address)))
        .collect()
}

fn listeners(config: &Config, reader: &mut Reader<'_>) {
    if config.inbound.listen.is_empty() {
        reader.error("inbound.listen", "expected at least one address with a port, like [\"0.0.0.0:25\"]");
    }
    let listeners = all_listeners(config);
    for (place, (path, address)) in listeners.iter().enumerate() {
        if address.port() == 0 {
            reader.error(path, "expected a port from 1 to 65535, found 0");
        }
        if let Some((other, _)) = listeners[..place].iter().find(|(_, other)| meet(*other, *address)) {
            reader.error(path, format!("{address} is listened at already by {other}"));
        }
    }
}

fn way_out(config: &Config, reader: &mut Reader<'_>) {
    let Some(outbound) = &config.outbound else { return };
    if outbound.listen.is_empty() {
        reader
            .error("outbound.listen", "expected at least one address with a port, or no section [outbound]");
    }
    if outbound.networks.is_empty() {
        reader
            .error("outbound.networks", "expected at least one network: from no network, no mail can go out");
    }
    for (place, network) in outbound.networks.iter().enumerate() {
        if network.prefix_len() == 0 {
            reader.error(
                &format!("outbound.networks[{place}]"),
                format!("{network} is everybody: this would make an open relay; name your own servers"),
            );
        }
    }
    hops(config, "outbound.next_hop", &outbound.next_hop, reader);
    for (place, tenant) in outbound.tenants.iter().enumerate() {
        let path = |key: &str| format!("outbound.tenant[{place}].{key}");
        if tenant.networks.is_empty() {
            reader.error(&path("networks"), "expected at least one network that you share with others");
        }
        if !SecretField::may_be_named(&tenant.header) {
            let text = "expected a header field of your own, like \"Backstop-Tenant\": it is taken off";
            reader.error(&path("header"), format!("{text}; found \"{}\"", tenant.header));
        }
    }
}

fn domains(config: &mut Config, reader: &mut Reader<'_>) {
    if config.domains.is_empty() {
        reader.error("domain", "expected at least one section [[domain]]");
    }
    let mut places: HashMap<String, usize> = HashMap::new();
    for place in 0..config.domains.len() {
        let domain = &config.domains[place];
        let path = |key: &str| format!("domain[{place}].{key}");
        hops(config, &path("upstream"), &domain.upstream, reader);
        match domain.require_tag {
            RequireTag::Never => {}
            RequireTag::Flood | RequireTag::Always if domain.tag => {}
            RequireTag::Flood | RequireTag::Always => reader.warning(
                &path("require_tag"),
                "bounces without a tag are refused, but tag = false: no outgoing mail gets one here, so unless your \
                 own server tags with the same key, every bounce is refused",
            ),
        }
        match domain_name(&domain.name) {
            None => {
                let text = format!("expected a domain name, like \"example.com\", found \"{}\"", domain.name);
                reader.error(&path("name"), text);
            }
            Some(name) => {
                if let Some(first) = places.insert(name.clone(), place) {
                    reader.error(&path("name"), format!("{name} stands in domain[{first}] already"));
                }
                config.domains[place].name = name;
            }
        }
    }
}

/// Servers that mail is handed to.
fn hops(config: &Config, path: &str, servers: &Servers, reader: &mut Reader<'_>) {
    match &**servers {
        [only] => hop(config, path, *only, reader),
        several => {
            for (place, address) in several.iter().enumerate() {
                hop(config, &format!("{path}[{place}]"), *address, reader);
            }
        }
    }
}

/// A server that mail is handed to: it must not be the edge itself.
fn hop(config: &Config, path: &str, address: SocketAddr, reader: &mut Reader<'_>) {
    if address.port() == 0 {
        reader.error(path, "expected a port from 1 to 65535, found 0");
    }
    if address.ip().is_unspecified() {
        reader.error(path, format!("{address} is no server's address; name one, like \"127.0.0.1:25\""));
        return;
    }
    for (listener, listens) in all_listeners(config) {
        if same(address, listens) {
            reader.error(path, format!("{address} is the edge's own {listener}: mail would go in a circle"));
        }
    }
}

/// Whether two listeners cannot both be bound.
fn meet(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port()
        && (a.ip() == b.ip()
            || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified())))
}

/// Whether who connects to `address` arrives at a listener: surely so for the same address, and for the host's own
/// loopback where it listens everywhere (an IPv6 listener takes no IPv4).
fn same(address: SocketAddr, listener: SocketAddr) -> bool {
    let everywhere = listener.ip().is_unspecified() && listener.is_ipv4() == address.is_ipv4();
    address.port() == listener.port()
        && (address.ip() == listener.ip() || (everywhere && address.ip().is_loopback()))
}
