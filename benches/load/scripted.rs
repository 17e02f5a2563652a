//! Tests against a server on loopback that answers by a script.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use crate::ledger::{Backoff, Fate, Report};
use crate::mass::{self, Settings};
use crate::message::arrivals;
use crate::plan::{Amounts, Sources};
use crate::smtp::Patience;

/// What the server does at a message's n-th arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Accept,
    Defer,
    Refuse,
    Busy,
    Hang,
    CloseAfterDot,
}

/// For each recipient's local part: the answers to its tries, the last one repeated.
type Script = fn(id: &str, tries: u32) -> Answer;

#[derive(Default)]
struct Seen {
    connections: u32,
    tries: BTreeMap<String, u32>,
    taken: BTreeMap<String, u32>,
}

async fn serve(listener: TcpListener, script: Script, seen: Rc<RefCell<Seen>>) {
    while let Ok((stream, _)) = listener.accept().await {
        seen.borrow_mut().connections += 1;
        let seen = seen.clone();
        tokio::task::spawn_local(async move {
            let _ = session(stream, script, &seen).await;
        });
    }
}

async fn session(stream: TcpStream, script: Script, seen: &RefCell<Seen>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 scripted\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let reply: &[u8] = match verb.as_str() {
            "EHLO" => b"250-scripted\r\n250 PIPELINING\r\n",
            "DATA" => {
                write.write_all(b"354 go on\r\n").await?;
                let mut text = String::new();
                while let Some(line) = lines.next_line().await? {
                    if line == "." {
                        break;
                    }
                    text.push_str(&line);
                    text.push('\n');
                }
                let id = arrivals(text.as_bytes()).into_keys().next().unwrap_or_default();
                let tries = {
                    let mut seen = seen.borrow_mut();
                    let tries = seen.tries.entry(id.clone()).or_default();
                    *tries += 1;
                    *tries
                };
                match script(&id, tries) {
                    Answer::Accept => {
                        *seen.borrow_mut().taken.entry(id).or_default() += 1;
                        b"250 taken\r\n"
                    }
                    Answer::Defer => b"451 later\r\n",
                    Answer::Refuse => b"550 5.7.1 no\r\n",
                    Answer::Busy => {
                        write.write_all(b"421 busy\r\n").await?;
                        return Ok(());
                    }
                    Answer::Hang => {
                        tokio::time::sleep(Duration::from_secs(3)).await;
                        return Ok(());
                    }
                    Answer::CloseAfterDot => return Ok(()),
                }
            }
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => b"250 fine\r\n",
        };
        write.write_all(reply).await?;
    }
    Ok(())
}

fn settings(target: SocketAddr) -> Settings {
    let from = |host, count| Sources { first: IpAddr::from([127, 0, host, 1]), count };
    Settings {
        target,
        amounts: Amounts {
            seed: 7,
            forged: 200,
            waves: 3,
            wave: Duration::from_millis(100),
            wave_every: Duration::from_millis(150),
            honest: 20,
            honest_before: 4,
            before: Duration::from_millis(100),
            real_bounces: 0,
        },
        reflectors: from(1, 8),
        hosts: from(2, 5),
        bots: from(3, 0),
        recipients: vec!["user@load.example".into()],
        originals: Vec::new(),
        backoff: Backoff { waits: vec![Duration::from_millis(100)], tries_max: 5 },
        // All of them and the server are one thread: an answer comes when it is its turn, however busy the machine is.
        patience: Patience { connect: Duration::from_secs(60), reply: Duration::from_secs(60) },
        knocks_per_sec: 0,
        bots_after: Duration::ZERO,
        bot_attempts_max: 3,
        deadline: Duration::from_secs(600),
    }
}

/// Runs the mass against a server with this script.
fn against(script: Script, change: impl FnOnce(&mut Settings)) -> (Report, Seen) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seen = Rc::new(RefCell::new(Seen::default()));
    let local = LocalSet::new();
    let report = runtime.block_on(local.run_until(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = settings(listener.local_addr().unwrap());
        change(&mut settings);
        tokio::task::spawn_local(serve(listener, script, seen.clone()));
        mass::run(settings, |_| {}).await.unwrap()
    }));
    let seen = seen.take();
    (report, seen)
}

#[test]
fn a_refusal_is_final_and_costs_one_try() {
    let script: Script = |id, _| if id.starts_with('f') { Answer::Refuse } else { Answer::Accept };
    let (report, seen) = against(script, |_| {});
    let forged = report.summary.forged;
    assert_eq!((forged.sent, forged.stopped_smtp, forged.tries), (200, 200, 200));
    assert_eq!(report.summary.honest.delivered, 24);
    assert!(seen.tries.values().all(|tries| *tries == 1));
    assert!(seen.taken.keys().all(|id| id.starts_with('h')));
}

#[test]
fn many_messages_go_over_one_connection() {
    let (_, seen) = against(|_, _| Answer::Refuse, |settings| settings.amounts.honest = 0);
    assert!(seen.connections < 60, "{} connections for 204 messages", seen.connections);
}

#[test]
fn a_deferral_is_tried_again_until_it_is_taken() {
    let script: Script = |_, tries| if tries < 3 { Answer::Defer } else { Answer::Accept };
    let (report, seen) = against(script, |_| {});
    assert_eq!((report.summary.forged.delivered, report.summary.forged.tries), (200, 600));
    assert!(seen.taken.values().all(|taken| *taken == 1));
}

#[test]
fn a_421_holds_the_whole_server_back() {
    let script: Script = |_, tries| if tries == 1 { Answer::Busy } else { Answer::Refuse };
    let (report, seen) = against(script, |settings| settings.amounts.forged = 30);
    assert_eq!((report.summary.forged.stopped_smtp, report.summary.forged.tries), (30, 60));
    assert!(seen.tries.values().all(|tries| *tries == 2));
}

#[test]
fn no_answer_is_tried_again_and_given_up_in_the_end() {
    let few = |settings: &mut Settings| {
        settings.amounts.forged = 3;
        settings.amounts.honest = 0;
        settings.amounts.honest_before = 0;
        settings.backoff.tries_max = 2;
        settings.patience.reply = Duration::from_millis(500);
    };
    let (report, _) = against(|_, _| Answer::Hang, few);
    let forged = report.summary.forged;
    assert_eq!((forged.given_up, forged.tries, forged.delivered), (3, 6, 0));
    assert_eq!(forged.sent, forged.delivered + forged.stopped_smtp + forged.dropped_nic);
}

#[test]
fn a_connection_lost_after_the_final_dot_is_in_doubt() {
    let script: Script = |_, tries| if tries == 1 { Answer::CloseAfterDot } else { Answer::Accept };
    let (report, _) = against(script, |settings| settings.amounts.forged = 10);
    assert_eq!((report.summary.forged.delivered, report.summary.forged.in_doubt), (10, 10));
}

#[test]
fn a_refused_connection_is_no_answer_and_is_never_counted_as_sent_twice() {
    let (report, _) = against(
        |_, _| Answer::Accept,
        |settings| {
            settings.target.set_port(1);
            settings.amounts.forged = 4;
            settings.amounts.honest_before = 0;
            settings.amounts.honest = 2;
            settings.backoff.tries_max = 2;
        },
    );
    let (forged, honest) = (report.summary.forged, report.summary.honest);
    assert_eq!((forged.sent, forged.stopped_smtp, forged.given_up), (4, 4, 4));
    assert_eq!((honest.sent, honest.tries, honest.delivered), (2, 4, 0));
}

#[test]
fn the_ledger_names_every_message_once_and_its_sums_agree() {
    let script: Script = |id, _| if id.starts_with('f') { Answer::Refuse } else { Answer::Accept };
    let (report, _) = against(script, |_| {});
    let ids: std::collections::BTreeSet<_> = report.messages.iter().map(|record| &record.id).collect();
    assert_eq!((ids.len(), report.messages.len()), (224, 224));
    let delivered = report.messages.iter().filter(|record| record.fate == Some(Fate::Delivered)).count();
    assert_eq!(delivered as u64, report.summary.honest.delivered + report.summary.forged.delivered);
}

#[test]
fn bots_stop_by_themselves() {
    let (report, _) = against(
        |_, _| Answer::Refuse,
        |settings| {
            settings.bots.count = 6;
            settings.bots_after = Duration::from_secs(60);
            settings.amounts.forged = 0;
        },
    );
    assert_eq!(report.bots.len(), 6);
    assert!(report.bots.iter().all(|bot| (1..=5).contains(&bot.attempts)), "{:?}", report.bots);
    assert_eq!(report.summary.bots.unanswered, 0);
}
