//! STARTTLS with clients: rustls' own buffered client in a thread of its own, the edge in the test's.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream as Blocking;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, StreamOwned};

use super::certificates::Authority;
use super::*;

const NAME: &str = "edge.example";

/// A lab that offers STARTTLS with one certificate.
async fn lab(authority: &Authority) -> Lab {
    let certificate = authority.certificate(&[NAME]);
    Lab::with(Script::default(), |config| {
        config.tls.certificates = vec![certificate];
        config.limits.sessions_per_source_max = 10_000;
    })
    .await
}

/// A connection that says `pieces` in clear, each by itself, until 220 comes to STARTTLS.
fn clear(address: SocketAddr, pieces: &[&[u8]]) -> io::Result<Blocking> {
    let stream = Blocking::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    // Not one octet too many may be read: they are TLS's.
    let mut line = Vec::new();
    let mut until = |start: &str| -> io::Result<()> {
        while !line.starts_with(start.as_bytes()) || !line.ends_with(b"\r\n") {
            if line.ends_with(b"\r\n") {
                line.clear();
            }
            let mut octet = [0];
            (&stream).read_exact(&mut octet)?;
            line.push(octet[0]);
        }
        line.clear();
        Ok(())
    };
    until("220 ")?;
    for piece in pieces {
        (&stream).write_all(piece)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    until("220 2.0.0")?;
    Ok(stream)
}

/// A client that speaks by TLS.
struct Secured(BufReader<StreamOwned<ClientConnection, Blocking>>);

impl Secured {
    fn handshake(stream: Blocking, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut stream = stream;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(Self(BufReader::new(StreamOwned::new(connection, stream))))
    }

    fn connect(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        Self::handshake(clear(address, &[b"EHLO client.example\r\nSTARTTLS\r\n"])?, config, name)
    }

    fn say(&mut self, line: &str, start: &str) -> String {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
        self.expect(start)
    }

    fn expect(&mut self, start: &str) -> String {
        let mut reply = String::new();
        loop {
            let from = reply.len();
            assert!(self.0.read_line(&mut reply).unwrap() > 0, "the connection ended");
            if reply.as_bytes()[from + 3] == b' ' {
                assert!(reply.starts_with(start), "expected {start}, got {reply}");
                return reply;
            }
        }
    }

    fn tls(&self) -> &ClientConnection {
        &self.0.get_ref().conn
    }

    fn certificate(&self) -> Vec<u8> {
        self.tls().peer_certificates().unwrap()[0].to_vec()
    }
}

/// Runs a blocking client beside the edge.
async fn beside<T: Send + 'static>(client: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(client).await.expect("the client's thread")
}

async fn gone(lab: &Lab) {
    while lab.edge.registry.sessions() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn mail_comes_by_tls_and_its_received_field_says_so() {
    let authority = Authority::new();
    let lab = lab(&authority).await;
    let (address, config) = (lab.address, authority.client());
    let body: String = (0..20_000).map(|line| format!("line {line} of a long message\r\n")).collect();
    let sent = body.clone();
    beside(move || {
        let mut client = Secured::connect(address, &config, NAME).unwrap();
        assert_eq!(client.tls().protocol_version(), Some(ProtocolVersion::TLSv1_3));
        client.say("MAIL FROM:<a@far.example>", "503");
        let offer = client.say("EHLO client.example", "250");
        assert!(!offer.contains("STARTTLS"), "{offer}");
        client.say("STARTTLS", "503");
        client.say("MAIL FROM:<a@far.example>", "250");
        client.say("RCPT TO:<user@ours.example>", "250");
        client.say("DATA", "354");
        client.0.get_mut().write_all(sent.as_bytes()).unwrap();
        client.say(".", "250 2.0.0 queued");
        client.say("QUIT", "221");
        let mut rest = Vec::new();
        // The edge says that it ends (close_notify): else this is an error.
        client.0.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    })
    .await;
    gone(&lab).await;
    let message = lab.upstream.seen().messages.remove(0);
    assert!(
        message
            .starts_with("Received: from client.example ([127.0.0.1])\r\n\tby edge.example with ESMTPS id ")
    );
    assert!(message.ends_with(&body));
    let metrics = &lab.edge.metrics;
    assert_eq!(
        (metrics.tls_sessions.get(), metrics.tls_failed.get(), metrics.tls_version_1_2.get()),
        (1, 0, 0)
    );
}

#[tokio::test]
async fn a_bounce_held_from_tls_records_is_proven_by_a_token_at_its_end() {
    let authority = Authority::new();
    let lab = lab(&authority).await;
    let (address, config, token) = (lab.address, authority.client(), lab.token("user@ours.example", 1));
    let body: String = (0..5_000).map(|line| format!("line {line} of a returned message\r\n")).collect();
    let sent = format!("Subject: returned\r\n\r\n{body}{token}\r\n");
    let expected = sent.clone();
    beside(move || {
        let mut client = Secured::connect(address, &config, NAME).unwrap();
        client.say("EHLO client.example", "250");
        client.say("MAIL FROM:<>", "250");
        client.say("RCPT TO:<user@ours.example>", "250");
        client.say("DATA", "354");
        // Records of many lengths, so that they end anywhere in the edge's buffers.
        let mut rest = sent.as_bytes();
        for length in (1..2_000).step_by(37).cycle() {
            let (piece, next) = rest.split_at(rest.len().min(length));
            client.0.get_mut().write_all(piece).unwrap();
            rest = next;
            if rest.is_empty() {
                break;
            }
        }
        client.say(".", "250 2.0.0 queued");
    })
    .await;
    assert!(lab.upstream.seen().messages[0].ends_with(&expected));
    assert_eq!(lab.edge.metrics.bounces_token.get(), 1);
}

#[tokio::test]
async fn what_is_injected_behind_starttls_in_clear_is_never_heard() {
    let authority = Authority::new();
    let lab = lab(&authority).await;
    let (address, config) = (lab.address, authority.client());
    let injected = b"RSET\r\nMAIL FROM:<evil@far.example>\r\nRCPT TO:<user@ours.example>\r\n";
    let heard = beside(move || {
        let mut heard = 0;
        for cut in 0..=injected.len() {
            let head = [b"EHLO client.example\r\nSTARTTLS\r\n", &injected[..cut]].concat();
            let stream = clear(address, &[&head, &injected[cut..]]).unwrap();
            // What comes behind the 220 is taken for TLS, and ends the session.
            let Ok(mut client) = Secured::handshake(stream, &config, NAME) else { continue };
            client.say("RCPT TO:<user@ours.example>", "503 5.5.1 Say EHLO");
            client.say("EHLO client.example", "250");
            client.say("RCPT TO:<user@ours.example>", "503 5.5.1 Need MAIL");
            heard += 1;
        }
        // Octet by octet.
        let pieces: Vec<&[u8]> =
            [&b"EHLO client.example\r\nSTARTTLS\r\n"[..]].into_iter().chain(injected.chunks(1)).collect();
        if let Ok(stream) = clear(address, &pieces)
            && let Ok(mut client) = Secured::handshake(stream, &config, NAME)
        {
            client.say("RCPT TO:<user@ours.example>", "503 5.5.1 Say EHLO");
        }
        heard
    })
    .await;
    assert!(heard > 0, "all in one piece, the handshake is done");
    gone(&lab).await;
    assert_eq!(lab.upstream.seen().commands, Vec::<String>::new());
}

#[tokio::test]
async fn a_client_that_comes_again_resumes_also_after_a_reload() {
    let authority = Authority::new();
    let lab = lab(&authority).await;
    let (address, config) = (lab.address, authority.client());
    let kind = |config: &Arc<ClientConfig>| {
        let config = Arc::clone(config);
        beside(move || {
            let mut client = Secured::connect(address, &config, NAME).unwrap();
            client.say("EHLO client.example", "250");
            client.tls().handshake_kind()
        })
    };
    assert_eq!(kind(&config).await, Some(HandshakeKind::Full));
    assert_eq!(kind(&config).await, Some(HandshakeKind::Resumed));
    let settings =
        crate::config::Tls { certificates: vec![authority.certificate(&[NAME])], ..Default::default() };
    lab.edge.acceptor.set_certificates(crate::engine::tls::Certificates::configured(&settings).unwrap());
    assert_eq!(kind(&config).await, Some(HandshakeKind::Resumed));
    let old = ClientConfig::builder_with_provider(crate::engine::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap();
    let mut store = rustls::RootCertStore::empty();
    store.add(super::certificates::certificate_in(&authority.file())).unwrap();
    let old = Arc::new(old.with_root_certificates(store).with_no_client_auth());
    assert_eq!(kind(&old).await, Some(HandshakeKind::Full));
    assert_eq!(kind(&old).await, Some(HandshakeKind::Resumed));
    let metrics = &lab.edge.metrics;
    assert_eq!(
        [&metrics.tls_sessions, &metrics.tls_resumed, &metrics.tls_version_1_2].map(|m| m.get()),
        [5, 3, 2]
    );
}

#[tokio::test]
async fn a_client_gets_the_certificate_of_the_name_it_asks_for_and_the_first_else() {
    let authority = Authority::new();
    let files = [&["edge.example"][..], &["mx.other.example"], &["*.wild.example"]]
        .map(|names| authority.certificate(names));
    let own: Vec<_> =
        files.iter().map(|files| super::certificates::certificate_in(&files.chain).to_vec()).collect();
    let lab = Lab::with(Script::default(), |config| config.tls.certificates = files.to_vec()).await;
    for (name, place, right) in [
        ("edge.example", 0, true),
        ("mx.other.example", 1, true),
        ("MX.Other.example", 1, true),
        ("a.wild.example", 2, true),
        ("a.b.wild.example", 0, false),
        ("nobody.example", 0, false),
    ] {
        let (address, config, wanted) = (lab.address, authority.client(), own[place].clone());
        beside(move || match Secured::connect(address, &config, name) {
            Ok(client) => assert!(right && client.certificate() == wanted, "{name}"),
            Err(error) => assert!(!right && error.to_string().contains("edge.example"), "{name}: {error}"),
        })
        .await;
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_who_comes_next_and_open_sessions_go_on() {
    let authority = Authority::new();
    let lab = lab(&authority).await;
    let (address, config) = (lab.address, authority.client());
    let mut before = {
        let config = authority.client();
        beside(move || Secured::connect(address, &config, NAME).unwrap()).await
    };
    let renewed = authority.certificate(&[NAME]);
    let settings = crate::config::Tls { certificates: vec![renewed.clone()], ..Default::default() };
    lab.edge.acceptor.set_certificates(crate::engine::tls::Certificates::configured(&settings).unwrap());
    let wanted = super::certificates::certificate_in(&renewed.chain).to_vec();
    beside(move || {
        assert_ne!(before.certificate(), wanted);
        before.say("EHLO client.example", "250");
        assert_eq!(Secured::connect(address, &config, NAME).unwrap().certificate(), wanted);
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_fails_ends_its_session_alone_and_is_counted_and_logged() {
    let authority = Authority::new();
    let lab = lab(&authority).await;
    let (address, stranger, config) = (lab.address, Authority::new().client(), authority.client());
    beside(move || {
        let mut honest = Secured::connect(address, &config, NAME).unwrap();
        // It does not take the certificate.
        assert!(Secured::connect(address, &stranger, NAME).is_err());
        for noise in [
            &b"EHLO client.example\r\n"[..],
            b"\x16\x03\x01\xff\xff",
            b"\x16\x03\x01\0\x04\x01\xff\xff\xff",
            b"",
        ] {
            let mut stream = clear(address, &[b"EHLO client.example\r\nSTARTTLS\r\n"]).unwrap();
            stream.write_all(noise).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said);
            assert!(
                said.is_empty() || said.len() == 7 && said[0] == 21,
                "an alert and nothing in clear: {}",
                said.escape_ascii()
            );
        }
        honest.say("EHLO client.example", "250");
    })
    .await;
    gone(&lab).await;
    assert_eq!(lab.edge.metrics.tls_failed.get(), 5);
    let logged = lab.logged();
    assert_eq!(logged.matches("\"event\":\"tls_failed\"").count(), 5, "{logged}");
}

#[tokio::test]
async fn a_handshake_has_its_time_and_more_of_them_than_may_be_are_put_off() {
    let authority = Authority::new();
    let certificate = authority.certificate(&[NAME]);
    let lab = Lab::with(Script::default(), |config| {
        config.tls.certificates = vec![certificate];
        config.tls.handshakes_max = 1;
    })
    .await;
    let mut silent = lab.greeted().await;
    silent.say("STARTTLS", "220").await;
    let mut second = lab.greeted().await;
    second.say("STARTTLS", "454 4.7.0").await;
    second.say("MAIL FROM:<a@far.example>", "250").await;
    assert_eq!(lab.edge.metrics.tls_deferred.get(), 1);
    tokio::time::pause();
    silent.expect_end().await;
    second.say("RSET", "250").await;
    second.say("STARTTLS", "220").await;
    assert_eq!(lab.edge.metrics.tls_failed.get(), 1);
}

#[tokio::test]
async fn a_stop_waits_for_no_handshake() {
    let authority = Authority::new();
    let lab = lab(&authority).await;
    let mut silent = lab.greeted().await;
    silent.say("STARTTLS", "220").await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    lab.stop.send(true).expect("the edge listens");
    silent.expect_end().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(lab.edge.metrics.tls_failed.get(), 0, "nothing failed");
    assert!(!lab.logged().contains("tls_failed"));
}

#[tokio::test]
async fn an_idle_session_has_no_buffer_in_clear_or_by_tls() {
    let authority = Authority::new();
    let lab = lab(&authority).await;
    let (address, config) = (lab.address, authority.client());
    let mut talk = lab.greeted().await;
    let secured = beside(move || {
        let mut client = Secured::connect(address, &config, NAME).unwrap();
        client.say("EHLO client.example", "250");
        client
    })
    .await;
    talk.say("NOOP", "250").await;
    while lab.edge.pool.out() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // A line that is not whole has one.
    talk.send("NO").await;
    while lab.edge.pool.out() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(secured);
}
