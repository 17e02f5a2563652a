//! Bounces, receipts and automatic replies that only the record proves.

use edge_core::policy::KindRule;
use edge_core::signature::record::{Remembered, SentHash};

use super::*;
use crate::engine::tests::scripted::Act;

/// What brings only a few fields of the original back.
fn few_fields(id: &str) -> String {
    format!(
        "From: <>\r\nSubject: failure notice\r\nMessage-ID: <own@far.example>\r\n\r\nUnknown user.\r\n\r\n\
         --original mail info\r\nFrom: user@ours.example\r\nSubject: a\r\nMessage-ID: <{id}>\r\nBODY:\r\n"
    )
}

fn reply_to(id: &str) -> String {
    format!(
        "From: a@far.example\r\nAuto-Submitted: auto-replied\r\nIn-Reply-To: <{id}>\r\n\r\nI am away.\r\n"
    )
}

fn receipt(id: &str) -> String {
    format!(
        "Content-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n\r\n--b\r\n\
         Content-Type: message/disposition-notification\r\n\r\nOriginal-Message-ID: <{id}>\r\n\r\n--b--\r\n"
    )
}

impl Lab {
    /// As if `user@ours.example` had sent this message to so many recipients.
    fn sent(&self, id: &str, recipients: u32) {
        let mailbox = Mailbox::parse("user@ours.example").expect("an address");
        let hash = SentHash::of(&key(), &mailbox, id.as_bytes());
        let mut record = self.edge.record.write().expect("nobody panicked");
        let remembered = record.remember(1, hash, recipients, self.edge.now());
        assert_eq!(remembered, Remembered::Yes);
    }
}

/// A lab in which an automatic reply needs a proof, too.
async fn strict(script: Script) -> Lab {
    Lab::with(script, |config| config.kinds.auto_reply = KindRule::Bounce).await
}

/// Sends null-sender mail to `recipient`; the reply to its final dot.
async fn send(lab: &Lab, recipient: &str, message: &str) -> String {
    let mut talk = lab.greeted().await;
    talk.envelope("", recipient).await;
    talk.send(message).await;
    talk.say(".", "").await
}

#[tokio::test]
async fn what_answers_a_message_that_was_sent_is_delivered_whole_and_named() {
    let lab = Lab::new(Script::default()).await;
    lab.sent("a@ours.example", 1);
    for message in [few_fields("a@ours.example"), reply_to("a@ours.example"), receipt("a@ours.example")] {
        assert_eq!(&send(&lab, "user@ours.example", &message).await[..3], "250", "{message}");
        assert!(lab.upstream.seen().messages.last().expect("it came").ends_with(&message));
    }
    let metrics = &lab.edge.metrics;
    assert_eq!((metrics.bounces_record.get(), metrics.unproven.get()), (3, 0));
    let log = lab.logged();
    assert_eq!(log.matches("\"proof\":\"record\"").count(), 3, "{log}");
    assert_eq!(log.matches("\"reason\":\"proven\"").count(), 3, "{log}");
    assert_eq!(lab.edge.pool.held_bytes(), 0);
}

#[tokio::test]
async fn another_message_another_mailbox_and_what_is_only_talked_about_prove_nothing() {
    let lab = strict(Script::default()).await;
    lab.sent("a@ours.example", 1);
    let talked_about = "Subject: a\r\n\r\nYour message with\r\nMessage-ID: <a@ours.example>\r\nis lost.\r\n";
    for (recipient, message) in [
        ("user@ours.example", few_fields("b@ours.example")),
        ("other@ours.example", few_fields("a@ours.example")),
        ("other@ours.example", reply_to("a@ours.example")),
        ("user@ours.example", talked_about.to_owned()),
        ("user@ours.example", "Message-ID: <a@ours.example>\r\nFrom: a\r\nTo: b\r\n\r\n".to_owned()),
    ] {
        let reply = send(&lab, recipient, &message).await;
        assert_eq!(&reply[..9], "550 5.7.1", "{recipient}: {message}");
    }
    assert_eq!(lab.upstream.seen().connections, 0);
}

#[tokio::test]
async fn a_filter_may_say_that_the_record_proves_nothing() {
    let lab = Lab::with(Script::default(), |config| {
        config.filters.last_mut().expect("a filter").record = false;
    })
    .await;
    lab.sent("a@ours.example", 1);
    assert_eq!(&send(&lab, "user@ours.example", &few_fields("a@ours.example")).await[..3], "550");
}

#[tokio::test]
async fn a_token_that_comes_later_is_the_better_proof() {
    let lab = Lab::new(Script::default()).await;
    lab.sent("a@ours.example", 1);
    let message = few_fields("a@ours.example") + &lab.token("user@ours.example", 1) + "\r\n";
    assert_eq!(&send(&lab, "user@ours.example", &message).await[..3], "250");
    let metrics = &lab.edge.metrics;
    assert_eq!((metrics.bounces_token.get(), metrics.bounces_record.get()), (1, 0));
}

#[tokio::test]
async fn a_message_proves_so_many_bounces_that_arrived_and_then_the_filter_decides() {
    let lab = Lab::new(Script::at("DOT", Act::Say("450 4.2.0 later"))).await;
    lab.sent("a@ours.example", 1);
    for _ in 0..20 {
        let reply = send(&lab, "user@ours.example", &few_fields("a@ours.example")).await;
        assert_eq!(&reply[..3], "450", "what did not arrive uses nothing up");
    }
    let lab = strict(Script::default()).await;
    lab.sent("a@ours.example", 1);
    lab.sent("many@ours.example", 8);
    for (id, uses) in [("a@ours.example", 16), ("many@ours.example", 32)] {
        let mut replies = Vec::new();
        for _ in 0..uses + 2 {
            replies.push(send(&lab, "user@ours.example", &reply_to(id)).await[..3].to_owned());
        }
        assert!(replies[..uses].iter().all(|reply| reply == "250"), "{id}: {replies:?}");
        assert_eq!(replies[uses..], ["550", "550"], "{id}");
    }
    assert!(!lab.edge.flood_on(), "its Message-ID is no secret: it is not delivered outside a flood either");
    // Another message that it answers, too, still proves.
    let both = "References: <a@ours.example> <b@ours.example>\r\n\r\n";
    lab.sent("b@ours.example", 1);
    assert_eq!(&send(&lab, "user@ours.example", both).await[..3], "250");
}

#[tokio::test]
async fn the_record_earns_no_credit() {
    let lab = Lab::new(Script::default()).await;
    lab.sent("a@ours.example", 1);
    assert_eq!(&send(&lab, "user@ours.example", &few_fields("a@ours.example")).await[..3], "250");
    let source = "127.0.0.1".parse().expect("a source");
    let known = lab.edge.reputation.explain(source, lab.edge.now());
    assert_eq!((known.proven, known.unproven), (0, 0), "{known:?}");
}

#[tokio::test]
async fn the_record_is_asked_where_there_is_no_more_room() {
    let lab = Lab::with(Script::default(), |config| {
        config.limits.hold_bytes_max = 40_000;
        config.limits.hold_total_bytes_max = 60_000;
    })
    .await;
    lab.sent("a@ours.example", 1);
    let lines = format!("{}\r\n", "x".repeat(98)).repeat(1000);
    let large = few_fields("a@ours.example") + &lines;
    assert_eq!(&send(&lab, "user@ours.example", &large).await[..3], "250", "past its own hold");
    assert!(lab.upstream.seen().messages[0].ends_with(&large));
    // All sessions together hold too much.
    let mut first = lab.greeted().await;
    first.envelope("", "user@ours.example").await;
    first.send(&lines[..38_000]).await;
    while lab.edge.pool.held_bytes() < 34_000 {
        tokio::task::yield_now().await;
    }
    let small = few_fields("a@ours.example") + &lines[..30_000];
    assert_eq!(&send(&lab, "user@ours.example", &small).await[..3], "250");
    assert!(lab.upstream.seen().messages[1].ends_with(&small));
    assert_eq!(lab.edge.metrics.bounces_record.get(), 2);
}

#[tokio::test]
async fn it_means_the_same_however_it_is_cut() {
    let lab = Lab::with(Script::default(), |config| config.signature.uses_max = 10).await;
    let message = few_fields("a@ours.example");
    for cut in (0..message.len()).step_by(7) {
        lab.sent("a@ours.example", 4096);
        let mut talk = lab.greeted().await;
        talk.envelope("", "user@ours.example").await;
        talk.send(&message[..cut]).await;
        tokio::task::yield_now().await;
        talk.send(&message[cut..]).await;
        talk.say(".", "250").await;
    }
}
