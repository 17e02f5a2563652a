//! Where places or memory run short, the slowest makes room; and what an idle session takes.

use super::*;
use crate::engine::clock::Still;
use crate::engine::seat::Seat;
use crate::engine::seats::{Seats, sit};
use crate::engine::upstream::kept::Kept;

/// The most octets that the task of an inbound session may have, all of its session's state included: of the 4 KiB that a
/// connection in clear may take. (The rest is for its seat, its timer, its client's name, its replies' memory, its place
/// in the tables of sessions and tasks, and what the allocator adds.)
const TASK_BYTES_MAX: usize = 2432;

#[tokio::test]
async fn the_task_of_an_idle_session_is_small() {
    let lab = Lab::new(Script::default()).await;
    let kept = Kept::new(&lab.edge, 1);
    let task = sit(Arc::clone(&lab.edge), kept, Seats::default(), Seat::new(0));
    let bytes = size_of_val(&task);
    assert!(bytes <= TASK_BYTES_MAX, "{bytes} octets: what only a transaction needs belongs into a box");
}

/// Four places, one of which is kept free as long as somebody can make room.
async fn four_places() -> Lab {
    Lab::with(Script::default(), |config| {
        config.limits.sessions_max = 4;
        config.limits.sessions_outbound_reserved = 0;
    })
    .await
}

#[tokio::test]
async fn where_places_run_short_the_slowest_makes_room() {
    let (lab, still) = (four_places().await, Still::begin());
    let mut slow = lab.greeted().await;
    still.pass(5).await;
    slow.send("NO").await;
    let (mut second, mut third) = (lab.greeted().await, lab.greeted().await);
    let mut fourth = lab.greeted().await;
    slow.expect("421 4.3.2 Too slow").await;
    slow.expect_end().await;
    for talk in [&mut second, &mut third, &mut fourth] {
        talk.say("NOOP", "250").await;
    }
    assert_eq!((lab.edge.metrics.evicted.get(), lab.edge.metrics.refused_full.get()), (1, 0));
}

#[tokio::test]
async fn where_all_places_are_taken_before_anybody_is_slow_some_become_free_again() {
    let (lab, still) = (four_places().await, Still::begin());
    let _slow = (lab.greeted().await, lab.greeted().await, lab.greeted().await, lab.greeted().await);
    still.pass(5).await;
    lab.connect().await.expect("421 4.3.2 Too many").await;
    while lab.edge.metrics.evicted.get() < 2 {
        tokio::task::yield_now().await;
    }
    // Two at once, as honest ones come.
    let (mut one, mut other) = (lab.connect().await, lab.connect().await);
    one.expect("220").await;
    other.expect("220").await;
    assert_eq!(lab.edge.metrics.refused_full.get(), 1);
}

#[tokio::test]
async fn who_is_slow_in_a_message_makes_room_too_and_nothing_of_it_is_delivered() {
    let (lab, still) = (four_places().await, Still::begin());
    let mut slow = lab.greeted().await;
    slow.envelope("a@far.example", "user@ours.example").await;
    slow.send("Subject: x\r\n").await;
    still.pass(5).await;
    let _others = (lab.greeted().await, lab.greeted().await, lab.greeted().await);
    slow.expect("421 4.3.2 Too slow").await;
    slow.expect_end().await;
    assert_eq!(lab.upstream.seen().messages.len(), 0);
}

#[tokio::test]
async fn where_nobody_is_slow_nobody_is_sent_away_for_another() {
    let (lab, _still) = (four_places().await, Still::begin());
    let mut talks = Vec::new();
    for _ in 0..4 {
        talks.push(lab.greeted().await);
    }
    let mut fifth = lab.connect().await;
    fifth.expect("421 4.3.2 Too many").await;
    for talk in &mut talks {
        talk.say("NOOP", "250").await;
    }
    assert_eq!(lab.edge.metrics.evicted.get(), 0);
}

#[tokio::test]
async fn who_has_credit_may_be_slow() {
    let (lab, still) = (four_places().await, Still::begin());
    let mut slow = lab.greeted().await;
    slow.envelope("", &lab.tagged("user", "ours.example", 0)).await;
    slow.say(".", "250").await;
    still.pass(5).await;
    let _others = (lab.greeted().await, lab.greeted().await, lab.greeted().await);
    // Also a second time, though it waited longest both times.
    slow.say("NOOP", "250").await;
    let mut fifth = lab.connect().await;
    fifth.expect("421 4.3.2 Too many").await;
    slow.say("NOOP", "250").await;
    assert_eq!(lab.edge.metrics.evicted.get(), 0);
}

#[tokio::test]
async fn where_memory_runs_short_only_who_holds_some_makes_room() {
    let lab = Lab::with(Script::default(), |config| {
        config.limits.hold_bytes_max = 30_000;
        config.limits.hold_total_bytes_max = 40_000;
    })
    .await;
    let still = Still::begin();
    let mut idle = lab.greeted().await;
    still.pass(5).await;
    let mut slow = lab.greeted().await;
    slow.envelope("", "user@ours.example").await;
    slow.send(&"A line of a bounce that never ends.\r\n".repeat(600)).await;
    while lab.edge.pool.held_bytes() < 20_000 {
        tokio::task::yield_now().await;
    }
    still.pass(5).await;
    let mut other = lab.greeted().await;
    slow.expect("421 4.3.2 Too slow").await;
    slow.expect_end().await;
    assert_eq!(lab.edge.pool.held_bytes(), 0);
    idle.say("NOOP", "250").await;
    other.say("NOOP", "250").await;
    assert_eq!(lab.edge.metrics.evicted.get(), 1);
}

/// A slow session of four, and the one that its place is wanted for: it comes in the moment in which `says` does.
async fn asked_when_it_says(lab: &Lab, slow: &mut Talk, says: &str) -> Talk {
    let _others = (lab.greeted().await, lab.greeted().await);
    // Both are there before the edge has its next turn: it asks the slow one, whose octets nobody has read yet.
    slow.send(says).await;
    let mut last = lab.connect().await;
    last.expect("220").await;
    last
}

#[tokio::test]
async fn who_completes_a_command_when_asked_to_make_room_stays() {
    let (lab, still) = (four_places().await, Still::begin());
    let mut slow = lab.greeted().await;
    still.pass(5).await;
    let _last = asked_when_it_says(&lab, &mut slow, "NOOP\r\nNO").await;
    slow.expect("250").await;
    assert_eq!(lab.edge.metrics.evicted.get(), 0);
    slow.say("OP", "250").await;
}

#[tokio::test]
async fn who_says_but_a_part_of_a_command_then_makes_room() {
    let (lab, still) = (four_places().await, Still::begin());
    let mut slow = lab.greeted().await;
    still.pass(5).await;
    let _last = asked_when_it_says(&lab, &mut slow, "NO").await;
    slow.expect("421 4.3.2 Too slow").await;
    slow.expect_end().await;
}

/// Until the edge has read so much in all.
async fn read_so_far(lab: &Lab, bytes: u64) {
    while lab.edge.metrics.bytes_in.get() < bytes {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_waits_with_a_part_of_a_line_or_of_a_message_keeps_no_buffer() {
    let lab = Lab::new(Script::default()).await;
    let mut commands = [lab.greeted().await, lab.greeted().await];
    let mut bounce = lab.greeted().await;
    bounce.envelope("", "user@ours.example").await;
    let before = lab.edge.metrics.bytes_in.get();
    for talk in &mut commands {
        talk.send("NO").await;
    }
    bounce.send("Subject: x\r\n\r\nA bo").await;
    read_so_far(&lab, before + 2 + 2 + 18).await;
    assert_eq!(lab.edge.pool.held_bytes(), 18);
    assert_eq!(lab.edge.pool.idle(), 1, "all were read into the same buffer, and none is needed any more");
    for talk in &mut commands {
        talk.say("OP", "250").await;
    }
    bounce.send("unce\r\n").await;
    bounce.say(".", "550 5.7.1").await;
    assert_eq!((lab.edge.pool.out(), lab.edge.pool.held_bytes()), (0, 0));
}

#[tokio::test]
async fn a_message_that_comes_octet_by_octet_arrives_as_it_was_sent() {
    let lab = Lab::new(Script::default()).await;
    let mut talk = lab.greeted().await;
    talk.envelope("", "user@ours.example").await;
    // First it is held, in few octets and then in many; behind the token it goes on to the upstream.
    let held = format!("Subject: x\r\n{}", "X-Line: Slowly comes a message.\r\n".repeat(20));
    let message = format!("{held}{}\r\n\r\nIts body.\r\n..\r\n", lab.token("user@ours.example", 1));
    let before = lab.edge.metrics.bytes_in.get();
    for (number, octet) in message.bytes().enumerate() {
        talk.send([octet]).await;
        read_so_far(&lab, before + number as u64 + 1).await;
    }
    talk.say(".", "250").await;
    let seen = lab.upstream.seen();
    assert!(seen.messages[0].contains(&message), "{}", seen.messages[0]);
    assert_eq!(lab.edge.pool.out(), 0);
}
