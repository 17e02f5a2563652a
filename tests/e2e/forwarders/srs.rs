//! A forwarder that rewrites senders (SRS): the bounce goes to the forwarder's address, and from there to our user.

use anyhow::{Context as _, Result};
use lab::mta::Forwarder;

use super::{PATIENCE, World, all_are};

#[test]
fn a_bounce_to_the_forwarders_srs_address_comes_back_through_the_forwarder() -> Result<()> {
    let aliases = ["dora: gone@postfix.example", "erna: gone@refusing.example"];
    let world = World::up(
        "srs",
        &Forwarder { aliases: aliases.map(Into::into).to_vec(), srs: true, ..Default::default() },
    )?;
    for to in ["dora", "erna"] {
        world.alice_writes_to(&format!("{to}@forward.example"), to)?;
    }
    let bounces = world.wait_for_bounces(2)?;
    all_are(&bounces, "token", "alice@example.jp");
    for bounce in &bounces {
        assert_eq!(bounce["source"], Forwarder::address().to_string(), "{bounce}");
    }
    world.far.process().wait_for_line("from=<SRS0=", PATIENCE).with_context(|| world.said())?;
    for subject in ["dora", "erna"] {
        let returned = format!("X-Returned: {subject}\n");
        world.operator.mailbox("alice@example.jp").wait_for_one(&returned, PATIENCE)?;
    }
    world.close(2, &[("alice@example.jp", 2)])
}
