//! Bounces that a filter quarantines: 250 only for what is on disk.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use edge_core::policy::Action;

use super::*;
use crate::engine::quarantine::{Item, NotKept};

/// Everything unproven is quarantined; the machine's own disk may be as full as it is.
async fn lab(configure: impl FnOnce(&mut Config)) -> Lab {
    Lab::with_state(Script::default(), |config| {
        config.filters.last_mut().expect("the filter for all").action = Action::Quarantine;
        config.limits.hold_bytes_max = 40_000;
        config.quarantine.free_bytes_min = 0;
        configure(config);
    })
    .await
}

fn items(lab: &Lab) -> Vec<Item> {
    lab.edge.quarantine.as_ref().expect("a quarantine").shelf().items().expect("the folders are there")
}

/// The files in `tmp`.
fn unfinished(lab: &Lab) -> Vec<PathBuf> {
    let tmp = lab.place.as_ref().expect("a place").path().join("quarantine/tmp");
    fs::read_dir(tmp).expect("it is there").map(|entry| entry.expect("an entry").path()).collect()
}

fn load(lab: &Lab) -> (usize, u64) {
    let load = lab.edge.quarantine.as_ref().expect("a quarantine").load();
    (load.messages, load.bytes)
}

/// Waits until the disk's threads have done so.
async fn until(done: impl Fn() -> bool) {
    let begun = tokio::time::Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never happens");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A message of `lines` lines, some with a dot in front, as a client sends it.
fn message(lines: usize) -> String {
    let body = ["..hidden\r\n", "plain line of text that is longer than the others\r\n", "\r\n", "...\r\n"];
    let body: String = (0..lines).map(|line| body[line % body.len()]).collect();
    format!("From: MAILER-DAEMON@far.example\r\nSubject: Undelivered\r\n\r\n{body}")
}

async fn send(lab: &Lab, message: &str) -> String {
    let mut talk = lab.greeted().await;
    talk.envelope("", "user@ours.example").await;
    talk.send(message).await;
    talk.say(".", "").await
}

#[tokio::test]
async fn a_quarantined_bounce_is_on_disk_with_its_envelope_and_the_upstream_never_hears_of_it() {
    let lab = lab(|_| {}).await;
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<> BODY=8BITMIME", "250").await;
    talk.say("RCPT TO:<User@ours.example>", "250").await;
    talk.say("DATA", "354").await;
    talk.send(message(9)).await;
    talk.say(".", "250").await;
    let items = items(&lab);
    assert_eq!(items.len(), 1);
    let on_disk = fs::read_to_string(&items[0].path).expect("it is text");
    assert!(on_disk.starts_with("Return-Path: <>\nDelivered-To: User@ours.example\nBackstop-Quarantine: {"));
    let expected = message(9).replace("\r\n", "\n").replace("\n..", "\n.");
    assert!(on_disk.ends_with(&expected) && !on_disk.contains('\r'), "{on_disk}");
    assert!(
        on_disk.contains("\nReceived: from client.example ([127.0.0.1])\n\tby edge.example"),
        "{on_disk}"
    );
    let opened = crate::engine::quarantine::open(&items[0].path).expect("a head");
    assert_eq!(opened.head.id, items[0].id.to_string());
    assert_eq!((opened.head.sender.as_str(), opened.head.mail_params.as_str()), ("", "BODY=8BITMIME"));
    assert_eq!((opened.head.reason.as_str(), opened.head.filter), ("unproven", Some(3)));
    assert_eq!(lab.upstream.seen().connections, 0);
    assert_eq!(load(&lab), (1, on_disk.len() as u64));
    let metrics = &lab.edge.metrics;
    assert_eq!((metrics.bounces_quarantined.get(), metrics.unproven.get()), (1, 1));
    assert_eq!(metrics.bounces_discarded.get(), 0);
    let source = "127.0.0.1".parse().expect("a source");
    assert_eq!(lab.edge.reputation.explain(source, lab.edge.now()).unproven, 1);
    let log = lab.logged();
    assert!(log.contains(&format!("\"quarantine\":\"{}\"", items[0].id)), "{log}");
}

#[tokio::test]
async fn a_bounce_larger_than_the_hold_streams_to_disk_and_is_whole() {
    let lab = lab(|_| {}).await;
    for lines in [700, 3000, 20_000] {
        let message = message(lines);
        assert_eq!(&send(&lab, &message).await[..3], "250", "{lines} lines");
        let item = items(&lab).pop().expect("it is there");
        let on_disk = fs::read_to_string(&item.path).expect("it is text");
        assert!(on_disk.ends_with(&message.replace("\r\n", "\n").replace("\n..", "\n.")), "{lines} lines");
        assert_eq!(lab.edge.pool.held_bytes(), 0);
    }
    assert!(lab.logged().contains("too_big_to_prove"));
    assert!(unfinished(&lab).is_empty());
}

#[tokio::test]
async fn a_proven_bounce_is_delivered_all_the_same() {
    let lab = lab(|_| {}).await;
    let message = format!("{}{}\r\n", message(3), lab.token("user@ours.example", 1));
    assert_eq!(&send(&lab, &message).await[..3], "250");
    assert_eq!((lab.upstream.seen().messages.len(), items(&lab).len()), (1, 0));
}

#[tokio::test]
async fn a_client_that_breaks_off_in_the_middle_leaves_nothing() {
    let lab = lab(|_| {}).await;
    let mut talk = lab.greeted().await;
    talk.envelope("", "user@ours.example").await;
    talk.send(message(20_000)).await;
    until(|| !unfinished(&lab).is_empty()).await;
    assert_eq!(load(&lab).0, 1, "it has its place while it comes");
    drop(talk);
    until(|| unfinished(&lab).is_empty() && load(&lab) == (0, 0)).await;
    assert!(items(&lab).is_empty());
}

#[tokio::test]
async fn a_bare_line_ending_or_a_loop_behind_the_hold_is_refused_and_leaves_nothing() {
    let lab = lab(|_| {}).await;
    let loops = "Received: x\r\n".repeat(4000);
    for (message, code) in [(format!("{}a\nb\r\n", message(3000)), "550 5.6.11"), (loops, "554 5.4.6")] {
        assert_eq!(&send(&lab, &message).await[..code.len()], code);
        until(|| unfinished(&lab).is_empty() && load(&lab) == (0, 0)).await;
        assert!(items(&lab).is_empty());
    }
    assert_eq!(lab.edge.metrics.bounces_quarantined.get(), 0);
}

#[tokio::test]
async fn over_a_limit_it_is_452_and_what_is_there_stays() {
    let lab = lab(|config| {
        config.quarantine.messages_max = 2;
        config.quarantine.bytes_max = 100_000;
    })
    .await;
    let big = message(20_000);
    assert_eq!(&send(&lab, &big).await[..9], "452 4.3.1");
    assert_eq!(load(&lab), (0, 0));
    for reply in ["250", "250", "452", "452"] {
        assert_eq!(&send(&lab, &message(3)).await[..3], reply);
    }
    assert_eq!(items(&lab).len(), 2);
    let metrics = &lab.edge.metrics;
    assert_eq!((metrics.bounces_quarantined.get(), metrics.quarantine_failed.get()), (2, 3));
    assert_eq!((metrics.unproven.get(), metrics.deferred.get()), (5, 3), "a full quarantine hides no flood");
    assert_eq!(metrics.bounces_rejected.get(), 0);
    let log = lab.logged();
    assert_eq!(log.matches("quarantine_failed").count(), 2, "each sort of trouble is news once: {log}");
    assert!(log.contains("bytes_max") && log.contains("messages_max"), "{log}");
    assert_eq!(log.matches("\"reason\":\"quarantine_full\"").count(), 3, "{log}");
    fs::remove_file(&items(&lab)[0].path).expect("an operator may");
    let quarantine = lab.edge.quarantine.clone().expect("a quarantine");
    quarantine.recount().expect("the disk is there");
    assert_eq!(&send(&lab, &message(3)).await[..3], "250");
    assert!(lab.logged().contains("quarantine_recovered"));
}

#[tokio::test]
async fn one_source_fills_its_own_share_only_also_after_a_restart() {
    let lab = lab(|config| {
        config.quarantine.messages_per_source_max = 2;
        config.quarantine.bytes_per_source_max = 100_000;
    })
    .await;
    assert_eq!(&send(&lab, &message(20_000)).await[..9], "452 4.3.1");
    assert_eq!(load(&lab), (0, 0));
    for reply in ["250", "250", "452"] {
        assert_eq!(&send(&lab, &message(3)).await[..3], reply);
    }
    assert_eq!(lab.edge.metrics.unproven.get(), 4, "each counts against its source");
    // What another edge finds on the same disk: this source has its share, and another one has room.
    let quarantine = lab.edge.quarantine.as_ref().expect("a quarantine");
    let settings = crate::config::Quarantine {
        messages_per_source_max: 2,
        free_bytes_min: 0,
        ..crate::config::Quarantine::default()
    };
    let again = quarantine.opened_again(&settings).expect("the disk is there");
    assert_eq!(again.load().messages, 2);
    assert!(again.has_room_for("127.0.0.1".parse().expect("an address")).is_err());
    assert!(again.has_room_for("192.0.2.7".parse().expect("an address")).is_ok());
    // What the operator deletes gives its source room again.
    fs::remove_file(&items(&lab)[0].path).expect("an operator may");
    again.recount().expect("the disk is there");
    assert!(again.has_room_for("127.0.0.1".parse().expect("an address")).is_ok());
}

#[tokio::test]
async fn a_disk_with_too_little_left_is_452() {
    let lab = lab(|config| config.quarantine.free_bytes_min = u64::MAX / 2).await;
    for lines in [3, 3000] {
        assert_eq!(&send(&lab, &message(lines)).await[..9], "452 4.3.1");
    }
    assert!(items(&lab).is_empty() && unfinished(&lab).is_empty());
    assert_eq!(lab.edge.metrics.unproven.get(), 0, "it comes again, and counts then");
    assert!(lab.logged().contains("free_bytes_min"));
}

#[tokio::test]
async fn a_folder_that_is_gone_is_452_until_it_is_back() {
    for folder in ["tmp", "new"] {
        let lab = lab(|_| {}).await;
        let path = lab.place.as_ref().expect("a place").path().join("quarantine").join(folder);
        fs::remove_dir(&path).expect("it is empty");
        for lines in [3, 3000] {
            assert_eq!(&send(&lab, &message(lines)).await[..9], "452 4.3.1", "without {folder}");
        }
        assert_eq!(load(&lab), (0, 0));
        fs::create_dir(&path).expect("a folder");
        assert!(unfinished(&lab).is_empty(), "without {folder}");
        assert_eq!(&send(&lab, &message(3)).await[..3], "250", "{folder} is back");
    }
}

#[tokio::test]
async fn without_a_state_directory_it_is_452() {
    let lab = Lab::with(Script::default(), |config| config.filters[3].action = Action::Quarantine).await;
    assert_eq!(&send(&lab, &message(3)).await[..9], "452 4.3.1");
    assert!(NotKept::Nowhere.to_string().contains("state directory"));
}

#[tokio::test]
async fn a_disk_that_does_not_answer_stalls_nobody_else() {
    let lab = lab(|_| {}).await;
    let quarantine = lab.edge.quarantine.clone().expect("a quarantine");
    quarantine.stuck.store(true, Ordering::SeqCst);
    let mut waiting = lab.greeted().await;
    waiting.envelope("", "user@ours.example").await;
    waiting.send(format!("{}.\r\n", message(3))).await;
    // All in one thread: each of these would wait for ever if the worker did.
    for _ in 0..20 {
        let mut talk = lab.greeted().await;
        talk.envelope("a@far.example", "user@ours.example").await;
        talk.send("Subject: x\r\n\r\nbody\r\n").await;
        talk.say(".", "250").await;
    }
    assert!(items(&lab).is_empty());
    quarantine.stuck.store(false, Ordering::SeqCst);
    waiting.expect("250").await;
    assert_eq!(items(&lab).len(), 1);
}

#[tokio::test]
async fn the_edge_deletes_by_itself_what_is_older_than_it_is_kept() {
    let lab = lab(|config| config.quarantine.days = 7).await;
    assert_eq!(&send(&lab, &message(3)).await[..3], "250");
    let young = items(&lab).remove(0);
    let named = young.path.to_str().expect("text");
    let week_ago = young.secs - 7 * 86_400 - 2;
    fs::copy(
        &young.path,
        named.replace(&young.secs.to_string(), &week_ago.to_string()).replace(&young.id.to_string(), "1"),
    )
    .expect("a file");
    assert_eq!(items(&lab).len(), 2);
    tokio::spawn(crate::engine::quarantine::sweep_hourly(Arc::clone(&lab.edge)));
    until(|| lab.edge.metrics.quarantine_expired.get() > 0).await;
    assert_eq!(items(&lab), [young]);
    assert!(lab.logged().contains("quarantine_expired"));
}
