//! What a trusted forwarder passes on.

use edge_core::policy::RequireTag;

use super::scripted::Act;
use super::*;
use crate::config::TrustedForwarder;

const MESSAGE: &str = "From: MAILER-DAEMON@far.example\r\nSubject: Undelivered\r\n\r\nIt failed.\r\n";

/// Trusts the tests' own address to pass on `per_hour` to `user@ours.example`.
fn trusting(config: &mut Config, per_hour: u32) {
    config.trusted_forwarders = vec![TrustedForwarder {
        memo: String::new(),
        networks: vec!["127.0.0.0/8".parse().unwrap()],
        recipients: vec!["user@ours.example".into()],
        per_hour,
    }];
}

async fn send(lab: &Lab, recipient: &str) -> String {
    let mut talk = lab.greeted().await;
    talk.envelope("", recipient).await;
    talk.send(MESSAGE).await;
    talk.say(".", "").await
}

#[tokio::test]
async fn it_is_delivered_unproven_within_its_rate_and_to_its_recipients_only() {
    let lab = Lab::with(Script::default(), |config| trusting(config, 2)).await;
    for reply in ["250", "250", "550 5.7.1"] {
        assert!(send(&lab, "User@ours.example").await.starts_with(reply), "{reply}");
    }
    assert!(send(&lab, "other@ours.example").await.starts_with("550 5.7.1"));
    assert_eq!(lab.upstream.seen().messages.len(), 2);
    let metrics = &lab.edge.metrics;
    assert_eq!((metrics.bounces_forwarded.get(), metrics.unproven.get()), (2, 2));
    let log = lab.logged();
    assert_eq!(log.matches("\"reason\":\"trusted_forwarder\"").count(), 2, "{log}");
    assert!(log.contains("\"reason\":\"unproven\""), "{log}");
}

#[tokio::test]
async fn what_was_deferred_takes_nothing_from_its_rate() {
    let deferring = |number| match number {
        1 => Script::at("DOT", Act::Say("451 4.3.0 later")),
        _ => Script::default(),
    };
    let script = Script { by_connection: Some(deferring), ..Script::default() };
    let lab = Lab::with(script, |config| {
        trusting(config, 1);
        config.limits.upstream_idle_max = 0;
    })
    .await;
    for reply in ["451", "250", "550 5.7.1"] {
        assert!(send(&lab, "user@ours.example").await.starts_with(reply), "{reply}");
    }
}

#[tokio::test]
async fn no_tag_is_asked_of_it_and_what_is_beyond_its_rate_is_refused_for_want_of_one() {
    let lab = Lab::with(Script::default(), |config| {
        trusting(config, 1);
        config.domains[0].require_tag = RequireTag::Always;
    })
    .await;
    assert!(send(&lab, "user@ours.example").await.starts_with("250"));
    assert!(send(&lab, "user@ours.example").await.starts_with("550 5.7.1"));
    assert!(lab.logged().contains("\"reason\":\"tag_required\""));
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<>", "250").await;
    talk.say("RCPT TO:<other@ours.example>", "250").await;
    talk.say("DATA", "550 5.7.1").await;
}

#[tokio::test]
async fn a_forwarder_that_passes_a_flood_on_delivers_its_rate_and_is_not_banned() {
    let lab = Lab::with(Script::default(), |config| {
        trusting(config, 5);
        config.flood.unproven_min = 5;
        config.reputation.flood_unproven_max = 10;
        config.reputation.unproven_burst = 1000.0;
    })
    .await;
    let mut delivered = 0;
    for _ in 0..60 {
        delivered += u32::from(send(&lab, "user@ours.example").await.starts_with("250"));
    }
    assert!(lab.edge.flood_on());
    assert_eq!(delivered, 5);
    let bans = lab.edge.reputation.bans(lab.edge.now());
    assert!(bans.is_empty(), "{bans:?}");
}
