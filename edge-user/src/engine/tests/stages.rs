//! An upstream that closes, sleeps or refuses at each stage of mail with a sender: only 4xx, nothing lost, nothing twice.

use super::*;
use crate::engine::tests::scripted::Act;

/// Where the client hears of it, and what it hears then.
const STAGES: [(&str, &str); 6] = [
    ("GREETING", "RCPT"),
    ("EHLO", "RCPT"),
    ("MAIL", "RCPT"),
    ("RCPT", "RCPT"),
    ("DATA", "DATA"),
    ("BODY", "."),
];

const STEPS: [(&str, &str); 3] =
    [("RCPT", "RCPT TO:<user@ours.example>"), ("DATA", "DATA"), (".", "Subject: x\r\n\r\nbody\r\n.")];

/// The step at which the transaction fails, and its reply; the last one's where it does not.
async fn run(lab: &Lab) -> (String, String) {
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    let mut last = String::new();
    for (step, line) in STEPS {
        if step == "." {
            // The body comes in many pieces, so that the upstream's end is noticed in it.
            for _ in 0..64 {
                talk.send(format!("{}\r\n", "y".repeat(900)).repeat(20)).await;
                tokio::task::yield_now().await;
            }
        }
        last = talk.say(line, "").await;
        if !last.starts_with(['2', '3']) {
            return (step.to_owned(), last);
        }
    }
    ("end".to_owned(), last)
}

#[tokio::test]
async fn an_upstream_that_closes_at_any_stage_makes_451() {
    for (stage, heard_at) in STAGES {
        let lab = Lab::new(Script::at(stage, Act::Close)).await;
        let (step, reply) = run(&lab).await;
        assert_eq!((step.as_str(), &reply[..9]), (heard_at, "451 4.4.1"), "closed at {stage}");
        assert_eq!(lab.upstream.seen().messages, [""; 0], "closed at {stage}");
        assert_eq!(lab.edge.metrics.in_doubt.get(), 0, "closed at {stage}");
        assert!(lab.logged().contains("upstream_down"), "closed at {stage}: nothing was logged");
    }
}

#[tokio::test]
async fn an_upstream_that_sleeps_at_any_stage_makes_451() {
    for (stage, heard_at) in STAGES.into_iter().chain([("DOT", ".")]) {
        let lab = Lab::new(Script::at(stage, Act::Sleep)).await;
        let mut talk = lab.greeted().await;
        talk.say("MAIL FROM:<a@far.example>", "250").await;
        for (step, line) in STEPS {
            talk.send(format!("{line}\r\n")).await;
            if step == heard_at {
                lab.until_asleep().await;
                talk.expect("451 4").await;
                break;
            }
            talk.expect(if step == "DATA" { "354" } else { "250" }).await;
        }
        tokio::time::resume();
        // A short body is with the upstream as a whole when it falls asleep.
        let in_doubt = u64::from(matches!(stage, "BODY" | "DOT"));
        assert_eq!(lab.edge.metrics.in_doubt.get(), in_doubt, "asleep at {stage}");
    }
}

#[tokio::test]
async fn an_upstream_that_says_421_at_any_stage_makes_451() {
    for (stage, heard_at) in STAGES {
        let lab = Lab::new(Script::at(stage, Act::Say("421 4.3.2 shutting down"))).await;
        let (step, reply) = run(&lab).await;
        assert_eq!((step.as_str(), &reply[..9]), (heard_at, "451 4.4.1"), "421 at {stage}");
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_makes_451() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    // Port 9 of this machine: nobody listens.
    talk.say("RCPT TO:<user@other.example>", "451 4.4.1").await;
    talk.say("DATA", "451 4.5.1").await;
}

#[tokio::test]
async fn an_upstream_that_talks_no_smtp_makes_451() {
    let lab = Lab::new(Script::at("GREETING", Act::Say("hello, this is no mail server"))).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.say("RCPT TO:<user@ours.example>", "451 4.4.1").await;
}

#[tokio::test]
async fn refusals_are_passed_on_at_the_stage_they_are_said() {
    for (stage, heard_at, reply) in [
        ("MAIL", "RCPT", "550 5.7.1 not from you"),
        ("MAIL", "RCPT", "451 4.7.1 greylisted"),
        ("RCPT", "RCPT", "550 5.1.1 nobody"),
        ("DATA", "DATA", "554 5.5.1 no valid recipients"),
        ("DOT", ".", "550 5.7.1 spam"),
        ("DOT", ".", "452 4.3.1 disk full"),
    ] {
        let lab = Lab::new(Script::at(stage, Act::Say(reply))).await;
        assert_eq!(run(&lab).await, (heard_at.to_owned(), reply.to_owned()), "at {stage}");
    }
}

#[tokio::test]
async fn an_upstream_that_closed_before_the_final_dot_leaves_no_doubt() {
    let lab = Lab::new(Script::at("BODY", Act::Close)).await;
    let mut talk = lab.greeted().await;
    talk.envelope("a@far.example", "user@ours.example").await;
    talk.send("Subject: x\r\n").await;
    while lab.upstream.seen().closed == 0 {
        tokio::task::yield_now().await;
    }
    talk.say(".", "451 4.4.1").await;
    assert_eq!(lab.edge.metrics.in_doubt.get(), 0);
}

#[tokio::test]
async fn an_upstream_that_dies_at_the_final_dot_leaves_the_message_in_doubt() {
    let lab = Lab::new(Script::at("DOT", Act::Close)).await;
    let (step, reply) = run(&lab).await;
    assert_eq!((step.as_str(), &reply[..9]), (".", "451 4.4.2"));
    assert_eq!(lab.edge.metrics.in_doubt.get(), 1);
    assert_eq!(lab.edge.metrics.deferred.get(), 1);
    assert!(lab.logged().contains("in_doubt"));
}

#[tokio::test]
async fn a_reply_to_the_final_dot_that_is_no_smtp_leaves_the_message_in_doubt() {
    let lab = Lab::new(Script::at("DOT", Act::Say("what?"))).await;
    assert_eq!(&run(&lab).await.1[..9], "451 4.4.2");
    assert_eq!(lab.edge.metrics.in_doubt.get(), 1);
}

#[tokio::test]
async fn a_reply_that_nobody_asked_for_is_never_taken_for_another() {
    // Two answers to RCPT: the second would be DATA's 354, and the body would go as commands.
    let lab = Lab::new(Script::at("RCPT", Act::Say("250 ok\r\n354 and go on"))).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.say("RCPT TO:<user@ours.example>", "250").await;
    talk.say("DATA", "451 4.4.1").await;
    assert_eq!(lab.upstream.seen().commands.len(), 2);
}

#[tokio::test]
async fn an_upstream_lost_between_recipients_takes_no_more_of_them() {
    let lab = Lab::new(Script::at("RCPT TO:<two@ours.example>", Act::Close)).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.say("RCPT TO:<one@ours.example>", "250").await;
    talk.say("RCPT TO:<two@ours.example>", "451 4.4.1").await;
    talk.say("RCPT TO:<three@ours.example>", "451 4.4.1").await;
    talk.say("DATA", "451 4.4.1").await;
    // The next transaction begins afresh.
    talk.envelope("a@far.example", "one@ours.example").await;
    talk.say(".", "250").await;
    assert_eq!(lab.upstream.seen().messages.len(), 1);
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_the_body_is_the_reply_to_its_final_dot() {
    let lab =
        Lab::new(Script { acts: vec![("BODY", Act::Say("552 5.3.4 too big for me"))], ..Script::default() })
            .await;
    let mut talk = lab.greeted().await;
    talk.envelope("a@far.example", "user@ours.example").await;
    talk.send("Subject: x\r\n").await;
    while lab.upstream.seen().body_bytes == 0 {
        tokio::task::yield_now().await;
    }
    talk.say(".", "552 5.3.4 too big for me").await;
    assert_eq!(lab.upstream.seen().messages.len(), 0);
}

#[tokio::test]
async fn a_client_that_goes_in_the_middle_of_its_message_leaves_nothing_upstream() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.envelope("a@far.example", "user@ours.example").await;
    talk.send("Subject: x\r\n\r\nhalf").await;
    drop(talk);
    while lab.edge.registry.sessions() > 0 {
        tokio::task::yield_now().await;
    }
    let seen = lab.upstream.seen();
    assert_eq!((seen.connections, seen.messages.len()), (1, 0));
}
