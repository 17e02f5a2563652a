//! Connections to upstreams between two transactions: kept, limited, replaced.

use super::*;
use crate::engine::tests::scripted::Act;

const USER: &str = "user@ours.example";

/// One client with one message, from its connection to its end: the reply to the final dot.
async fn one_message(lab: &Lab, sender: &str) -> String {
    let mut talk = lab.greeted().await;
    talk.envelope(sender, USER).await;
    let reply = talk.say("Subject: x\r\n\r\nbody\r\n.", "").await;
    talk.say("QUIT", "221").await;
    talk.expect_end().await;
    reply
}

/// Until `done`; the clock stands meanwhile.
async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_connection_serves_one_client_after_the_other() {
    let lab = Lab::new(Script::default()).await;
    for _ in 0..5 {
        assert!(one_message(&lab, "a@far.example").await.starts_with("250"));
    }
    let seen = lab.upstream.seen();
    assert_eq!((seen.connections, seen.messages.len()), (1, 5));
    assert!(
        !seen.commands.contains(&"RSET".to_owned()),
        "after a message nothing is open: {:?}",
        seen.commands
    );
    assert_eq!(lab.edge.metrics.upstream_connections.get(), 1);
}

#[tokio::test]
async fn a_transaction_that_its_client_left_is_taken_back_before_the_next() {
    let lab = Lab::new(Script::at("RCPT TO:<no@", Act::Say("550 5.1.1 nobody"))).await;
    for ends_with in ["QUIT\r\n", ""] {
        let mut talk = lab.greeted().await;
        talk.say("MAIL FROM:<a@far.example>", "250").await;
        talk.say("RCPT TO:<no@ours.example>", "550 5.1.1 nobody").await;
        talk.send(ends_with).await;
        let before = lab.upstream.seen().commands.len();
        drop(talk);
        until(|| lab.upstream.seen().commands.len() > before).await;
        assert_eq!(lab.upstream.seen().commands.last().map(String::as_str), Some("RSET"));
        assert!(one_message(&lab, "b@far.example").await.starts_with("250"));
    }
    let seen = lab.upstream.seen();
    assert_eq!((seen.connections, seen.messages.len()), (1, 2));
}

#[tokio::test]
async fn a_connection_with_too_many_refusals_is_not_kept_for_the_next_client() {
    let lab = Lab::new(Script::at("RCPT TO:<no", Act::Say("550 5.1.1 nobody"))).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    for number in 0..5 {
        talk.say(&format!("RCPT TO:<no{number}@ours.example>"), "550 5.1.1 nobody").await;
    }
    talk.say("QUIT", "221").await;
    talk.expect_end().await;
    until(|| lab.upstream.seen().closed == 1).await;
    assert!(one_message(&lab, "b@far.example").await.starts_with("250"));
    assert_eq!(lab.upstream.seen().connections, 2);
}

#[tokio::test]
async fn a_connection_ends_after_its_messages_and_none_is_kept_where_none_may_be() {
    for (messages_max, idle_max, connections) in [(2, 40, 3), (500, 0, 5), (500, 1, 1)] {
        let lab = Lab::with(Script::default(), |config| {
            config.limits.upstream_messages_max = messages_max;
            config.limits.upstream_idle_max = idle_max;
        })
        .await;
        for _ in 0..5 {
            assert!(one_message(&lab, "a@far.example").await.starts_with("250"));
        }
        let seen = lab.upstream.seen();
        assert_eq!((seen.connections, seen.messages.len()), (connections, 5));
    }
}

#[tokio::test]
async fn a_connection_that_waited_long_enough_is_ended_by_the_edge() {
    let lab = Lab::new(Script::default()).await;
    assert!(one_message(&lab, "a@far.example").await.starts_with("250"));
    assert_eq!(lab.upstream.seen().closed, 0);
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    while lab.upstream.seen().closed == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let idle = Duration::from_secs(lab.edge.config.limits.upstream_idle_secs);
    assert!((idle..idle + Duration::from_secs(3)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_old_connection_is_not_kept() {
    let lab = Lab::with(Script::default(), |config| config.limits.upstream_age_secs = 5).await;
    tokio::time::pause();
    let mut talk = lab.greeted().await;
    talk.envelope("a@far.example", USER).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    talk.say(".", "250").await;
    until(|| lab.upstream.seen().closed == 1).await;
}

#[tokio::test]
async fn a_kept_connection_that_ended_or_spoke_is_noticed_before_it_is_used() {
    for after_dot in [Act::Say("250 ok\r\n421 4.4.2 idle"), Act::Say("250 ok\r\n250 and more")] {
        let lab = Lab::new(Script::at("DOT", after_dot)).await;
        for _ in 0..3 {
            assert!(one_message(&lab, "a@far.example").await.starts_with("250"));
            // The edge's runtime hears of it.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let seen = lab.upstream.seen();
        assert_eq!((seen.messages.len(), seen.connections), (3, 3));
        assert_eq!(
            seen.commands.len(),
            9,
            "nothing was said on a connection that had ended: {:?}",
            seen.commands
        );
    }
}

#[tokio::test]
async fn a_kept_connection_that_ends_at_mail_is_replaced_once_and_nobody_hears_of_it() {
    for act in [Act::Close, Act::Say("421 4.4.2 too long idle")] {
        // The second one of it meets a server that restarted; a third would be too much.
        let script = Script { acts: vec![("MAIL FROM:<second@", act)], ..Script::default() };
        let lab = Lab::new(script).await;
        assert!(one_message(&lab, "first@far.example").await.starts_with("250"));
        let mut talk = lab.greeted().await;
        talk.say("MAIL FROM:<second@far.example>", "250").await;
        talk.say("RCPT TO:<user@ours.example>", "451 4.4.1").await;
        let seen = lab.upstream.seen();
        let asked = seen.commands.iter().filter(|command| command.contains("second")).count();
        assert_eq!((seen.connections, asked), (2, 2), "{:?}", seen.commands);
    }
    let restarted = |number| match number {
        1 => Script::at("MAIL FROM:<second@", Act::Close),
        _ => Script::default(),
    };
    let lab = Lab::new(Script { by_connection: Some(restarted), ..Script::default() }).await;
    for sender in ["first@far.example", "second@far.example"] {
        assert!(one_message(&lab, sender).await.starts_with("250"));
    }
    assert!(
        !lab.logged().contains("upstream_down"),
        "that a server ends what is idle is no fault of its own"
    );
}

#[tokio::test]
async fn a_kept_connection_whose_server_is_frozen_is_left_as_soon_as_a_new_one_would_be() {
    let frozen = |number| match number {
        1 => Script::at("MAIL FROM:<second@", Act::Sleep),
        _ => Script::default(),
    };
    let lab = Lab::new(Script { by_connection: Some(frozen), ..Script::default() }).await;
    assert!(one_message(&lab, "first@far.example").await.starts_with("250"));
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    assert!(one_message(&lab, "second@far.example").await.starts_with("250"));
    let connect = Duration::from_secs(lab.edge.config.limits.upstream_connect_secs);
    assert!((connect..2 * connect).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(lab.upstream.seen().connections, 2);
}

#[tokio::test]
async fn a_kept_connection_has_all_its_time_once_it_answered() {
    let slow = Script::at("RCPT TO:<slow@", Act::Late(60, "250 2.1.5 at last"));
    let lab = Lab::new(slow).await;
    assert!(one_message(&lab, "first@far.example").await.starts_with("250"));
    tokio::time::pause();
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<second@far.example>", "250").await;
    talk.say("RCPT TO:<slow@ours.example>", "250 2.1.5 at last").await;
    assert_eq!(lab.upstream.seen().connections, 1);
}

#[tokio::test]
async fn a_kept_connection_that_ends_after_data_was_accepted_is_not_replaced() {
    let lab = Lab::new(Script::default()).await;
    assert!(one_message(&lab, "a@far.example").await.starts_with("250"));
    drop(lab);
    let dying = |number| match number {
        1 => Script::at("RCPT TO:<dies@", Act::Say("250 ok\r\n354 what?")),
        _ => Script::default(),
    };
    let lab = Lab::new(Script { by_connection: Some(dying), ..Script::default() }).await;
    assert!(one_message(&lab, "a@far.example").await.starts_with("250"));
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<b@far.example>", "250").await;
    talk.say("RCPT TO:<dies@ours.example>", "250").await;
    talk.say("DATA", "451 4.4.1").await;
    assert_eq!(lab.upstream.seen().messages.len(), 1);
}

#[tokio::test]
async fn where_all_places_are_taken_a_transaction_waits_and_then_is_deferred() {
    let lab = Lab::with(Script::default(), |config| {
        config.limits.upstream_connections_max = 1;
        config.limits.upstream_idle_max = 1;
    })
    .await;
    let (mut first, mut second) = (lab.greeted().await, lab.greeted().await);
    first.envelope("a@far.example", USER).await;
    second.say("MAIL FROM:<b@far.example>", "250").await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    second.say("RCPT TO:<user@ours.example>", "451 4.4.1").await;
    assert!(began.elapsed() >= Duration::from_secs(lab.edge.config.limits.upstream_wait_secs));
    assert_eq!(lab.edge.metrics.upstream_connections_full.get(), 1);
    assert!(!lab.edge.upstreams.is_down(lab.upstream.address), "nothing is wrong with it");
    // One that becomes free is had.
    second.send("RCPT TO:<user@ours.example>\r\n").await;
    tokio::task::yield_now().await;
    first.say(".", "250").await;
    second.expect("250").await;
    second.say("DATA", "354").await;
    second.say(".", "250").await;
    assert_eq!(lab.upstream.seen().messages.len(), 2);
}

#[tokio::test]
async fn at_the_end_kept_connections_are_told_goodbye() {
    let lab = Lab::new(Script::default()).await;
    assert!(one_message(&lab, "a@far.example").await.starts_with("250"));
    assert_eq!(lab.upstream.seen().closed, 0);
    lab.stop.send(true).expect("the edge listens");
    until(|| lab.upstream.seen().closed == 1).await;
    assert!(lab.upstream.seen().bursts.last().is_some_and(|burst| burst == "QUIT\r\n"));
}
