//! What remains to be done after `backstop init`, each step with the lines to copy. Those for Postfix are the lines of
//! `docs/postfix.md`, which the tests run.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::config::{Config, Domain};

/// The services of Postfix that users hand in mail at, as many as there are.
const HANDED_IN_AT: &str = r#"for service in $(postconf -M | awk '$2 == "inet" && $1 ~ /(^|:)(submissions?|smtps|587|465)$/ { print $1 }'); do"#;

/// All steps. `seen_as`: the edge's address as the mail server sees it, where that is on another host.
pub(super) fn next(
    config: &Config,
    upstream: SocketAddr,
    seen_as: Option<IpAddr>,
    output: &Path,
) -> Vec<String> {
    let output = output.display();
    // Names as the configuration has read them, which is as DNS has them.
    let record = |domain: &Domain| format!("  {}. IN MX 10 {}.", domain.name, config.hostname);
    let mx: Vec<String> = config.domains.iter().map(record).collect();
    let mut steps = vec![format!("Check it: backstop check --config {output}")];
    match seen_as {
        None => steps.extend(on_this_host(upstream)),
        Some(edge) => steps.extend(elsewhere(upstream.ip(), edge)),
    }
    steps.push(format!(
        "Let mail come here, where it does not yet; tokens need no record in DNS:\n{}",
        mx.join("\n")
    ));
    if seen_as.is_some() {
        steps.push(
            "When the record's old TTL is over, close the way past the edge. Postfix:\n  \
             postconf -P 'smtp/inet/smtpd_client_restrictions=permit_mynetworks,permit_sasl_authenticated,reject'\n  \
             systemctl reload postfix"
                .to_owned(),
        );
    }
    steps.extend([
        "Protect the network card: take the # off [xdp] and its interface; it begins by watching only."
            .to_owned(),
        format!(
            "Run it: systemctl enable --now backstop, where the service is installed (contrib/systemd); in the \
             foreground:\n  backstop run --config {output}"
        ),
        format!(
            "Watch for two weeks (backstop status --config {output}): send through the edge what looks like yours and \
             could not be proven. After 14 clean days let the filter reject:\n  \
             backstop filter edit 0 --action reject --config {output}"
        ),
    ]);
    steps
}

fn on_this_host(upstream: SocketAddr) -> [String; 2] {
    [
        format!(
            "Let your mail server take mail from outside at {upstream} only; where users hand in theirs stays as it \
             is. Postfix:\n  postconf -F 'smtp/inet/service={upstream}'\n  systemctl restart postfix\n\
             The edge hands over mail for the configured domains only.",
        ),
        format!(
            "Let outgoing mail be signed: take the # off the section [outbound]. Postfix:\n{through}\
             Does a milter sign with DKIM? Let it see your users' mail at port 10026 only, so that it signs the token \
             too; and none of what comes from the edge, whom it takes for one of yours:\n{milters}  \
             postconf -P '{upstream}/inet/smtpd_milters='\n  \
             systemctl reload postfix",
            through = through("127.0.0.1:10025", "127.0.0.1:10026", ""),
            milters = unseen_by_milters(),
        ),
    ]
}

fn elsewhere(server: IpAddr, edge: IpAddr) -> [String; 2] {
    let bits = if edge.is_ipv4() { 32 } else { 128 };
    let network = match edge {
        IpAddr::V4(edge) => format!("{edge}/{bits}"),
        IpAddr::V6(edge) => format!("[{edge}]/{bits}"),
    };
    let (listens, back) = (SocketAddr::new(edge, 10025), SocketAddr::new(server, 10026));
    [
        format!(
            "Let your mail server at {server} trust the edge, which it sees as {edge}. Postfix, there:\n  \
             postconf -e \"mynetworks = $(postconf -xh mynetworks) {network}\"\n  systemctl reload postfix\n\
             Exim, there: dc_relay_nets (docs/exim.md). The edge hands over mail for the configured domains only. In \
             firewalls let {edge} reach ports 25 and 10026 of {server}, and {server} port 10025 of {edge}; nobody \
             else needs those, once the record below names the edge.",
        ),
        format!(
            "Let outgoing mail be signed: take the # off the section [outbound]. Postfix, there:\n{through}\
             Does a milter sign with DKIM? Let it see your users' mail at port 10026 only, so that it signs the token \
             too:\n{milters}  systemctl reload postfix",
            through = through(&listens.to_string(), &back.to_string(), &format!("-o mynetworks={network} ")),
            milters = unseen_by_milters(),
        ),
    ]
}

/// What sends users' mail through the edge, and takes it back.
fn through(edge: &str, back: &str, options: &str) -> String {
    let (host, port) = edge.rsplit_once(':').unwrap_or((edge, "10025"));
    // Postfix has addresses of both families in brackets there.
    let edge = format!("[{}]:{port}", host.trim_matches(['[', ']']));
    format!(
        "  {HANDED_IN_AT}\n      postconf -P \"$service/inet/content_filter=smtp:{edge}\"\n  done\n  \
         postconf -P 'pickup/unix/content_filter=smtp:{edge}'\n  \
         postconf -Me '{back}/inet = {back} inet n - n - - smtpd {options}-o content_filter= \
         -o receive_override_options=no_address_mappings \
         -o smtpd_recipient_restrictions=permit_mynetworks,reject'\n  \
         systemctl restart postfix\n"
    )
}

fn unseen_by_milters() -> String {
    format!(
        "  {HANDED_IN_AT}\n      postconf -P \"$service/inet/receive_override_options=no_milters\"\n  done\n  \
         postconf -P 'pickup/unix/receive_override_options=no_milters'\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(seen_as: Option<&str>, upstream: &str) -> String {
        let text = format!(
            "hostname = \"mx.example.jp\"\ninbound.listen = [\"192.0.2.25:25\"]\nsignature.keys = \"/k\"\n[[domain]]\n\
             name = \"example.jp\"\nupstream = {upstream:?}\n"
        );
        let config = crate::config::parse(&text, Path::new("/x")).expect("it is sound").config;
        let seen_as = seen_as.map(|address| address.parse().unwrap());
        next(&config, upstream.parse().unwrap(), seen_as, Path::new("/x")).join("\n")
    }

    #[test]
    fn its_lines_for_postfix_are_those_of_the_page_that_the_tests_run() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/postfix.md");
        let page = std::fs::read_to_string(page).unwrap();
        let here = steps(None, "127.0.0.1:25");
        let elsewhere = steps(Some("192.0.2.25"), "192.0.2.30:25");
        for (steps, count) in [(&here, 11), (&elsewhere, 11)] {
            let commands = ["postconf ", "for ", "done"];
            let lines = steps.lines().map(str::trim);
            let lines: Vec<&str> =
                lines.filter(|line| commands.iter().any(|begin| line.starts_with(begin))).collect();
            assert_eq!(lines.len(), count, "{steps}");
            for line in lines {
                assert!(page.lines().any(|there| there.trim() == line), "the page has no such line: {line}");
            }
        }
        assert!(!elsewhere.contains("127.0.0.1"), "{elsewhere}");
        assert!(!here.contains("192.0.2"), "{here}");
    }

    #[test]
    fn addresses_of_the_new_family_stand_in_brackets_where_postfix_wants_them() {
        let steps = steps(Some("2001:db8::25"), "[2001:db8::30]:25");
        for wanted in [
            "mynetworks) [2001:db8::25]/128\"",
            "content_filter=smtp:[2001:db8::25]:10025'",
            "'[2001:db8::30]:10026/inet = [2001:db8::30]:10026 inet n - n - - smtpd -o mynetworks=[2001:db8::25]/128 -o",
        ] {
            assert!(steps.contains(wanted), "{wanted}: {steps}");
        }
    }
}
