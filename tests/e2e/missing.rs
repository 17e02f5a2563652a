//! `docs/when-mail-is-missing.md`, command by command, as it stands there: on an edge that refused one bounce, keeps
//! another in its quarantine, delivered mail to two, and bans a source. And its tables: every reason is there, and every reply is one of ours.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::client::{Client, Reply, Stage};
use lab::edge::{Edge, Settings};
use lab::mta::Operator;
use lab::program::{Profile, root};
use lab::{EDGE, Host, Lab};

/// How long the log may take.
const PATIENCE: Duration = Duration::from_secs(90);
const PAGE: &str = "docs/when-mail-is-missing.md";
/// The page's source, and the lab's in its place.
const SOURCE: [&str; 2] = ["198.51.100.7", "198.18.64.77"];
const FORGED: &str =
    "From: MAILER-DAEMON@far.example\nTo: ann@example.jp\nSubject: Undelivered Mail\n\nIt failed.\n";

/// In place of systemd's, which the lab has none of: the edge's lines that match.
const JOURNALCTL: &str = "#!/bin/sh
[ \"$1 $2 $3\" = '--unit backstop --grep' ] || exit 64
exec grep -e \"$4\" /run/lab/edge/log
";

fn read(path: &str) -> Result<String> {
    let path = root().join(path);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The lines of the page's blocks of shell commands.
fn commands(page: &str) -> Vec<&str> {
    let blocks = page.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.flat_map(str::lines).filter(|line| !line.trim().is_empty()).collect()
}

fn forge(lab: &Lab, to: &str) -> Result<Reply> {
    let mut client = Client::connect(lab, Host::Internet, None, (EDGE, 25).into())?;
    client.command("EHLO far.example")?;
    let (stage, reply) = client.transaction("", to, FORGED)?;
    ensure!(stage == Stage::Dot, "{stage:?}: {reply}");
    Ok(reply)
}

/// Mail in which Ann is not the first recipient.
fn write_to_both(lab: &Lab) -> Result<()> {
    let mut client = Client::connect(lab, Host::Internet, None, (EDGE, 25).into())?;
    let lines = ["EHLO far.example", "MAIL FROM:<carl@far.example>", "RCPT TO:<bob@example.jp>"];
    for line in lines.into_iter().chain(["RCPT TO:<ann@example.jp>", "DATA"]) {
        let reply = client.command(line)?;
        ensure!(reply.code < 400, "{line}: {reply}");
    }
    let reply = client.message("From: carl@far.example\nSubject: both\n\nHello.\n")?;
    ensure!(reply.code == 250, "{reply}");
    Ok(())
}

#[test]
fn each_command_of_the_page_does_what_it_says() -> Result<()> {
    let lab = Lab::up("missing")?;
    let users = vec!["ann".to_owned(), "bob".to_owned()];
    let operator = lab.operator(&Operator { users, ..Operator::default() })?;
    let settings = Settings::default()
        .set("log.format", "human")
        .set("policy.grace_days", 0)
        .set("filter.0.covers", vec!["ann@example.jp"])
        .set("filter.0.action", "quarantine");
    // What the same edge logs as JSON, for the search in that format.
    let mut edge = Edge::start(&lab, &settings.clone().set("log.format", "json"), Profile::Dev)?;
    write_to_both(&lab)?;
    edge.stop()?;
    let json = edge.process().lines().join("\n");
    let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
    write_to_both(&lab)?;
    ensure!(forge(&lab, "ann@example.jp")?.code == 250, "it is kept");
    assert!(
        edge.command(&lab, &["filter", "edit", "0", "--action", "reject", "--force"], b"")?.status.success()
    );
    assert_eq!(forge(&lab, "ann@example.jp")?.code, 550);
    assert!(edge.command(&lab, &["ban", "add", SOURCE[1]], b"")?.status.success());
    assert!(edge.command(&lab, &["ban", "add", "198.18.64.78"], b"")?.status.success());
    lab.write("edge/bounce.eml", FORGED)?;
    // The log's thread writes a moment later.
    edge.process().wait_for_line("bounce 550 reject unproven", PATIENCE)?;
    lab.write("edge/log", json + "\n" + &edge.process().lines().join("\n"))?;

    let binary = Edge::prepare(&lab, &settings_in_force(&lab)?, Profile::Dev)?;
    lab.write("bin/journalctl", JOURNALCTL)?;
    let prepare = format!(
        "chmod +x /run/lab/bin/journalctl; ln -s '{}' /run/lab/bin/backstop; ln -s /run/lab/edge /etc/backstop",
        binary.display()
    );
    shell(&lab, &prepare, 0)?;
    let list = edge.json(&lab, &["quarantine", "list"])?;
    let id = list["messages"][0]["id"].as_str().with_context(|| list.to_string())?.to_owned();

    let page = read(PAGE)?;
    let commands = commands(&page);
    assert!(commands.len() > 14, "{commands:#?}");
    for command in commands {
        let (command, comment) = command.split_once('#').unwrap_or((command, ""));
        let code = i32::from(comment.contains("exit code 1: not proven"));
        let ours = command.replace(SOURCE[0], SOURCE[1]).replace("ID", &id);
        let said = shell(&lab, &format!("cd /run/lab/edge; PATH=/run/lab/bin:$PATH; {ours}"), code)
            .with_context(|| format!("{PAGE}: {command}"))?;
        look(&lab, command.trim(), &said, &edge).with_context(|| format!("after `{command}` said {said}"))?;
    }
    let mailbox = operator.mailbox("ann@example.jp");
    // Two for both; then released, delivered by her own filter, and by the last one that only watches. Postfix delivers what
    // it has taken a moment later.
    let deadline = Instant::now() + PATIENCE;
    while mailbox.count()? < 2 + 3 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(mailbox.count()?, 2 + 3, "{}", operator.log());
    edge.stop()
}

/// The configuration as it is by now, not as it was at the start.
fn settings_in_force(lab: &Lab) -> Result<Settings> {
    let text = std::fs::read_to_string(lab.path("edge/backstop.toml"))?;
    Settings::read(&text)
}

/// What a command must have done.
fn look(lab: &Lab, command: &str, said: &str, edge: &Edge) -> Result<()> {
    let is = |begins: &str| command.starts_with(begins);
    let says = |words: &str| -> Result<()> {
        ensure!(said.contains(words), "it does not say {words:?}");
        Ok(())
    };
    if is("journalctl") && command.contains('"') {
        says(r#""recipient":"bob@example.jp","also_to":["ann@example.jp"]"#)?;
        ensure!(!said.contains("bounce 550"), "it shows lines for eyes");
    } else if is("journalctl") {
        says("mail 250 accepted from ")?;
        says("to <bob@example.jp>, to <ann@example.jp>")?;
        says("bounce 550 reject unproven filter 0")?;
        says("bounce 250 quarantine unproven filter 0 as ")?;
    } else if is("backstop status") {
        says("recipients refused")?;
        says("refused budget")?;
        says("refused blocked")?;
    } else if is("backstop ban explain") {
        says("operator")?;
    } else if is("backstop doctor") {
        says("MX of example.jp")?;
    } else if is("backstop verify") {
        says("not proven: ")?;
    } else if is("backstop filter test") && command.contains("auto_reply") {
        says("deliver")?;
    } else if is("backstop filter test") {
        says("reject")?;
    } else if is("backstop quarantine list") {
        says("ann@example.jp")?;
    } else if is("backstop quarantine release") {
        says("is delivered: 250")?;
    } else if is("backstop filter add") {
        ensure!(forge(lab, "ann@example.jp")?.code == 250, "her filter delivers");
    } else if is("backstop filter remove") {
        ensure!(forge(lab, "ann@example.jp")?.code == 550, "as before");
    } else if is("backstop filter edit") {
        ensure!(forge(lab, "ann@example.jp")?.code == 250, "it only watches");
    } else if is("backstop ban del") {
        let from = Some(SOURCE[1].parse()?);
        Client::connect(lab, Host::Internet, from, (EDGE, 25).into())?;
    } else if is("backstop xdp status") {
        says("native")?;
    } else if is("backstop xdp detach") {
        let from = Some("198.18.64.78".parse()?);
        let heard = lab.connect(Host::Internet, from, (EDGE, 25).into(), PATIENCE);
        ensure!(heard.is_ok(), "the network card drops nothing any more: {:?}", edge.process().tail(5));
    } else {
        ensure!(is("backstop filter list") || is("backstop quarantine show"), "nothing is asked of it");
    }
    Ok(())
}

fn shell(lab: &Lab, script: &str, code: i32) -> Result<String> {
    let output = lab.run(Host::Edge, &["bash", "-euc", script])?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "ended with {}, not {code}: {said}", output.status);
    Ok(said)
}

/// The variants of an enum in a source file, as the log writes them.
fn words_of(path: &str, name: &str) -> Result<BTreeSet<String>> {
    let text = read(path)?;
    let head = format!("pub enum {name} {{\n");
    let (_, behind) = text.split_once(&head).with_context(|| format!("no {name} in {path}"))?;
    let body = behind.split("\n}").next().unwrap_or_default();
    let mut words = BTreeSet::new();
    let mut renamed = None;
    for line in body.lines().map(str::trim) {
        if let Some(new) = line.strip_prefix("#[serde(rename = \"") {
            renamed = new.split('"').next().map(String::from);
        } else if let Some(variant) = line.strip_suffix(',').filter(|variant| !variant.contains('(')) {
            words.insert(renamed.take().unwrap_or_else(|| snake(variant)));
        }
    }
    ensure!(words.len() > 3, "{name} has more than {words:?}");
    Ok(words)
}

fn snake(camel: &str) -> String {
    let mut snake = String::new();
    for character in camel.chars() {
        if character.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

/// The first cells of a table's rows, below the heading that its first row has.
fn first_cells<'a>(page: &'a str, heading: &str) -> Result<Vec<&'a str>> {
    let (_, table) =
        page.split_once(&format!("| {heading} |")).with_context(|| format!("no table {heading}"))?;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    Ok(rows.filter_map(|row| row.split('|').nth(1)).map(str::trim).collect())
}

#[test]
fn every_reason_and_only_replies_of_ours_stand_in_the_page() -> Result<()> {
    let page = read(PAGE)?;
    let told: BTreeSet<String> = first_cells(&page, "in the log")?
        .iter()
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(String::from)
        .collect();
    let mut there = words_of("edge-user/src/telemetry/why.rs", "Why")?;
    there.extend(words_of("edge-user/core/src/policy/mod.rs", "Reason")?);
    there.extend(words_of("edge-user/core/src/message/fate.rs", "Refusal")?);
    assert_eq!(told, there);

    let sources = ["closing.rs", "envelope.rs", "mod.rs", "../passing.rs"];
    let sources = sources.map(|path| read(&format!("edge-user/src/engine/inbound/{path}")));
    let sources: String = sources.into_iter().collect::<Result<_>>()?;
    for reply in first_cells(&page, "reply")? {
        let [code, enhanced, words] = reply.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            anyhow::bail!("no reply: {reply}");
        };
        let written = format!("Reply::new({code}, Enhanced({}), \"{words}\")", enhanced.replace('.', ", "));
        assert!(sources.contains(&written), "no such reply: {written}");
    }
    Ok(())
}
