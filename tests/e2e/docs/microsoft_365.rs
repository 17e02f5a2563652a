//! The edge's half of the page for Microsoft 365: another server in Microsoft's place, and real TLS between.

use anyhow::{Result, ensure};
use lab::edge::{Edge, Settings};
use lab::mta::{MailServer, Operator, Software};
use lab::program::Profile;
use lab::{EDGE, EDGE_INSIDE, Host, Lab};

use super::{PATIENCE, POSTFIX_STATE, Page, a_bounce_comes_back, check, done_undone_and_done, stranger};
use crate::message;
use crate::readme::{FAR, postfix_on_the_internet};

/// Certificates in a folder of the lab: the edge's, and clients' of the right and of other names and issuers.
const CERTIFICATES: &str = r#"set -eu
cd /run/lab && mkdir -p certificates && cd certificates
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
ca() { key "$1"; openssl req -x509 -new -key "$1.key" -subj "/CN=$1" -days 2 -out "$1.crt"; }
leaf() { key "$1"; openssl req -new -key "$1.key" -subj "/CN=$2" |
    openssl x509 -req -CA "$3.crt" -CAkey "$3.key" -CAcreateserial -days 2 -out "$1.crt" \
        -extfile <(echo "subjectAltName = DNS:$2"); }
ca ours; ca foreign
leaf edge edge-out.example.jp ours
leaf microsoft mail.protection.outlook.com ours
leaf other mail.protection.example ours
leaf forged mail.protection.outlook.com foreign
cat edge.key edge.crt >edge.pem
"#;

/// What a client hears that says all this over TLS with a certificate, or without one.
fn over_tls(lab: &Lab, certificate: Option<&str>, header: &str) -> Result<String> {
    let dialogue = format!(
        "EHLO outlook.example\r\nMAIL FROM:<alice@example.jp>\r\nRCPT TO:<nobody-here@{}>\r\nDATA\r\n{header}{}.\r\nQUIT\r\n",
        FAR.domain(),
        message("microsoft").replace('\n', "\r\n"),
    );
    let address = format!("{EDGE_INSIDE}:25");
    let mut argv = vec!["openssl", "s_client", "-quiet", "-starttls", "smtp", "-connect", &address];
    let files =
        certificate.map(|name| ["crt", "key"].map(|end| format!("/run/lab/certificates/{name}.{end}")));
    if let Some([certificate, key]) = &files {
        argv.extend(["-cert", certificate, "-key", key]);
    }
    let said = lab.run_with_input(Host::Mta, &argv, dialogue.as_bytes())?;
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}

#[test]
fn the_edges_half_of_the_page_for_microsoft_365_works() -> Result<()> {
    let page = Page::read("microsoft-365")?;
    let lab = Lab::up("docs-microsoft-365")?;
    // In Microsoft's place: a server that knows its mailboxes, at the name that Postfix was given.
    let microsoft = lab.operator(&Operator { behind_edge: false, ..Operator::default() })?;
    // It answers Postfix at the address that the page has it come from.
    let route = ["ip", "route", "add", &EDGE.to_string(), "via", &EDGE_INSIDE.to_string()];
    ensure!(lab.run(Host::Mta, &route)?.status.success(), "{route:?}");
    let far = lab.far(FAR, EDGE.into())?;
    let steps = page.block("sh", 0)?.replace(
        "example.jp=smtp:[example-jp.mail.protection.outlook.com]",
        &format!("example.jp=smtp:[{}], {}=smtp:[{}]", lab::MTA, FAR.domain(), FAR.address()),
    );
    let no_dns = "postconf -e 'smtp_dns_support_level = disabled' 'myhostname = relay.example.jp'\n";
    let changes = done_undone_and_done(&steps, &page.block("sh", 3)?, POSTFIX_STATE);
    let before = format!("{}{no_dns}", postfix_on_the_internet());
    let postfix = lab.with_changes(Software::Postfix, &format!("{before}{changes}"))?;

    let secret_file = "/run/lab/tenant.secret";
    let secret = page.block("sh", 1)?.replace("/etc/backstop/tenant.secret", secret_file);
    let secret = secret.replace("-g backstop", "-g root"); // The lab's edge runs as root.
    let made = lab.run(Host::Edge, &["bash", "-euc", &secret])?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let secret = std::fs::read_to_string(lab.path("tenant.secret"))?.trim().to_owned();

    let outbound = page.block("toml", 0)?.replace("/etc/backstop/tenant.secret", secret_file);
    let settings = Settings::default()
        .set("inbound.listen", vec![format!("{EDGE}:25")])
        .set("domain.0.upstream", "127.0.0.1:25")
        .merge(&outbound);
    let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
    check(&page, &edge, &lab, 2)?;

    // The way in: known mailboxes are taken, others refused in the session.
    let said = |edge: &Edge| format!("{}\n{}", edge.process().tail(20), postfix.log());
    let reply = stranger(&lab, "somebody@elsewhere.example", "alice@example.jp")?;
    ensure!(reply.code == 250, "{reply}\n{}", said(&edge));
    let hello = microsoft.mailbox("alice@example.jp").wait_for_one("Subject: hello", PATIENCE)?;
    // By the address that the page tells Microsoft, of the several that the host has.
    ensure!(hello.contains(&format!("[{EDGE}]")), "{hello}");
    let reply = stranger(&lab, "somebody@elsewhere.example", "unknown@example.jp")?;
    ensure!(reply.code == 550, "{reply}\n{}", said(&edge));

    // The way out, through stunnel: the right certificate and the right secret, both.
    let stunnel = tls(&lab, &page)?;
    let field = format!("Backstop-Tenant: {secret}\r\n");
    for (certificate, header, answer) in [
        (Some("microsoft"), "", Some("550 5.7.1 Many share your network")),
        (Some("microsoft"), "Backstop-Tenant: 0123456789abcdef0123456789abcdef\r\n", Some("550 5.7.1 Many")),
        (Some("other"), &field, None),
        (Some("forged"), &field, None),
        (None, &field, None),
        (Some("microsoft"), &field, Some("250 2.0.0 Ok: queued")),
    ] {
        let heard = over_tls(&lab, certificate, header)?;
        match answer {
            Some(answer) => {
                ensure!(heard.contains(answer), "{certificate:?} {header}: {heard}\n{}", stunnel.log())
            }
            // Nobody gets as far as a word of the edge's over TLS.
            None => {
                ensure!(!heard.contains("edge.example.jp"), "{certificate:?}: {heard}\n{}", stunnel.log())
            }
        }
    }
    a_bounce_comes_back(&edge, &|| format!("{}\n{}", said(&edge), far.log()))?;
    let bounce = microsoft.mailbox("alice@example.jp").wait_for_one("X-Returned: microsoft", PATIENCE)?;
    ensure!(!bounce.contains("Backstop-Tenant") && !bounce.contains(&secret), "the secret leaked: {bounce}");
    let counters = edge.json(&lab, &["status"])?["counters"].clone();
    assert_eq!((&counters["refused_tenants"], &counters["signed"]), (&2.into(), &1.into()));
    edge.stop()
}

/// The page's stunnel, with certificates of a CA of our own.
fn tls(lab: &Lab, page: &Page) -> Result<MailServer> {
    let made = lab.run(Host::Edge, &["bash", "-c", CERTIFICATES])?;
    ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    let file = |name: &str| std::fs::read_to_string(lab.path(format!("certificates/{name}")));
    let conf = page
        .block("ini", 0)?
        .replace("192.0.2.26:25", &format!("{EDGE_INSIDE}:25"))
        .replace("/etc/ssl/certs/ca-certificates.crt", "/etc/stunnel/ours.crt");
    let files = vec![("stunnel/edge.pem", file("edge.pem")?), ("stunnel/ours.crt", file("ours.crt")?)];
    lab.stunnel(&conf, (EDGE_INSIDE, 25).into(), files)
}
