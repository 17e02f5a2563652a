//! The page for Postfix: on the edge's host, and on another.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::client::{Client, submit};
use lab::edge::{Edge, Settings};
use lab::mta::{MailServer, Software};
use lab::program::Profile;
use lab::{EDGE, EDGE_INSIDE, Host, Lab, MTA, MTA_OUTSIDE};

use super::{PATIENCE, POSTFIX_STATE, Page, a_bounce_comes_back, check, done_undone_and_done, stranger};
use crate::message;
use crate::readme::{
    FAR, SUBMISSION, a_bounce_comes_back_of_what, a_bounce_comes_back_through, in_the_lab,
    postfix_on_the_internet, settings,
};

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
    let steps = page.block("sh", 0)? + &page.block("sh", 1)?;
    let undo = page.block("sh", 6)?;
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
    check(&page, &edge, &lab, 5)?;
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

/// What a page says of servers on two hosts, at the lab's addresses.
pub(super) fn elsewhere(block: &str) -> String {
    block.replace("192.0.2.25", &EDGE_INSIDE.to_string()).replace("192.0.2.30", &MTA.to_string())
}

/// `init` names the lines of the page, with the addresses of both hosts as they see each other.
fn init_says_the_same(lab: &Lab, page: &Page) -> Result<()> {
    let binary = Edge::prepare(lab, &Settings::default(), Profile::Dev)?;
    let upstream = format!("{MTA}:25");
    let asked =
        ["--domain", "example.jp", "--upstream", &upstream, "--output", "/run/lab/init/backstop.toml"];
    let argv = [&[binary.to_str().context("a path is UTF-8")?, "init"][..], &asked].concat();
    let said = lab.run(Host::Edge, &argv)?;
    let text = String::from_utf8_lossy(&said.stdout);
    ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    ensure!(!text.contains("127.0.0.1"), "an address of the edge's own host: {text}");
    let steps = [page.block("sh", 3)?, page.block("sh", 4)?].concat();
    for line in elsewhere(&steps).lines().filter(|line| !line.starts_with('[') && *line != "postfix check") {
        ensure!(text.contains(line), "init has no line {line}: {text}");
    }
    // Its file has the section as the page has it, to be uncommented.
    let file = std::fs::read_to_string(lab.path("init/backstop.toml"))?;
    for line in elsewhere(&page.block("toml", 0)?).lines() {
        ensure!(file.contains(&format!("#{line}\n")), "the file has no line #{line}: {file}");
    }
    Ok(())
}

#[test]
fn a_postfix_on_another_host_works_as_the_page_and_init_say() -> Result<()> {
    let page = Page::read("postfix")?;
    let lab = Lab::up("docs-postfix-elsewhere")?;
    init_says_the_same(&lab, &page)?;
    let steps = elsewhere(&page.block("sh", 3)?);
    let changes =
        postfix_on_the_internet() + &done_undone_and_done(&steps, &page.block("sh", 6)?, POSTFIX_STATE);
    let server = lab.elsewhere(Software::Postfix, &changes)?;
    let far = lab.far(FAR, EDGE.into())?;
    let settings = Settings::default().merge(&elsewhere(&page.block("toml", 0)?));
    let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
    check(&page, &edge, &lab, 5)?;
    let said = || format!("{}\n{}\n{}", edge.process().tail(20), server.log(), far.log());

    // What users and programs hand in goes through the edge and back, once.
    let to = format!("nobody-here@{}", FAR.domain());
    submit(&lab, Host::Mta, (MTA, 587).into(), "root@example.jp", &to, &message("elsewhere"))?;
    a_bounce_comes_back(&edge, &said)?;
    server.run(&format!("sendmail -f root@example.jp {to} <<'END'\n{}END\n", message("program")))?;
    let signed = |line: &serde_json::Value| line["direction"] == "outbound" && line["reason"] == "signed";
    let deadline = Instant::now() + PATIENCE;
    while edge.verdicts()?.iter().filter(|line| signed(line)).count() < 2 {
        ensure!(Instant::now() < deadline, "{}", said());
        std::thread::sleep(Duration::from_millis(20));
    }

    // Strangers may come past the edge until that way is closed; the edge may still.
    let past = || -> Result<u16> {
        let mut client = Client::connect(&lab, Host::Internet, None, (MTA_OUTSIDE, 25).into())?;
        client.command("EHLO stranger.example")?;
        Ok(client.transaction("x@elsewhere.example", "root@example.jp", "Subject: past\n\nHello.\n")?.1.code)
    };
    assert_eq!(past()?, 250);
    let close = elsewhere(&page.block("sh", 4)?);
    server.run(&close.replace("systemctl reload postfix", "postfix reload"))?;
    let deadline = Instant::now() + PATIENCE;
    while past()? != 554 {
        ensure!(Instant::now() < deadline, "the way past the edge stays open: {}", said());
        std::thread::sleep(Duration::from_millis(50));
    }
    let reply = stranger(&lab, "somebody@elsewhere.example", "root@example.jp")?;
    ensure!(reply.code == 250, "{reply}\n{}", said());
    // Where the edge hands back, nobody else may.
    let mut client = Client::connect(&lab, Host::Mta, Some(MTA.into()), (MTA, 10026).into())?;
    client.command("EHLO mail.example.jp")?;
    let (_, reply) = client.transaction("root@example.jp", &to, "\n")?;
    ensure!((400..600).contains(&reply.code), "{reply}");
    edge.stop()
}

/// A new Debian has no port where users hand in mail: the steps have nothing to say of it.
#[test]
fn the_steps_warn_of_nothing_on_a_postfix_as_debian_sets_it_up() -> Result<()> {
    let page = Page::read("postfix")?;
    let readme = crate::readme::block_behind("\nPostfix:\n")?;
    let lab = Lab::up("docs-postfix-plain")?;
    let steps = in_the_lab(&(page.block("sh", 0)? + &page.block("sh", 1)?));
    // Unpacked packages have no groups and set-gid bits, of which that would speak.
    let steps = steps.replace("postfix check\n", "");
    let changes = format!(
        "cp -a /etc/postfix /run/plain
said=$({{ {}}} 2>&1) || {{ echo \"$said\"; exit 1; }}
[ -z \"$said\" ] || {{ echo \"they say: $said\"; exit 1; }}
cp -a /run/plain/. /etc/postfix/
said=$({{ {steps}}} 2>&1) || {{ echo \"$said\"; exit 1; }}
[ -z \"$said\" ] || {{ echo \"they say: $said\"; exit 1; }}
",
        in_the_lab(&readme)
    );
    lab.with_changes(Software::Postfix, &changes).map(drop)
}
