//! What is told of each upstream: whether it answers, since when, its last fault, its connections.

use super::*;
use crate::config::{Servers, parse};
use crate::engine::Report;
use crate::engine::tests::scripted::Act;

/// A lab whose `ours.example` goes to `first`, then to the lab's own upstream.
async fn behind(first: SocketAddr) -> Lab {
    Lab::with(Script::default(), |config| {
        let list = format!("upstream = [\"{first}\", \"{}\"]", config.domains[0].upstream.first());
        let text = CONFIG.replacen("upstream = \"UPSTREAM\"", &list, 1).replace("OTHER", "127.0.0.1:9");
        let both: Servers =
            parse(&text, Path::new("test")).expect("it is right").config.domains[0].upstream.clone();
        config.domains[0].upstream = both;
    })
    .await
}

fn report(lab: &Lab, address: SocketAddr) -> Report {
    lab.edge
        .upstream_reports()
        .into_iter()
        .find(|report| report.address == address)
        .expect("it is one of them")
}

async fn one_message(lab: &Lab) {
    let mut talk = lab.greeted().await;
    talk.envelope("a@far.example", "user@ours.example").await;
    talk.say("Subject: x\r\n\r\nbody\r\n.", "250").await;
    talk.say("QUIT", "221").await;
    talk.expect_end().await;
}

#[tokio::test]
async fn one_that_is_lost_is_down_with_its_fault_until_it_answers_again() {
    let first = Scripted::start(Script {
        by_connection: Some(|number| match number {
            1 | 2 => Script::at("GREETING", Act::Say("421 4.3.2 too busy")),
            _ => Script::default(),
        }),
        ..Script::default()
    })
    .await;
    let lab = behind(first.address).await;
    for address in [first.address, lab.upstream.address] {
        let unasked = report(&lab, address);
        assert_eq!((unasked.up, unasked.since, unasked.last_fault), (None, None, None));
        assert!(unasked.inbound && !unasked.outbound);
    }
    one_message(&lab).await;
    let down = report(&lab, first.address);
    assert_eq!((down.up, down.connections, down.kept), (Some(false), 0, 0));
    assert!(down.last_fault.as_ref().is_some_and(|fault| fault.text.contains("421")), "{down:?}");
    assert!(down.since.is_some_and(|since| since <= lab.edge.now()));
    let up = report(&lab, lab.upstream.address);
    assert_eq!((up.up, up.last_fault, up.connections, up.kept), (Some(true), None, 1, 1));
    assert_eq!((up.connections_max, up.waiting), (lab.edge.config.limits.upstream_connections_max, 0));

    // A fault again: since when it is down stays, what went wrong is told anew.
    assert!(lab.edge.open_upstream(first.address).await.is_err());
    let still = report(&lab, first.address);
    assert_eq!((still.up, still.since), (Some(false), down.since));
    assert!(
        still.last_fault.as_ref().map(|fault| fault.at) >= down.last_fault.as_ref().map(|fault| fault.at)
    );
    // It answers again: its last fault is still told.
    drop(lab.edge.open_upstream(first.address).await.expect("the third connection is greeted"));
    let again = report(&lab, first.address);
    assert_eq!(again.up, Some(true));
    assert!(again.since >= still.since && again.last_fault == still.last_fault, "{again:?}");
}

#[tokio::test]
async fn connections_that_are_open_kept_and_waited_for_are_counted() {
    let lab = Lab::with(Script::default(), |config| {
        config.limits.upstream_connections_max = 1;
        config.limits.upstream_idle_max = 1;
    })
    .await;
    let counts = || {
        let report = report(&lab, lab.upstream.address);
        (report.connections, report.kept, report.waiting)
    };
    assert_eq!(counts(), (0, 0, 0));
    let mut first = lab.greeted().await;
    first.envelope("a@far.example", "user@ours.example").await;
    assert_eq!(counts(), (1, 0, 0));
    let mut second = lab.greeted().await;
    second.say("MAIL FROM:<b@far.example>", "250").await;
    second.send("RCPT TO:<user@ours.example>\r\n").await;
    while counts() != (1, 0, 1) {
        tokio::task::yield_now().await;
    }
    first.say("Subject: x\r\n\r\nbody\r\n.", "250").await;
    second.expect("250").await;
    assert_eq!(counts(), (1, 0, 0));
    second.say("DATA", "354").await;
    second.say("Subject: x\r\n\r\nbody\r\n.", "250").await;
    while counts() != (1, 1, 0) {
        tokio::task::yield_now().await;
    }
}
