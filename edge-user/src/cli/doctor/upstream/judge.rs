//! What a mail server's answers mean for the edge.

use std::net::{IpAddr, SocketAddr};

use edge_core::smtp::Capabilities;

use super::{FOREIGN, Reply, Role, Said, Way};
use crate::cli::doctor::finding::Findings;
use crate::config::Config;

/// Words and codes by which servers refuse to relay (Postfix, Exim, Sendmail, Exchange, OpenSMTPD; RFC 3463 5.7.x).
const RELAY_REFUSED: [&str; 6] =
    ["relay", "5.7.", "denied", "not permitted", "prohibited", "invalid recipient"];

pub(super) fn judge(
    address: SocketAddr,
    role: &Role,
    said: Result<Said, String>,
    config: &Config,
    findings: &mut Findings,
) {
    let title = match (role.domains.is_empty(), role.next_hop) {
        (true, _) => format!("next hop {address}"),
        (false, false) => format!("upstream {address}"),
        (false, true) => format!("upstream and next hop {address}"),
    };
    let said = match said {
        Ok(said) => said,
        Err(error) => {
            return findings.bad(
                title,
                format!("does not serve: {error}"),
                "is it running, does it listen there, does a firewall stand between? Until then mail is answered 4xx",
            );
        }
    };
    if said.alike {
        findings.bad(
            title.clone(),
            format!(
                "it calls itself {}, as the edge does: each takes the other's mail for a loop",
                said.name
            ),
            "give the edge a `hostname` of its own (and the MX that name)",
        );
    } else {
        findings.good(title.clone(), format!("answers as {}, offers {}", said.name, offers(said.offers)));
    }
    size(&title, said.offers, config, findings);
    way(&title, address, &said.way, findings);
    if !role.domains.is_empty() {
        for (domain, reply) in &said.own {
            own(&title, domain, reply, findings);
        }
        relays(&title, &said.foreign, findings);
    } else {
        forwards(&title, &said.foreign, findings);
    }
}

fn offers(offered: Capabilities) -> String {
    let named = [
        (offered.pipelining, "PIPELINING"),
        (offered.eight_bit_mime, "8BITMIME"),
        (offered.smtputf8, "SMTPUTF8"),
        (offered.dsn, "DSN"),
        (offered.starttls, "STARTTLS (not used)"),
    ];
    let mut words: Vec<String> =
        named.into_iter().filter(|(there, _)| *there).map(|(_, name)| name.to_owned()).collect();
    words.extend(offered.size.map(|size| format!("SIZE {size}")));
    if words.is_empty() { "nothing".into() } else { words.join(", ") }
}

fn size(title: &str, offered: Capabilities, config: &Config, findings: &mut Findings) {
    let own = config.limits.message_bytes_max;
    let check = format!("largest message of {title}");
    match offered.size {
        // 0 says that there is no limit (RFC 1870 section 3).
        Some(theirs @ 1..) if theirs > own => findings.careful(
            check,
            format!("it takes {theirs} octets, the edge {own}: what lies between is refused at the edge"),
            format!("message_bytes_max = {theirs} in [limits], if that is not meant so"),
        ),
        Some(1..) => findings.good(check, "what it takes, the edge takes and offers"),
        Some(0) | None => findings.good(check, format!("it states none; the edge takes {own} octets")),
    }
}

/// Whether what goes there could be read on the way.
fn way(title: &str, address: SocketAddr, way: &Way, findings: &mut Findings) {
    let check = format!("way to {title}");
    match way {
        Way::Tls => return findings.good(check, "by TLS"),
        Way::NoTls(error) => {
            let fix = "mode = \"verified\" in its [[tls.upstream]] keeps mail back until it is right; its log says more";
            return findings.careful(check, format!("mail goes there in clear, TLS fails: {error}"), fix);
        }
        Way::Clear => {}
    }
    let near = match address.ip() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    if !near {
        findings.careful(
            check,
            "mail goes there in clear, and the address is no private one",
            "fine on a network of your own; else name it in [[tls.upstream]] with mode = \"verified\"",
        );
    }
}

/// Whether it takes mail for one of its domains.
fn own(title: &str, domain: &str, reply: &Result<Reply, String>, findings: &mut Findings) {
    let check = format!("{domain} at {title}");
    match reply {
        Err(error) => findings.careful(check, format!("not to be asked: {error}"), "its log says why"),
        Ok(Reply { code: 200..=299, .. }) => findings.good(check, format!("it takes postmaster@{domain}")),
        Ok(reply) if refuses_to_relay(reply) => findings.bad(
            check,
            format!("it does not know the domain as its own: {}", reply.text),
            format!("name {domain} among its domains (Postfix: mydestination or virtual_mailbox_domains)"),
        ),
        Ok(reply) => findings.careful(
            check,
            format!("postmaster@{domain} is refused: {}", reply.text),
            "that mailbox must be there (RFC 5321 section 4.5.1); if all recipients are refused so, look at its log",
        ),
    }
}

/// Whether an upstream relays for whoever comes from the edge's address.
fn relays(title: &str, reply: &Result<Reply, String>, findings: &mut Findings) {
    let check = format!("relaying by {title}");
    match reply {
        Err(error) => findings.careful(check, format!("not to be asked: {error}"), "its log says why"),
        Ok(Reply { code: 200..=299, .. }) => findings.careful(
            check,
            format!("it relays for the edge's address: it takes {FOREIGN}"),
            "usual where both are one host (mynetworks has 127.0.0.1). The edge passes only recipients of your own \
             domains, so nobody can use it; better still, let the port that the edge speaks to trust no address (Postfix: \
             postconf -P 'smtp/inet/smtpd_relay_restrictions=reject_unauth_destination')",
        ),
        // Debian's Postfix defers what it does not relay (defer_unauth_destination).
        Ok(reply) if refuses_to_relay(reply) => {
            findings.good(check, format!("not for the edge's address: {}", reply.text));
        }
        Ok(reply) => findings.careful(
            check,
            format!("cannot be told: to {FOREIGN} it says {}", reply.text),
            "it may refuse that address alone; look whether its list of trusted networks has the edge's address",
        ),
    }
}

/// Whether the next hop takes mail for others.
fn forwards(title: &str, reply: &Result<Reply, String>, findings: &mut Findings) {
    let check = format!("relaying by {title}");
    match reply {
        Err(error) => findings.careful(check, format!("not to be asked: {error}"), "its log says why"),
        Ok(Reply { code: 200..=299, .. }) => findings.good(check, "it takes outgoing mail from the edge"),
        Ok(reply) if refuses_to_relay(reply) => findings.bad(
            check,
            format!("it takes no outgoing mail from the edge: {}", reply.text),
            "add the edge's address to the networks that may relay there (Postfix: mynetworks)",
        ),
        Ok(reply) => findings.careful(
            check,
            format!("cannot be told: to {FOREIGN} it says {}", reply.text),
            "it may refuse that address alone; send a message through the edge and see",
        ),
    }
}

fn refuses_to_relay(reply: &Reply) -> bool {
    let text = reply.text.to_ascii_lowercase();
    RELAY_REFUSED.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::State::{self, Bad, Careful, Good};
    use crate::cli::doctor::sample;

    const RELAY_DENIED: [&str; 7] = [
        "554 5.7.1 <backstop-doctor@example.com>: Relay access denied", // Postfix
        "550 relay not permitted",                                      // Exim
        "550 5.7.1 <backstop-doctor@example.com>... Relaying denied",   // Sendmail
        "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain", // Exchange
        "550 Invalid recipient: <backstop-doctor@example.com>",         // OpenSMTPD
        "550-relay not permitted",
        "454 4.7.1 <backstop-doctor@example.com>: Relay access denied", // Postfix as Debian has it
    ];

    fn reply(text: &str) -> Result<Reply, String> {
        Ok(Reply { code: text[..3].parse().unwrap(), text: text.into() })
    }

    fn said(foreign: &str, own: &str) -> Said {
        Said {
            way: super::super::Way::Clear,
            name: "mail.example.jp".into(),
            alike: false,
            offers: Capabilities { size: Some(10 << 20), ..Capabilities::default() },
            foreign: reply(foreign),
            own: vec![("example.jp".into(), reply(own))],
        }
    }

    /// The states that differ from good.
    fn not_good(address: &str, role: &Role, said: Result<Said, String>) -> Vec<(State, String)> {
        let mut findings = Findings::of("upstream");
        judge(address.parse().unwrap(), role, said, &sample("127.0.0.1:25", ""), &mut findings);
        let list = findings.into_list().into_iter();
        list.filter(|one| one.state != Good).map(|one| (one.state, one.check)).collect()
    }

    #[test]
    fn upstreams_are_judged_by_what_they_say() {
        let role = Role { domains: vec!["example.jp".into()], next_hop: false };
        let at = "127.0.0.1:26";
        for refusal in RELAY_DENIED {
            assert_eq!(not_good(at, &role, Ok(said(refusal, "250 2.1.5 Ok"))), [], "{refusal}");
        }
        let denied = RELAY_DENIED[0];
        let title = "upstream 127.0.0.1:26";
        let rows = [
            (Ok(said("250 2.1.5 Ok", "250 2.1.5 Ok")), Careful, format!("relaying by {title}")),
            (Ok(said("550 Unrouteable address", "250 Ok")), Careful, format!("relaying by {title}")),
            (Ok(said("451 4.3.0 later", "250 Ok")), Careful, format!("relaying by {title}")),
            (Ok(said(denied, denied)), Bad, format!("example.jp at {title}")),
            (Ok(said(denied, "550 5.1.1 unknown")), Careful, format!("example.jp at {title}")),
            (Ok(Said { alike: true, ..said(denied, "250 Ok") }), Bad, title.to_owned()),
            (Err("Connection refused".into()), Bad, title.to_owned()),
            (
                Ok(Said {
                    offers: Capabilities { size: Some(1 << 40), ..Capabilities::default() },
                    ..said(denied, "250 Ok")
                }),
                Careful,
                format!("largest message of {title}"),
            ),
        ];
        for (said, state, check) in rows {
            assert_eq!(not_good(at, &role, said.clone()), [(state, check)], "{said:?}");
        }
        let far = not_good("192.0.2.1:25", &role, Ok(said(denied, "250 Ok")));
        assert_eq!(far, [(Careful, "way to upstream 192.0.2.1:25".to_owned())]);
    }

    #[test]
    fn a_next_hop_is_to_relay_where_an_upstream_is_not() {
        let role = Role { domains: vec![], next_hop: true };
        let next = |foreign| Ok(Said { own: vec![], ..said(foreign, "250 Ok") });
        let check = "relaying by next hop 127.0.0.1:10026".to_owned();
        for (foreign, expected) in [
            ("250 2.1.5 Ok", vec![]),
            (RELAY_DENIED[0], vec![(Bad, check.clone())]),
            ("550 Unrouteable address", vec![(Careful, check.clone())]),
        ] {
            assert_eq!(not_good("127.0.0.1:10026", &role, next(foreign)), expected, "{foreign}");
        }
    }
}
