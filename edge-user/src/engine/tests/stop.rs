//! The end of the edge, and messages that are in doubt between their final dot and their reply.

use super::*;
use crate::engine::doubt::Doubt;
use crate::engine::tests::scripted::Act;

#[tokio::test]
async fn a_stop_waits_for_the_reply_to_a_final_dot_longer_than_for_anything_else() {
    let lab = Lab::new(Script::at("DOT", Act::Late(100, "250 2.0.0 queued at last"))).await;
    let (mut sent, mut open) = (lab.greeted().await, lab.greeted().await);
    for talk in [&mut sent, &mut open] {
        talk.envelope("a@far.example", "user@ours.example").await;
        talk.send("Subject: x\r\n\r\nbody\r\n").await;
    }
    sent.send(".\r\n").await;
    lab.until_asleep().await;
    let began = tokio::time::Instant::now();
    lab.stop.send(true).expect("the edge listens");
    open.expect("421 4.3.2").await;
    open.expect_end().await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    sent.expect("250 2.0.0 queued at last").await;
    sent.expect("421 4.3.2").await;
    sent.expect_end().await;
    assert_eq!(lab.edge.metrics.in_doubt.get(), 0);
}

#[tokio::test]
async fn a_client_whose_message_is_cut_by_a_stop_hears_so_also_where_nobody_is_waited_for() {
    let lab = Lab::new(Script::default()).await;
    let mut open = lab.greeted().await;
    open.envelope("a@far.example", "user@ours.example").await;
    open.send("Subject: x\r\n\r\nbody\r\n").await;
    tokio::time::pause();
    lab.stop.send(true).expect("the edge listens");
    open.expect("421 4.3.2").await;
    open.expect_end().await;
    assert_eq!(lab.upstream.seen().messages.len(), 0, "it was not delivered");
}

#[tokio::test]
async fn a_delivered_message_whose_client_never_has_the_reply_is_counted_and_logged() {
    let lab = Lab::new(Script::at("DOT", Act::Late(1, "250 2.0.0 queued"))).await;
    let mut talk = lab.greeted().await;
    talk.envelope("a@far.example", "user@ours.example").await;
    talk.send("Subject: x\r\n\r\nbody\r\n.\r\n").await;
    lab.until_asleep().await;
    let socket = socket2::SockRef::from(&talk.stream);
    socket.set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    drop(talk);
    while lab.edge.registry.sessions() > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(lab.edge.metrics.in_doubt.get(), 1);
    assert!(lab.logged().contains("user@ours.example"));
}

#[tokio::test]
async fn a_doubt_that_nobody_settled_counts() {
    let lab = Lab::new(Script::default()).await;
    let begin = || Doubt::begin(&lab.edge, lab.upstream.address, "user@ours.example".to_owned());
    begin().settle();
    assert_eq!(lab.edge.metrics.in_doubt.get(), 0);
    drop(begin());
    assert_eq!(lab.edge.metrics.in_doubt.get(), 1);
    lab.edge.doubts.none().await;
}
