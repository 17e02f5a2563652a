//! Upstreams by TLS: rustls' own buffered server in threads of its own, the edge in the test's.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream as Blocking};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::certificates::Authority;
use super::*;
use crate::config::{TlsMode, TlsUpstream};
use crate::engine::tls::Connectors;

/// What it does to STARTTLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    /// As it should.
    Good,
    /// It does not offer it.
    Absent,
    /// It answers 454.
    Busy,
    /// It answers 220, and then what is no TLS.
    Broken,
    /// It hangs up when STARTTLS comes.
    Gone,
    /// It says more behind its 220, in clear.
    Talkative,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    clear: Mutex<Vec<String>>,
    secured: Mutex<Vec<String>>,
}

/// An upstream in threads of its own.
struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
}

impl Server {
    fn start(tls: Arc<ServerConfig>, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Seen::default()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (tls, shared) = (Arc::clone(&tls), Arc::clone(&shared));
                // A client that goes away is none of the test's business: what was seen is.
                std::thread::spawn(move || drop(serve(stream.unwrap(), tls, manner, &shared)));
            }
        });
        Self { address, seen }
    }

    fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    fn said(&self, verb: &str) -> [usize; 2] {
        [&self.seen.clear, &self.seen.secured]
            .map(|lines| lines.lock().unwrap().iter().filter(|line| line.starts_with(verb)).count())
    }
}

fn serve(mut stream: Blocking, tls: Arc<ServerConfig>, manner: Manner, seen: &Seen) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(b"220 upstream.example\r\n")?;
    let offer = if manner == Manner::Absent {
        "250 upstream.example"
    } else {
        "250-upstream.example\r\n250 STARTTLS"
    };
    let mut line = Vec::new();
    loop {
        let mut octet = [0];
        stream.read_exact(&mut octet)?;
        line.push(octet[0]);
        if !line.ends_with(b"\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        seen.clear.lock().unwrap().push(text.clone());
        if text != "STARTTLS" {
            answer(&mut stream, &text, offer)?;
            continue;
        }
        match manner {
            Manner::Busy => stream.write_all(b"454 4.7.0 not now\r\n")?,
            Manner::Broken => return stream.write_all(b"220 go on\r\n220 what is this?\r\n"),
            Manner::Gone => return Ok(()),
            Manner::Talkative => {
                stream.write_all(b"220 go on\r\n250-evil.example\r\n250 SIZE 1\r\n")?;
                break;
            }
            Manner::Good | Manner::Absent => {
                stream.write_all(b"220 go on\r\n")?;
                break;
            }
        }
    }
    let connection = ServerConnection::new(tls).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let (mut line, mut in_body) = (String::new(), false);
    while stream.read_line(&mut line)? > 0 {
        let text = line.trim_end().to_owned();
        line.clear();
        seen.secured.lock().unwrap().push(text.clone());
        in_body = match (in_body, text.as_str()) {
            (true, ".") => {
                stream.get_mut().write_all(b"250 2.0.0 queued\r\n")?;
                false
            }
            (true, _) => true,
            (false, verb) => {
                answer(stream.get_mut(), verb, "250-upstream.example\r\n250 8BITMIME")?;
                verb == "DATA"
            }
        };
    }
    Ok(())
}

fn answer(stream: &mut impl io::Write, line: &str, offer: &str) -> io::Result<()> {
    let reply = match line.split(' ').next().unwrap_or_default() {
        "EHLO" => offer,
        "DATA" => "354 go on",
        "QUIT" => "221 bye",
        _ => "250 2.0.0 yes",
    };
    stream.write_all(format!("{reply}\r\n").as_bytes())
}

/// A lab whose upstream is this server.
async fn lab(server: &Server, mode: TlsMode, name: Option<&str>, ca: &Authority) -> Lab {
    let upstream = TlsUpstream {
        address: server.address,
        mode,
        name: name.map(str::to_owned),
        ca_file: Some(ca.file()),
    };
    Lab::with(Script::default(), |config| {
        config.domains[0].upstream = upstream.address.into();
        config.tls.upstreams = vec![upstream];
        // Each message asks anew.
        config.limits.upstream_idle_max = 0;
    })
    .await
}

/// A message; its reply must begin so, be it to RCPT or to the final dot.
async fn send(lab: &Lab, reply: &str) {
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example>", "250").await;
    talk.send("RCPT TO:<user@ours.example>\r\n").await;
    let rcpt = talk.reply().await.unwrap();
    if !rcpt.starts_with("250") {
        assert!(rcpt.starts_with(reply), "expected {reply}, got {rcpt}");
        return;
    }
    talk.say("DATA", "354").await;
    talk.say(&format!("Subject: x\r\n\r\n{}.", "a line\r\n".repeat(10_000)), reply).await;
}

#[tokio::test]
async fn mail_goes_by_tls_to_a_server_that_proves_its_name_and_its_offer_is_asked_for_again() {
    let authority = Authority::new();
    let server = Server::start(authority.server(&["mail.example"]), Manner::Good);
    let lab = lab(&server, TlsMode::Verified, Some("mail.example"), &authority).await;
    for _ in 0..2 {
        send(&lab, "250 2.0.0 queued").await;
    }
    assert_eq!(
        (server.said("EHLO"), server.said("MAIL"), server.said("a line")),
        ([2, 2], [0, 2], [0, 20_000])
    );
    assert_eq!(lab.edge.metrics.tls_upstream.get(), 2);
}

#[tokio::test]
async fn a_kept_connection_keeps_its_tls_until_the_settings_change() {
    let authority = Authority::new();
    let server = Server::start(authority.server(&["mail.example"]), Manner::Good);
    let tls = TlsUpstream {
        address: server.address,
        mode: TlsMode::Verified,
        name: Some("mail.example".to_owned()),
        ca_file: Some(authority.file()),
    };
    let lab = Lab::with(Script::default(), |config| {
        config.domains[0].upstream = tls.address.into();
        config.tls.upstreams = vec![tls];
    })
    .await;
    for connections in [1, 1, 2] {
        if connections == 2 {
            lab.edge.set_connectors(Connectors::configured(&lab.edge.config.tls).expect("they are right"));
        }
        send(&lab, "250 2.0.0 queued").await;
        assert_eq!(server.connections(), connections);
    }
    assert_eq!(server.said("MAIL"), [0, 3]);
}

#[tokio::test]
async fn to_a_server_that_cannot_prove_its_name_or_has_no_tls_nothing_goes() {
    let authority = Authority::new();
    for (manner, name, ca) in [
        (Manner::Good, "other.example", &authority),
        (Manner::Good, "mail.example", &Authority::new()),
        (Manner::Absent, "mail.example", &authority),
        (Manner::Busy, "mail.example", &authority),
        (Manner::Broken, "mail.example", &authority),
    ] {
        let server = Server::start(authority.server(&["mail.example"]), manner);
        let lab = lab(&server, TlsMode::Verified, Some(name), ca).await;
        send(&lab, "451 4.4.1").await;
        assert_eq!((server.said("MAIL"), server.connections()), ([0, 0], 1), "{manner:?} {name}");
        assert!(lab.logged().contains("\"event\":\"upstream_down\""), "{manner:?} {name}");
    }
}

#[tokio::test]
async fn without_a_name_the_certificate_must_have_the_address() {
    let authority = Authority::new();
    for (name, reply) in [("127.0.0.1", "250"), ("mail.example", "451")] {
        let server = Server::start(authority.server(&[name]), Manner::Good);
        let lab = lab(&server, TlsMode::Verified, None, &authority).await;
        send(&lab, reply).await;
    }
}

#[tokio::test]
async fn where_it_may_mail_goes_by_tls_to_whoever_answers_and_in_clear_else() {
    let authority = Authority::new();
    for (manner, clear, secured) in [(Manner::Good, 0, 1), (Manner::Absent, 1, 0), (Manner::Busy, 1, 0)] {
        let server = Server::start(authority.server(&["what.example"]), manner);
        let lab = lab(&server, TlsMode::Opportunistic, Some("mail.example"), &Authority::new()).await;
        let mut talk = lab.greeted().await;
        talk.say("MAIL FROM:<a@far.example>", "250").await;
        talk.say("RCPT TO:<user@ours.example>", "250").await;
        assert_eq!((server.said("MAIL"), server.connections()), ([clear, secured], 1), "{manner:?}");
    }
}

#[tokio::test]
async fn a_handshake_that_fails_is_made_up_for_in_clear_remembered_and_logged_once() {
    for manner in [Manner::Broken, Manner::Gone] {
        let authority = Authority::new();
        let server = Server::start(authority.server(&["mail.example"]), manner);
        let lab = lab(&server, TlsMode::Opportunistic, None, &authority).await;
        for _ in 0..3 {
            let mut talk = lab.greeted().await;
            talk.say("MAIL FROM:<a@far.example>", "250").await;
            talk.say("RCPT TO:<user@ours.example>", "250").await;
        }
        assert_eq!((server.said("MAIL"), server.said("STARTTLS"), server.connections()), ([3, 0], [1, 0], 4));
        assert_eq!(lab.logged().matches("\"event\":\"upstream_in_clear\"").count(), 1);
        assert_eq!(lab.edge.metrics.tls_upstream_failed.get(), 1);
    }
}

#[tokio::test]
async fn what_a_server_says_in_clear_behind_its_220_is_not_taken_for_an_answer() {
    let authority = Authority::new();
    let server = Server::start(authority.server(&["mail.example"]), Manner::Talkative);
    let lab = lab(&server, TlsMode::Verified, Some("mail.example"), &authority).await;
    // Whether the octets came with the 220 (thrown away) or after it (no TLS), nobody took 250 SIZE 1 for the offer.
    let mut talk = lab.greeted().await;
    talk.say("MAIL FROM:<a@far.example> SIZE=9", "250").await;
    talk.send("RCPT TO:<user@ours.example>\r\n").await;
    let reply = talk.reply().await.unwrap();
    assert!(reply.starts_with("250 2.0.0 yes") || reply.starts_with("451"), "{reply}");
    assert_eq!(server.said("MAIL")[0], 0);
    assert!(server.seen.secured.lock().unwrap().iter().all(|line| !line.contains("SIZE=")));
}
