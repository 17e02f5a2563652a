//! The pages of `docs/`, word for word: their blocks are read from the file and carried out on real servers in the lab,
//! the documentation's addresses replaced by the lab's. What cannot be run here (PowerShell) must be called so.

mod exim;
mod microsoft_365;
mod passed_on;
mod postfix;
mod several;
mod tls;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::client::{Client, submit};
use lab::edge::{Edge, Settings};
use lab::mta::Software;
use lab::program::Profile;
use lab::{EDGE, EDGE_INSIDE, Host, Lab};

use crate::message;
use crate::readme::{FAR, in_the_lab, postfix_on_the_internet, relay, settings};

const PATIENCE: Duration = Duration::from_secs(90);
const SHAPE: [&str; 5] =
    ["What you get", "Steps", "What the upstream must be told", "How to check", "How to undo"];
/// Each page, with its blocks of `sh`, `toml` and `ini`: all of them are run below.
const PAGES: [(&str, [usize; 3]); 5] = [
    ("postfix", [7, 1, 0]),
    ("exim", [5, 1, 0]),
    ("upstream", [4, 1, 0]),
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
