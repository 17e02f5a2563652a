//! Whether a mailbox exists: asked by probes, remembered, and never a reason to refuse when nobody can say.

use std::task::{Context, Poll, Waker};

use super::*;
use crate::engine::mailboxes::Existence;
use crate::engine::tests::scripted::Act;

#[tokio::test]
async fn a_bounce_to_nobody_is_refused_at_rcpt_and_the_upstream_is_asked_once() {
    let lab = Lab::with_housekeeping(Script::at("RCPT TO:<no@", Act::Say("550 5.1.1 nobody"))).await;
    let mut talk = lab.greeted().await;
    for _ in 0..3 {
        talk.say("MAIL FROM:<>", "250").await;
        talk.say("RCPT TO:<no@ours.example>", "550 5.1.1").await;
        talk.say("RCPT TO:<user@ours.example>", "250").await;
        talk.say("RSET", "250").await;
    }
    let seen = lab.upstream.seen();
    assert_eq!(
        seen.commands.iter().filter(|line| line.starts_with("RCPT")).count(),
        2,
        "{:?}",
        seen.commands
    );
    assert!(!seen.commands.iter().any(|line| line == "DATA"));
}

#[tokio::test]
async fn normal_mail_fills_the_memory() {
    let lab = Lab::new(Script::at("RCPT TO:<no@", Act::Say("550 5.1.1 nobody"))).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.say("RCPT TO:<no@ours.example>", "550 5.1.1").await;
    talk.say("RSET", "250").await;
    talk.say("MAIL FROM:<>", "250").await;
    // Any spelling of the mailbox is the mailbox.
    talk.say("RCPT TO:<NO@OURS.EXAMPLE>", "550 5.1.1").await;
    assert_eq!(lab.upstream.seen().connections, 1);
}

#[tokio::test]
async fn a_refusal_that_may_mean_the_sender_makes_no_mailbox_vanish() {
    for refusal in ["550 not from you", "553 5.1.8 no such sender's domain", "550 5.1.0 sender unknown"] {
        let lab = Lab::new(Script::at("RCPT", Act::Say(refusal))).await;
        let mut talk = lab.greeted().await;
        talk.say("MAIL FROM:<made.up@nowhere.example>", "250").await;
        talk.say("RCPT TO:<user@ours.example>", refusal).await;
        talk.say("RSET", "250").await;
        talk.say("MAIL FROM:<>", "250").await;
        talk.say("RCPT TO:<user@ours.example>", "250").await;
    }
}

#[tokio::test]
async fn a_refusal_of_an_address_with_a_foreign_tag_makes_no_mailbox_vanish() {
    for (sender, recipient) in [
        ("a@far.example", "prvs=2234567890=user@ours.example"),
        ("", "prvs=2234567890=prvs=2234567890=user@ours.example"),
    ] {
        let lab = Lab::with_housekeeping(Script::at("RCPT TO:<prvs=", Act::Say("550 5.1.1 nobody"))).await;
        let mut talk = lab.greeted().await;
        talk.say(&format!("MAIL FROM:<{sender}>"), "250").await;
        talk.say(&format!("RCPT TO:<{recipient}>"), "550 5.1.1").await;
        talk.say("RSET", "250").await;
        talk.say("MAIL FROM:<>", "250").await;
        talk.say("RCPT TO:<user@ours.example>", "250").await;
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_say_refuses_nobody() {
    for act in [Act::Close, Act::Say("450 4.2.0 greylisted"), Act::Say("550 5.7.1 go away"), Act::Sleep] {
        let lab = Lab::with_housekeeping(Script::at("RCPT", act.clone())).await;
        let mut talk = lab.greeted().await;
        talk.say("MAIL FROM:<>", "250").await;
        talk.send("RCPT TO:<user@ours.example>\r\n").await;
        if matches!(act, Act::Sleep) {
            lab.until_asleep().await;
        }
        let reply = talk.expect("").await;
        assert!(reply.starts_with("250"), "{act:?}: {reply}");
    }
}

#[tokio::test]
async fn a_bounce_to_nobody_is_no_error_of_the_server_but_pays_as_an_unproven_one() {
    let lab = Lab::with(Script::at("RCPT TO:<no@", Act::Say("550 5.1.1 nobody")), |config| {
        config.limits.errors_max = 3;
        config.reputation.unproven_burst = 20.0;
        config.reputation.unproven_per_sec = 0.0;
    })
    .await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.say("RCPT TO:<no@ours.example>", "550 5.1.1").await;
    talk.say("RSET", "250").await;
    for _ in 0..20 {
        talk.say("MAIL FROM:<>", "250").await;
        talk.say("RCPT TO:<no@ours.example>", "550 5.1.1").await;
        talk.say("RSET", "250").await;
    }
    talk.say("MAIL FROM:<>", "250").await;
    talk.say("RCPT TO:<no@ours.example>", "550 5.1.1").await;
    talk.expect("421 4.7.0").await;
}

#[tokio::test]
async fn an_upstream_that_is_down_is_not_probed() {
    let lab = Lab::with_housekeeping(Script::at("GREETING", Act::Say("421 not now"))).await;
    while !lab.edge.upstreams.is_down(lab.upstream.address) {
        tokio::task::yield_now().await;
    }
    let mailbox = Mailbox::parse("user@ours.example").expect("an address");
    let route = lab.edge.domains.route("ours.example").expect("it is ours");
    let look = lab.edge.mailboxes.look(&lab.edge, &mailbox, b"user@ours.example", route);
    let said = std::pin::pin!(look).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(said, Poll::Ready(Existence::Unknown), "nobody waits for a probe");
}
