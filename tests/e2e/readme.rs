//! What README says of Postfix, Exim and Sendmail, word for word: its lines are read from the file and carried out on
//! a server as its Debian package sets it up. Then a message goes out through it, signed, and the far server's bounce
//! comes back into it, proven.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use lab::client::submit;
use lab::edge::{Edge, Settings};
use lab::mta::{Far, MailServer, Operator, Software};
use lab::program::Profile;
use lab::{Host, Lab};

use crate::message;

const PATIENCE: Duration = Duration::from_secs(90);
pub(crate) const FAR: Far = Far { software: Software::Postfix };

/// The first block of code in README behind `words`.
pub(crate) fn block_behind(words: &str) -> Result<String> {
    let path = lab::program::root().join("README.md");
    let readme = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (_, behind) = readme.split_once(words).with_context(|| format!("README says nowhere: {words}"))?;
    let block = behind.split("```").nth(1).context("README has no block behind it")?;
    Ok(block.split_once('\n').context("a block has lines")?.1.to_owned())
}

/// README's edge, on one host with the server: it hears the public address, the server the loopback.
pub(crate) fn settings(next_hop: &str) -> Settings {
    Settings::default()
        .set("inbound.listen", vec![format!("{}:25", lab::EDGE)])
        .set("domain.0.upstream", "127.0.0.1:25")
        .set("outbound.listen", vec!["127.0.0.1:10025"])
        .set("outbound.networks", vec!["127.0.0.0/8"])
        .set("outbound.next_hop", next_hop)
}

/// A relay that takes the operator's mail, for servers that do not deliver themselves.
pub(crate) fn relay(lab: &Lab) -> Result<MailServer> {
    lab.operator(&Operator { behind_edge: false, ..Operator::default() })
}

/// Where users outside hand in their mail: at the public address, beside the edge.
pub(crate) const SUBMISSION: (Host, SocketAddr) =
    (Host::Internet, SocketAddr::new(IpAddr::V4(lab::EDGE), 587));

/// Commands as they are run in the lab: at its addresses, and without those that need systemd. A server starts after
/// its steps, where they say to restart it.
pub(crate) fn in_the_lab(commands: &str) -> String {
    let lines = commands.lines().filter(|line| !line.starts_with("systemctl "));
    let lines: String = lines.flat_map(|line| [line, "\n"]).collect();
    lines.replace("192.0.2.25", &lab::EDGE.to_string())
}

/// What a Postfix on the Internet has: port 25 at every address, and a submission service (which trusts its network: the
/// lab's users have no passwords); and, for want of a DNS, the way to the far server.
pub(crate) fn postfix_on_the_internet() -> String {
    format!(
        "postconf -e 'inet_interfaces = all'
postconf -Me 'submission/inet = submission inet n - n - - smtpd -o mynetworks=0.0.0.0/0'
postconf -e 'transport_maps = inline:{{ {}=smtp:[{}] }}' 'smtp_dns_support_level = disabled'
",
        FAR.domain(),
        FAR.address(),
    )
}

/// What an Exim on the Internet has: every address, and a network of users (who have no passwords in the lab).
pub(crate) fn exim_on_the_internet() -> String {
    let conf = "/etc/exim4/update-exim4.conf.conf";
    format!("printf \"dc_local_interfaces=''\\ndc_relay_nets='{}'\\n\" >>{conf}\n", lab::GATEWAY)
}

/// Hands in a message for the far server as a user does, and waits for its bounce, proven.
pub(crate) fn a_bounce_comes_back_through(
    lab: &Lab,
    server: &MailServer,
    next_hop: &str,
    (host, hand_in): (Host, SocketAddr),
) -> Result<()> {
    a_bounce_comes_back_of_what(lab, server, next_hop, &|to| {
        submit(lab, host, hand_in, "root@example.jp", to, &message("readme"))
    })
}

/// The same of a message that `hand_in` hands in, for the recipient that it is given. The edge signs it once.
pub(crate) fn a_bounce_comes_back_of_what(
    lab: &Lab,
    server: &MailServer,
    next_hop: &str,
    hand_in: &dyn Fn(&str) -> Result<()>,
) -> Result<()> {
    let far = lab.far(FAR, lab::EDGE.into())?;
    let mut edge = Edge::start(lab, &settings(next_hop), Profile::Dev)?;
    hand_in(&format!("nobody-here@{}", FAR.domain()))?;
    let said = || {
        format!("the edge:\n{}\nthe server:\n{}\nfar:\n{}", edge.process().tail(40), server.log(), far.log())
    };
    let bounce = edge
        .wait_for_verdict(
            |line| line["direction"] == "inbound" && line["recipient"] == "root@example.jp",
            PATIENCE,
        )
        .with_context(said)?;
    assert_eq!((&bounce["proof"], &bounce["reply"]), (&"token".into(), &250.into()), "{bounce}\n{}", said());
    assert_eq!(edge.json(lab, &["status"])?["counters"]["signed"], 1, "{}", said());
    edge.stop()
}

#[test]
fn postfix_works_as_readme_says() -> Result<()> {
    let lab = Lab::up("readme-postfix")?;
    let commands = block_behind("\nPostfix:\n")?;
    assert!(commands.ends_with("systemctl restart postfix\n"), "a reload does not free port 25: {commands}");
    let changes = postfix_on_the_internet() + &in_the_lab(&commands);
    let server = lab.with_changes(Software::Postfix, &changes)?;
    a_bounce_comes_back_through(&lab, &server, "127.0.0.1:10026", SUBMISSION)
}

#[test]
fn exim_works_as_readme_says() -> Result<()> {
    let lab = Lab::up("readme-exim")?;
    let relay = relay(&lab)?;
    let changes = exim_on_the_internet() + &in_the_lab(&block_behind("\nExim, as Debian sets it up")?);
    let server = lab.with_changes(Software::Exim, &changes)?;
    a_bounce_comes_back_through(&lab, &server, &relay.listens().to_string(), SUBMISSION)
}

#[test]
fn sendmail_works_as_readme_says() -> Result<()> {
    let lab = Lab::up("readme-sendmail")?;
    let relay = relay(&lab)?;
    let lines = block_behind("\nSendmail listens")?;
    // Before the mailers, where such settings belong.
    let insert =
        r#"awk '/^MAILER_DEFINITIONS/ { while ((getline line < "/tmp/lines") > 0) print line } { print }'"#;
    let changes = format!(
        "cat >/tmp/lines <<'END'\n{lines}END\n{insert} /usr/share/sendmail/cf/debian/sendmail.mc >/etc/mail/sendmail.mc\n"
    );
    let server = lab.with_changes(Software::Sendmail, &changes)?;
    let hand_in = (Host::Edge, ([127, 0, 0, 1], 25).into());
    a_bounce_comes_back_through(&lab, &server, &relay.listens().to_string(), hand_in)
}
