//! From watching to enforcing: a web shop sends mail of ours past the edge, signed with DKIM. Watching says so,
//! and enforcing is refused until it sends through the edge and 14 clean days have passed. And the commands of
//! `docs/from-watch-to-enforce.md`, read from the page.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::client::submit;
use lab::edge::{Edge, Settings};
use lab::mta::{Far, Operator, SUBMISSION, Software};
use lab::program::Profile;
use lab::{Host, Lab};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::message;

const PATIENCE: Duration = Duration::from_secs(60);
const FAR: Far = Far { software: Software::Postfix };
/// Where the edge of the lab keeps what outlives it.
const LEDGER: &str = "edge/state/watch.json";

/// What a program prints to `input`.
fn printed(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    child.stdin.take().context("its input is piped")?.write_all(input)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// The web shop's key, as a file's content and as its record in the DNS.
fn dkim_key() -> Result<(Vec<u8>, String)> {
    use base64::Engine as _;
    let private = printed(Command::new("openssl").args(["genrsa", "-traditional", "1024"]), b"")?;
    let public = printed(Command::new("openssl").args(["rsa", "-pubout", "-outform", "DER"]), &private)?;
    let public = base64::engine::general_purpose::STANDARD.encode(public);
    Ok((private, format!(r#"shop._domainkey.example.jp. TXT "v=DKIM1; k=rsa; p={public}""#)))
}

/// The message as a signer signs it for `example.jp` with the selector `shop` (RFC 6376, by openssl; Debian 12's
/// opendkim-testmsg writes signatures that do not verify).
fn signed_by_the_shop(private: &[u8], message: &str) -> Result<String> {
    use base64::Engine as _;
    let base64 = |octets: &[u8]| base64::engine::general_purpose::STANDARD.encode(octets);
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("key.pem");
    std::fs::write(&key, private)?;
    let (header, body) = message.split_once("\n\n").context("a message has a header section")?;
    let body = body.replace('\n', "\r\n");
    let hash = printed(Command::new("openssl").args(["dgst", "-sha256", "-binary"]), body.as_bytes())?;
    let unsigned = format!(
        "v=1; a=rsa-sha256; c=relaxed/simple; d=example.jp; s=shop; h=From:To:Subject; bh={}; b=",
        base64(&hash)
    );
    let mut input = String::new();
    for name in ["From", "To", "Subject"] {
        let field = header.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        input += &format!("{}:{}\r\n", name.to_lowercase(), field.context("the field is there")?);
    }
    input += &format!("dkim-signature:{unsigned}");
    let signature =
        printed(Command::new("openssl").args(["dgst", "-sha256", "-sign"]).arg(&key), input.as_bytes())?;
    Ok(format!("DKIM-Signature: {unsigned}{}\n{message}", base64(&signature)))
}

/// Runs `backstop` and insists on its exit code.
fn backstop(edge: &Edge, lab: &Lab, arguments: &[&str], code: i32) -> Result<String> {
    let output = edge.command(lab, arguments, b"")?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(code),
        "backstop {arguments:?} ended with {}, not {code}: {said}",
        output.status
    );
    Ok(said)
}

/// Waits until `found` is so.
fn wait_for<T>(what: &str, edge: &Edge, found: impl Fn() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found()? {
            return Ok(found);
        }
        ensure!(
            Instant::now() < deadline,
            "{what}: not in time; the edge said:\n{}",
            edge.process().tail(40)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The ledger on disk, as if 14 days had passed since, each watched whole and clean, and the first signature long ago.
fn fourteen_clean_days_later(lab: &Lab) -> Result<()> {
    let path = lab.path(LEDGER);
    let mut book: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let days = book["ledger"]["days"]["days"].as_array_mut().context("a ledger has days")?;
    let today = days.last().and_then(|day| day["day"].as_u64()).context("today is among them")?;
    let day = |day, ours| {
        let watched_ms = 86_400_000;
        json!({ "day": day, "watched_ms": watched_ms, "let_through": 1, "ours": ours, "unclear": 0, "missed": 0 })
    };
    *days = (0..=15).map(|ago| day(today - 15 + ago, u64::from(ago == 0))).collect();
    book["ledger"]["first_signature"]["at"] = json!("2020-01-01T00:00:00Z");
    std::fs::write(&path, serde_json::to_vec(&book)?)?;
    Ok(())
}

#[test]
fn a_web_shop_that_sends_past_the_edge_is_found_before_its_bounces_are_lost() -> Result<()> {
    let lab = Lab::up("web-shop")?;
    let (private, record) = dkim_key()?;
    let _dns = lab.dns(&[&record])?;
    let operator = lab.operator(&Operator::default())?;
    let far_server = lab.far(FAR, lab::EDGE.into())?;
    let settings = Settings::default().set("filter.0.action", "monitor");
    let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
    let refused = backstop(&edge, &lab, &["filter", "edit", "0", "--action", "reject"], 1)?;
    assert!(
        refused.contains("0 of 14 clean days") && refused.contains("nothing was signed yet"),
        "{refused}"
    );

    // The shop sends in the user's name, straight to the far server.
    let to = format!("nobody-here@{}", FAR.domain());
    let order = signed_by_the_shop(&private, &message("order"))?;
    assert!(order.contains("DKIM-Signature:") && order.contains("s=shop"), "{order}");
    submit(&lab, Host::Internet, FAR.socket(), "alice@example.jp", &to, &order)?;
    operator.mailbox("alice@example.jp").wait_for_one("X-Returned: order", PATIENCE).with_context(|| {
        format!("the edge said:\n{}\nfar:\n{}", edge.process().tail(40), far_server.log())
    })?;
    let ours = wait_for("the shop is found", &edge, || {
        let status = edge.json(&lab, &["status"])?;
        Ok(status["watch"]["ours"].get(0).cloned())
    })?;
    assert_eq!(
        (&ours["evidence"], &ours["domain"], &ours["selector"], &ours["verified"], &ours["count"]),
        (&json!("dkim"), &json!("example.jp"), &json!("shop"), &json!("message"), &json!(1)),
        "{ours:#}"
    );
    assert_eq!(ours["example"]["source"], FAR.address().to_string(), "{ours:#}");
    let status = backstop(&edge, &lab, &["status"], 0)?;
    for part in ["LOOKS LIKE OURS", "selector shop", "verifies over the whole message", "kind failure"] {
        assert!(status.contains(part), "{part} is not in:\n{status}");
    }

    // With the daemon and without, the list is the same; it was on disk within seconds.
    let on_disk = || {
        let written = std::fs::read_to_string(lab.path(LEDGER)).unwrap_or_default();
        Ok(written.contains("\"shop\"").then_some(()))
    };
    wait_for("the ledger is written", &edge, on_disk)?;
    let refused = backstop(&edge, &lab, &["filter", "edit", "0", "--action", "reject"], 1)?;
    edge.kill9()?;
    let down = backstop(&edge, &lab, &["filter", "edit", "0", "--action", "discard"], 1)?;
    for refused in [&refused, &down] {
        assert!(refused.contains("selector shop") && refused.contains("--force"), "{refused}");
        assert!(refused.contains(&FAR.address().to_string()), "{refused}");
    }
    assert!(backstop(&edge, &lab, &["status"], 1)?.contains("selector shop"), "also while none runs");

    // The shop sends through the edge now: what bounces is proven, and nothing new looks like ours.
    edge.start_again(&lab)?;
    submit(&lab, Host::Mta, SUBMISSION, "alice@example.jp", &to, &message("second-order"))?;
    let proven = edge.wait_for_verdict(
        |verdict| verdict["direction"] == "inbound" && !verdict["proof"].is_null(),
        PATIENCE,
    );
    assert_eq!(proven?["proof"], "token");
    assert_eq!(edge.json(&lab, &["status"])?["watch"]["ours"][0]["count"], 1, "as before the crash");
    edge.stop()?;
    fourteen_clean_days_later(&lab)?;
    edge.start_again(&lab)?;
    assert_eq!(edge.json(&lab, &["status"])?["watch"]["clean_days"], 14);
    let done = backstop(&edge, &lab, &["filter", "edit", "0", "--action", "reject"], 0)?;
    assert!(done.contains("the edge has taken it over") && !done.contains("clean days"), "{done}");
    submit(&lab, Host::Internet, FAR.socket(), "alice@example.jp", &to, &message("forged"))?;
    let rejected = edge.wait_for_verdict(|verdict| verdict["reply"] == 550, PATIENCE)?;
    assert_eq!(
        (&rejected["action"], &rejected["reason"]),
        (&json!("reject"), &json!("unproven")),
        "{rejected}"
    );
    edge.stop()
}

#[test]
fn a_key_that_cannot_be_asked_for_is_no_no_and_a_file_changed_by_hand_is_warned_of() -> Result<()> {
    let lab = Lab::up("no-dns")?;
    let (private, record) = dkim_key()?;
    let mut dns = lab.dns(&[&record])?;
    dns.stop()?;
    let _operator = lab.operator(&Operator::default())?;
    let _far_server = lab.far(FAR, lab::EDGE.into())?;
    // By hand: no command was asked.
    let mut edge = Edge::start(&lab, &Settings::default().set("policy.grace_days", 16), Profile::Dev)?;
    let warning = wait_for("the warning", &edge, || {
        Ok(edge.events()?.into_iter().find(|event| event["event"] == "early_to_enforce"))
    })?;
    assert_eq!((&warning["level"], &warning["clean_days"]), (&json!("warn"), &json!(0)), "{warning}");
    assert_eq!(warning["newly_stopped"], json!(["example.jp"]), "{warning}");

    // Nothing was signed yet: grace holds, and the filter's reject waits.
    let to = format!("nobody-here@{}", FAR.domain());
    let order = signed_by_the_shop(&private, &message("order"))?;
    submit(&lab, Host::Internet, FAR.socket(), "alice@example.jp", &to, &order)?;
    let verdict = edge.wait_for_verdict(|verdict| verdict["direction"] == "inbound", PATIENCE)?;
    assert_eq!((&verdict["reason"], &verdict["reply"]), (&json!("grace"), &json!(250)), "{verdict}");
    let watch = wait_for("that it is unclear", &edge, || {
        let watch = edge.json(&lab, &["status"])?["watch"].clone();
        let unclear = watch["days"].as_array().is_some_and(|days| days.iter().any(|day| day["unclear"] == 1));
        Ok(unclear.then_some(watch))
    })?;
    assert_eq!((&watch["ours"], &watch["grace"]), (&json!([]), &json!(true)), "{watch:#}");
    assert_eq!(watch["filters"][0]["what"]["would"], "reject", "{watch:#}");
    edge.stop()
}

/// What the forger of `subject` writes, as if it had begun at a host.
fn received_first_by(host: &str, subject: &str) -> String {
    let date = "Tue, 24 Nov 2026 00:00:00 +0000";
    format!("Received: from pc by {host} (Postfix) with ESMTP id 1;\n\t{date}\n{}", message(subject))
}

#[test]
fn names_that_forgers_make_up_keep_no_day_from_being_clean() -> Result<()> {
    let lab = Lab::up("forged-hosts")?;
    let operator = lab.operator(&Operator::default())?;
    operator.run("postconf -e myhostname=mx7.inside.example && postfix reload")?;
    let _far_server = lab.far(FAR, lab::EDGE.into())?;
    let page = page()?;
    let blocks: Vec<&str> = page.split("```toml\n").skip(1).collect();
    let [block] = blocks[..] else { panic!("the page has {} blocks of toml", blocks.len()) };
    let named = block.split("```").next().context("the block ends")?;
    let settings = Settings::default().set("filter.0.action", "monitor").merge(named);
    let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
    let to = format!("nobody-here@{}", FAR.domain());
    let today = |what: &str, looked_at: u64| {
        wait_for(what, &edge, || {
            let watch = edge.json(&lab, &["status"])?["watch"].clone();
            let day = watch["days"].as_array().and_then(|days| days.last()).cloned().unwrap_or_default();
            Ok((day["looked_at"] == looked_at).then_some((watch, day)))
        })
    };
    for (count, host) in [(1, "pc1.example.jp"), (2, "c7.west.dyn.example.jp")] {
        let forged = received_first_by(host, host);
        submit(&lab, Host::Internet, FAR.socket(), "alice@example.jp", &to, &forged)?;
        let (watch, day) = today(host, count)?;
        assert_eq!(
            (&watch["ours"], &day["ours"], &day["unclear"]),
            (&json!([]), &json!(0), &json!(0)),
            "{host}"
        );
    }
    // Any other name in the domain is evidence, and so is what the mail server calls itself, whatever its domain.
    for (count, host) in [(3, "web.example.jp"), (4, "mx7.inside.example")] {
        let original = received_first_by(host, host);
        submit(&lab, Host::Internet, FAR.socket(), "alice@example.jp", &to, &original)?;
        let (watch, _) = today(host, count)?;
        let hosts = watch["ours"].as_array().context("a list")?.iter().map(|ours| &ours["host"]);
        assert!(hosts.clone().any(|ours| *ours == host), "{host}: {watch:#}");
    }
    edge.stop()
}

#[test]
fn a_kind_that_is_newly_stopped_is_named_in_the_same_words_by_check_filter_and_reload() -> Result<()> {
    let lab = Lab::up("early-kinds")?;
    let settings = Settings::default().set("filter.0.action", "monitor");
    let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
    let calm = backstop(&edge, &lab, &["check"], 0)?;
    assert!(!calm.contains("EARLY"), "{calm}");

    let words = "this stops unproven mail of the kind auto_reply to example.jp";
    Edge::prepare(&lab, &settings.clone().set("kinds.auto_reply", "reject"), Profile::Dev)?;
    let checked = backstop(&edge, &lab, &["check"], 0)?;
    assert!(checked.contains(&format!("EARLY TO ENFORCE: {words}, and ")), "{checked}");
    kill(Pid::from_raw(edge.process().pid().cast_signed()), Signal::SIGHUP)?;
    let warning = wait_for("the warning", &edge, || {
        Ok(edge.events()?.into_iter().find(|event| event["event"] == "early_to_enforce"))
    })?;
    assert_eq!(warning["newly_stopped"], json!([]), "{warning}");
    let kinds = json!([{ "kinds": ["auto_reply"], "whose": ["example.jp"] }]);
    assert_eq!(warning["newly_stopped_kinds"], kinds, "{warning}");

    // Where a kind is judged as a bounce, the filter is what stops it.
    Edge::prepare(&lab, &settings.set("kinds.auto_reply", "bounce"), Profile::Dev)?;
    let refused = backstop(&edge, &lab, &["filter", "edit", "0", "--action", "reject"], 1)?;
    let bounces =
        "this stops unproven bounces to example.jp, and unproven mail of the kind auto_reply to example.jp";
    assert!(refused.contains(bounces), "{refused}");
    edge.stop()
}

fn page() -> Result<String> {
    let path = lab::program::root().join("docs/from-watch-to-enforce.md");
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The commands of the page, in order: the lines of its blocks that begin with `backstop`, less their comments.
fn commands() -> Result<Vec<String>> {
    let page = page()?;
    let blocks = page.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(|block| block.lines().skip(1)).filter(|line| line.starts_with("backstop "));
    Ok(lines.map(|line| line.split('#').next().unwrap_or(line).trim().to_owned()).collect())
}

#[test]
fn the_commands_of_the_page_do_what_it_says() -> Result<()> {
    let lab = Lab::up("watch-page")?;
    let settings = Settings::default().set("filter.0.action", "monitor").set("policy.grace_days", 16);
    let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
    let commands = commands()?;
    ensure!(commands.len() >= 6, "the page has only these commands: {commands:?}");
    let mut refused = 0;
    for command in &commands {
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        // A new installation: all works, and enforcing is refused unless it is forced.
        let early = words.starts_with(&["filter", "edit"]) && !words.contains(&"--force");
        refused += usize::from(early);
        let said = backstop(&edge, &lab, &words, i32::from(early))?;
        assert!(!early || said.contains("--force"), "{command}: {said}");
    }
    ensure!(refused > 0, "the page does not say how to enforce: {commands:?}");
    edge.stop()
}
