//! Null-sender mail of each kind, as real servers send it in answer to mail that was forged in our user's name: no token
//! can come back. What is told to be no bounce arrives outside a flood; all else is refused.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::client::{Client, Stage, submit};
use lab::edge::{Edge, Settings};
use lab::mta::{AWAY, FORWARD_DOMAIN, Far, Forwarder, LATE, MailServer, Operator, Software};
use lab::program::Profile;
use lab::{Host, Lab};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// Mail in Alice's name that she never sent.
fn forged(to: &str, subject: &str) -> String {
    format!(
        "From: Alice <alice@example.jp>\nTo: <{to}>\nSubject: {subject}\nMessage-ID: <{subject}@bot.example>\n\nBuy.\n"
    )
}

/// A provider with everything that answers: `vera` and `vito` are away, says Dovecot's Sieve; `gone`'s mail goes to
/// where no route leads. It relays to a server that is down.
fn provider() -> Forwarder {
    let vacation = "require \"vacation\";\nvacation :days 7 \"I am not here.\";".to_owned();
    Forwarder {
        aliases: vec!["gone: someone@nowhere.example".into()],
        settings: vec!["delay_warning_time = 1s".into(), "relay_domains = opensmtpd.example".into()],
        sieve: vec![("vera".into(), vacation.clone()), ("vito".into(), vacation)],
        ..Default::default()
    }
}

/// What the edge said of the next null-sender message, where `known` came before.
fn next_verdict(edge: &Edge, known: usize, logs: &[&MailServer]) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let verdicts: Vec<Value> = edge
            .verdicts()?
            .into_iter()
            .filter(|line| line["direction"] == "inbound" && line["sender"] == "")
            .collect();
        if let Some(verdict) = verdicts.get(known) {
            return Ok(verdict.clone());
        }
        if Instant::now() > deadline {
            let said: Vec<String> = logs.iter().map(|server| server.process().tail(4000)).collect();
            bail!("no message came; the servers said:\n{}", said.join("\n---\n"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_real_servers_send_is_of_its_kind() -> Result<()> {
    let exim = Far { software: Software::Exim };
    let smtpd = Far { software: Software::OpenSmtpd };
    let lab = Lab::up("kinds")?;
    let operator = lab.operator(&Operator::default())?;
    let provider = lab.forwarder(&provider())?;
    let far_exim = lab.far(exim, lab::EDGE.into())?;
    let mut edge = Edge::start(&lab, &Settings::default(), Profile::Dev)?;
    let mailbox = operator.mailbox("alice@example.jp");
    let mut delivered = 0;

    let at = |local: &str, domain: &str| format!("{local}@{domain}");
    let eximers = exim.domain();
    let rows = [
        ("Postfix", at("gone", FORWARD_DOMAIN), "failure", "certain"),
        ("Postfix", at("late", &smtpd.domain()), "delay", "certain"),
        ("Postfix", at("mark", FORWARD_DOMAIN), "success", "certain"),
        ("Dovecot", at("vera", FORWARD_DOMAIN), "auto_reply", "certain"),
        ("Exim", at("nobody", &eximers), "failure", "certain"),
        ("Exim", at(LATE, &eximers), "delay", "certain"),
        ("Exim", at(AWAY, &eximers), "auto_reply", "certain"),
    ];
    for (known, (software, to, kind, confidence)) in rows.iter().enumerate() {
        let server = if *software == "Exim" { exim.socket() } else { Forwarder::socket() };
        // RFC 3461 section 4.1: only who asks for it hears that it went well.
        let parameters = if *kind == "success" { " NOTIFY=SUCCESS" } else { "" };
        hand_in(&lab, server, to, parameters, &forged(to, kind))?;
        let verdict = next_verdict(&edge, known, &[&provider, &far_exim])?;
        let context = format!("{software} to {to}: {verdict:#}\n{}\n{}", provider.log(), far_exim.log());
        assert_eq!(
            (&verdict["kind"], &verdict["confidence"]),
            (&(*kind).into(), &(*confidence).into()),
            "{context}"
        );
        assert_eq!(verdict["proof"], Value::Null, "{context}");
        if *kind == "auto_reply" {
            assert_eq!(
                (&verdict["action"], &verdict["reason"], &verdict["reply"], &verdict["filter"]),
                (&"deliver".into(), &"kind_rule".into(), &250.into(), &Value::Null),
                "{context}"
            );
            let reply = mailbox.wait_for_one(to, PATIENCE).with_context(|| context.clone())?;
            assert!(reply.contains("I am not here."), "{reply}");
            delivered += 1;
        } else {
            assert_eq!(
                (&verdict["action"], &verdict["reason"], &verdict["reply"]),
                (&"reject".into(), &"unproven".into(), &550.into()),
                "{context}"
            );
        }
        assert_eq!(mailbox.count()?, delivered, "{context}");
    }
    // What it has not delivered yet would come to the next server, too.
    drop(provider);
    let far_smtpd = lab.far(smtpd, lab::EDGE.into())?;
    let to = at("nobody", &smtpd.domain());
    submit(&lab, Host::Internet, smtpd.socket(), "alice@example.jp", &to, &forged(&to, "failure"))?;
    let verdict = next_verdict(&edge, rows.len(), &[&far_smtpd])?;
    assert_eq!((&verdict["kind"], &verdict["reply"]), (&"failure".into(), &550.into()), "{verdict:#}");

    let status = edge.json(&lab, &["status"])?;
    let counters = &status["counters"];
    assert_eq!(
        (&counters["kinds_let_through"], &counters["delivered_auto_reply"], &counters["unproven"]),
        (&2.into(), &2.into(), &6.into()),
        "{counters:#}"
    );
    edge.stop()
}

/// Hands in a message with Alice as its sender. `parameters` stand behind its recipient, with a space before each.
fn hand_in(lab: &Lab, server: SocketAddr, recipient: &str, parameters: &str, message: &str) -> Result<()> {
    let mut client = Client::connect(lab, Host::Internet, None, server)?;
    for (line, code) in [
        ("EHLO bot.example".to_owned(), 250),
        ("MAIL FROM:<alice@example.jp>".to_owned(), 250),
        (format!("RCPT TO:<{recipient}>{parameters}"), 250),
        ("DATA".to_owned(), 354),
    ] {
        let reply = client.command(&line)?;
        ensure!(reply.code == code, "{server} said to {line}: {reply}");
    }
    let reply = client.message(message)?;
    ensure!(reply.code == 250, "{server} refused the message: {reply}");
    client.command("QUIT").map(drop)
}

#[test]
fn an_auto_reply_arrives_outside_a_flood_and_in_one_it_is_refused() -> Result<()> {
    const FLOOD: usize = 20;
    let lab = Lab::up("kinds-flood")?;
    let operator = lab.operator(&Operator::default())?;
    let provider = lab.forwarder(&provider())?;
    let settings = Settings::default().set("flood.unproven_min", FLOOD as i64).set("flood.window_secs", 3600);
    let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
    let mailbox = operator.mailbox("alice@example.jp");

    let vera = format!("vera@{FORWARD_DOMAIN}");
    hand_in(&lab, Forwarder::socket(), &vera, "", &forged(&vera, "calm"))?;
    let verdict = next_verdict(&edge, 0, &[&provider])?;
    assert_eq!((&verdict["kind"], &verdict["reply"]), (&"auto_reply".into(), &250.into()), "{verdict:#}");
    let reply = mailbox.wait_for_one("I am not here.", PATIENCE)?;

    let mut client = Client::connect(&lab, Host::Internet, Some(lab::client(1)), (lab::EDGE, 25).into())?;
    client.command("EHLO far.example")?;
    let bounce = "From: MAILER-DAEMON@far.example\nSubject: failure notice\n\n550 5.1.1 nobody\n";
    for nth in 0..FLOOD {
        let (stage, reply) = client.transaction("", "alice@example.jp", bounce)?;
        assert!(stage == Stage::Dot && reply.code == 550, "bounce {nth}: {stage:?} {reply}");
    }
    // The log is written beside the sessions.
    let deadline = Instant::now() + PATIENCE;
    while !edge.events()?.iter().any(|event| event["event"] == "flood_begin") {
        ensure!(Instant::now() < deadline, "no flood began:\n{}", edge.process().tail(40));
        std::thread::sleep(Duration::from_millis(20));
    }

    let vito = format!("vito@{FORWARD_DOMAIN}");
    hand_in(&lab, Forwarder::socket(), &vito, "", &forged(&vito, "flood"))?;
    let verdict = next_verdict(&edge, 1 + FLOOD, &[&provider])?;
    assert_eq!(
        (&verdict["kind"], &verdict["action"], &verdict["reason"], &verdict["reply"]),
        (&"auto_reply".into(), &"reject".into(), &"unproven".into(), &550.into()),
        "{verdict:#}"
    );
    // The very words that arrived before.
    let reply = reply.split_once('\n').map_or("", |(_, rest)| rest);
    let (stage, answer) = client.transaction("", "alice@example.jp", reply)?;
    assert!(stage == Stage::Dot && answer.code == 550, "{stage:?} {answer}");
    assert_eq!(mailbox.count()?, 1);
    edge.stop()
}
