//! A far user's `.forward` file.

use anyhow::Result;
use lab::mta::Forwarder;

use super::{PATIENCE, World, all_are};

#[test]
fn a_bounce_of_mail_that_a_dot_forward_file_passed_on_comes_back() -> Result<()> {
    let dot_forward = Some("gone@postfix.example".to_owned());
    let world = World::up("dot-forward", &Forwarder { dot_forward, ..Default::default() })?;
    world.alice_writes_to("mark@forward.example", "forward-file")?;
    all_are(&world.wait_for_bounces(1)?, "token", "alice@example.jp");
    let bounce =
        world.operator.mailbox("alice@example.jp").wait_for_one("X-Returned: forward-file\n", PATIENCE)?;
    assert!(bounce.contains("Delivered-To: mark@forward.example"), "it took another way: {bounce}");
    world.close(1, &[("alice@example.jp", 1)])
}
