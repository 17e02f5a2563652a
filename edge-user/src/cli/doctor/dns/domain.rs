//! A domain: where its mail goes (MX), and what it publishes against forgery (SPF, DMARC).

use std::net::IpAddr;

use super::{Answer, Edge};
use crate::cli::doctor::finding::Findings;

/// Octets of a record that are shown.
const SHOWN_MAX: usize = 100;

/// What the DNS says of a domain.
pub(super) struct Domain {
    pub(super) name: String,
    /// It has no MX: the exchange is the domain itself.
    pub(super) implicit: bool,
    /// By preference.
    pub(super) exchanges: Answer<Exchange>,
    pub(super) spf: Answer<String>,
    pub(super) dmarc: Answer<String>,
}

/// A host that takes a domain's mail.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) preference: u16,
    /// In lower case, without the dot at its end; empty: the null MX (RFC 7505).
    pub(super) host: String,
    pub(super) addresses: Answer<IpAddr>,
}

impl Exchange {
    /// Whether it is the edge.
    fn is(&self, edge: &Edge) -> bool {
        let at = |address: &IpAddr| edge.addresses.contains(address);
        self.host == edge.hostname || self.addresses.iter().flatten().any(at)
    }

    /// Whether it is one of the operator's own relays, which hands its mail to the edge.
    fn is_trusted(&self, edge: &Edge) -> bool {
        let trusted = |address: &IpAddr| edge.trusted.iter().any(|prefix| prefix.contains(address));
        self.addresses.as_ref().is_ok_and(|all| !all.is_empty() && all.iter().all(trusted))
    }
}

fn words(exchanges: &[&Exchange]) -> String {
    let word = |exchange: &&Exchange| format!("{} ({})", exchange.host, exchange.preference);
    exchanges.iter().map(word).collect::<Vec<_>>().join(", ")
}

impl Domain {
    /// One about which the DNS does not answer.
    pub(super) fn unasked(name: &str, said: String) -> Self {
        Self {
            name: name.to_owned(),
            implicit: false,
            exchanges: Err(said),
            spf: Ok(Vec::new()),
            dmarc: Ok(Vec::new()),
        }
    }

    pub(super) fn judge(&self, edge: &Edge, findings: &mut Findings) {
        let check = format!("MX of {}", self.name);
        match &self.exchanges {
            Err(said) => {
                findings.careful(
                    check,
                    said,
                    "is the name server in /etc/resolv.conf the right one, and reachable?",
                );
            }
            Ok(exchanges) => {
                self.judge_exchanges(check, exchanges, edge, findings);
                self.judge_spf(findings);
                self.judge_dmarc(findings);
            }
        }
    }

    fn judge_exchanges(&self, check: String, all: &[Exchange], edge: &Edge, findings: &mut Findings) {
        let name = &self.name;
        let should = format!("{name}. MX 10 {}.", edge.hostname);
        if self.implicit
            && all.iter().all(|exchange| matches!(&exchange.addresses, Ok(none) if none.is_empty()))
        {
            return findings.bad(check, "none, and no address either: no mail reaches it", should);
        }
        if all.iter().any(|exchange| exchange.host.is_empty()) {
            return findings.bad(
                check,
                "a null MX (RFC 7505): the domain says that it takes no mail",
                should,
            );
        }
        let (ours, others): (Vec<_>, Vec<_>) = all.iter().partition(|exchange| exchange.is(edge));
        let past: Vec<_> = others.iter().copied().filter(|exchange| !exchange.is_trusted(edge)).collect();
        let found = if self.implicit {
            format!("none, so its own address takes its mail: {name}")
        } else {
            words(&all.iter().collect::<Vec<_>>())
        };
        if ours.is_empty() {
            return findings.bad(
                check,
                format!("{found}: its mail does not pass this edge ({})", edge.hostname),
                format!("when it shall: {should}"),
            );
        }
        if !past.is_empty() {
            return findings.careful(
                check,
                format!("{found}: what goes to {} bypasses the edge", words(&past)),
                "whoever forges takes the backup. Take it out of the DNS, or let it hand its mail to the edge and name \
                 its addresses in reputation.trusted_relays",
            );
        }
        let nowhere: Vec<_> = all
            .iter()
            .filter(|exchange| matches!(&exchange.addresses, Ok(none) if none.is_empty()))
            .collect();
        if !nowhere.is_empty() {
            return findings.bad(
                check,
                format!("{found}: {} has no address", words(&nowhere)),
                format!("{}. A ADDRESS, or another MX", nowhere[0].host),
            );
        }
        findings.good(
            check,
            if others.is_empty() { found } else { format!("{found}: the edge, and trusted relays") },
        );
    }

    fn judge_spf(&self, findings: &mut Findings) {
        let check = format!("SPF of {}", self.name);
        let advice = "what is forged easily is forged, and bounces here: v=spf1 with the addresses that send, and -all";
        match self.spf.as_deref() {
            Err(said) => findings.careful(check, said, "ask again"),
            Ok([]) => findings.careful(check, "none", advice),
            Ok([one]) if one.split_ascii_whitespace().any(|term| term == "+all" || term == "all") => {
                findings.careful(check, format!("{}: everybody may send for it", shown(one)), advice);
            }
            Ok([one]) => findings.good(check, shown(one)),
            Ok(more) => findings.careful(
                check,
                format!("{} records: receivers take that for an error (RFC 7208 section 4.5)", more.len()),
                "leave one",
            ),
        }
    }

    fn judge_dmarc(&self, findings: &mut Findings) {
        let check = format!("DMARC of {}", self.name);
        match self.dmarc.as_deref() {
            Err(said) => findings.careful(check, said, "ask again"),
            Ok([]) => findings.careful(
                check,
                "none",
                format!(
                    "receivers cannot tell what is forged: _dmarc.{}. TXT \"v=DMARC1; p=none; rua=...\"",
                    self.name
                ),
            ),
            Ok([one]) => findings.good(check, shown(one)),
            Ok(more) => findings.careful(check, format!("{} records: none counts", more.len()), "leave one"),
        }
    }
}

fn shown(record: &str) -> String {
    match record.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{} ...", &record[..end]),
        None => record.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::State::{self, Bad, Careful, Good};

    fn edge() -> Edge {
        Edge {
            hostname: "mx.example.jp".into(),
            addresses: vec!["192.0.2.25".parse().unwrap()],
            trusted: vec!["198.51.100.0/24".parse().unwrap()],
        }
    }

    fn exchange(preference: u16, host: &str, addresses: &[&str]) -> Exchange {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Exchange { preference, host: host.into(), addresses: Ok(addresses) }
    }

    #[test]
    fn exchanges_are_judged_by_whether_mail_passes_the_edge() {
        let own = exchange(10, "mx.example.jp", &["192.0.2.25"]);
        let type_of = |implicit, exchanges| Domain {
            name: "example.jp".into(),
            implicit,
            exchanges,
            spf: Ok(vec!["v=spf1 -all".into()]),
            dmarc: Ok(vec!["v=DMARC1; p=reject".into()]),
        };
        type Row = (&'static str, bool, Answer<Exchange>, State, &'static str);
        let rows: Vec<Row> = vec![
            ("by name", false, Ok(vec![own.clone()]), Good, "mx.example.jp (10)"),
            (
                "by address",
                false,
                Ok(vec![exchange(5, "in.example.jp", &["192.0.2.25"])]),
                Good,
                "in.example.jp",
            ),
            (
                "by name behind a router",
                false,
                Ok(vec![exchange(5, "mx.example.jp", &["203.0.113.1"])]),
                Good,
                "mx",
            ),
            (
                "backup",
                false,
                Ok(vec![own.clone(), exchange(20, "backup.example", &["203.0.113.9"])]),
                Careful,
                "what goes to backup.example (20) bypasses",
            ),
            (
                "trusted backup",
                false,
                Ok(vec![own.clone(), exchange(20, "backup.example", &["198.51.100.9"])]),
                Good,
                "trusted relays",
            ),
            (
                "backup without an address that could be trusted",
                false,
                Ok(vec![own.clone(), exchange(20, "backup.example", &[])]),
                Careful,
                "bypasses",
            ),
            (
                "elsewhere",
                false,
                Ok(vec![exchange(10, "mail.example.jp", &["203.0.113.1"])]),
                Bad,
                "does not pass this edge",
            ),
            ("no address", false, Ok(vec![exchange(10, "mx.example.jp", &[])]), Bad, "has no address"),
            ("none", true, Ok(vec![exchange(0, "example.jp", &[])]), Bad, "no mail reaches it"),
            (
                "implicit, here",
                true,
                Ok(vec![exchange(0, "example.jp", &["192.0.2.25"])]),
                Good,
                "its own address",
            ),
            (
                "implicit, elsewhere",
                true,
                Ok(vec![exchange(0, "example.jp", &["203.0.113.1"])]),
                Bad,
                "not pass",
            ),
            ("null", false, Ok(vec![exchange(0, "", &[])]), Bad, "RFC 7505"),
            ("unanswered", false, Err("the resolver does not answer".into()), Careful, "does not answer"),
        ];
        for (name, implicit, exchanges, state, words) in rows {
            let answered = exchanges.is_ok();
            let mut findings = Findings::of("dns");
            type_of(implicit, exchanges).judge(&edge(), &mut findings);
            assert_eq!(findings.states()[0], (state, "MX of example.jp"), "{name}: {}", findings.text());
            assert!(findings.text().contains(words), "{name}: {}", findings.text());
            assert_eq!(findings.states().len(), if answered { 3 } else { 1 }, "{name}");
        }
    }

    #[test]
    fn records_against_forgery_are_shown_and_told_when_they_are_of_no_use() {
        let list = |records: &[&str]| Ok(records.iter().map(ToString::to_string).collect());
        for (spf, dmarc, expected) in [
            (list(&["v=spf1 mx -all"]), list(&["v=DMARC1; p=none"]), [Good, Good]),
            (list(&["v=spf1 +all"]), list(&[]), [Careful, Careful]),
            (list(&[]), list(&["v=DMARC1; p=none", "v=DMARC1; p=reject"]), [Careful, Careful]),
            (list(&["v=spf1 a -all", "v=spf1 mx -all"]), list(&["v=DMARC1; p=reject"]), [Careful, Good]),
            (Err("late".into()), Err("late".into()), [Careful, Careful]),
        ] {
            let domain =
                Domain { name: "example.jp".into(), implicit: false, exchanges: Ok(vec![]), spf, dmarc };
            let mut findings = Findings::of("dns");
            domain.judge_spf(&mut findings);
            domain.judge_dmarc(&mut findings);
            let states: Vec<_> = findings.states().into_iter().map(|(state, _)| state).collect();
            assert_eq!(states, expected, "{}", findings.text());
        }
        assert_eq!(shown(&"ü".repeat(200)).chars().count(), SHOWN_MAX + 4);
    }
}
