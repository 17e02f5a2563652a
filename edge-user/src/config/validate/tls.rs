//! TLS: names, and servers that nothing is handed to.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::daemon::WAIT_SECS_MAX;
use super::{at_least, at_most};
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
    let most = ("a day in seconds", WAIT_SECS_MAX);
    at_most(reader, "tls.handshake_secs", config.tls.handshake_secs, most);
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::parse;

    /// What is said of a file that is right but for `more`.
    fn said(more: &str) -> String {
        let text = format!(
            "hostname = \"edge.example.jp\"\ninbound.listen = [\"192.0.2.1:25\"]\nsignature.keys = \"/keys\"\n\
             [[domain]]\nname = \"example.jp\"\nupstream = \"127.0.0.1:26\"\n{more}"
        );
        let problems = match parse(&text, Path::new("f")) {
            Ok(loaded) => loaded.warnings,
            Err(problems) => problems.problems,
        };
        problems.iter().map(|problem| format!("{}: {}\n", problem.key, problem.text)).collect()
    }

    #[test]
    fn a_server_that_nothing_goes_to_or_that_stands_there_twice_is_an_error() {
        let of =
            |address: &str| format!("[[tls.upstream]]\naddress = \"{address}\"\nmode = \"opportunistic\"\n");
        assert_eq!(said(&of("127.0.0.1:26")), "");
        let said_of = said(&of("127.0.0.1:27"));
        assert!(said_of.contains("no `upstream` and no `next_hop` is 127.0.0.1:27"), "{said_of}");
        let twice = said(&of("127.0.0.1:26").repeat(2));
        assert!(
            twice.contains("tls.upstream[1].address: 127.0.0.1:26 stands in tls.upstream[0] already"),
            "{twice}"
        );
        let word = said(&of("127.0.0.1:26").replace("opportunistic", "verify"));
        assert!(word.contains("`opportunistic` or `verified`"), "{word}");
    }

    #[test]
    fn names_are_host_names_and_what_verifies_nothing_is_warned_of() {
        let upstream = "[[tls.upstream]]\naddress = \"127.0.0.1:26\"\nmode = \"off\"\nname = \"a b\"\n";
        assert!(
            said(upstream).contains("tls.upstream[0].name: expected a host's name"),
            "{}",
            said(upstream)
        );
        let useless = upstream.replace("name = \"a b\"", "ca_file = \"/ca\"");
        assert!(said(&useless).contains("nothing is verified by it"), "{}", said(&useless));
        let names = |names: &str| {
            said(&format!("[[tls.certificate]]\nchain = \"/c\"\nkey = \"/k\"\nnames = [{names}]\n"))
        };
        assert_eq!(names("\"MX.example.jp\", \"*.example.jp\""), "");
        assert!(names("\"*\"").contains("names[0]: expected a host's name"), "{}", names("\"*\""));
    }

    #[test]
    fn starttls_on_the_way_out_needs_a_certificate() {
        let outbound = "[outbound]\nlisten = [\"127.0.0.1:27\"]\nnetworks = [\"127.0.0.1\"]\n\
                        next_hop = \"127.0.0.1:28\"\nstarttls = true\n";
        assert!(said(outbound).contains("there is no certificate to offer it with"), "{}", said(outbound));
        let with = format!("{outbound}[[tls.certificate]]\nchain = \"/c\"\nkey = \"/k\"\n");
        assert_eq!(said(&with), "");
    }
}
