//! Releases from the quarantine: the upstream gets what it would have got at first, and its 2xx alone lets go.

use std::fs;
use std::sync::Arc;

use edge_core::policy::Action;

use super::*;
use crate::engine::quarantine::{Id, Quarantine, Released, release};
use crate::engine::tests::scripted::Act;

const MESSAGE: &str = "Subject: Undelivered\r\n\r\n..\r\n..hidden\r\n\r\n.. . \r\nlast\r\n";

/// A lab with one quarantined bounce.
async fn with_one(script: Script) -> (Lab, Arc<Quarantine>, Id) {
    let lab = Lab::with_state(script, |config| {
        config.filters.last_mut().expect("the filter for all").action = Action::Quarantine;
        config.quarantine.free_bytes_min = 0;
    })
    .await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<> BODY=8BITMIME", "250").await;
    talk.say("RCPT TO:<User@ours.example>", "250").await;
    talk.say("DATA", "354").await;
    talk.send(MESSAGE).await;
    talk.say(".", "250").await;
    let quarantine = lab.edge.quarantine.clone().expect("a quarantine");
    let id = quarantine.shelf().items().expect("folders")[0].id;
    (lab, quarantine, id)
}

fn count(quarantine: &Quarantine) -> usize {
    quarantine.shelf().items().expect("folders").len()
}

#[tokio::test]
async fn the_upstream_gets_what_it_would_have_got_and_then_it_is_gone() {
    let (lab, quarantine, id) =
        with_one(Script { ehlo: Some("250-upstream.example\r\n250 8BITMIME"), ..Script::default() }).await;
    let Released::Delivered(words) = release(&lab.edge, &quarantine, id).await else {
        panic!("not delivered")
    };
    assert_eq!(words, "250 2.0.0 queued");
    let seen = lab.upstream.seen();
    assert_eq!(seen.commands, ["MAIL FROM:<> BODY=8BITMIME", "RCPT TO:<User@ours.example>", "DATA"]);
    let received = "Received: from client.example ([127.0.0.1])\r\n\tby edge.example with ESMTP id ";
    assert!(
        seen.messages[0].starts_with(&format!("{received}{id}\r\n\tfor <User@ours.example>;")),
        "{seen:?}"
    );
    assert!(seen.messages[0].ends_with(&format!(" +0000\r\n{MESSAGE}")), "{seen:?}");
    assert_eq!((count(&quarantine), quarantine.load().messages), (0, 0));
    assert_eq!(lab.edge.metrics.quarantine_released.get(), 1);
    assert_eq!(release(&lab.edge, &quarantine, id).await, Released::NotThere);
}

#[tokio::test]
async fn what_the_upstream_refuses_stays_at_whatever_stage() {
    for (stage, reply) in [
        ("MAIL", "451 4.7.1 not now"),
        ("RCPT", "550 5.1.1 nobody of that name"),
        ("DATA", "554 5.5.1 no"),
        ("DOT", "552 5.2.2 mailbox full"),
    ] {
        let (lab, quarantine, id) = with_one(Script::at(stage, Act::Say(reply))).await;
        assert_eq!(release(&lab.edge, &quarantine, id).await, Released::Refused(reply.into()), "at {stage}");
        assert_eq!(count(&quarantine), 1);
        assert_eq!((lab.edge.metrics.quarantine_released.get(), lab.edge.metrics.in_doubt.get()), (0, 0));
    }
}

#[tokio::test]
async fn where_the_upstream_is_lost_it_stays_and_behind_the_final_dot_that_is_a_doubt() {
    for stage in ["GREETING", "MAIL", "RCPT", "DATA", "DOT"] {
        let (lab, quarantine, id) = with_one(Script::at(stage, Act::Close)).await;
        let released = release(&lab.edge, &quarantine, id).await;
        let Released::Failed(words) = released else { panic!("at {stage}: {released:?}") };
        assert_eq!(words.contains("may have taken"), stage == "DOT", "{words}");
        assert_eq!(count(&quarantine), 1);
        assert_eq!(lab.edge.metrics.in_doubt.get(), u64::from(stage == "DOT"), "at {stage}");
    }
}

#[tokio::test]
async fn two_who_release_one_message_deliver_it_once() {
    let (lab, quarantine, id) = with_one(Script::at("MAIL", Act::Late(5, "250 2.1.0 at last"))).await;
    let (edge, there) = (Arc::clone(&lab.edge), Arc::clone(&quarantine));
    let first = tokio::spawn(async move { release(&edge, &there, id).await });
    lab.until_asleep().await;
    let Released::Failed(words) = release(&lab.edge, &quarantine, id).await else { panic!("twice") };
    assert!(words.contains("just now"), "{words}");
    assert!(quarantine.delete_by_id(id).is_err(), "nor is it deleted meanwhile");
    assert!(matches!(first.await.expect("no panic"), Released::Delivered(_)));
    assert_eq!((lab.upstream.seen().messages.len(), count(&quarantine)), (1, 0));
}

#[tokio::test]
async fn a_damaged_file_and_a_domain_that_is_ours_no_more_are_not_released() {
    let (lab, quarantine, id) = with_one(Script::default()).await;
    let item = quarantine.shelf().find(id).expect("folders").expect("it is there");
    let text = fs::read_to_string(&item.path).expect("text");
    for (from, to, why) in [
        ("@ours.example\",", "@theirs.example\",", "no [[domain]]"),
        ("Backstop-Quarantine:", "X-Quarantine:", "no quarantined message"),
    ] {
        fs::write(&item.path, text.replace(from, to)).expect("a file");
        let Released::Failed(words) = release(&lab.edge, &quarantine, id).await else { panic!("{why}") };
        assert!(words.contains(why), "{words}");
    }
    assert_eq!(lab.upstream.seen().connections, 0);
}
