//! Bounces: nothing goes upstream before it is proven.

use edge_core::policy::{Action, RequireTag};
use edge_core::signature::TAG_USES_MAX;

use super::*;
use crate::engine::tests::scripted::Act;

fn bounce(token: &str) -> String {
    format!(
        "From: MAILER-DAEMON@far.example\r\nSubject: Undelivered\r\n\r\nIt failed.\r\n\r\n{token}\r\nSubject: original\r\n\r\n"
    )
}

/// Sends a bounce to `recipient`; the reply to its final dot.
async fn send(lab: &Lab, recipient: &str, message: &str) -> String {
    let mut talk = lab.greeted().await;
    talk.envelope("", recipient).await;
    talk.send(message).await;
    talk.say(".", "").await
}

#[tokio::test]
async fn an_unproven_bounce_is_refused_and_the_upstream_never_hears_of_it() {
    let lab = Lab::new(Script::default()).await;
    let reply = send(&lab, "user@ours.example", &bounce("X: nothing")).await;
    assert_eq!(&reply[..9], "550 5.7.1");
    assert_eq!(lab.upstream.seen().connections, 0);
    let metrics = &lab.edge.metrics;
    assert_eq!((metrics.unproven.get(), metrics.bounces_rejected.get(), metrics.deferred.get()), (1, 1, 0));
    assert_eq!(lab.edge.pool.held_bytes(), 0);
    let log = lab.logged();
    assert!(log.contains("\"reason\":\"unproven\"") && log.contains("\"action\":\"reject\""), "{log}");
}

#[tokio::test]
async fn a_bounce_that_brings_our_token_back_is_delivered_whole() {
    let lab = Lab::new(Script::default()).await;
    let message = bounce(&lab.token("user@ours.example", 1));
    assert_eq!(&send(&lab, "user@ours.example", &message).await[..3], "250");
    let seen = lab.upstream.seen();
    assert_eq!(seen.commands, ["MAIL FROM:<>", "RCPT TO:<user@ours.example>", "DATA"]);
    assert!(seen.messages[0].starts_with("Received: from client.example"));
    assert!(seen.messages[0].ends_with(&message));
    assert_eq!(lab.edge.metrics.bounces_token.get(), 1);
    let log = lab.logged();
    assert!(log.contains("\"proof\":\"token\"") && log.contains("\"reason\":\"proven\""), "{log}");
}

#[tokio::test]
async fn the_upstream_is_opened_only_when_the_proof_has_come() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.envelope("", "user@ours.example").await;
    talk.send("Subject: Undelivered\r\n\r\n").await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(lab.upstream.seen().connections, 0);
    talk.send(format!("{}\r\nX: y\r\n", lab.token("user@ours.example", 2))).await;
    while lab.upstream.seen().body_bytes == 0 {
        tokio::task::yield_now().await;
    }
    talk.say(".", "250").await;
}

#[tokio::test]
async fn a_bounce_means_the_same_however_it_is_cut() {
    let lab = Lab::with(Script::default(), |config| {
        config.flood.unproven_min = 10_000;
        config.reputation.unproven_burst = 10_000.0;
    })
    .await;
    let message = format!("Subject: x\r\n\r\n{}\r\n", lab.token("user@ours.example", 3));
    let dialogue = format!(
        "EHLO client.example\r\nMAIL FROM:<>\r\nRCPT TO:<user@ours.example>\r\nDATA\r\n{message}.\r\nQUIT\r\n"
    );
    // A token proves 16 bounces, then it is used up; outside a flood those are delivered too.
    for cut in 0..=dialogue.len() {
        let mut talk = lab.connect().await;
        let (head, tail) = dialogue.split_at(cut);
        talk.send(head).await;
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        talk.send(tail).await;
        for start in ["220", "250", "250", "250", "354", "250", "221"] {
            talk.expect(start).await;
        }
    }
    let messages = lab.upstream.seen().messages;
    assert_eq!(messages.len(), dialogue.len() + 1);
    assert!(messages.iter().all(|got| got.ends_with(&message)));
}

#[tokio::test]
async fn a_token_of_another_mailbox_proves_nothing() {
    let lab = Lab::new(Script::default()).await;
    let message = bounce(&lab.token("other@ours.example", 1));
    assert_eq!(&send(&lab, "user@ours.example", &message).await[..9], "550 5.7.1");
    assert_eq!(lab.upstream.seen().connections, 0);
}

#[tokio::test]
async fn a_valid_tag_proves_a_bounce_and_is_taken_off() {
    let lab = Lab::new(Script::default()).await;
    let tagged = lab.tagged("user", "ours.example", 1);
    assert_eq!(&send(&lab, &tagged, &bounce("")).await[..3], "250");
    assert_eq!(lab.upstream.seen().commands[..2], ["MAIL FROM:<>", "RCPT TO:<user@ours.example>"]);
    assert_eq!(lab.edge.metrics.bounces_tag.get(), 1);
}

#[tokio::test]
async fn an_expired_tag_falls_through_to_the_token_and_is_taken_off() {
    let lab = Lab::new(Script::default()).await;
    let tagged = lab.tagged("user", "ours.example", 30);
    assert_eq!(&send(&lab, &tagged, &bounce("")).await[..9], "550 5.7.1");
    assert_eq!(lab.upstream.seen().connections, 0);
    assert_eq!(&send(&lab, &tagged, &bounce(&lab.token("user@ours.example", 1))).await[..3], "250");
    assert_eq!(lab.upstream.seen().commands[1], "RCPT TO:<user@ours.example>");
}

#[tokio::test]
async fn each_action_does_what_it_says() {
    let lab = Lab::new(Script::default()).await;
    assert_eq!(&send(&lab, "discard@ours.example", &bounce("")).await[..3], "250");
    assert_eq!(lab.upstream.seen().connections, 0, "discarded");
    assert_eq!(&send(&lab, "mark@ours.example", &bounce("")).await[..3], "250");
    assert_eq!(&send(&lab, "monitor@ours.example", &bounce("")).await[..3], "250");
    assert_eq!(&send(&lab, "postmaster@ours.example", &bounce("")).await[..3], "250");
    let messages = lab.upstream.seen().messages;
    assert_eq!(
        messages.iter().map(|m| m.contains("\r\nBackstop-Verdict: unproven\r\nFrom:")).collect::<Vec<_>>(),
        [true, false, false]
    );
    let metrics = &lab.edge.metrics;
    assert_eq!((metrics.bounces_discarded.get(), metrics.bounces_unproven_delivered.get()), (1, 3));
    assert_eq!(metrics.unproven.get(), 3, "an exempt recipient's bounce is no sign of a flood");
}

#[tokio::test]
async fn a_second_recipient_of_a_bounce_comes_in_another_transaction() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<>", "250").await;
    talk.say("RCPT TO:<user@ours.example>", "250").await;
    talk.say("RCPT TO:<two@ours.example>", "452 4.5.3").await;
    talk.say("DATA", "354").await;
    talk.say(".", "550 5.7.1").await;
}

#[tokio::test]
async fn require_tag_refuses_in_answer_to_data() {
    let lab = Lab::with(Script::default(), |config| config.domains[0].require_tag = RequireTag::Always).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<>", "250").await;
    talk.say("RCPT TO:<user@ours.example>", "250").await;
    talk.say("DATA", "550 5.7.1").await;
    talk.envelope("", &lab.tagged("user", "ours.example", 0)).await;
    talk.say(".", "250").await;
    talk.envelope("a@far.example", "user@ours.example").await;
    talk.say(".", "250").await;
    assert_eq!(lab.edge.metrics.unproven.get(), 1);
    assert!(lab.logged().contains("tag_required"));
}

#[tokio::test]
async fn the_upstreams_refusal_of_a_proven_bounce_is_the_reply_to_its_final_dot() {
    for (stage, reply) in [
        ("MAIL", "451 4.7.1 not now"),
        ("RCPT", "550 5.1.1 nobody of that name"),
        ("DATA", "554 5.5.1 no"),
        ("DOT", "552 5.2.2 mailbox full"),
    ] {
        let lab = Lab::new(Script::at(stage, Act::Say(reply))).await;
        let message = bounce(&lab.token("user@ours.example", 1));
        assert_eq!(send(&lab, "user@ours.example", &message).await, reply, "at {stage}");
        assert_eq!(lab.edge.metrics.bounces_token.get(), 0);
    }
}

#[tokio::test]
async fn a_proven_bounce_arrives_after_the_upstream_refused_a_tagged_recipient() {
    let lab = Lab::new(Script::at("RCPT TO:<gone@", Act::Say("550 5.1.1 nobody"))).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<>", "250").await;
    talk.say(&format!("RCPT TO:<{}>", lab.tagged("gone", "ours.example", 1)), "550 5.1.1").await;
    talk.say("RCPT TO:<user@ours.example>", "250").await;
    talk.say("DATA", "354").await;
    talk.send(bounce(&lab.token("user@ours.example", 1))).await;
    talk.say(".", "250").await;
    let seen = lab.upstream.seen();
    assert_eq!(seen.messages.len(), 1);
    assert_eq!(seen.commands[2..], ["RCPT TO:<user@ours.example>", "DATA"]);
}

#[tokio::test]
async fn a_proven_bounce_whose_upstream_is_lost_gets_451() {
    for stage in ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "DOT"] {
        let lab = Lab::new(Script::at(stage, Act::Close)).await;
        let message = bounce(&lab.token("user@ours.example", 1));
        assert_eq!(&send(&lab, "user@ours.example", &message).await[..5], "451 4", "at {stage}");
        assert_eq!(lab.edge.metrics.in_doubt.get(), u64::from(stage == "DOT"), "at {stage}");
    }
}

#[tokio::test]
async fn a_use_counts_only_when_the_bounce_arrived() {
    let lab = Lab::with(Script::at("RCPT TO:<later", Act::Say("450 4.2.0 later")), |config| {
        config.policy.overused_in_flood = Action::Reject;
        config.flood.unproven_min = 1;
        config.flood.factor = 0.0;
    })
    .await;
    // In a flood, a token that was used 16 times proves no more.
    send(&lab, "user@ours.example", &bounce("")).await;
    assert!(lab.edge.flood_on());
    let message = bounce(&lab.token("later@ours.example", 1));
    for _ in 0..20 {
        let reply = send(&lab, "later@ours.example", &message).await;
        assert_eq!(&reply[..3], "450", "a deferred bounce uses nothing up");
    }
    let message = bounce(&lab.token("user@ours.example", 2));
    let mut replies = Vec::new();
    for _ in 0..18 {
        replies.push(send(&lab, "user@ours.example", &message).await[..3].to_owned());
    }
    assert_eq!(replies.iter().filter(|reply| *reply == "250").count(), 16);
    assert_eq!(replies[16..], ["550", "550"]);
    assert!(lab.logged().contains("overused"));
}

#[tokio::test]
async fn an_overused_token_earns_nothing_and_counts_towards_the_flood_that_refuses_it() {
    let lab = Lab::with(Script::default(), |config| {
        config.policy.overused_in_flood = Action::Reject;
        config.flood.unproven_min = 4;
        config.flood.factor = 0.0;
    })
    .await;
    let message = bounce(&lab.token("user@ours.example", 1));
    let mut replies = Vec::new();
    for _ in 0..22 {
        replies.push(send(&lab, "user@ours.example", &message).await[..3].to_owned());
    }
    assert!(lab.edge.flood_on(), "replays alone make a flood");
    assert!(
        replies[..19].iter().all(|reply| reply == "250"),
        "outside a flood they are delivered: {replies:?}"
    );
    assert_eq!(replies[20..], ["550", "550"]);
    let source = "127.0.0.1".parse().expect("a source");
    let known = lab.edge.reputation.explain(source, lab.edge.now());
    assert_eq!((known.proven, known.unproven), (16, 6), "{known:?}");
    let metrics = &lab.edge.metrics;
    assert_eq!((metrics.bounces_token.get(), metrics.unproven.get()), (16, 6));
}

#[tokio::test]
async fn a_tag_proves_so_many_bounces_and_then_the_token_must() {
    let lab = Lab::new(Script::at("RCPT TO:<later", Act::Say("450 4.2.0 later"))).await;
    let later = lab.tagged("later", "ours.example", 0);
    let tagged = lab.tagged("user", "ours.example", 0);
    for _ in 0..TAG_USES_MAX {
        let mut talk = lab.greeted().await;
        talk.say("MAIL FROM:<>", "250").await;
        talk.say(&format!("RCPT TO:<{later}>"), "450").await;
        talk.say("RSET", "250").await;
        talk.envelope("", &tagged).await;
        talk.say(".", "250").await;
    }
    assert_eq!(&send(&lab, &tagged, &bounce("")).await[..9], "550 5.7.1", "one too many");
    assert_eq!(&send(&lab, &tagged, &bounce(&lab.token("user@ours.example", 1))).await[..3], "250");
    let next_day = lab.tagged("user", "ours.example", 1);
    assert_eq!(&send(&lab, &next_day, &bounce("")).await[..3], "250", "another day, another tag");
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<>", "250").await;
    talk.say(&format!("RCPT TO:<{later}>"), "450 4.2.0 later").await;
    assert_eq!(lab.edge.metrics.bounces_tag.get(), u64::from(TAG_USES_MAX) + 1);
}
