//! A user's other mailbox, at another provider, that passes everything on to him: also bounces of mail that he sent
//! from there. They come from the provider with a null sender, and nothing of ours can be in them.

use anyhow::{Context as _, Result, ensure};
use lab::Host;
use lab::client::{Client, Stage, submit};
use lab::edge::Settings;
use lab::mta::{Forwarder, Operator};

use super::{PATIENCE, World};
use crate::message;

/// Otto's mailbox at the provider passes everything on to Bob's, which is his too; so does one to Alice's.
fn world(name: &str, settings: &Settings) -> Result<World> {
    let aliases = ["otto: bob@example.jp", "ada: alice@example.jp"].map(Into::into).to_vec();
    World::with(name, &Forwarder { aliases, ..Default::default() }, Operator::default(), settings)
}

/// He writes from there to an address that does not exist: the bounce goes there, and from there to our domain.
fn write_from_there(world: &World, who: &str, subject: &str) -> Result<()> {
    let text = message(subject).replace("alice@example.jp", who);
    submit(&world.lab, Host::Internet, Forwarder::socket(), who, "gone@postfix.example", &text)
}

fn trusting(per_hour: i64) -> Settings {
    Settings::default()
        .append("trusted_forwarder")
        .set("trusted_forwarder.0.memo", "Bob's other mailbox")
        .set("trusted_forwarder.0.networks", vec![Forwarder::address().to_string()])
        .set("trusted_forwarder.0.recipients", vec!["bob@example.jp"])
        .set("trusted_forwarder.0.per_hour", per_hour)
}

#[test]
fn without_the_setting_the_forwarder_hears_that_they_are_refused() -> Result<()> {
    let mut world = world("other-mailbox-unknown", &Settings::default())?;
    write_from_there(&world, "otto@forward.example", "from-there")?;
    let bounces = world.wait_for_bounces(1)?;
    assert_eq!((&bounces[0]["reason"], &bounces[0]["reply"]), (&"unproven".into(), &550.into()));
    // Never in silence: the forwarder knows, and logs it.
    let heard = world.forwarder.process().wait_for_line("said: 550 5.7.1", PATIENCE)?;
    assert!(heard.contains("to=<bob@example.jp>, orig_to=<otto@forward.example>"), "{heard}");
    world.wait_until_idle()?;
    assert_eq!(world.operator.mailbox("bob@example.jp").count()?, 0);
    world.edge.stop()
}

#[test]
fn with_the_setting_they_arrive_and_nobody_else_gains_by_it() -> Result<()> {
    let mut world = world("other-mailbox", &trusting(2))?;
    let mailbox = world.operator.mailbox("bob@example.jp");
    for subject in ["first", "second"] {
        write_from_there(&world, "otto@forward.example", subject)?;
        mailbox.wait_for_one(&format!("X-Returned: {subject}\n"), PATIENCE).with_context(|| world.said())?;
    }
    for bounce in world.wait_for_bounces(2)? {
        assert_eq!(
            (&bounce["reason"], &bounce["action"], &bounce["proof"]),
            (&"trusted_forwarder".into(), &"deliver".into(), &serde_json::Value::Null),
            "{bounce}"
        );
    }

    // Beyond its rate, to somebody else's mailbox, and from anywhere else: refused in the session.
    write_from_there(&world, "otto@forward.example", "third")?;
    world.wait_for_bounces(3)?;
    write_from_there(&world, "ada@forward.example", "to-alice")?;
    let bounces = world.wait_for_bounces(4)?;
    for bounce in &bounces[2..] {
        assert_eq!((&bounce["reason"], &bounce["reply"]), (&"unproven".into(), &550.into()), "{bounce}");
    }
    let mut stranger =
        Client::connect(&world.lab, Host::Internet, Some(lab::client(1)), (lab::EDGE, 25).into())?;
    stranger.command("EHLO stranger.example")?;
    let (stage, reply) = stranger.transaction("", "bob@example.jp", "Subject: failure notice\n\nNo.\n")?;
    ensure!(stage == Stage::Dot && reply.is("550 5.7.1"), "{stage:?}: {reply}");

    // The operator sees it.
    let counters = world.edge.json(&world.lab, &["status"])?["counters"].clone();
    assert_eq!((&counters["bounces_forwarded"], &counters["bounces_rejected"]), (&2.into(), &3.into()));
    let source = Forwarder::address().to_string();
    let told = |recipient: &str| {
        world.edge.json(&world.lab, &["filter", "test", "--recipient", recipient, "--from", &source])
    };
    assert_eq!(told("bob@example.jp")?["reason"], "trusted_forwarder");
    assert_eq!(told("alice@example.jp")?["reason"], "unproven");

    world.wait_until_idle()?;
    assert_eq!((mailbox.count()?, world.operator.mailbox("alice@example.jp").count()?), (2, 0));
    world.edge.stop()
}
