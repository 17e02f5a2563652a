//! A Sieve script that redirects (Dovecot's Pigeonhole): the envelope sender stays our user's.

use anyhow::Result;
use lab::mta::Forwarder;

use super::{PATIENCE, World, all_are};

#[test]
fn a_bounce_of_mail_that_a_sieve_script_redirected_comes_back() -> Result<()> {
    let script = "redirect \"gone@postfix.example\";".to_owned();
    let world =
        World::up("sieve", &Forwarder { sieve: vec![("sven".into(), script)], ..Default::default() })?;
    world.alice_writes_to("sven@forward.example", "redirected")?;
    all_are(&world.wait_for_bounces(1)?, "token", "alice@example.jp");
    let bounce =
        world.operator.mailbox("alice@example.jp").wait_for_one("X-Returned: redirected\n", PATIENCE)?;
    assert!(
        bounce.contains("X-Sieve-Redirected-From: sven@forward.example"),
        "it took another way: {bounce}"
    );
    world.close(1, &[("alice@example.jp", 1)])
}
