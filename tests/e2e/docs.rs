//! The pages of `docs/`, word for word: their blocks are read from the file and carried out on real servers in the lab,
//! the documentation's addresses replaced by the lab's. What cannot be run here (PowerShell) must be called so.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::client::{Client, submit};
use lab::edge::{Edge, Settings};
use lab::mta::{MailServer, Operator, Software};
use lab::program::Profile;
use lab::{EDGE, EDGE_INSIDE, Host, Lab};

use crate::message;
use crate::readme::{
    FAR, SUBMISSION, a_bounce_comes_back_of_what, a_bounce_comes_back_through, exim_on_the_internet,
    in_the_lab, postfix_on_the_internet, relay, settings,
};

const PATIENCE: Duration = Duration::from_secs(90);
const SHAPE: [&str; 5] =
    ["What you get", "Steps", "What the upstream must be told", "How to check", "How to undo"];
/// Each page, with its blocks of `sh`, `toml` and `ini`: all of them are run below.
const PAGES: [(&str, [usize; 3]); 5] = [
    ("postfix", [5, 0, 0]),
    ("exim", [3, 0, 0]),
    ("upstream", [4, 0, 0]),
    ("exchange", [3, 1, 0]),
    ("microsoft-365", [4, 1, 1]),
];

struct Page(String);

impl Page {
    fn read(name: &str) -> Result<Self> {
        let path = lab::program::root().join(format!("docs/{name}.md"));
        Ok(Self(std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?))
    }

    /// The blocks of a language, in order, each with what stands before it up to the block before.
    fn blocks(&self, language: &str) -> Vec<(String, String)> {
        let parts: Vec<&str> = self.0.split("```").collect();
        let pairs = parts.chunks_exact(2);
        let blocks = pairs.filter_map(|pair| {
            let (first, block) = pair[1].split_once('\n')?;
            (first == language).then(|| (pair[0].to_owned(), block.to_owned()))
        });
        blocks.collect()
    }

    fn block(&self, language: &str, place: usize) -> Result<String> {
        let block = self.blocks(language).into_iter().nth(place);
        Ok(block.with_context(|| format!("the page has no block {place} of {language}"))?.1)
    }
}

#[test]
fn every_page_has_the_same_shape_and_every_block_is_run_or_said_not_to_be() -> Result<()> {
    for (name, counts) in PAGES {
        let page = Page::read(name)?;
        let headings: Vec<&str> = page.0.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(headings, SHAPE, "{name}");
        assert_eq!(["sh", "toml", "ini"].map(|language| page.blocks(language).len()), counts, "{name}");
        for (before, _) in page.blocks("powershell") {
            assert!(before.contains("(not run)"), "{name}: PowerShell that seems to be run, after {before}");
        }
    }
    assert!(Page::read("upstream")?.0.contains("SpamAssassin and Rspamd were not run"));
    Ok(())
}

/// Runs the page's commands under "How to check", which all must say yes.
fn check(page: &Page, edge: &Edge, lab: &Lab, place: usize) -> Result<()> {
    let block = page.block("sh", place)?;
    ensure!(block.lines().count() == 2, "commands to check by: {block}");
    for line in block.lines() {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let said = edge.command(lab, &words, b"")?;
        ensure!(said.status.success(), "{line}: {}", String::from_utf8_lossy(&said.stderr));
    }
    Ok(())
}

/// The steps, twice, undone, and done again: `state` prints what must be as before after the undoing.
fn done_undone_and_done(steps: &str, undo: &str, state: &str) -> String {
    let steps = in_the_lab(steps);
    // No server runs yet, whose queue it would be.
    let undo = in_the_lab(undo).replace("postsuper -r ALL\n", "");
    format!(
        "state() {{ {state}; }}
mkdir -p /var/backups
before=$(state)
{steps}
{steps}
[ \"$before\" != \"$(state)\" ] || {{ echo 'the steps change nothing'; exit 1; }}
{undo}
[ \"$before\" = \"$(state)\" ] || {{ echo 'not undone:'; state; exit 1; }}
rm -r /var/backups/*-before-*
{steps}
"
    )
}

const POSTFIX_STATE: &str = "postconf -n; postconf -M; postconf -P";

/// The message with this subject, the last of `sent`, came once into Postfix and once back from the edge; root got one
/// copy and one bounce of each; and every milter was asked by what comes back only.
fn only_what_comes_back_meets_a_milter(server: &MailServer, subject: &str, sent: usize) -> Result<()> {
    let lines = |all: &[&str]| {
        let log = server.process().lines();
        log.iter().filter(|line| all.iter().all(|words| line.contains(words))).count()
    };
    let delivered = || lines(&["to=<root@example.jp>", "relay=local"]);
    let deadline = Instant::now() + PATIENCE;
    while delivered() < 2 * sent && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let passes = lines(&[&format!("message-id=<{subject}@example.jp>")]);
    ensure!((passes, delivered()) == (2, 2 * sent), "{passes}, {}: {}", delivered(), server.log());
    let asked = |who| lines(&[who, "connect to Milter"]);
    ensure!((asked("handed-in/"), asked("/cleanup")) == (0, 0), "before the edge: {}", server.log());
    let sessions = lines(&["handed-back/", "]: connect from"]);
    ensure!(asked("handed-back/") == sessions && sessions >= sent, "behind the edge: {}", server.log());
    Ok(())
}

#[test]
fn the_page_for_postfix_does_what_it_says() -> Result<()> {
    let page = Page::read("postfix")?;
    let lab = Lab::up("docs-postfix")?;
    let steps = page.block("sh", 0)? + &page.block("sh", 1)? + &page.block("sh", 2)?;
    let undo = page.block("sh", 4)?;
    // Copies of what root sends; and a milter that nobody serves, so that the log says who asked it.
    let before = "postconf -e 'sender_bcc_maps = inline:{ root@example.jp=root@example.jp }' 'milter_default_action = accept' \\
    'smtpd_milters = inet:127.0.0.1:1' 'non_smtpd_milters = inet:127.0.0.1:1'
postconf -P 'submission/inet/syslog_name=handed-in'
";
    let changes = postfix_on_the_internet()
        + before
        + &done_undone_and_done(&steps, &undo, POSTFIX_STATE)
        + "postconf -P '127.0.0.1:10026/inet/syslog_name=handed-back'\n";
    let server = lab.with_changes(Software::Postfix, &changes)?;
    a_bounce_comes_back_through(&lab, &server, "127.0.0.1:10026", SUBMISSION)?;
    only_what_comes_back_meets_a_milter(&server, "readme", 1)?;
    // What programs of the host hand in (`pickup`).
    a_bounce_comes_back_of_what(&lab, &server, "127.0.0.1:10026", &|to| {
        server.run(&format!("sendmail -f root@example.jp {to} <<'END'\n{}END\n", message("pickup")))
    })?;
    only_what_comes_back_meets_a_milter(&server, "pickup", 2)?;
    let mut edge = Edge::start(&lab, &settings("127.0.0.1:10026"), Profile::Dev)?;
    check(&page, &edge, &lab, 3)?;
    edge.stop()?;

    // What was handed in meanwhile waits for the edge. It goes out without it once all is undone.
    let _far = lab.far(FAR, EDGE.into())?;
    let (host, hand_in) = SUBMISSION;
    let to = format!("later@{}", FAR.domain());
    submit(&lab, host, hand_in, "root@example.jp", &to, &message("later"))?;
    // (The copy waits, too.)
    let waits = server.process().wait_for_line(&format!("to=<{to}>, relay=none"), PATIENCE)?;
    ensure!(waits.contains("status=deferred (connect to 127.0.0.1[127.0.0.1]:10025"), "{waits}");
    let restart = "systemctl restart postfix\n";
    ensure!(undo.contains(restart), "{undo}");
    // A restart in the lab would begin with the steps again.
    server.run(&in_the_lab(&undo.replace(restart, "postfix reload\n")))?;
    server.process().wait_for_line(&format!("to=<{to}>, relay={}[", FAR.address()), PATIENCE)?;
    Ok(())
}

#[test]
fn the_page_for_exim_does_what_it_says() -> Result<()> {
    let page = Page::read("exim")?;
    let lab = Lab::up("docs-exim")?;
    let relay = relay(&lab)?;
    let state =
        "cat /etc/exim4/update-exim4.conf.conf /etc/exim4/exim4.conf.template /etc/exim4/conf.d/router/*";
    let changes = done_undone_and_done(&page.block("sh", 0)?, &page.block("sh", 2)?, state);
    let server = lab.with_changes(Software::Exim, &(exim_on_the_internet() + &changes))?;
    let next_hop = relay.listens().to_string();
    a_bounce_comes_back_through(&lab, &server, &next_hop, SUBMISSION)?;
    let mut edge = Edge::start(&lab, &settings(&next_hop), Profile::Dev)?;
    check(&page, &edge, &lab, 1)?;
    edge.stop()
}

/// A stranger's message through the edge: the reply that ended it.
fn stranger(lab: &Lab, sender: &str, recipient: &str) -> Result<lab::client::Reply> {
    let mut client = Client::connect(lab, Host::Internet, Some(lab::client(7)), (EDGE, 25).into())?;
    client.command("EHLO stranger.example")?;
    Ok(client.transaction(sender, recipient, "Subject: hello\n\nHello.\n")?.1)
}

/// Postfix refuses whom its blocklist names, which here is everybody that it does not trust; Exim the same.
#[test]
fn an_upstream_that_was_told_asks_no_blocklist_about_the_edge() -> Result<()> {
    let page = Page::read("upstream")?;
    let block = |place| anyhow::Ok(page.block("sh", place)?.replace("192.0.2.25", &EDGE_INSIDE.to_string()));
    let postfix = done_undone_and_done(&block(0)?, &block(2)?, POSTFIX_STATE);
    let exim = done_undone_and_done(&block(1)?, &block(3)?, "cat /etc/exim4/update-exim4.conf.conf");
    // What the operators have already, and keep. Postfix hears two addresses of the host, the edge comes from the one
    // that the page names.
    let postfix = format!(
        "postconf -e 'inet_interfaces = 127.0.0.1, {EDGE_INSIDE}' 'mynetworks = 127.0.0.0/8 10.9.0.0/16' \\
    'smtpd_client_restrictions = check_client_access static:REJECT'
{postfix}postconf -xh mynetworks | grep -q '10.9.0.0/16 {EDGE_INSIDE}/32'
"
    );
    let exim = format!(
        "mkdir -p /var/lib/exim4
echo \"dc_relay_nets='10.9.0.0/16'\" >>/etc/exim4/update-exim4.conf.conf
{exim}grep -q 'MAIN_RELAY_NETS.*{EDGE_INSIDE} ; 10.9.0.0/16' /var/lib/exim4/config.autogenerated
"
    );
    for (software, changes, upstream) in [
        (Software::Postfix, postfix, format!("{EDGE_INSIDE}:25")),
        (Software::Exim, exim, "127.0.0.1:25".to_owned()),
    ] {
        let lab = Lab::up("docs-upstream")?;
        let server = lab.with_changes(software, &changes)?;
        let settings = settings("127.0.0.1:10026").set("domain.0.upstream", upstream);
        let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
        let reply = stranger(&lab, "somebody@elsewhere.example", "root@example.jp")?;
        ensure!(reply.code == 250, "{software:?}: {reply}\n{}", server.log());
        if software == Software::Postfix {
            // Whom it does not trust it refuses: the order is what spares the edge.
            let mut client = Client::connect(&lab, Host::Mta, None, (EDGE_INSIDE, 25).into())?;
            client.command("EHLO stranger.example")?;
            let (_, reply) = client.transaction("x@elsewhere.example", "root@example.jp", "\n")?;
            ensure!(reply.code == 554, "{reply}");
        }
        edge.stop()?;
    }
    Ok(())
}

/// Sends from the operator's side to an unknown address, and waits for the bounce, proven.
fn a_bounce_comes_back(edge: &Edge, what: &dyn Fn() -> String) -> Result<()> {
    let bounce = edge
        .wait_for_verdict(|line| line["direction"] == "inbound" && line["sender"] == "", PATIENCE)
        .with_context(what)?;
    ensure!(bounce["proof"] == "token" && bounce["reply"] == 250, "{bounce}\n{}", what());
    Ok(())
}

#[test]
fn the_edges_half_of_the_page_for_exchange_works() -> Result<()> {
    let page = Page::read("exchange")?;
    let lab = Lab::up("docs-exchange")?;
    let steps = done_undone_and_done(&page.block("sh", 0)?, &page.block("sh", 2)?, POSTFIX_STATE);
    let delivers = lab.with_changes(Software::Postfix, &(postfix_on_the_internet() + &steps))?;
    let _exchange = relay(&lab)?;
    let far = lab.far(FAR, EDGE.into())?;
    let outbound = page
        .block("toml", 0)?
        .replace("192.0.2.25", &EDGE_INSIDE.to_string())
        .replace("198.51.100.10", &lab::MTA.to_string());
    let mut edge = Edge::start(&lab, &Settings::default().merge(&outbound), Profile::Dev)?;
    check(&page, &edge, &lab, 1)?;
    let to = format!("nobody-here@{}", FAR.domain());
    submit(&lab, Host::Mta, (EDGE_INSIDE, 10025).into(), "alice@example.jp", &to, &message("exchange"))?;
    let said = || format!("{}\n{}\n{}", edge.process().tail(20), delivers.log(), far.log());
    a_bounce_comes_back(&edge, &said)?;
    edge.stop()
}

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

/// What README says of a user's other mailbox: the setting is one, and the command says that it holds.
#[test]
fn readmes_trusted_forwarder_is_a_setting_and_holds() -> Result<()> {
    let readme = Page(std::fs::read_to_string(lab::program::root().join("README.md"))?);
    let blocks = readme.blocks("toml");
    let (_, forwarder) =
        blocks.iter().find(|(_, block)| block.contains("trusted_forwarder")).context("README's block")?;
    let command = "`backstop filter test --recipient ann@example.jp --from 198.51.100.7`";
    ensure!(readme.0.contains(command), "README has another command");
    let lab = Lab::up("docs-forwarder")?;
    let mut edge = Edge::start(&lab, &Settings::default().merge(forwarder), Profile::Dev)?;
    let words: Vec<&str> = command.trim_matches('`').split_whitespace().skip(1).collect();
    assert_eq!(edge.json(&lab, &words)?["reason"], "trusted_forwarder");
    edge.stop()
}
