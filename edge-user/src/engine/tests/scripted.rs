//! An upstream that does as it is told, and remembers what it saw.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::engine::locked;

/// Octets that a read may bring at least: what is written at once is read at once.
const ROOM: usize = 8 << 10;

/// What is done at one place of the dialogue.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Reply so (without CRLF).
    Say(&'static str),
    /// Close.
    Close,
    /// Never answer.
    Sleep,
    /// Reply so, after so many seconds.
    Late(u64, &'static str),
}

/// What the upstream does; what is not named it does as a willing server.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    /// By verb (`MAIL`), by verb and argument (`RCPT TO:<no@ours.example>`), `GREETING`, `BODY` (after the first octets
    /// of it) or `DOT`.
    pub(super) acts: Vec<(&'static str, Act)>,
    /// The EHLO reply.
    pub(super) ehlo: Option<&'static str>,
    /// Another script for each connection, by its number.
    pub(super) by_connection: Option<fn(usize) -> Script>,
}

impl Script {
    pub(super) fn at(place: &'static str, act: Act) -> Self {
        Self { acts: vec![(place, act)], ..Self::default() }
    }

    fn act(&self, line: &str, default: &'static str) -> Act {
        let found = self
            .acts
            .iter()
            .find(|(place, _)| line.to_ascii_uppercase().starts_with(&place.to_ascii_uppercase()));
        found.map_or(Act::Say(default), |(_, act)| act.clone())
    }
}

/// What it saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) connections: usize,
    /// Command lines, EHLO and QUIT left out.
    pub(super) commands: Vec<String>,
    /// What each read outside of bodies brought.
    pub(super) bursts: Vec<String>,
    /// Messages whose final dot came, dots still stuffed.
    pub(super) messages: Vec<String>,
    /// Connections that it closed itself.
    pub(super) closed: usize,
    /// How often it fell asleep.
    pub(super) asleep: usize,
    /// Messages whose final dot it answered by a refusal, or not at all (they stand among `messages` too).
    pub(super) refused_after_dot: usize,
    pub(super) died_after_dot: usize,
    /// Reads that brought octets of a body.
    pub(super) body_reads: usize,
    /// Octets of bodies, ended or not.
    pub(super) body_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Scripted {
    pub(super) async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // It answers each command of a burst by a write of its own; none waits for the other side's ACK.
                stream.set_nodelay(true).expect("a TCP socket");
                locked(&shared).connections += 1;
                let number = locked(&shared).connections;
                let script = script.by_connection.map_or_else(|| script.clone(), |script| script(number));
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    converse(stream, script, Arc::clone(&shared)).await;
                    locked(&shared).closed += 1;
                });
            }
        });
        Self { address, seen }
    }

    pub(super) fn seen(&self) -> Seen {
        locked(&self.seen).clone()
    }
}

/// `None`: the connection is over.
async fn act(stream: &mut TcpStream, act: Act, seen: &Mutex<Seen>) -> Option<bool> {
    match act {
        Act::Say(reply) => {
            stream.write_all(format!("{reply}\r\n").as_bytes()).await.ok()?;
            Some(reply.starts_with("354"))
        }
        Act::Late(secs, reply) => {
            locked(seen).asleep += 1;
            tokio::time::sleep(std::time::Duration::from_secs(secs)).await;
            stream.write_all(format!("{reply}\r\n").as_bytes()).await.ok()?;
            Some(false)
        }
        Act::Close => None,
        Act::Sleep => {
            locked(seen).asleep += 1;
            std::future::pending().await
        }
    }
}

async fn converse(mut stream: TcpStream, script: Script, seen: Arc<Mutex<Seen>>) -> Option<()> {
    let mut input = Vec::new();
    let mut begun = false;
    act(&mut stream, script.act("GREETING", "220 upstream.example"), &seen).await?;
    loop {
        let line = line(&mut stream, &mut input, &seen).await?;
        let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        if verb == "EHLO" {
            act(&mut stream, script.act("EHLO", script.ehlo.unwrap_or("250 upstream.example")), &seen)
                .await?;
            continue;
        }
        if verb == "QUIT" {
            return None;
        }
        locked(&seen).commands.push(line.clone());
        // As real servers do (RFC 5321 section 4.1.4).
        if verb == "MAIL" && begun {
            act(&mut stream, Act::Say("503 5.5.1 nested MAIL"), &seen).await?;
            continue;
        }
        let default = if verb == "DATA" { "354 go on" } else { "250 2.0.0 yes" };
        let done = script.act(&line, default);
        match verb.as_str() {
            "MAIL" => begun = matches!(done, Act::Say(reply) if reply.starts_with('2')),
            "RSET" => begun = false,
            _ => {}
        }
        if act(&mut stream, done, &seen).await? && verb == "DATA" {
            body(&mut stream, &mut input, &script, &seen).await?;
            begun = false;
        }
    }
}

async fn line(stream: &mut TcpStream, input: &mut Vec<u8>, seen: &Mutex<Seen>) -> Option<String> {
    loop {
        if let Some(end) = memmem::find(input, b"\r\n") {
            let line = String::from_utf8_lossy(&input[..end]).into_owned();
            input.drain(..end + 2);
            return Some(line);
        }
        let before = input.len();
        input.reserve(ROOM);
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
        locked(seen).bursts.push(String::from_utf8_lossy(&input[before..]).into_owned());
    }
}

async fn body(
    stream: &mut TcpStream,
    input: &mut Vec<u8>,
    script: &Script,
    seen: &Mutex<Seen>,
) -> Option<()> {
    let mut counted = 0;
    loop {
        locked(seen).body_bytes += input.len() - counted;
        counted = input.len();
        if let Some((_, what)) = script.acts.iter().find(|(place, _)| *place == "BODY" && counted > 0) {
            act(stream, what.clone(), seen).await?;
        }
        let end = if input.starts_with(b".\r\n") {
            Some(0)
        } else {
            memmem::find(input, b"\r\n.\r\n").map(|at| at + 2)
        };
        if let Some(end) = end {
            // Counted when it is acknowledged, as a server that dies at the dot may or may not have it.
            let message = String::from_utf8_lossy(&input[..end]).into_owned();
            input.drain(..end + 3);
            locked(seen).messages.push(message);
            let answer = script.act("DOT", "250 2.0.0 queued");
            match answer {
                Act::Say(reply) | Act::Late(_, reply) if reply.starts_with('2') => {}
                Act::Say(_) | Act::Late(..) => locked(seen).refused_after_dot += 1,
                Act::Close | Act::Sleep => locked(seen).died_after_dot += 1,
            }
            act(stream, answer, seen).await?;
            return Some(());
        }
        input.reserve(ROOM);
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
        locked(seen).body_reads += 1;
    }
}
