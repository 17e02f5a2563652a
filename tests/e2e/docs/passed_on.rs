//! The page for Postfix, of mail that it passes on with SRS: `postsrsd` and OpenDKIM beside it, both real. A stranger's
//! mail gets nothing of ours but the token for its new sender, and its bounce comes back through the edge, which refuses
//! what nothing proves.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::client::{Client, submit};
use lab::edge::Edge;
use lab::mta::{FORWARD_DOMAIN, Forwarder, MailServer, Software};
use lab::program::Profile;
use lab::{EDGE, Host, Lab};
use serde_json::Value;

use super::{PATIENCE, POSTFIX_STATE, Page, done_undone_and_done};
use crate::message;
use crate::readme::{FAR, SUBMISSION, settings};

/// An operator's Postfix, with what signs and rewrites for it, before the edge came. Bob has left, and his mail goes on to
/// an address that does not exist any more. `transport_maps` would be a way past the sender's: names stand in `hosts`.
fn before() -> String {
    format!(
        "postconf -e 'inet_interfaces = all' 'smtp_dns_support_level = disabled' \\
    'virtual_alias_maps = inline:{{ bob@example.jp=gone@{far} }}' \\
    'smtpd_milters = inet:127.0.0.1:8891' 'non_smtpd_milters = inet:127.0.0.1:8891' \\
    'sender_canonical_maps = tcp:127.0.0.1:10001' 'sender_canonical_classes = envelope_sender' \\
    'recipient_canonical_maps = tcp:127.0.0.1:10002' \\
    'recipient_canonical_classes = envelope_recipient,header_recipient'
postconf -Me 'submission/inet = submission inet n - n - - smtpd -o mynetworks=0.0.0.0/0'
printf '{far_at} {far}\\n{forwarder} {FORWARD_DOMAIN}\\n' >>/etc/hosts
echo only-for-the-lab >/etc/postsrsd.secret
postsrsd -4 -s /etc/postsrsd.secret -d example.jp &
openssl genrsa -out /etc/lab.key 2048 2>/dev/null
cat >/etc/opendkim.conf <<'END'
Domain example.jp
Selector lab
KeyFile /etc/lab.key
Socket inet:8891@127.0.0.1
END
opendkim -x /etc/opendkim.conf
until (: <>/dev/tcp/127.0.0.1/8891) 2>/dev/null; do sleep 0.05; done
",
        far = FAR.domain(),
        far_at = FAR.address(),
        forwarder = Forwarder::address(),
    )
}

/// What a stranger sends through the edge, with any sender and any author.
fn stranger_writes(lab: &Lab, sender: &str, author: &str, recipient: &str, subject: &str) -> Result<()> {
    let mut client = Client::connect(lab, Host::Internet, Some(lab::client(7)), (EDGE, 25).into())?;
    client.command("EHLO stranger.example")?;
    let text = message(subject).replace("alice@example.jp", author);
    let (_, reply) = client.transaction(sender, recipient, &text)?;
    ensure!(reply.code == 250, "{reply}");
    Ok(())
}

/// How many lines of the messages in a mailbox that return `subject`'s message, or are it, begin so.
fn lines(server: &MailServer, mailbox: &str, subject: &str, begin: &str) -> Result<usize> {
    let spool = server.file(&format!("var/mail/{mailbox}"));
    let text = std::fs::read_to_string(&spool).with_context(|| format!("cannot read {}", spool.display()))?;
    let messages = text.split("\nFrom ").filter(|text| text.contains(&format!("X-Returned: {subject}\n")));
    Ok(messages.flat_map(str::lines).filter(|line| line.starts_with(begin)).count())
}

/// Waits until a message that returns `subject`'s, or is it, lies in a mailbox.
fn wait_until_it_lies_in(server: &MailServer, mailbox: &str, subject: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    // Before the first message there is no file.
    while lines(server, mailbox, subject, "X-Returned").unwrap_or(0) == 0 {
        ensure!(Instant::now() < deadline, "nothing of {subject} in {mailbox}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

struct World {
    lab: Lab,
    server: MailServer,
    forwarder: MailServer,
    far: MailServer,
    edge: Edge,
}

impl World {
    fn said(&self) -> String {
        let World { server, forwarder, far, edge, .. } = self;
        let edge = edge.process().tail(40);
        format!(
            "edge:\n{edge}\nserver:\n{}\nfar:\n{}\nforwarder:\n{}",
            server.log(),
            far.log(),
            forwarder.log()
        )
    }

    fn wait_for(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        self.edge.wait_for_verdict(wanted, PATIENCE).with_context(|| self.said())
    }
}

#[test]
fn a_strangers_mail_that_is_passed_on_is_signed_for_nobody_and_its_bounce_is_proven() -> Result<()> {
    let page = Page::read("postfix")?;
    let lab = Lab::up("docs-passed-on")?;
    let steps = page.block("sh", 0)? + &page.block("sh", 1)? + &page.block("sh", 2)?;
    let changes = before() + &done_undone_and_done(&steps, &page.block("sh", 6)?, POSTFIX_STATE);
    let beside = [Software::Postsrsd, Software::OpenDkim];
    let server = lab.with_beside(Software::Postfix, &beside, &changes)?;
    let forwarder = lab.forwarder(&Forwarder::default())?;
    let far = lab.far(FAR, EDGE.into())?;
    let edge = Edge::start(&lab, &settings("127.0.0.1:10026"), Profile::Dev)?;
    let mut world = World { lab, server, forwarder, far, edge };

    // Mark writes to Bob, once as himself and once in root's name. His mail bounces, and he hears of it.
    for (author, subject) in [("Mark@forward.example", "as-himself"), ("root@example.jp", "in-roots-name")] {
        stranger_writes(&world.lab, "Mark@forward.example", author, "bob@example.jp", subject)?;
        let srs = |line: &Value, field: &str| {
            line[field].as_str().is_some_and(|address| address.to_uppercase().starts_with("SRS0="))
        };
        let signed = world.wait_for(|line| line["direction"] == "outbound" && srs(line, "sender"))?;
        assert_eq!((&signed["reason"], &signed["reply"]), (&"signed".into(), &250.into()), "{signed}");
        let bounce = world.wait_for(|line| line["direction"] == "inbound" && srs(line, "recipient"))?;
        assert_eq!((&bounce["proof"], &bounce["reply"]), (&"token".into(), &250.into()), "{bounce}");
        wait_until_it_lies_in(&world.forwarder, "mark", subject).with_context(|| world.said())?;
        let count = |begin| lines(&world.forwarder, "mark", subject, begin);
        let came = (count("X-Returned")?, count("Backstop-Token: bs1.")?, count("DKIM-Signature:")?);
        assert_eq!(came, (1, 1, 0), "{subject}: {}", world.said());
    }

    // What already has a sender of ours goes out past the edge, and its bounce is no bounce of ours.
    stranger_writes(&world.lab, "root@example.jp", "root@example.jp", "bob@example.jp", "forged")?;
    let bounce = world.wait_for(|line| line["sender"] == "" && line["recipient"] == "root@example.jp")?;
    assert_eq!((&bounce["reason"], &bounce["reply"]), (&"unproven".into(), &550.into()), "{bounce}");

    // What a stranger writes to root in root's own name is not signed either; it meets no milter that signs.
    stranger_writes(&world.lab, "Mark@forward.example", "root@example.jp", "root@example.jp", "to-root")?;
    wait_until_it_lies_in(&world.server, "root", "to-root").with_context(|| world.said())?;
    assert_eq!(lines(&world.server, "root", "to-root", "DKIM-Signature:")?, 0, "{}", world.said());
    // And it stays as it came: what is not passed on has no other sender.
    assert_eq!(lines(&world.server, "root", "to-root", "Return-Path: <Mark@forward.example>")?, 1);

    // Root's own mail has both.
    let to = format!("nobody-here@{}", FAR.domain());
    let (host, hand_in) = SUBMISSION;
    submit(&world.lab, host, hand_in, "root@example.jp", &to, &message("own").replace("alice@", "root@"))?;
    let own = |line: &Value| line["recipient"] == "root@example.jp" && line["proof"] == "token";
    assert_eq!(world.wait_for(own)?["reply"], 250);
    wait_until_it_lies_in(&world.server, "root", "own").with_context(|| world.said())?;
    let count = |begin| lines(&world.server, "root", "own", begin);
    let came = (count("Backstop-Token: bs1.")?, count("DKIM-Signature:")?);
    assert_eq!(came, (1, 1), "{}", world.said());
    assert_eq!(world.edge.json(&world.lab, &["status"])?["counters"]["signed"], 3, "{}", world.said());
    world.edge.stop()
}
