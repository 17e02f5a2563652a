//! Commands that a client sends in one burst go on in one write, where the upstream takes bursts (RFC 2920).

use super::*;
use crate::engine::tests::scripted::Act;

const IN_BURSTS: &str = "250-upstream.example\r\n250 PIPELINING";
const ENVELOPE: &str = "MAIL FROM:<a@far.example>\r\nRCPT TO:<user@ours.example>\r\nDATA\r\n";

fn script(acts: Vec<(&'static str, Act)>) -> Script {
    Script { acts, ehlo: Some(IN_BURSTS), ..Script::default() }
}

#[tokio::test]
async fn a_burst_goes_on_in_one_write_and_the_body_in_another_with_the_final_dot() {
    let lab =
        Lab::new(script(vec![("MAIL", Act::Say("250 2.1.0 mail")), ("RCPT", Act::Say("250 2.1.5 rcpt"))]))
            .await;
    let mut talk = lab.greeted().await;
    for _ in 0..2 {
        talk.send(ENVELOPE).await;
        talk.expect("250 2.1.0").await;
        talk.expect("250 2.1.5 rcpt").await;
        talk.expect("354").await;
        talk.say("Subject: x\r\n\r\nbody\r\n.", "250").await;
    }
    let seen = lab.upstream.seen();
    assert_eq!(seen.bursts[1..], [ENVELOPE, ENVELOPE], "the first is EHLO");
    assert_eq!(seen.body_reads, 2, "a body and its final dot are one write");
    assert_eq!(seen.messages.len(), 2);
}

#[tokio::test]
async fn several_recipients_in_one_burst_go_on_over_a_kept_connection_each_with_its_reply() {
    let lab = Lab::new(script(vec![("RCPT TO:<no@", Act::Say("550 5.1.1 nobody"))])).await;
    for _ in 0..3 {
        let mut talk = lab.greeted().await;
        talk.send(
            "MAIL FROM:<a@far.example>\r\nRCPT TO:<one@ours.example>\r\nRCPT TO:<no@ours.example>\r\n\
             RCPT TO:<two@ours.example>\r\nDATA\r\n",
        )
        .await;
        for reply in ["250", "250", "550 5.1.1 nobody", "250", "354"] {
            talk.expect(reply).await;
        }
        // What follows a message may come with it.
        talk.send("Subject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n").await;
        talk.expect("250").await;
        talk.expect("221").await;
        talk.expect_end().await;
    }
    let seen = lab.upstream.seen();
    assert_eq!((seen.connections, seen.messages.len()), (1, 3));
    let one = [
        "MAIL FROM:<a@far.example>\r\nRCPT TO:<one@ours.example>\r\n",
        "RCPT TO:<no@ours.example>\r\n",
        "RCPT TO:<two@ours.example>\r\nDATA\r\n",
    ];
    assert_eq!(seen.bursts[1..], [one, one, one].concat());
}

#[tokio::test]
async fn mail_and_rcpt_go_together_and_data_alone_where_the_client_waits() {
    let lab = Lab::new(script(vec![])).await;
    let mut talk = lab.greeted().await;
    talk.envelope("a@far.example", "user@ours.example").await;
    talk.say(".", "250").await;
    let (envelope, data) = ENVELOPE.split_at(ENVELOPE.len() - 6);
    assert_eq!(lab.upstream.seen().bursts[1..], [envelope, data]);
}

#[tokio::test]
async fn an_upstream_that_does_not_offer_it_gets_one_command_after_the_other() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.send(ENVELOPE).await;
    for code in ["250", "250", "354"] {
        talk.expect(code).await;
    }
    talk.say(".", "250").await;
    let lines: Vec<_> = ENVELOPE.split_inclusive('\n').collect();
    assert_eq!(lab.upstream.seen().bursts[1..], lines);
}

#[tokio::test]
async fn each_command_of_a_burst_gets_its_own_reply() {
    for (acts, replies) in [
        (vec![("MAIL", Act::Say("550 5.7.1 not from you"))], ["250", "550 5.7.1 not from you", "554"]),
        (
            vec![("RCPT", Act::Say("550 5.1.1 nobody")), ("DATA", Act::Say("554 5.5.1 none"))],
            ["250", "550 5.1.1 nobody", "554"],
        ),
        (
            vec![("RCPT", Act::Say("450 4.2.0 later")), ("DATA", Act::Say("503 5.5.1 none"))],
            ["250", "450 4.2.0 later", "451"],
        ),
        (vec![("DATA", Act::Say("451 4.3.0 not now"))], ["250", "250", "451 4.3.0 not now"]),
        (vec![("DATA", Act::Close)], ["250", "250", "451 4.4.1"]),
        (vec![("RCPT", Act::Close)], ["250", "451 4.4.1", "451"]),
    ] {
        let case = format!("{acts:?}");
        let lab = Lab::new(script(acts)).await;
        let mut talk = lab.greeted().await;
        talk.send(ENVELOPE).await;
        for reply in replies {
            let got = talk.reply().await.expect("a reply");
            assert!(got.starts_with(reply), "{case}: expected {reply}, got {got}");
        }
        talk.say("NOOP", "250").await;
        assert_eq!(lab.upstream.seen().messages.len(), 0, "{case}");
    }
}

#[tokio::test]
async fn a_354_without_a_recipient_gets_no_message_and_the_connection_no_further_one() {
    let lab = Lab::new(script(vec![("RCPT TO:<no@", Act::Say("550 5.1.1 nobody"))])).await;
    let mut talk = lab.greeted().await;
    talk.send(ENVELOPE.replace("user@", "no@")).await;
    talk.expect("250").await;
    talk.expect("550 5.1.1").await;
    talk.expect("554").await;
    talk.say("RSET", "250").await;
    talk.send(ENVELOPE).await;
    for code in ["250", "250", "354"] {
        talk.expect(code).await;
    }
    talk.say("Subject: x\r\n\r\nbody\r\n.", "250").await;
    let seen = lab.upstream.seen();
    assert_eq!((seen.messages.len(), seen.connections), (1, 2));
    assert!(seen.messages[0].ends_with("body\r\n"));
}

#[tokio::test]
async fn a_burst_after_an_accepted_recipient_keeps_its_354() {
    let lab = Lab::new(script(vec![("RCPT TO:<no@", Act::Say("550 5.1.1 nobody"))])).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.say("RCPT TO:<user@ours.example>", "250").await;
    talk.send("RCPT TO:<no@ours.example>\r\nDATA\r\n").await;
    talk.expect("550 5.1.1").await;
    talk.expect("354").await;
    talk.say("Subject: x\r\n\r\nbody\r\n.", "250").await;
    assert_eq!(lab.upstream.seen().messages.len(), 1);
}

#[tokio::test]
async fn a_transaction_in_bursts_means_the_same_however_it_is_cut() {
    let lab = Lab::with(script(vec![]), |config| config.limits.sessions_per_source_max = 10_000).await;
    let message = "Subject: x\r\n\r\n..a dot\r\n.b\r\nlast\r\n";
    let dialogue = format!("EHLO c.example\r\n{ENVELOPE}{message}.\r\n{ENVELOPE}{message}.\r\nQUIT\r\n");
    let mut sent = 0;
    for cut in 0..=dialogue.len() {
        let mut talk = lab.connect().await;
        for part in [&dialogue[..cut], &dialogue[cut..]] {
            talk.send(part).await;
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
        for start in ["220", "250", "250", "250", "354", "250", "250", "250", "354", "250", "221"] {
            talk.expect(start).await;
        }
        talk.expect_end().await;
        sent += 2;
    }
    let messages = lab.upstream.seen().messages;
    assert_eq!(messages.len(), sent);
    assert!(messages.iter().all(|whole| whole.ends_with(message)), "{messages:?}");
}
