//! A scripted next hop, an edge in front of it, and a client: blocking, over loopback.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use edge_core::signature::{Key, Keys};
use edge_core::time::UnixMillis;
use tokio::sync::watch;

use crate::config::{self, LogFormat};
use crate::engine::locked;
use crate::engine::tests::Log;
use crate::engine::{Edge, Listeners, clock, serve_at};
use crate::telemetry::{Direction, EventLog, Settings};

/// Nothing here waits so long unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the hop does when a line with this beginning comes (`.`: the final dot; `body`: the body's first octets).
pub(super) type Script = &'static [(&'static str, Does)];

#[derive(Clone, Copy)]
pub(super) enum Does {
    Say(&'static str),
    Close,
    /// Answers, and closes the connection.
    SayAndClose(&'static str),
}

/// What came over a connection on which MAIL came: commands as lines, the body as it is.
pub(super) type Heard = Arc<Mutex<Vec<String>>>;

pub(super) struct Hop {
    pub(super) address: SocketAddr,
    pub(super) heard: Heard,
}

impl Hop {
    pub(super) fn start(ehlo: &'static str, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Heard::default();
        let for_all = Arc::clone(&heard);
        thread::spawn(move || {
            // It ends with the process: tests are short.
            for stream in listener.incoming().flatten() {
                let heard = Arc::clone(&for_all);
                // No reply waits for the other side's ACK.
                stream.set_nodelay(true).unwrap();
                thread::spawn(move || {
                    let mut transcript = String::new();
                    // What breaks is the edge's connection, and the edge's reply tells the test.
                    let _ = converse(&stream, ehlo, script, &mut transcript);
                    let _ = stream.shutdown(Shutdown::Both);
                    if transcript.contains("MAIL FROM") {
                        heard.lock().unwrap().push(transcript);
                    }
                });
            }
        });
        Self { address, heard }
    }

    /// The transcripts of `count` connections, once they are over. The edge is told to keep none of them any longer.
    pub(super) fn transcripts(&self, server: &Server, count: usize) -> Vec<String> {
        server.edge.upstreams.settings_changed();
        for _ in 0..6000 {
            let heard = self.heard.lock().unwrap().clone();
            if heard.len() >= count {
                assert_eq!(heard.len(), count, "{heard:?}");
                return heard;
            }
            thread::sleep(PATIENCE / 6000);
        }
        panic!("the hop heard only {:?}", self.heard.lock().unwrap());
    }
}

fn converse(stream: &TcpStream, ehlo: &str, script: Script, transcript: &mut String) -> std::io::Result<()> {
    let mut input = BufReader::new(stream);
    let mut output = stream;
    output.write_all(b"220 hop ESMTP\r\n")?;
    let mut default = "250 2.0.0 ok\r\n";
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            transcript.push_str("[closed]");
            return Ok(());
        }
        transcript.push_str(&line);
        if line.starts_with("EHLO") {
            output.write_all(ehlo.as_bytes())?;
            continue;
        }
        let does = script.iter().find(|(beginning, _)| line.starts_with(beginning)).map(|(_, does)| *does);
        match does {
            Some(Does::Close) => return Ok(()),
            Some(Does::Say(reply)) => output.write_all(reply.as_bytes())?,
            Some(Does::SayAndClose(reply)) => return output.write_all(reply.as_bytes()),
            None if line.starts_with("QUIT") => return output.write_all(b"221 bye\r\n"),
            None if line.starts_with("DATA") => {
                output.write_all(b"354 go\r\n")?;
                match script.iter().find(|(beginning, _)| *beginning == "body") {
                    Some((_, Does::SayAndClose(reply))) => {
                        input.read_exact(&mut [0])?;
                        return output.write_all(reply.as_bytes());
                    }
                    Some((_, Does::Close)) => return input.read_exact(&mut [0]),
                    Some((_, Does::Say(_))) | None => default = "",
                }
            }
            // Within a body only the dot is answered.
            None if line == ".\r\n" => {
                default = "250 2.0.0 ok\r\n";
                output.write_all(b"250 2.0.0 queued as 7\r\n")?;
            }
            None => output.write_all(default.as_bytes())?,
        }
        if line == ".\r\n" {
            default = "250 2.0.0 ok\r\n";
        }
    }
}

/// The keys of all edges here.
pub(super) fn keys() -> Keys {
    Keys::new(vec![Key::new(3, [7; 32], UnixMillis::from_secs(1_000_000_000))]).unwrap()
}

pub(super) struct Server {
    pub(super) edge: Arc<Edge>,
    log: Log,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Server {
    /// An edge in front of `next_hop`; `networks` may hand mail in.
    pub(super) fn start(next_hop: SocketAddr, networks: &str, limits: &str) -> Self {
        Self::before(&[next_hop], networks, limits)
    }

    /// The same in front of several.
    pub(super) fn before(next_hops: &[SocketAddr], networks: &str, limits: &str) -> Self {
        let next_hops: Vec<String> = next_hops.iter().map(SocketAddr::to_string).collect();
        let text = format!(
            r#"
            hostname = "edge.example"
            [inbound]
            listen = ["127.0.0.1:1"]
            [outbound]
            listen = ["127.0.0.1:2"]
            networks = ["{networks}"]
            next_hop = {next_hops:?}
            [[domain]]
            name = "example.jp"
            upstream = "127.0.0.1:9"
            [[domain]]
            name = "tagged.example"
            upstream = "127.0.0.1:9"
            tag = true
            [signature]
            keys = "/nowhere"
            [limits]
            {limits}
            "#
        );
        let mut config = config::parse(&text, Path::new("test.toml")).unwrap().config;
        // Any port: a file must name one.
        config.inbound.listen[0].set_port(0);
        config.outbound.as_mut().unwrap().listen[0].set_port(0);
        let settings = Settings {
            format: LogFormat::Json,
            hasher: None,
            queue_lines_max: 100,
            clock: clock::system_now,
        };
        let log = Log::default();
        let event_log = EventLog::start(settings, log.clone()).unwrap();
        let edge = Edge::new(config, keys(), None, event_log, None).unwrap();
        let listeners = Listeners::bind(&edge, 1).unwrap();
        let address = listeners.addresses(Direction::Outbound)[0];
        let (stop, told) = watch::channel(false);
        let serving = Arc::clone(&edge);
        let thread = thread::spawn(move || serve_at(serving, listeners, told, || false)?.join());
        Self { edge, log, address, stop, thread: Some(thread) }
    }

    /// What was logged up to now.
    pub(super) fn logged(&self) -> String {
        assert!(self.edge.log.flush(PATIENCE), "the log is written out");
        String::from_utf8_lossy(&locked(&self.log.0)).into_owned()
    }

    /// A client that was greeted.
    pub(super) fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let input = BufReader::new(stream.try_clone().unwrap());
        let mut client = Client { input, output: stream, greeting: String::new() };
        client.greeting = client.reply();
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Without sessions it ends at once.
        let _ = self.stop.send(true);
        if let Some(Ok(served)) = self.thread.take().map(JoinHandle::join) {
            served.unwrap();
        }
    }
}

pub(super) struct Client {
    input: BufReader<TcpStream>,
    pub(super) output: TcpStream,
    pub(super) greeting: String,
}

impl Client {
    /// Sends a line, and reads the reply to it.
    pub(super) fn say(&mut self, line: &str) -> String {
        self.send(line.as_bytes());
        self.send(b"\r\n");
        self.reply()
    }

    pub(super) fn send(&mut self, octets: &[u8]) {
        // An edge that closed says so by its reply, or by none.
        let _ = self.output.write_all(octets);
    }

    /// One whole reply; empty when the connection is closed.
    pub(super) fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            if self.input.read_line(&mut reply).unwrap_or(0) == 0
                || reply.as_bytes().get(start + 3) == Some(&b' ')
            {
                return reply;
            }
        }
    }

    /// MAIL, RCPTs and DATA, each accepted.
    pub(super) fn begin(&mut self, sender: &str, recipients: &[&str]) {
        assert!(self.say("EHLO client.example").starts_with("250-"));
        let reply = self.say(&format!("MAIL FROM:<{sender}>"));
        assert!(reply.starts_with("250 "), "{reply}");
        for recipient in recipients {
            let reply = self.say(&format!("RCPT TO:<{recipient}>"));
            assert!(reply.starts_with("250 "), "{reply}");
        }
        let reply = self.say("DATA");
        assert!(reply.starts_with("354 "), "{reply}");
    }
}
