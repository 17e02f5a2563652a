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
