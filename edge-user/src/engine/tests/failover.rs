//! A list of upstreams: another takes the place of one that is lost, as long as no recipient was accepted.

use super::*;
use crate::config::{Servers, parse};
use crate::engine::tests::scripted::Act;

/// Two servers for `ours.example`.
fn both(first: SocketAddr, second: SocketAddr) -> Servers {
    let list = format!("upstream = [\"{first}\", \"{second}\"]");
    let text = CONFIG.replacen("upstream = \"UPSTREAM\"", &list, 1).replace("OTHER", "127.0.0.1:9");
    parse(&text, Path::new("test")).expect("it is right").config.domains[0].upstream.clone()
}

/// A lab whose `upstream` is the second of two, and the first.
async fn with_a_first(script: Script) -> (Lab, Scripted) {
    let first = Scripted::start(script).await;
    let address = first.address;
    let lab = Lab::with(Script::default(), |config| {
        config.domains[0].upstream = both(address, config.domains[0].upstream.first());
    })
    .await;
    (lab, first)
}

async fn one_message(lab: &Lab) -> String {
    let mut talk = lab.greeted().await;
    talk.envelope("a@far.example", "user@ours.example").await;
    talk.say("Subject: x\r\n\r\nbody\r\n.", "").await
}

#[tokio::test]
async fn the_first_that_answers_takes_the_mail() {
    let (lab, first) = with_a_first(Script::default()).await;
    assert!(one_message(&lab).await.starts_with("250"));
    assert_eq!((first.seen().messages.len(), lab.upstream.seen().connections), (1, 0));
}

#[tokio::test]
async fn one_that_is_lost_before_a_recipient_was_accepted_is_replaced_in_the_same_rcpt() {
    for (stage, act) in [
        ("GREETING", Act::Close),
        ("GREETING", Act::Say("421 4.3.2 too busy")),
        ("GREETING", Act::Say("450 4.3.2 not now")),
        ("EHLO", Act::Close),
        ("EHLO", Act::Say("421 4.3.2 shutting down")),
        ("MAIL", Act::Close),
        ("MAIL", Act::Say("421 4.3.2 shutting down")),
        ("RCPT", Act::Close),
        ("RCPT", Act::Say("421 4.3.2 shutting down")),
    ] {
        let case = format!("{act:?} at {stage}");
        let (lab, first) = with_a_first(Script::at(stage, act)).await;
        assert!(one_message(&lab).await.starts_with("250"), "{case}");
        assert_eq!((first.seen().messages.len(), lab.upstream.seen().messages.len()), (0, 1), "{case}");
        // It is known to be down, so the next message does not try it first.
        let before = first.seen().connections;
        assert!(one_message(&lab).await.starts_with("250"), "{case}");
        assert_eq!(first.seen().connections, before, "{case}");
        assert!(lab.logged().contains("upstream_down"), "{case}");
    }
}

#[tokio::test]
async fn one_that_is_not_there_or_silent_is_replaced() {
    let lab = Lab::with(Script::default(), |config| {
        let nobody = "127.0.0.1:9".parse().expect("an address");
        config.domains[0].upstream = both(nobody, config.domains[0].upstream.first());
    })
    .await;
    assert!(one_message(&lab).await.starts_with("250"));
    let (lab, first) = with_a_first(Script::at("GREETING", Act::Sleep)).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.send("RCPT TO:<user@ours.example>\r\n").await;
    while first.seen().asleep == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    talk.expect("250").await;
    assert!(began.elapsed() <= Duration::from_secs(lab.edge.config.limits.upstream_connect_secs + 1));
}

#[tokio::test]
async fn refusals_in_words_are_the_clients_and_no_other_server_is_asked() {
    for (stage, reply) in [
        ("MAIL", "451 4.7.1 greylisted"),
        ("MAIL", "550 5.7.1 not from you"),
        ("RCPT", "550 5.1.1 nobody"),
        ("RCPT", "450 4.2.0 later"),
    ] {
        let (lab, _first) = with_a_first(Script::at(stage, Act::Say(reply))).await;
        let mut talk = lab.greeted().await;
        talk.say("MAIL FROM:<a@far.example>", "250").await;
        talk.say("RCPT TO:<user@ours.example>", reply).await;
        assert_eq!(lab.upstream.seen().connections, 0, "{stage} {reply}");
    }
}

#[tokio::test]
async fn once_a_recipient_was_accepted_the_message_goes_nowhere_else() {
    for (stage, heard_at) in [("RCPT TO:<two@", "RCPT"), ("DATA", "DATA"), ("BODY", "."), ("DOT", ".")] {
        let (lab, first) = with_a_first(Script::at(stage, Act::Close)).await;
        let mut talk = lab.greeted().await;
        talk.say("MAIL FROM:<a@far.example>", "250").await;
        talk.say("RCPT TO:<one@ours.example>", "250").await;
        let mut last = String::new();
        for (step, line) in
            [("RCPT", "RCPT TO:<two@ours.example>"), ("DATA", "DATA"), (".", "Subject: x\r\n\r\nbody\r\n.")]
        {
            last = talk.say(line, "").await;
            if step == heard_at {
                break;
            }
        }
        assert!(last.starts_with("451"), "{stage}: {last}");
        assert_eq!(lab.upstream.seen().connections, 0, "{stage}");
        assert_eq!(first.seen().messages.len(), usize::from(stage == "DOT"), "{stage}");
        // The next transaction begins afresh, where mail is taken.
        assert!(one_message(&lab).await.starts_with("250"), "{stage}");
        assert_eq!(lab.upstream.seen().messages.len(), 1, "{stage}");
    }
}

#[tokio::test]
async fn where_all_are_lost_it_is_451_and_each_was_asked_once() {
    let (lab, first) = with_a_first(Script::at("RCPT", Act::Close)).await;
    drop(lab);
    let second = Scripted::start(Script::at("MAIL", Act::Close)).await;
    let servers = both(first.address, second.address);
    let lab = Lab::with(Script::default(), |config| config.domains[0].upstream = servers).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.say("RCPT TO:<user@ours.example>", "451 4.4.1").await;
    assert_eq!((first.seen().connections, second.seen().connections), (1, 1));
}

#[tokio::test]
async fn a_held_bounce_that_is_proven_goes_to_the_next_server_too() {
    let (lab, first) = with_a_first(Script::at("RCPT", Act::Close)).await;
    let mut talk = lab.greeted().await;
    talk.envelope("", "user@ours.example").await;
    talk.send(format!("Subject: x\r\n\r\n{}\r\n", lab.token("user@ours.example", 1))).await;
    talk.say(".", "250").await;
    assert_eq!((first.seen().messages.len(), lab.upstream.seen().messages.len()), (0, 1));
}

#[tokio::test]
async fn only_what_all_of_them_offer_is_offered() {
    let offering =
        Script { ehlo: Some("250-first.example\r\n250-SIZE 9000\r\n250 DSN"), ..Script::default() };
    let (lab, first) = with_a_first(offering).await;
    for address in [first.address, lab.upstream.address] {
        drop(lab.edge.open_upstream(address).await.expect("it is up"));
    }
    let (offer, size) = lab.edge.upstreams.offer(Direction::Inbound);
    assert!(!offer.dsn && size == Some(9000), "{offer:?} {size:?}");
}
