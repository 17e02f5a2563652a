//! TLS: names, and servers that nothing is handed to.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::at_least;
use crate::config::convert::domain_name;
use crate::config::reader::Reader;
use crate::config::{Config, TlsMode};

pub(super) fn validate(config: &mut Config, reader: &mut Reader<'_>) {
    let hops = config.servers();
    let mut places: HashMap<SocketAddr, usize> = HashMap::new();
    for (place, upstream) in config.tls.upstreams.iter_mut().enumerate() {
        let path = |key: &str| format!("tls.upstream[{place}].{key}");
        if !hops.contains(&upstream.address) {
            let text = format!("no `upstream` and no `next_hop` is {}", upstream.address);
            reader.error(&path("address"), text);
        }
        if let Some(first) = places.insert(upstream.address, place) {
            let text = format!("{} stands in tls.upstream[{first}] already", upstream.address);
            reader.error(&path("address"), text);
        }
        match upstream.name.as_deref().map(|name| (domain_name(name), name)) {
            None => {}
            Some((Some(name), _)) => upstream.name = Some(name),
            Some((None, name)) => {
                let text = format!("expected a host's name, like \"mail.example.com\", found \"{name}\"");
                reader.error(&path("name"), text);
            }
        }
        if upstream.ca_file.is_some() && upstream.mode != TlsMode::Verified {
            let text = "nothing is verified by it: the mode is not \"verified\"";
            reader.warning(&path("ca_file"), text);
        }
    }
    for (place, certificate) in config.tls.certificates.iter_mut().enumerate() {
        for (nth, text) in certificate.names.iter_mut().enumerate() {
            let (star, name) = match text.strip_prefix("*.") {
                Some(name) => ("*.", name),
                None => ("", text.as_str()),
            };
            match domain_name(name) {
                Some(name) => *text = format!("{star}{name}"),
                None => {
                    let expected = "expected a host's name, like \"mx.example.com\" or \"*.example.com\"";
                    let path = format!("tls.certificate[{place}].names[{nth}]");
                    reader.error(&path, format!("{expected}, found \"{text}\""));
                }
            }
        }
    }
    at_least(reader, "tls.handshake_secs", config.tls.handshake_secs, 1);
    at_least(reader, "tls.handshakes_max", config.tls.handshakes_max, 1);
    if config.outbound.as_ref().is_some_and(|outbound| outbound.starttls)
        && config.tls.certificates.is_empty()
    {
        reader.error(
            "outbound.starttls",
            "there is no certificate to offer it with: name one, [[tls.certificate]]",
        );
    }
}
