//! Null-sender mail that is told to be no bounce: its kind's rule, the mailbox's rate, and what is counted.

use edge_core::policy::KindRule;

use super::scripted::Act;
use super::*;

const AUTO_REPLY: &str = "From: bob@far.example\r\nSubject: Away\r\nIn-Reply-To: <1@ours.example>\r\nAuto-Submitted: auto-replied\r\n\r\nUntil Monday.\r\n";
const BOUNCE: &str = "From: MAILER-DAEMON@far.example\r\nSubject: failure notice\r\nAuto-Submitted: auto-replied\r\n\r\nNo.\r\n";

async fn send(lab: &Lab, message: &str) -> String {
    let mut talk = lab.greeted().await;
    talk.envelope("", "user@ours.example").await;
    talk.send(message).await;
    talk.say(".", "").await
}

#[tokio::test]
async fn an_auto_reply_is_delivered_and_counts_for_nothing_that_a_bounce_counts_for() {
    let lab = Lab::new(Script::default()).await;
    assert_eq!(&send(&lab, AUTO_REPLY).await[..3], "250");
    assert!(lab.upstream.seen().messages[0].ends_with(AUTO_REPLY), "unchanged");
    let metrics = &lab.edge.metrics;
    assert_eq!((metrics.unproven.get(), metrics.bounces_unproven_delivered.get()), (0, 0));
    assert_eq!((metrics.kinds_let_through.get(), metrics.delivered_auto_reply.get()), (1, 1));
    let log = lab.logged();
    for said in [
        "\"reason\":\"kind_rule\"",
        "\"kind\":\"auto_reply\"",
        "\"confidence\":\"certain\"",
        "\"told_by\":\"Auto-Submitted\"",
    ] {
        assert!(log.contains(said), "{said} in {log}");
    }
}

#[tokio::test]
async fn a_bounce_that_calls_itself_an_auto_reply_is_refused() {
    let lab = Lab::new(Script::default()).await;
    assert_eq!(&send(&lab, BOUNCE).await[..9], "550 5.7.1");
    let metrics = &lab.edge.metrics;
    assert_eq!((metrics.unproven.get(), metrics.kinds_let_through.get()), (1, 0));
    let log = lab.logged();
    assert!(log.contains("\"kind\":\"failure\""), "{log}");
}

#[tokio::test]
async fn a_report_on_a_domain_of_another_is_judged_as_a_bounce() {
    let lab = Lab::new(Script::default()).await;
    let report = |domain: &str| {
        format!(
            "From: dmarc@far.example\r\nContent-Type: application/gzip;\r\n \
             name=\"far.example!{domain}!1795000000!1795086400.xml.gz\"\r\n\r\nx\r\n"
        )
    };
    assert_eq!(&send(&lab, &report("ours.example")).await[..3], "250");
    assert_eq!(&send(&lab, &report("news.ours.example")).await[..3], "250");
    assert_eq!(&send(&lab, &report("theirs.example")).await[..9], "550 5.7.1");
    let metrics = &lab.edge.metrics;
    assert_eq!((metrics.unproven.get(), metrics.delivered_dmarc_report.get()), (1, 2));
    assert!(lab.logged().contains("\"kind\":\"unknown\""), "{}", lab.logged());
}

#[tokio::test]
async fn a_mailbox_gets_so_many_and_the_next_is_judged_as_a_bounce() {
    let lab = Lab::with(Script::default(), |config| config.kinds.per_mailbox_per_hour = 2).await;
    for _ in 0..2 {
        assert_eq!(&send(&lab, AUTO_REPLY).await[..3], "250");
    }
    assert_eq!(&send(&lab, AUTO_REPLY).await[..9], "550 5.7.1");
    let metrics = &lab.edge.metrics;
    assert_eq!((metrics.unproven.get(), metrics.kinds_let_through.get()), (1, 2));
    // A proof takes nothing from the rate, and needs nothing of it.
    let proven = format!("{}\r\n{AUTO_REPLY}", lab.token("user@ours.example", 1));
    assert_eq!(&send(&lab, &proven).await[..3], "250");
    assert_eq!(metrics.bounces_token.get(), 1);
}

#[tokio::test]
async fn each_kind_has_a_rate_of_its_own() {
    const LIST: &str = "From: bob@far.example\r\nList-Id: <talk.far.example>\r\n\r\nHello.\r\n";
    let lab = Lab::with(Script::default(), |config| config.kinds.per_mailbox_per_hour = 1).await;
    for (message, reply) in
        [(AUTO_REPLY, "250"), (AUTO_REPLY, "550 5.7.1"), (LIST, "250"), (LIST, "550 5.7.1")]
    {
        assert!(send(&lab, message).await.starts_with(reply), "{message}{reply}");
    }
    assert_eq!(lab.edge.metrics.delivered_list.get(), 1);
}

#[tokio::test]
async fn what_was_deferred_or_never_ended_takes_nothing_from_the_rate() {
    let deferring = |number| match number {
        1 => Script::at("MAIL", Act::Say("451 4.3.0 later")),
        2 => Script::at("DOT", Act::Say("451 4.3.0 later")),
        _ => Script::default(),
    };
    let script = || Script { by_connection: Some(deferring), ..Script::default() };
    let lab = Lab::with(script(), |config| {
        config.kinds.per_mailbox_per_hour = 1;
        config.limits.upstream_idle_max = 0;
    })
    .await;
    for reply in ["451", "451", "250", "550 5.7.1"] {
        assert!(send(&lab, AUTO_REPLY).await.starts_with(reply), "{reply}");
    }
}

#[tokio::test]
async fn a_flood_ends_what_rules_let_through_and_what_they_let_through_makes_none() {
    let lab = Lab::with(Script::default(), |config| config.flood.unproven_min = 3).await;
    for _ in 0..4 {
        assert_eq!(&send(&lab, AUTO_REPLY).await[..3], "250");
    }
    assert!(!lab.edge.flood_on());
    for _ in 0..3 {
        assert_eq!(&send(&lab, BOUNCE).await[..9], "550 5.7.1");
    }
    assert!(lab.edge.flood_on());
    assert_eq!(&send(&lab, AUTO_REPLY).await[..9], "550 5.7.1");
}

#[tokio::test]
async fn a_rule_may_refuse_a_kind_or_leave_it_to_the_filters() {
    for (rule, reason) in [(KindRule::Reject, "kind_rule"), (KindRule::Bounce, "unproven")] {
        let lab = Lab::with(Script::default(), |config| config.kinds.auto_reply = rule).await;
        assert_eq!(&send(&lab, AUTO_REPLY).await[..9], "550 5.7.1");
        assert_eq!(lab.upstream.seen().connections, 0);
        let log = lab.logged();
        assert!(log.contains(&format!("\"reason\":\"{reason}\"")), "{log}");
    }
    let lab = Lab::with(Script::default(), |config| config.kinds.auto_reply = KindRule::Mark).await;
    assert_eq!(&send(&lab, AUTO_REPLY).await[..3], "250");
    assert!(lab.upstream.seen().messages[0].contains("Backstop-Verdict: unproven\r\n"));
}
