//! The page for Exim: on the edge's host, and on another.

use anyhow::{Context as _, Result, ensure};
use lab::client::submit;
use lab::edge::{Edge, Settings};
use lab::mta::Software;
use lab::program::Profile;
use lab::{EDGE, Host, Lab, MTA};

use super::postfix::elsewhere;
use super::{PATIENCE, Page, a_bounce_comes_back, check, done_undone_and_done, stranger};
use crate::message;
use crate::readme::{
    FAR, SUBMISSION, a_bounce_comes_back_through, exim_on_the_internet, postfix_on_the_internet, relay,
    settings,
};

const STATE: &str =
    "cat /etc/exim4/update-exim4.conf.conf /etc/exim4/exim4.conf.template /etc/exim4/conf.d/router/*";

#[test]
fn the_page_for_exim_does_what_it_says() -> Result<()> {
    let page = Page::read("exim")?;
    let lab = Lab::up("docs-exim")?;
    let relay = relay(&lab)?;
    let changes = done_undone_and_done(&page.block("sh", 0)?, &page.block("sh", 4)?, STATE);
    let server = lab.with_changes(Software::Exim, &(exim_on_the_internet() + &changes))?;
    let next_hop = relay.listens().to_string();
    a_bounce_comes_back_through(&lab, &server, &next_hop, SUBMISSION)?;
    let mut edge = Edge::start(&lab, &settings(&next_hop), Profile::Dev)?;
    check(&page, &edge, &lab, 3)?;
    edge.stop()
}

#[test]
fn an_exim_on_another_host_works_as_the_page_says() -> Result<()> {
    let page = Page::read("exim")?;
    let lab = Lab::up("docs-exim-elsewhere")?;
    // The relay is a Postfix on the edge's host.
    let relay = lab.with_changes(
        Software::Postfix,
        &postfix_on_the_internet().replace("inet_interfaces = all", "inet_interfaces = 127.0.0.1"),
    )?;
    let far = lab.far(FAR, EDGE.into())?;
    // Its users' network (they have no passwords), and its own name.
    let before = format!(
        "echo \"dc_relay_nets='{MTA}'\" >>/etc/exim4/update-exim4.conf.conf
echo '127.0.1.1 mail.example.jp mta' >>/etc/hosts
"
    );
    let changes =
        before + &done_undone_and_done(&elsewhere(&page.block("sh", 2)?), &page.block("sh", 4)?, STATE);
    let server = lab.elsewhere(Software::Exim, &changes)?;
    let outbound = elsewhere(&page.block("toml", 0)?).replace("198.51.100.20:25", "127.0.0.1:25");
    let mut edge = Edge::start(&lab, &Settings::default().merge(&outbound), Profile::Dev)?;
    check(&page, &edge, &lab, 3)?;
    let to = format!("nobody-here@{}", FAR.domain());
    submit(&lab, Host::Mta, (MTA, 587).into(), "root@example.jp", &to, &message("elsewhere"))?;
    let said = || format!("{}\n{}\n{}\n{}", edge.process().tail(20), server.log(), relay.log(), far.log());
    a_bounce_comes_back(&edge, &said)?;
    ensure!(edge.json(&lab, &["status"])?["counters"]["signed"] == 1, "{}", said());
    edge.stop()
}

/// What has a sender of ours and comes from outside goes to the relay past the edge, all else through it.
#[test]
fn an_exim_passes_a_strangers_mail_in_our_name_on_without_a_token() -> Result<()> {
    let page = Page::read("exim")?;
    let lab = Lab::up("docs-exim-passed-on")?;
    let relay = relay(&lab)?;
    let steps = page.block("sh", 0)? + &page.block("sh", 1)?.replace("198.51.100.20", &MTA.to_string());
    let alias = format!("echo 'bob: gone@{}' >>/etc/aliases\n", FAR.domain());
    let changes =
        alias + &exim_on_the_internet() + &done_undone_and_done(&steps, &page.block("sh", 4)?, STATE);
    let server = lab.with_changes(Software::Exim, &changes)?;
    let far = lab.far(FAR, EDGE.into())?;
    let mut edge = Edge::start(&lab, &settings(&relay.listens().to_string()), Profile::Dev)?;
    let said = || format!("{}\n{}\n{}\n{}", edge.process().tail(20), server.log(), relay.log(), far.log());
    let outbound = |line: &serde_json::Value| line["direction"] == "outbound";

    // In our name: nothing of it at the outbound listener, and its bounce proves nothing.
    let reply = stranger(&lab, "root@example.jp", "bob@example.jp")?;
    ensure!(reply.code == 250, "{reply}\n{}", said());
    let bounce = edge.wait_for_verdict(|line| line["sender"] == "", PATIENCE).with_context(said)?;
    ensure!(
        (&bounce["recipient"], &bounce["reason"]) == (&"root@example.jp".into(), &"unproven".into()),
        "{bounce}"
    );
    ensure!(!edge.verdicts()?.iter().any(outbound), "{}", said());

    // In his own: through the edge, and unsigned.
    let reply = stranger(&lab, "somebody@elsewhere.example", "bob@example.jp")?;
    ensure!(reply.code == 250, "{reply}\n{}", said());
    let passed_on = edge.wait_for_verdict(outbound, PATIENCE).with_context(said)?;
    ensure!(passed_on["sender"] == "somebody@elsewhere.example" && passed_on["reply"] == 250, "{passed_on}");
    ensure!(edge.json(&lab, &["status"])?["counters"]["signed"] == 0, "{}", said());

    // Our user's.
    let (host, hand_in) = SUBMISSION;
    let to = format!("nobody-here@{}", FAR.domain());
    submit(&lab, host, hand_in, "root@example.jp", &to, &message("own"))?;
    edge.wait_for_verdict(|line| line["proof"] == "token" && line["reply"] == 250, PATIENCE)
        .with_context(said)?;
    edge.stop()
}
