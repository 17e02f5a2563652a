//! An upstream that fails at another place on each connection: nothing is lost, and nothing comes twice but what is
//! counted as in doubt.

use std::collections::HashMap;

use super::*;
use crate::engine::tests::scripted::Act;

/// What fails on the connection with this number; about half of them serve well.
fn fault(connection: usize) -> Script {
    const PLACES: [&str; 7] = ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "BODY", "DOT"];
    const ACTS: [Act; 3] = [Act::Close, Act::Say("421 4.3.2 shutting down"), Act::Say("451 4.3.0 not now")];
    // Any fixed mixing does; it only must not run in step with the clients.
    let mixed = (connection as u32).wrapping_mul(0x9e37_79b9) >> 8;
    let mixed = (mixed ^ mixed >> 7) as usize;
    match (mixed % 2, PLACES[mixed / 2 % PLACES.len()]) {
        (0, _) => Script::default(),
        // No server answers in the middle of a body and then takes it.
        (_, "BODY") => Script::at("BODY", Act::Close),
        (_, place) => Script::at(place, ACTS[mixed / 16 % ACTS.len()].clone()),
    }
}

/// The same, of an upstream that takes commands in bursts.
fn fault_in_bursts(connection: usize) -> Script {
    Script { ehlo: Some("250-upstream.example\r\n250 PIPELINING"), ..fault(connection) }
}

/// Sends one message, again and again until it gets a final answer, as a real server's queue does. How often it was
/// acknowledged: once.
async fn queue(address: SocketAddr, id: usize, bounce_with: Option<String>) -> usize {
    for _ in 0..200 {
        let Ok(stream) = TcpStream::connect(address).await else { continue };
        let mut talk = Talk { stream, input: Vec::new() };
        let sender = if bounce_with.is_some() { "" } else { "a@far.example" };
        let token = bounce_with.clone().unwrap_or_default();
        let envelope = [format!("MAIL FROM:<{sender}>"), "RCPT TO:<user@ours.example>".into(), "DATA".into()];
        let message = format!("Message-ID: <{id}@test>\r\n\r\n{token}\r\n{}\r\n.", "x".repeat(id % 7 * 500));
        // Every other client pipelines.
        let bursts: Vec<&[String]> =
            if id.is_multiple_of(2) { envelope.chunks(1).collect() } else { vec![&envelope] };
        let mut reply = talk.reply().await.unwrap_or_default();
        let (hello, message) = (["EHLO client.example".to_owned()], [message]);
        for burst in [&hello[..]].into_iter().chain(bursts).chain([&message[..]]) {
            if !reply.starts_with(['2', '3']) {
                break;
            }
            talk.send(format!("{}\r\n", burst.join("\r\n"))).await;
            // The first no is the burst's; what follows it is of no use.
            for _ in burst {
                reply = talk.reply().await.unwrap_or_default();
                if !reply.starts_with(['2', '3']) {
                    break;
                }
            }
        }
        match reply.get(..1) {
            Some("2") => return 1,
            Some("4") => {}
            _ => panic!("message {id}: neither yes nor later: `{reply}`"),
        }
    }
    panic!("message {id} never got through");
}

#[tokio::test]
async fn nothing_is_lost_and_nothing_comes_twice_but_what_is_in_doubt() {
    storm(fault).await;
}

#[tokio::test]
async fn nothing_is_lost_either_where_commands_go_in_bursts() {
    storm(fault_in_bursts).await;
}

async fn storm(fault: fn(usize) -> Script) {
    const MESSAGES: usize = 150;
    let script = Script { by_connection: Some(fault), ..Script::default() };
    let lab = Lab::with(script, |config| config.limits.sessions_per_source_max = 1000).await;
    let mut queues = tokio::task::JoinSet::new();
    for id in 0..MESSAGES {
        // Every third is a bounce that our token proves.
        let token = (id % 3 == 0).then(|| lab.token("user@ours.example", id as u8));
        queues.spawn(queue(lab.address, id, token));
    }
    let acknowledged: usize = queues.join_all().await.into_iter().sum();
    assert_eq!(acknowledged, MESSAGES);

    let mut arrived: HashMap<String, usize> = HashMap::new();
    for message in lab.upstream.seen().messages {
        let id =
            message.lines().find(|line| line.starts_with("Message-ID: ")).expect("each has one").to_owned();
        *arrived.entry(id).or_default() += 1;
    }
    assert_eq!(arrived.len(), MESSAGES, "each acknowledged message is with the upstream");
    let again: usize = arrived.values().map(|times| times - 1).sum();
    let seen = lab.upstream.seen();
    // One that it refused in words was not taken; one that it never answered may have been, and is counted so.
    assert_eq!(again, seen.refused_after_dot + seen.died_after_dot);
    // The edge cannot tell it from a death just before the dot came.
    assert!(lab.edge.metrics.in_doubt.get() as usize >= seen.died_after_dot);
    assert!(seen.refused_after_dot > 0 && seen.died_after_dot > 0, "the faults came to pass: {seen:?}");
    assert_eq!(lab.edge.pool.held_bytes(), 0);
}
