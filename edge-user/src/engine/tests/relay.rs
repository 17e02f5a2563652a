//! The edge's address may be trusted by the upstream: nothing but the operator's own domains gets there.

use super::*;
use crate::engine::tests::scripted::Act;

#[tokio::test]
async fn nobody_relays_through_the_edge_and_the_upstream_is_not_even_asked() {
    let lab = Lab::new(Script::default()).await;
    for sender in ["a@far.example", "user@ours.example", ""] {
        for recipient in [
            "victim@far.example",
            "victim%far.example@ours.example",
            "far.example!victim@ours.example",
            "\"victim@far.example\"@ours.example",
            "\"victim%far.example\"@ours.example",
            "\"far.example!victim\"@ours.example",
            "victim@[127.0.0.1]",
            "victim@[IPv6:::1]",
            "victim@sub.ours.example",
            "victim@ours.example.far.example",
            "prvs=1234567890=victim@far.example",
            "prvs=1234567890=victim%far.example@ours.example",
        ] {
            let mut talk = lab.greeted().await;
            talk.say(&format!("MAIL FROM:<{sender}>"), "250").await;
            talk.say(&format!("RCPT TO:<{recipient}>"), "550 5.7.1").await;
            talk.say("DATA", "554 5.5.1").await;
        }
    }
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.say("RCPT TO:<victim@far.example@ours.example>", "5").await;
    talk.say("RCPT TO:<@ours.example:victim@far.example>", "550 5.7.1").await;
    assert_eq!(lab.upstream.seen().connections, 0);
}

#[tokio::test]
async fn postmaster_without_a_domain_is_the_first_domains() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.say("RCPT TO:<Postmaster>", "250").await;
    assert_eq!(lab.upstream.seen().commands[1], "RCPT TO:<Postmaster@ours.example>");
}

#[tokio::test]
async fn recipients_of_two_upstreams_need_two_transactions() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.say("RCPT TO:<user@OURS.example>", "250").await;
    talk.say("RCPT TO:<user@other.example>", "452 4.5.3").await;
    talk.say("DATA", "354").await;
    talk.say(".", "250").await;
    assert_eq!(lab.upstream.seen().messages.len(), 1);
}

#[tokio::test]
async fn a_recipient_goes_to_its_own_upstream_after_another_ones_refused_the_first() {
    let other = Scripted::start(Script::default()).await;
    let lab = Lab::with(Script::at("RCPT TO:<no@", Act::Say("550 5.1.1 nobody")), |config| {
        config.domains[1].upstream = other.address.into();
    })
    .await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.say("RCPT TO:<no@ours.example>", "550 5.1.1").await;
    talk.say("RCPT TO:<user@other.example>", "250").await;
    talk.say("RCPT TO:<user@ours.example>", "452 4.5.3").await;
    talk.say("DATA", "354").await;
    talk.say(".", "250").await;
    assert_eq!(lab.upstream.seen().commands[1..], ["RCPT TO:<no@ours.example>"]);
    assert_eq!(other.seen().commands, ["MAIL FROM:<a@far.example>", "RCPT TO:<user@other.example>", "DATA"]);
    assert_eq!((lab.upstream.seen().messages.len(), other.seen().messages.len()), (0, 1));
}
