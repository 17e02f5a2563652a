//! The hold's bounds: of one bounce, and of all.

use super::*;
use crate::engine::tests::scripted::Act;

fn lines(bytes: usize) -> String {
    format!("{}\r\n", "x".repeat(98)).repeat(bytes / 100)
}

async fn small(script: Script) -> Lab {
    Lab::with(script, |config| {
        config.limits.hold_bytes_max = 40_000;
        config.limits.hold_total_bytes_max = 60_000;
    })
    .await
}

#[tokio::test]
async fn a_proof_at_the_end_of_the_hold_still_counts() {
    let lab = small(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.envelope("", "user@ours.example").await;
    let message =
        format!("{}{}\r\nX: y\r\n{}", lines(39_000), lab.token("user@ours.example", 1), lines(100_000));
    talk.send(&message).await;
    talk.say(".", "250").await;
    assert!(lab.upstream.seen().messages[0].ends_with(&message));
    assert_eq!(lab.edge.pool.held_bytes(), 0);
}

#[tokio::test]
async fn past_the_hold_the_rules_action_is_decided_there() {
    let lab = small(Script::default()).await;
    for (recipient, reply, delivered) in [
        ("user@ours.example", "550 5.7.1", false),
        ("discard@ours.example", "250", false),
        ("mark@ours.example", "250", true),
        ("monitor@ours.example", "250", true),
    ] {
        let before = lab.upstream.seen().messages.len();
        let mut talk = lab.greeted().await;
        talk.envelope("", recipient).await;
        // A token that comes too late changes nothing.
        let message = format!("{}{}\r\n", lines(80_000), lab.token(recipient, 1));
        talk.send(&message).await;
        talk.say(".", reply).await;
        let messages = lab.upstream.seen().messages;
        assert_eq!(messages.len() - before, usize::from(delivered), "{recipient}");
        if delivered {
            assert!(messages[before].ends_with(&message), "{recipient}");
        }
        assert_eq!(lab.edge.pool.held_bytes(), 0, "{recipient}");
    }
    assert_eq!(lab.logged().matches("too_big_to_prove").count(), 4);
}

#[tokio::test]
async fn all_sessions_together_hold_no_more_than_they_may() {
    let lab = small(Script::default()).await;
    let mut first = lab.greeted().await;
    first.envelope("", "user@ours.example").await;
    first.send(lines(35_000)).await;
    while lab.edge.pool.held_bytes() < 34_000 {
        tokio::task::yield_now().await;
    }
    let mut second = lab.greeted().await;
    second.envelope("", "user@ours.example").await;
    second.send(lines(35_000)).await;
    second.say(".", "452 4.3.1").await;
    assert!(lab.edge.pool.held_bytes() <= 35_000, "what was refused is let go");
    first.say(".", "550 5.7.1").await;
    assert_eq!(lab.edge.pool.held_bytes(), 0);
    second.envelope("", "user@ours.example").await;
    second.send(lines(35_000)).await;
    second.say(".", "550 5.7.1").await;
}

#[tokio::test]
async fn a_client_that_goes_lets_go_what_was_held() {
    let lab = small(Script::at("MAIL", Act::Close)).await;
    let mut talk = lab.greeted().await;
    talk.envelope("", "user@ours.example").await;
    talk.send(lines(30_000)).await;
    while lab.edge.pool.held_bytes() < 29_000 {
        tokio::task::yield_now().await;
    }
    drop(talk);
    while lab.edge.registry.sessions() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(lab.edge.pool.held_bytes(), 0);
}

#[tokio::test]
async fn near_the_end_of_all_room_a_stranger_holds_no_more_and_a_source_with_credit_does() {
    let lab = Lab::with(Script::default(), |config| config.limits.hold_total_bytes_max = 200_000).await;
    let mut first = lab.greeted().await;
    first.envelope("", "user@ours.example").await;
    first.send(lines(100_000)).await;
    while lab.edge.pool.held_bytes() < 99_000 {
        tokio::task::yield_now().await;
    }
    let mut small = lab.greeted().await;
    small.envelope("", "user@ours.example").await;
    small.send(lines(61_000)).await;
    small.say(".", "452 4.3.1").await;
    // What was held so far that a proof would have been there is judged.
    first.send(lines(90_000)).await;
    first.say(".", "550 5.7.1").await;
    assert!(lab.logged().contains("too_big_to_prove"));
    assert_eq!(lab.edge.pool.held_bytes(), 0);
    let mut known = lab.greeted().await;
    for _ in 0..10 {
        known.envelope("", &lab.tagged("user", "ours.example", 0)).await;
        known.say(".", "250").await;
    }
    known.envelope("", "user@ours.example").await;
    let message = format!("{}{}\r\n", lines(190_000), lab.token("user@ours.example", 1));
    known.send(&message).await;
    known.say(".", "250").await;
}
