//! Senders that never pause: each sends message after message, a connection each, and tells an edge's good end (421)
//! from a connection that was refused, reset or closed without a word.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::client::{Client, Stage};
use lab::{EDGE, Host, Lab};
use socket2::{Domain, Socket, Type};

/// Senders at once; each has an address of its own.
const SENDERS: u32 = 24;
/// Between two messages of a sender.
const PAUSE: Duration = Duration::from_millis(10);
/// The slow ones take so long for a message, in steps: every handover meets some in the middle of DATA.
const SLOW_SENDERS: u32 = 4;
const SLOW_STEPS: u32 = 10;
const SLOW_STEP: Duration = Duration::from_millis(100);
/// Mail before, between and after two handovers: at least so long, and at least so many messages.
pub(super) const CALM: Duration = Duration::from_secs(2);
const CALM_MESSAGES: usize = 100;
/// How long a connection, and its greeting, may take: an edge that hands over lets whoever comes wait.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the senders saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Ids of messages whose final dot was answered by 250.
    pub(super) delivered: BTreeSet<String>,
    /// Sessions that ended by 421 before that; the message was tried again.
    pub(super) sent_away: u32,
    /// What must not be, in words.
    pub(super) faults: Vec<String>,
}

/// The senders at work.
#[derive(Debug)]
pub(super) struct Load<'s>(&'s Mutex<Seen>);

impl Load<'_> {
    /// Lets them send for [`CALM`], and on until so much mail was taken as a machine that is not busy takes by then, too.
    pub(super) fn calm(&self) -> Result<()> {
        let delivered = || self.0.lock().unwrap_or_else(PoisonError::into_inner).delivered.len();
        let wanted = delivered() + CALM_MESSAGES;
        thread::sleep(CALM);
        let deadline = Instant::now() + PATIENCE;
        while delivered() < wanted {
            ensure!(Instant::now() < deadline, "{} messages, and {wanted} were to come", delivered());
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Sends while `work` lasts.
pub(super) fn during(lab: &Lab, work: impl FnOnce(&Load<'_>) -> Result<()>) -> Result<Seen> {
    let (seen, over) = (Mutex::new(Seen::default()), AtomicBool::new(false));
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            lab.in_host(Host::Internet, || {
                thread::scope(|senders| {
                    for number in 0..SENDERS {
                        let (seen, over) = (&seen, &over);
                        senders.spawn(move || send_on(number, seen, over));
                    }
                });
                Ok(())
            })
        });
        let worked = work(&Load(&seen));
        over.store(true, Ordering::Relaxed);
        let ended = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        worked.and(ended)
    })?;
    Ok(seen.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn send_on(sender: u32, seen: &Mutex<Seen>, over: &AtomicBool) {
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        let id = format!("h{sender}-{number}");
        let sent = send(lab::client(sender), &id, sender < SLOW_SENDERS);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match sent {
            Ok(true) => {
                seen.delivered.insert(id);
                number += 1;
            }
            Ok(false) => seen.sent_away += 1,
            // Whether it arrived is not known: it does not come again.
            Err(fault) => {
                seen.faults.push(format!("{id}: {fault:#}"));
                number += 1;
            }
        }
        drop(seen);
        thread::sleep(PAUSE);
    }
}

/// Sends one message; whether it was taken. No: the edge said 421.
fn send(from: IpAddr, id: &str, slow: bool) -> Result<bool> {
    let mut client = Client::over(connect(from, (EDGE, 25).into()).context("connecting")?)?;
    let from = format!("{id}@far.example");
    if client.greeting.code == 421 {
        return Ok(false);
    }
    ensure!(client.greeting.code == 220, "greeting: {}", client.greeting);
    for (line, wanted) in [
        ("EHLO far.example", 250),
        (&*format!("MAIL FROM:<{from}>"), 250),
        ("RCPT TO:<alice@example.jp>", 250),
        ("DATA", 354),
    ] {
        // A 421 may have come before this, and the connection be closed already: the reply is what counts.
        let sent = client.send(format!("{line}\r\n").as_bytes());
        let reply = client.reply().with_context(|| format!("after {line} ({sent:?})"))?;
        if reply.code == 421 {
            return Ok(false);
        }
        ensure!(reply.code == wanted, "{line}: {reply}");
    }
    if slow {
        for step in 0..SLOW_STEPS {
            client.send(format!("X-Slow: {step}\r\n").as_bytes())?;
            thread::sleep(SLOW_STEP);
        }
    }
    let message = format!("From: {from}\nTo: alice@example.jp\nSubject: {id}\nX-Handover: {id}\n\nHello.\n");
    let reply = client.message(&message)?;
    match reply.code {
        250 => {
            // Its end may come first.
            let _ = client.command("QUIT");
            Ok(true)
        }
        421 => Ok(false),
        _ => bail!("{:?}: {reply}", Stage::Dot),
    }
}

/// Connects in the namespace where the thread is.
fn connect(from: IpAddr, to: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// How often each message stands in the mailbox, by its id.
pub(super) fn arrived(messages: &[String]) -> Vec<String> {
    let id = |message: &String| {
        message.lines().find_map(|line| line.strip_prefix("X-Handover: ")).map(str::to_owned)
    };
    messages.iter().filter_map(id).collect()
}
