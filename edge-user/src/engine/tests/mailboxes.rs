//! Whether a mailbox exists: asked by probes, remembered, and never a reason to refuse when nobody can say.

use super::*;
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
