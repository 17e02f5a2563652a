//! Our own server passes a user's mail on to an address elsewhere, where it bounces.

use anyhow::{Context as _, Result};
use lab::Host;
use lab::client::submit;
use lab::edge::Settings;
use lab::mta::{Forwarder, Operator};

use super::{PATIENCE, World};
use crate::message;

/// Bob's mail goes on to an address that does not exist any more. Mark writes to him, from the provider.
fn mark_writes_to_bob(world: &World) -> Result<()> {
    let text = message("to-bob").replace("alice@example.jp", "Mark@forward.example");
    submit(&world.lab, Host::Internet, Forwarder::socket(), "Mark@forward.example", "bob@example.jp", &text)
}

fn operator(srs: bool) -> Operator {
    let passed_on = vec![("bob@example.jp".to_owned(), "gone@postfix.example".to_owned())];
    Operator { passed_on, srs, ..Operator::default() }
}

#[test]
fn with_a_foreign_sender_the_bounce_is_the_foreigners_and_none_of_ours() -> Result<()> {
    let world = World::with("passed-on", &Forwarder::default(), operator(false), &Settings::default())?;
    mark_writes_to_bob(&world)?;
    let told = world.forwarder.process().wait_for_line("to=<Mark@forward.example>", PATIENCE);
    assert!(told.with_context(|| world.said())?.contains("status=sent"), "{}", world.said());
    world.close(0, &[("bob@example.jp", 0)])
}

/// The new sender is an address of ours: its mail must be signed, and its bounce come back to it, in its own letters.
/// The domain asks for tags, which such an address cannot have.
#[test]
fn with_srs_the_mail_is_signed_for_the_new_sender_and_its_bounce_comes_back_to_it() -> Result<()> {
    let settings = Settings::default().set("domain.0.tag", true).set("domain.0.require_tag", "always");
    let world = World::with("passed-on-srs", &Forwarder::default(), operator(true), &settings)?;
    mark_writes_to_bob(&world)?;

    let bounce = world.wait_for_bounces(1)?.remove(0);
    assert_eq!((&bounce["proof"], &bounce["reply"]), (&"token".into(), &250.into()), "{bounce}");
    let to = bounce["recipient"].as_str().context("a recipient")?;
    assert!(to.starts_with("SRS0=") && to.ends_with("=forward.example=Mark@example.jp"), "{to}");
    let signed = world.edge.wait_for_verdict(
        |line| line["direction"] == "outbound" && line["recipient"] == "gone@postfix.example",
        PATIENCE,
    )?;
    assert_eq!(signed["reason"], "signed");
    assert_eq!(signed["sender"], to.to_lowercase());

    // Our server knows whose address it stands for, and Mark hears that his mail did not arrive.
    let told = world.forwarder.process().wait_for_line("to=<Mark@forward.example>", PATIENCE);
    assert!(told.with_context(|| world.said())?.contains("status=sent"), "{}", world.said());
    world.close(1, &[("bob@example.jp", 0)])
}
