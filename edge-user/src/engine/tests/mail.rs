//! Mail with a sender: every octet to the upstream, every reply back.

use super::*;
use crate::engine::tests::scripted::Act;
use crate::telemetry::RECIPIENTS_NAMED_MAX;

const MESSAGE: &str = "From: a@far.example\r\nSubject: x\r\n\r\n..a dot\r\nlast line\r\n";

/// The message without the `Received` field in front, which must be there.
fn without_received(message: &str) -> &str {
    let rest = message.strip_prefix("Received: from client.example").expect("our field stands in front");
    let end = rest
        .match_indices("\r\n")
        .find(|(at, _)| !rest[at + 2..].starts_with([' ', '\t']))
        .expect("its end")
        .0;
    &rest[end + 2..]
}

#[tokio::test]
async fn the_upstreams_replies_are_the_clients_and_each_octet_arrives() {
    let script = Script {
        acts: vec![
            ("RCPT TO:<no@ours.example>", Act::Say("550-5.1.1 first\r\n550 5.1.1 second")),
            ("RCPT TO:<later@ours.example>", Act::Say("450 4.2.0 later")),
            ("DOT", Act::Say("250 2.0.0 queued as 42")),
        ],
        ..Script::default()
    };
    let lab = Lab::new(script).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.say("RCPT TO:<user@ours.example>", "250 2.0.0 yes").await;
    talk.say("RCPT TO:<no@ours.example>", "550-5.1.1 first\r\n550 5.1.1 second").await;
    talk.say("RCPT TO:<later@ours.example>", "450 4.2.0 later").await;
    talk.say("DATA", "354").await;
    talk.send(MESSAGE).await;
    talk.say(".", "250 2.0.0 queued as 42").await;
    talk.say("QUIT", "221").await;
    talk.expect_end().await;
    let seen = lab.upstream.seen();
    assert_eq!(seen.connections, 1);
    assert_eq!(seen.commands[..2], ["MAIL FROM:<a@far.example>", "RCPT TO:<user@ours.example>"]);
    assert_eq!(seen.messages.iter().map(|message| without_received(message)).collect::<Vec<_>>(), [MESSAGE]);
    assert_eq!(lab.edge.metrics.mail_delivered.get(), 1);
    drop(talk);
    while lab.edge.registry.sessions() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(lab.logged().contains("\"event\":\"verdict\""));
}

#[tokio::test]
async fn a_transaction_means_the_same_however_it_is_cut() {
    let lab = Lab::with(Script::default(), |config| config.limits.sessions_per_source_max = 10_000).await;
    let dialogue = format!(
        "EHLO client.example\r\nMAIL FROM:<a@far.example>\r\nRCPT TO:<user@ours.example>\r\nDATA\r\n{MESSAGE}.\r\nQUIT\r\n"
    );
    let bytes: Vec<usize> = (1..dialogue.len()).collect();
    let cuts = (0..=dialogue.len()).map(|cut| vec![cut]).chain([bytes]);
    let mut sent = 0;
    for cuts in cuts {
        let mut talk = lab.connect().await;
        let mut start = 0;
        for end in cuts.iter().copied().chain([dialogue.len()]) {
            talk.send(&dialogue[start..end]).await;
            start = end;
            // The edge reads what is there before more comes.
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
        for start in ["220", "250", "250", "250", "354", "250", "221"] {
            talk.expect(start).await;
        }
        talk.expect_end().await;
        sent += 1;
    }
    let messages = lab.upstream.seen().messages;
    assert_eq!(messages.len(), sent);
    for message in &messages {
        assert_eq!(without_received(message), MESSAGE);
    }
}

#[tokio::test]
async fn a_burst_is_answered_in_one_write() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.send("NOOP\r\nRSET\r\nMAIL FROM:<a@far.example>\r\nRCPT TO:<a@nowhere.example>\r\nNOOP\r\n").await;
    let mut chunk = [0; 4096];
    let count = talk.stream.read(&mut chunk).await.expect("replies");
    let text = String::from_utf8_lossy(&chunk[..count]).into_owned();
    let codes: Vec<_> = text.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["250", "250", "250", "550", "250"]);
}

#[tokio::test]
async fn an_empty_message_and_one_without_a_body_arrive_as_they_are() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    for message in ["", "\r\n", "Subject: x\r\n", "\r\n\r\n\r\n"] {
        talk.envelope("a@far.example", "user@ours.example").await;
        talk.send(message).await;
        talk.say(".", "250").await;
        let messages = lab.upstream.seen().messages;
        assert_eq!(without_received(messages.last().expect("it came")), message);
    }
    assert_eq!(lab.upstream.seen().connections, 1, "one connection serves the session's transactions");
}

#[tokio::test]
async fn a_message_of_many_reads_arrives_whole() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.envelope("a@far.example", "user@ours.example").await;
    let line = format!("{}\r\n", "x".repeat(900));
    let message = line.repeat(300);
    let (mut talk, sent) = (talk, message.clone());
    talk.send(sent).await;
    talk.say(".", "250").await;
    assert_eq!(without_received(&lab.upstream.seen().messages[0]), message);
}

#[tokio::test]
async fn a_message_that_comes_faster_than_it_goes_arrives_whole_through_large_buffers() {
    let lab = Lab::new(Script::default()).await;
    let message: String = (0..20_000).map(|line| format!("{line}: {}\r\n", "x".repeat(line % 97))).collect();
    for _ in 0..2 {
        let mut talk = lab.greeted().await;
        talk.envelope("a@far.example", "user@ours.example").await;
        talk.send(&message).await;
        talk.say(".", "250").await;
    }
    let messages = lab.upstream.seen().messages;
    assert!(messages.iter().all(|whole| without_received(whole) == message), "octets were lost or moved");
    assert!(lab.edge.pool.has_large(), "it was read by small pieces");
    while lab.edge.registry.sessions() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(lab.edge.pool.out(), 0);
}

#[tokio::test]
async fn a_kept_connection_that_the_upstream_closed_is_replaced() {
    let lab = Lab::new(Script::at("DOT", Act::Say("250 ok\r\n421 closing, idle"))).await;
    let mut talk = lab.greeted().await;
    for _ in 0..3 {
        talk.envelope("a@far.example", "user@ours.example").await;
        talk.say(".", "250").await;
    }
    let seen = lab.upstream.seen();
    assert_eq!((seen.messages.len(), seen.connections), (3, 3));
}

#[tokio::test]
async fn a_message_that_goes_in_circles_gets_no_final_dot() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.envelope("a@far.example", "user@ours.example").await;
    talk.send("Received: from a by b; now\r\n".repeat(51)).await;
    talk.send("\r\nbody\r\n").await;
    talk.say(".", "554 5.4.6").await;
    talk.envelope("a@far.example", "user@ours.example").await;
    talk.send("Received: from a by b; now\r\n".repeat(50)).await;
    talk.say(".", "250").await;
    assert_eq!(lab.upstream.seen().messages.len(), 1);
    assert_eq!(lab.edge.metrics.mail_refused.get(), 1);
}

#[tokio::test]
async fn nothing_that_a_smuggler_could_use_gets_a_final_dot() {
    let lab = Lab::new(Script::default()).await;
    for smuggled in ["\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\n.\r", "a\nb", "a\rb"] {
        let mut talk = lab.greeted().await;
        talk.envelope("a@far.example", "user@ours.example").await;
        talk.send(format!("Subject: x\r\n\r\nbody{smuggled}MAIL FROM:<x@x.example>\r\n")).await;
        talk.say(".", "550 5.6.11").await;
        talk.say("NOOP", "250").await;
    }
    assert_eq!(lab.upstream.seen().messages, [""; 0]);
}

#[tokio::test]
async fn too_big_is_said_at_mail_or_at_the_end() {
    let lab = Lab::with(Script::default(), |config| config.limits.message_bytes_max = 1000).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example> SIZE=1001", "552 5.3.4").await;
    talk.envelope("a@far.example", "user@ours.example").await;
    talk.send(format!("{}\r\n", "x".repeat(998)).repeat(2)).await;
    talk.say(".", "552 5.3.4").await;
    assert_eq!(lab.upstream.seen().messages, [""; 0]);
    talk.envelope("a@far.example", "user@ours.example").await;
    talk.send(format!("{}\r\n", "x".repeat(998))).await;
    talk.say(".", "250").await;
}

#[tokio::test]
async fn our_tags_are_taken_off_and_others_are_left() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    for (given, want) in [
        (lab.tagged("user", "ours.example", 0), "user@ours.example"),
        (lab.tagged("user2", "ours.example", 30), "user2@ours.example"),
        ("prvs=1234567890=user3@ours.example".to_owned(), "prvs=1234567890=user3@ours.example"),
    ] {
        talk.say(&format!("RCPT TO:<{given}>"), "250").await;
        let commands = lab.upstream.seen().commands;
        assert_eq!(commands.last().map(String::as_str), Some(format!("RCPT TO:<{want}>").as_str()));
    }
}

#[tokio::test]
async fn what_the_upstream_offers_is_offered_and_passed_on() {
    let all = "250-upstream.example\r\n250-SIZE 5000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 DSN";
    let lab = Lab::with(Script { acts: vec![], ehlo: Some(all), ..Script::default() }, |config| {
        config.domains.truncate(1);
    })
    .await;
    let mut talk = lab.connect().await;
    talk.expect("220").await;
    let before = talk.say("EHLO client.example", "250").await;
    assert!(!before.contains("SIZE 3948") && !before.contains("DSN"), "nothing is known yet: {before}");
    drop(lab.edge.open_upstream(lab.upstream.address).await.expect("it is up"));
    let mut talk = lab.connect().await;
    talk.expect("220").await;
    let after = talk.say("EHLO client.example", "250").await;
    for extension in ["8BITMIME", "SMTPUTF8", "DSN", "SIZE 3948"] {
        assert!(after.contains(extension), "{extension} is missing: {after}");
    }
    talk.say("MAIL FROM:<a@far.example> BODY=8BITMIME RET=HDRS", "250").await;
    talk.say("RCPT TO:<user@ours.example> NOTIFY=NEVER", "250").await;
    assert_eq!(
        lab.upstream.seen().commands,
        ["MAIL FROM:<a@far.example> BODY=8BITMIME RET=HDRS", "RCPT TO:<user@ours.example> NOTIFY=NEVER"]
    );
}

#[tokio::test]
async fn an_upstream_that_never_answered_lets_no_client_bounce_or_rewrite_its_mail() {
    let lab = Lab::new(Script::at("GREETING", Act::Close)).await;
    let mut talk = lab.connect().await;
    talk.expect("220").await;
    for state in ["not asked yet", "down"] {
        let offered = talk.say("EHLO client.example", "250").await;
        assert!(offered.contains("8BITMIME") && offered.contains("SMTPUTF8"), "{state}: {offered}");
        talk.say("MAIL FROM:<\u{e9}@far.example> SMTPUTF8 BODY=8BITMIME", "250").await;
        talk.say("RCPT TO:<user@ours.example>", "451 4.4.1").await;
        talk = lab.connect().await;
        talk.expect("220").await;
    }
    assert!(lab.edge.upstreams.is_down(lab.upstream.address));
}

#[tokio::test]
async fn a_message_as_big_as_offered_is_not_too_big_for_the_upstream_with_what_is_added() {
    let size = "250-upstream.example\r\n250 SIZE 5000";
    let lab = Lab::new(Script { ehlo: Some(size), ..Script::default() }).await;
    drop(lab.edge.open_upstream(lab.upstream.address).await.expect("it is up"));
    let mut talk = lab.connect().await;
    talk.expect("220").await;
    let name = ["n".repeat(63).as_str(); 3].join(".");
    let offered = talk.say(&format!("EHLO {name}"), "250").await;
    let (_, size) = offered.split_once("SIZE ").expect("it is offered");
    let size: usize = size.lines().next().expect("a line").parse().expect("a number");
    talk.envelope("", "mark@ours.example").await;
    let line = format!("{}\r\n", "x".repeat(98));
    let lines = line.repeat(size / line.len() - 1);
    talk.send(format!("{lines}{}\r\n", "x".repeat(size - lines.len() - 2))).await;
    talk.say(".", "250").await;
    let message = &lab.upstream.seen().messages[0];
    assert!(message.contains("Backstop-Verdict"), "{message}");
    assert!((size + 1..=5000).contains(&message.len()), "{} octets", message.len());
}

#[tokio::test]
async fn rset_is_told_to_the_upstream() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.say("RCPT TO:<user@ours.example>", "250").await;
    talk.say("RSET", "250").await;
    talk.envelope("b@far.example", "user@ours.example").await;
    talk.say(".", "250").await;
    let seen = lab.upstream.seen();
    assert_eq!((seen.connections, seen.messages.len()), (1, 1));
    assert_eq!(seen.commands[2..4], ["RSET", "MAIL FROM:<b@far.example>"]);
}

#[tokio::test]
async fn every_line_of_the_log_says_why_and_for_how_many() {
    let refused = Lab::new(Script::at("DOT", Act::Say("554 5.6.0 no"))).await;
    let lab = Lab::new(Script::default()).await;
    for (lab, message, reply, why) in [
        (&lab, "Subject: x\r\n\r\nx\r\n".to_owned(), "250", "accepted"),
        (&lab, "Subject: x\r\n\r\nx\ny\r\n".to_owned(), "550", "bare_line_ending"),
        (&lab, format!("{}\r\n", "Received: x\r\n".repeat(51)), "554", "loop"),
        (&refused, "Subject: x\r\n\r\nx\r\n".to_owned(), "554", "upstream_refused"),
    ] {
        let mut talk = lab.greeted().await;
        talk.say("MAIL FROM:<a@far.example>", "250").await;
        talk.say("RCPT TO:<user@ours.example>", "250").await;
        talk.say("RCPT TO:<other@ours.example>", "250").await;
        talk.say("DATA", "354").await;
        talk.send(message).await;
        talk.say(".", reply).await;
        let log = lab.logged();
        let last = log.lines().last().expect("a line");
        assert!(last.contains(&format!("\"reason\":\"{why}\"")), "{why}: {last}");
        assert!(last.contains("\"recipients\":2"), "{last}");
        assert!(
            last.contains(r#""recipient":"user@ours.example","also_to":["other@ours.example"]"#),
            "{last}"
        );
    }
}

#[tokio::test]
async fn the_log_names_each_recipient_up_to_a_bound() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    for recipients in [1, RECIPIENTS_NAMED_MAX, RECIPIENTS_NAMED_MAX + 5] {
        talk.say("MAIL FROM:<a@far.example>", "250").await;
        for number in 1..=recipients {
            talk.say(&format!("RCPT TO:<user{number}@ours.example>"), "250").await;
        }
        talk.say("DATA", "354").await;
        talk.send("Subject: x\r\n\r\nx\r\n").await;
        talk.say(".", "250").await;
        let log = lab.logged();
        let last = log.lines().last().expect("a line");
        assert_eq!(last.matches("@ours.example").count(), recipients.min(RECIPIENTS_NAMED_MAX), "{last}");
        assert!(last.contains(&format!("\"recipients\":{recipients}")), "{last}");
    }
}

#[tokio::test]
async fn an_upstream_that_calls_itself_as_the_edge_does_is_told_of_once() {
    for script in [
        Script::at("GREETING", Act::Say("220 Edge.example. ESMTP")),
        Script { ehlo: Some("250-edge.example hello\r\n250 DSN"), ..Script::default() },
    ] {
        let lab = Lab::new(script).await;
        for _ in 0..3 {
            let upstream = lab.edge.open_upstream(lab.upstream.address).await.expect("it answers");
            assert!(upstream.is_called("EDGE.example"));
        }
        let told = lab.logged().matches("calls itself edge.example, as the edge does").count();
        assert_eq!(told, 1, "{}", lab.logged());
    }
    let lab = Lab::new(Script::default()).await;
    let upstream = lab.edge.open_upstream(lab.upstream.address).await.expect("it answers");
    assert_eq!(upstream.name(), "upstream.example");
    assert!(!lab.logged().contains("calls itself"));
}
