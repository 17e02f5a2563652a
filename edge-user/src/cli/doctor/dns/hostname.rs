//! The edge's own name: its addresses, and what its addresses are called.

use std::net::IpAddr;

use super::{Answer, Edge, is_private};
use crate::cli::doctor::finding::Findings;

/// What the DNS says of it.
pub(super) struct Hostname {
    /// The name's addresses.
    pub(super) forward: Answer<IpAddr>,
    /// The names of each address that it listens at, private ones left out.
    pub(super) reverse: Vec<(IpAddr, Answer<String>)>,
}

impl Default for Hostname {
    fn default() -> Self {
        Self { forward: Err("not asked".into()), reverse: Vec::new() }
    }
}

impl Hostname {
    pub(super) fn judge(&self, edge: &Edge, findings: &mut Findings) {
        self.judge_forward(edge, findings);
        for (address, names) in &self.reverse {
            judge_reverse(*address, names, edge, findings);
        }
    }

    fn judge_forward(&self, edge: &Edge, findings: &mut Findings) {
        let name = &edge.hostname;
        let list =
            |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let public: Vec<IpAddr> =
            edge.addresses.iter().copied().filter(|address| !is_private(*address)).collect();
        match self.forward.as_deref() {
            Err(said) => findings.careful(
                "hostname",
                format!("{name}: {said}"),
                "is the name server in /etc/resolv.conf the right one, and reachable?",
            ),
            Ok([]) => findings.careful(
                "hostname",
                format!("{name} has no address"),
                match public.first() {
                    Some(address) => format!("{name}. A {address}, or set `hostname` to the name that it has"),
                    None => format!("{name}. A with its public address"),
                },
            ),
            Ok(addresses) if public.is_empty() => findings.good(
                "hostname",
                format!("{name} is {}; the edge listens at a private address behind it", list(addresses)),
            ),
            Ok(addresses) if public.iter().any(|address| addresses.contains(address)) => {
                findings.good("hostname", format!("{name} is {}", list(addresses)));
            }
            Ok(addresses) => findings.careful(
                "hostname",
                format!("{name} is {}, and the edge listens at {}", list(addresses), list(&public)),
                "right only where something in between passes port 25 on; else correct the record or `hostname`",
            ),
        }
    }
}

fn judge_reverse(address: IpAddr, names: &Answer<String>, edge: &Edge, findings: &mut Findings) {
    let check = format!("PTR of {address}");
    let advice = format!(
        "whoever gives you the address sets it to {}: matters where this address also sends mail",
        edge.hostname
    );
    match names.as_deref() {
        Err(said) => findings.careful(check, said, "ask again"),
        Ok([]) => findings.careful(check, "none", advice),
        Ok(names) if names.contains(&edge.hostname) => findings.good(check, edge.hostname.clone()),
        Ok(names) => findings.careful(check, format!("{}, not {}", names.join(", "), edge.hostname), advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::State::{self, Careful, Good};

    #[test]
    fn a_name_is_judged_by_its_addresses_and_they_by_their_names() {
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        let public = address("192.0.2.25");
        let name = |name: &str| Ok(vec![name.to_owned()]);
        type Row = (IpAddr, Answer<IpAddr>, Vec<(IpAddr, Answer<String>)>, Vec<State>);
        let rows: Vec<Row> = vec![
            (public, Ok(vec![public]), vec![(public, name("mx.example.jp"))], vec![Good, Good]),
            (public, Ok(vec![]), vec![(public, Ok(vec![]))], vec![Careful, Careful]),
            (
                public,
                Ok(vec![address("192.0.2.1")]),
                vec![(public, name("host.isp.example"))],
                vec![Careful, Careful],
            ),
            (address("10.0.0.1"), Ok(vec![public]), vec![], vec![Good]),
            (address("10.0.0.1"), Ok(vec![]), vec![], vec![Careful]),
            (public, Err("late".into()), vec![(public, Err("late".into()))], vec![Careful, Careful]),
        ];
        for (listen, forward, reverse, expected) in rows {
            let edge = Edge { hostname: "mx.example.jp".into(), addresses: vec![listen], trusted: vec![] };
            let mut findings = Findings::of("dns");
            Hostname { forward, reverse }.judge(&edge, &mut findings);
            let states: Vec<_> = findings.states().into_iter().map(|(state, _)| state).collect();
            assert_eq!(states, expected, "{}", findings.text());
        }
    }
}
