//! What watching and grace let through, and what is counted of it.

use edge_core::policy::{Action, RequireTag};
use edge_core::time::UnixMillis;
use edge_core::watch::{Evidence, Summary};

use super::*;
use crate::engine::watch::Keeper;

const BOUNCE: &str = "From: MAILER-DAEMON@far.example\r\nSubject: Undelivered\r\n\r\nIt failed.\r\n";
const DAY: Duration = Duration::from_secs(86_400);

/// Sends an unproven bounce; the code of the last reply.
async fn send(lab: &Lab, recipient: &str) -> String {
    send_message(lab, recipient, BOUNCE).await
}

async fn send_message(lab: &Lab, recipient: &str, message: &str) -> String {
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<>", "250").await;
    talk.say(&format!("RCPT TO:<{recipient}>"), "250").await;
    let reply = talk.say("DATA", "").await;
    if !reply.starts_with("354") {
        return reply[..3].to_owned();
    }
    talk.send(message).await;
    talk.say(".", "").await[..3].to_owned()
}

/// A lab that began to sign `ago`, or has not yet.
async fn signing_since(ago: Option<Duration>, configure: impl FnOnce(&mut Config)) -> Lab {
    let lab = Lab::with(Script::default(), configure).await;
    let now = lab.edge.now();
    lab.edge.watch.begin_anew(ago.map(|ago| now.minus(ago)), now);
    lab
}

#[tokio::test]
async fn what_monitor_let_through_is_counted_by_source_and_filter() {
    let lab = signing_since(Some(100 * DAY), |_| {}).await;
    for _ in 0..3 {
        assert_eq!(send(&lab, "monitor@ours.example").await, "250");
    }
    // What a filter delivers or stops is no watching.
    assert_eq!(send(&lab, "mark@ours.example").await, "250");
    assert_eq!(send(&lab, "user@ours.example").await, "550");
    assert_eq!(send(&lab, "discard@ours.example").await, "250");
    assert_eq!(send(&lab, "postmaster@ours.example").await, "250");
    let watched = lab.edge.watched(10);
    assert_eq!(watched.would_be_stopped, 3);
    assert_eq!(watched.sources.len(), 1);
    assert_eq!((watched.sources[0].what, watched.sources[0].tally.count), ("127.0.0.1".parse().unwrap(), 3));
    let filter = &watched.filters[0];
    assert_eq!((filter.what.filter, filter.what.would, filter.tally.count), (Some(2), None, 3));
    assert_eq!(watched.days.last().map(|day| day.let_through), Some(3));
}

#[tokio::test]
async fn what_the_upstream_refuses_was_not_let_through() {
    let refusing = Script::at("DOT", scripted::Act::Say("550 5.7.1 not wanted"));
    let lab = Lab::with(refusing, |_| {}).await;
    assert_eq!(send(&lab, "monitor@ours.example").await, "550");
    assert_eq!(lab.edge.watched(10).would_be_stopped, 0);
}

#[tokio::test]
async fn in_grace_a_filter_that_rejects_or_discards_delivers_and_says_what_it_would_do() {
    let lab = signing_since(Some(15 * DAY), |_| {}).await;
    assert_eq!(send(&lab, "user@ours.example").await, "250");
    assert_eq!(send(&lab, "discard@ours.example").await, "250");
    assert_eq!(send(&lab, "mark@ours.example").await, "250");
    assert_eq!(lab.upstream.seen().messages.len(), 3);
    assert!(lab.upstream.seen().messages[2].contains("Backstop-Verdict"), "a mark stays");
    let watched = lab.edge.watched(10);
    assert!(watched.grace && watched.grace_until.is_some());
    let would: Vec<_> = watched.filters.iter().map(|row| row.what.would).collect();
    assert!(would.contains(&Some(Action::Reject)) && would.contains(&Some(Action::Discard)), "{would:?}");
    assert!(lab.logged().contains("\"reason\":\"grace\""), "{}", lab.logged());
}

#[tokio::test]
async fn grace_ends_and_before_the_first_signature_it_does_not() {
    let lab = signing_since(Some(16 * DAY), |_| {}).await;
    assert_eq!(send(&lab, "user@ours.example").await, "550");
    let lab = signing_since(None, |_| {}).await;
    assert_eq!(send(&lab, "user@ours.example").await, "250");
    lab.edge.watch.signed(UnixMillis(1));
    assert_eq!(send(&lab, "user@ours.example").await, "550", "signed long ago, as it turns out");
}

#[tokio::test]
async fn a_tag_is_not_required_in_grace() {
    let always = |config: &mut Config| config.domains[0].require_tag = RequireTag::Always;
    let lab = signing_since(Some(DAY), always).await;
    assert_eq!(send(&lab, "user@ours.example").await, "250");
    let lab = signing_since(Some(16 * DAY), always).await;
    assert_eq!(send(&lab, "user@ours.example").await, "550");
}

#[tokio::test]
async fn a_flood_ends_grace_where_the_operator_says_so() {
    for (in_flood, reply) in [(true, "250"), (false, "550")] {
        let lab = signing_since(Some(DAY), |config| {
            config.policy.grace_in_flood = in_flood;
            config.flood.unproven_min = 1;
        })
        .await;
        for _ in 0..20 {
            lab.edge.unproven_came(lab.edge.now());
        }
        assert!(lab.edge.flood_on());
        assert_eq!(send(&lab, "user@ours.example").await, reply, "grace_in_flood = {in_flood}");
    }
}

/// What watching found, once `found` is so; the keeper looks at samples meanwhile.
fn wait_for(lab: &Lab, found: impl Fn(&Summary) -> bool) -> Summary {
    let _keeper = Keeper::start(Arc::clone(&lab.edge)).expect("a thread");
    let begun = tokio::time::Instant::now();
    loop {
        let summary = lab.edge.watched(10);
        if found(&summary) {
            return summary;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "not found: {summary:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn a_bounce_whose_original_began_at_a_host_of_ours_looks_like_ours_whatever_became_of_it() {
    let lab = Lab::new(Script::default()).await;
    let returned = format!(
        "{BOUNCE}\r\nReceived: from pc by edge.example with ESMTP id 1; Tue, 24 Nov 2026 00:00:00 +0000\r\n\
         Message-ID: <1@shop.example>\r\nSubject: your \u{1b}[31m order\r\n\r\nHello\r\n"
    );
    assert_eq!(send_message(&lab, "monitor@ours.example", &returned).await, "250");
    assert_eq!(send_message(&lab, "user@ours.example", &returned).await, "550");
    assert_eq!(send_message(&lab, "user@ours.example", BOUNCE).await, "550");
    let signed = returned.replace("Message-ID", &format!("{}\r\nMessage-ID", late_token(&lab, 1)));
    assert_eq!(send_message(&lab, "user@ours.example", &signed).await, "550", "it came too late");
    let summary = wait_for(&lab, |summary| summary.ours.first().is_some_and(|ours| ours.tally.count == 2));
    wait_for(&lab, |summary| summary.missed() == (0, 4));
    let [ours] = &summary.ours[..] else { panic!("{:#?}", summary.ours) };
    let evidence = Evidence::Received { host: "edge.example".into(), domain: "ours.example".into() };
    assert_eq!(ours.evidence, evidence);
    assert_eq!(ours.example.source, "127.0.0.1");
    assert_eq!(ours.example.message_id.as_deref(), Some("1@shop.example"));
    assert!(!ours.example.subject.as_deref().unwrap_or_default().contains('\u{1b}'), "{ours:?}");
    assert_eq!(summary.clean_days, 0);
}

/// A token for `user@ours.example` by the key of the lab with this id, too old to prove anything.
fn late_token(lab: &Lab, id: u8) -> String {
    let mailbox = Mailbox::parse("user@ours.example").unwrap();
    let made_by = Key::new(id, [7; 32], UnixMillis(0));
    let text = tokens::issue(&made_by, &mailbox, 1, lab.edge.now().minus(60 * DAY), [9; 6]);
    format!("Backstop-Token: {}", text.as_str())
}

#[tokio::test]
async fn a_token_that_no_key_of_ours_made_hides_nothing() {
    let lab = Lab::new(Script::default()).await;
    for token in [late_token(&lab, 9), "Backstop-Token: bs1.none".to_owned()] {
        let returned = format!(
            "{BOUNCE}\r\nReceived: from pc by edge.example with ESMTP id 1; Tue, 24 Nov 2026 00:00:00 +0000\r\n\
             {token}\r\nMessage-ID: <1@shop.example>\r\n\r\nHello\r\n"
        );
        assert_eq!(send_message(&lab, "user@ours.example", &returned).await, "550");
    }
    let summary = wait_for(&lab, |summary| summary.missed() == (0, 2));
    let [ours] = &summary.ours[..] else { panic!("{:#?}", summary.ours) };
    assert_eq!(ours.tally.count, 2);
}

#[tokio::test]
async fn what_began_at_a_mail_server_of_ours_is_known_by_the_name_it_greets_with() {
    for (greeting, is_ours) in
        [("220 mx7.inside.example ESMTP", true), ("220 localhost.localdomain ESMTP", false)]
    {
        let lab = Lab::new(Script::at("GREETING", scripted::Act::Say(greeting))).await;
        // As at the start: every upstream is asked what it offers.
        crate::engine::upstreams::ask_all(&lab.edge).await;
        let name = greeting.split(' ').nth(1).unwrap();
        let returned = format!(
            "{BOUNCE}\r\nReceived: from pc by {name} with ESMTP id 1; Tue, 24 Nov 2026 00:00:00 +0000\r\n\
             Message-ID: <1@ours.example>\r\n\r\nHello\r\n"
        );
        assert_eq!(send_message(&lab, "user@ours.example", &returned).await, "550");
        let summary = wait_for(&lab, |summary| summary.missed() == (0, 1));
        let evidence = Evidence::Received { host: name.into(), domain: "ours.example".into() };
        let found: Vec<_> = summary.ours.iter().map(|ours| &ours.evidence).collect();
        assert_eq!(found, if is_ours { vec![&evidence] } else { vec![] });
    }
}

#[tokio::test]
async fn a_source_that_passes_on_what_came_for_a_mailbox_elsewhere_is_taken_for_a_forwarder() {
    let lab = Lab::new(Script::default()).await;
    let passed_on = format!(
        "Received: from mx.far.example (mx [192.0.2.1]) by mail.univ.example with ESMTP id 1\r\n\t\
         for <ann@univ.example>; Tue, 24 Nov 2026 00:00:00 +0000\r\n{BOUNCE}"
    );
    for _ in 0..3 {
        assert_eq!(send_message(&lab, "user@ours.example", &passed_on).await, "550");
    }
    let summary = wait_for(&lab, |summary| !summary.ours.is_empty());
    let source = "127.0.0.1".parse().unwrap();
    assert_eq!(
        summary.ours[0].evidence,
        Evidence::Forwarder { source, mailbox_domain: "univ.example".into() }
    );
}

#[tokio::test]
async fn where_the_logs_addresses_are_hashed_those_in_findings_are_too() {
    let lab = Lab::with(Script::default(), |config| config.log.hash_addresses = true).await;
    let returned = format!(
        "{BOUNCE}\r\nReceived: from pc by edge.example with ESMTP id 1; Tue, 24 Nov 2026 00:00:00 +0000\r\n\
         Message-ID: <user.1@ours.example>\r\nSubject: to user\r\n\r\nHello\r\n"
    );
    assert_eq!(send_message(&lab, "user@ours.example", &returned).await, "550");
    let summary = wait_for(&lab, |summary| !summary.ours.is_empty());
    let written = serde_json::to_string(&summary.ours).unwrap();
    assert!(!written.contains("user"), "{written}");
    assert!(summary.ours[0].example.recipient.ends_with("@ours.example"), "{written}");
}

#[tokio::test]
async fn what_is_deferred_is_not_looked_at_because_it_comes_again() {
    let deferring = Script::at("DOT", scripted::Act::Say("451 4.3.0 later"));
    let lab = Lab::with(deferring, |_| {}).await;
    assert_eq!(send(&lab, "monitor@ours.example").await, "451");
    assert_eq!(send(&lab, "user@ours.example").await, "550");
    assert_eq!(lab.edge.watch.samples_waiting(), 1, "the one that was refused for good");
}
