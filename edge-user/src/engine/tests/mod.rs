//! The engine on the loopback: a scripted upstream behind it, a client in front. All of it runs in one thread, but for
//! what [`locks`] is about, and where time matters it is tokio's paused one.

mod blocks;
mod bounces;
mod certificates;
mod chaos;
mod crowded;
mod failover;
mod forwarders;
mod health;
mod hold;
mod kept;
mod kinds;
mod limits;
mod locks;
mod mail;
mod mailboxes;
mod pipelining;
mod quarantine;
mod record;
mod relay;
mod release;
mod scripted;
mod stages;
mod starttls;
mod stop;
mod tls_upstream;
mod watching;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edge_core::mailbox::Mailbox;
use edge_core::signature::{Key, Keys, tags, tokens};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use self::scripted::{Script, Scripted};
use super::worker::serve_in_this_thread;
use super::{Edge, Listeners, housekeeping};
use crate::config::{Config, LogFormat};
use crate::state::StateDir;
use crate::telemetry::{Direction, EventLog, Settings};

/// No test waits longer; the paused clock reaches it at once.
const PATIENCE: Duration = Duration::from_secs(3600);

pub(in crate::engine) const CONFIG: &str = r#"
hostname = "edge.example"
[inbound]
listen = ["127.0.0.1:25"]
[[domain]]
name = "ours.example"
upstream = "UPSTREAM"
tag = true
[[domain]]
name = "other.example"
upstream = "OTHER"
[signature]
keys = "/nowhere"
[[filter]]
covers = ["mark@ours.example"]
action = "mark"
[[filter]]
covers = ["discard@ours.example"]
action = "discard"
[[filter]]
covers = ["monitor@ours.example"]
action = "monitor"
[[filter]]
covers = ["*"]
action = "reject"
[reputation]
connections_burst = 100000
"#;

/// An edge, its upstream, and what it logged.
struct Lab {
    edge: Arc<Edge>,
    address: SocketAddr,
    upstream: Scripted,
    log: Log,
    stop: watch::Sender<bool>,
    /// Where its state directory is, if it has one.
    place: Option<tempfile::TempDir>,
}

/// The configuration, on any free port.
pub(in crate::engine) fn parsed(text: &str) -> Config {
    let loaded = crate::config::parse(text, Path::new("test")).expect("the tests' configuration is right");
    let mut config = loaded.config;
    config.inbound.listen[0].set_port(0);
    config
}

/// What the log writes to.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Log(pub(in crate::engine) Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        super::locked(&self.0).extend_from_slice(octets);
        Ok(octets.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lab {
    /// A lab whose upstream follows `script`; no housekeeping: the upstream sees only what sessions cause.
    async fn new(script: Script) -> Self {
        Self::with(script, |_| {}).await
    }

    /// A lab with probes, health checks and ban orders beside the sessions.
    async fn with_housekeeping(script: Script) -> Self {
        let lab = Self::start(script, |_| {}).await;
        tokio::spawn(housekeeping(Arc::clone(&lab.edge), lab.stop.subscribe()));
        lab
    }

    async fn with(script: Script, configure: impl FnOnce(&mut Config)) -> Self {
        let lab = Self::start(script, configure).await;
        lab.edge.mailboxes.without_probers();
        lab
    }

    /// A lab whose edge has a state directory.
    async fn with_state(script: Script, configure: impl FnOnce(&mut Config)) -> Self {
        let place = Some(tempfile::tempdir().expect("a folder"));
        let lab = Self::start_in(place, script, configure).await;
        lab.edge.mailboxes.without_probers();
        lab
    }

    async fn start(script: Script, configure: impl FnOnce(&mut Config)) -> Self {
        Self::start_in(None, script, configure).await
    }

    async fn start_in(
        place: Option<tempfile::TempDir>,
        script: Script,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let upstream = Scripted::start(script).await;
        let text = CONFIG.replace("UPSTREAM", &upstream.address.to_string()).replace("OTHER", "127.0.0.1:9");
        let mut config = parsed(&text);
        configure(&mut config);
        let log = Log::default();
        let settings = Settings {
            format: LogFormat::Json,
            hasher: None,
            queue_lines_max: 1000,
            clock: super::clock::system_now,
        };
        let event_log = EventLog::start(settings, log.clone()).expect("a thread");
        let state = place.as_ref().map(|place| StateDir::open(place.path()).expect("nobody else has it"));
        let edge = Edge::new(config, keys(), None, event_log, state).expect("an edge");
        // Grace is long over.
        let now = edge.now();
        edge.watch.begin_anew(Some(now.minus(Duration::from_secs(365 * 86_400))), now);
        let listeners = Listeners::bind(&edge, 1).expect("a port");
        let address = listeners.addresses(Direction::Inbound)[0];
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve_in_this_thread(Arc::clone(&edge), listeners, stopped));
        Self { edge, address, upstream, log, stop, place }
    }

    async fn connect(&self) -> Talk {
        let stream = TcpStream::connect(self.address).await.expect("the edge listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Talk { stream, input: Vec::new() }
    }

    /// A connection that was greeted and has said EHLO.
    async fn greeted(&self) -> Talk {
        let mut talk = self.connect().await;
        talk.expect("220 edge.example").await;
        talk.say("EHLO client.example", "250").await;
        talk
    }

    /// Waits until the upstream sleeps; from then on the clock runs ahead whenever everybody waits.
    async fn until_asleep(&self) {
        while self.upstream.seen().asleep == 0 {
            tokio::task::yield_now().await;
        }
        tokio::time::pause();
    }

    /// What was logged up to now.
    fn logged(&self) -> String {
        assert!(self.edge.log.flush(Duration::from_secs(60)), "the log is written out");
        String::from_utf8_lossy(&super::locked(&self.log.0)).into_owned()
    }

    /// A token for a message that `mailbox` sent just now.
    fn token(&self, mailbox: &str, nonce: u8) -> String {
        let mailbox = Mailbox::parse(mailbox).expect("an address");
        let text = tokens::issue(&key(), &mailbox, 1, self.edge.now(), [nonce; 6]);
        format!("Backstop-Token: {}", text.as_str())
    }

    /// An address with a tag that was made `days_ago`.
    fn tagged(&self, local: &str, domain: &str, days_ago: u64) -> String {
        let made = self.edge.now().minus(Duration::from_secs(days_ago * 86_400));
        format!("{}@{domain}", tags::issue(&key(), local, domain, made).expect("it fits"))
    }
}

fn key() -> Key {
    Key::new(1, [7; 32], edge_core::time::UnixMillis(0))
}

fn keys() -> Keys {
    Keys::new(vec![key()]).expect("one key")
}

/// A client.
struct Talk {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Talk {
    async fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.stream.write_all(octets.as_ref()).await.expect("the edge reads");
    }

    /// One whole reply, which must begin so.
    async fn expect(&mut self, start: &str) -> String {
        let reply =
            self.reply().await.unwrap_or_else(|| panic!("expected `{start}`, but the connection ended"));
        assert!(reply.starts_with(start), "expected `{start}`, got `{reply}`");
        reply
    }

    /// Sends a line; its reply must begin so.
    async fn say(&mut self, line: &str, start: &str) -> String {
        self.send(format!("{line}\r\n")).await;
        let reply = self.reply().await.unwrap_or_else(|| panic!("`{line}`: the connection ended"));
        assert!(reply.starts_with(start), "`{line}`: expected `{start}`, got `{reply}`");
        reply
    }

    /// One whole reply; `None` when the connection ended.
    async fn reply(&mut self) -> Option<String> {
        loop {
            if let Some(reply) = edge_core::smtp::read_reply(&self.input).expect("the edge speaks SMTP") {
                let length = reply.raw.len();
                let raw = String::from_utf8_lossy(reply.raw).trim_end().to_owned();
                self.input.drain(..length);
                return Some(raw);
            }
            match timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await.expect("an answer in time") {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }

    /// The edge ends the connection, with nothing more to say.
    async fn expect_end(&mut self) {
        assert_eq!(self.reply().await, None);
    }

    /// MAIL, RCPT and DATA, all to be accepted.
    async fn envelope(&mut self, sender: &str, recipient: &str) {
        self.say(&format!("MAIL FROM:<{sender}>"), "250").await;
        self.say(&format!("RCPT TO:<{recipient}>"), "250").await;
        self.say("DATA", "354").await;
    }
}
