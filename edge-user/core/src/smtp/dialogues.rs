//! Dialogues as data: `dialogues/*.txt`, each run whole, cut in two at every byte, and byte by byte.
//!
//! ```text
//! # a sentence that can be false
//! C: a line of the client's, CRLF added       c: bytes of the client's as they are, with \r \n \0 \xNN
//! S: a reply line of the session's            E: an event, and what it says
//! T: the TLS handshake is done here (`starttls.txt`, where STARTTLS is offered)
//! ```
//! The engine's part is played by [`answer`]: it takes everything but what the address asks it to refuse.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::{
    Address, CloseCause, Enhanced, Event, Limits, Mail, Offer, Rcpt, Reply, Session, Step, UpstreamReply,
};

const LIMITS: Limits =
    Limits { line_bytes_max: 300, recipients_max: 3, errors_max: 4, message_bytes_max: 1000 };
const OFFER: Offer = Offer { eight_bit_mime: true, smtputf8: true, dsn: true, starttls: false };

fn session(offer: Offer) -> Session {
    Session::new("edge.example".into(), LIMITS, offer)
}

/// What a client sends.
#[derive(Clone, Default)]
struct Client {
    bytes: Vec<u8>,
    /// Where in them a handshake is done.
    handshakes: Vec<usize>,
}

/// All that happens when the client's bytes come in pieces that end at `cuts`, as dialogue lines.
fn trace(client: &[u8], cuts: &[usize]) -> String {
    trace_of(&Client { bytes: client.to_vec(), ..Client::default() }, cuts, OFFER)
}

fn trace_of(client: &Client, cuts: &[usize], offer: Offer) -> String {
    let Client { bytes: client, handshakes } = client;
    let mut session = session(offer);
    let mut cuts: Vec<usize> = cuts.iter().chain(handshakes).copied().collect();
    cuts.sort_unstable();
    let mut handshakes = handshakes.iter().peekable();
    let (mut log, mut out, mut body) = (String::new(), Vec::new(), Vec::new());
    let (mut consumed, mut recipient) = (0, String::new());
    for &end in cuts.iter().chain([&client.len()]) {
        loop {
            let Step { consumed: len, event } = session.next(&client[consumed..end], &mut out);
            consumed += len;
            assert!(consumed <= end, "more consumed than there was");
            match event {
                Event::NeedMore => assert_eq!(len, 0, "NeedMore consumes nothing"),
                Event::Close(_) => {}
                Event::Answered
                | Event::Mail(_)
                | Event::Rcpt(_)
                | Event::Data
                | Event::Body(_)
                | Event::End(_)
                | Event::Reset
                | Event::StartTls => assert!(len > 0, "no progress at {event:?}"),
            }
            if let Event::Body(piece) = event {
                assert_eq!(piece, &client[consumed - len..consumed], "a piece is a slice of the wire");
                body.extend_from_slice(piece);
            }
            if let Event::Rcpt(rcpt) = event {
                recipient = String::from_utf8_lossy(rcpt.recipient.local).into_owned();
            }
            let name = describe(&event, &mut body);
            flush(&mut out, &mut log);
            if let Some(name) = name {
                writeln!(log, "E: {name}").unwrap();
            }
            answer(&mut session, &event, &recipient, &mut out);
            flush(&mut out, &mut log);
            match event {
                Event::NeedMore => break,
                Event::Close(_) => return log,
                Event::Answered
                | Event::Mail(_)
                | Event::Rcpt(_)
                | Event::Data
                | Event::Body(_)
                | Event::End(_)
                | Event::Reset
                | Event::StartTls => {}
            }
        }
        while handshakes.next_if_eq(&&end).is_some() {
            assert_eq!(consumed, end, "what was sent in clear waits for the handshake");
            session.secured();
        }
        assert!(end - consumed <= LIMITS.line_bytes_max, "more waits than a line");
    }
    log
}

fn flush(out: &mut Vec<u8>, log: &mut String) {
    for line in out.split(|&octet| octet == b'\n').filter(|line| !line.is_empty()) {
        writeln!(log, "S: {}", String::from_utf8_lossy(line).strip_suffix('\r').expect("CRLF")).unwrap();
    }
    out.clear();
}

/// What the tests' engine does with an event.
fn answer(session: &mut Session, event: &Event<'_>, recipient: &str, out: &mut Vec<u8>) {
    let refused = |code, class| Reply::new(code, Enhanced(class, 1, 1), "Refused");
    match event {
        Event::Mail(Mail { sender: Some(Address { local: b"refused", .. }), .. }) => {
            session.refuse(&refused(550, 5), out);
        }
        Event::Rcpt(_) if recipient == "unknown" => session.refuse(&refused(550, 5), out),
        Event::Rcpt(_) if recipient == "later" => session.refuse(&refused(450, 4), out),
        Event::Rcpt(_) if recipient == "upstream421" => {
            session.pass_on(UpstreamReply { code: 421, raw: b"421-4.3.2 going\r\n421 4.3.2 down\r\n" }, out);
        }
        Event::Rcpt(_) if recipient == "upstream354" => {
            session.pass_on(UpstreamReply { code: 354, raw: b"354 what?\r\n" }, out);
        }
        Event::Data if recipient == "nodata" => session.refuse(&refused(550, 5), out),
        Event::End(_) if recipient == "noend" => session.refuse(&refused(550, 5), out),
        Event::End(_) if recipient == "upstream" => {
            session.pass_on(UpstreamReply { code: 250, raw: b"250 2.0.0 queued as 1\r\n" }, out);
        }
        Event::StartTls if session.client_name().0 == b"later" => session.refuse(&refused(454, 4), out),
        Event::Mail(_) | Event::Rcpt(_) | Event::Data | Event::End(_) | Event::StartTls => {
            session.accept(out);
        }
        Event::NeedMore | Event::Answered | Event::Body(_) | Event::Reset | Event::Close(_) => {}
    }
}

/// The event as a dialogue line; `None` for what depends on cuts, or says nothing.
fn describe(event: &Event<'_>, body: &mut Vec<u8>) -> Option<String> {
    let address = |address: &Address<'_>| {
        format!("{}@{}", String::from_utf8_lossy(address.local), String::from_utf8_lossy(address.domain))
    };
    match event {
        Event::NeedMore | Event::Answered | Event::Body(_) => None,
        Event::Mail(Mail { sender, size, smtputf8, params }) => Some(format!(
            "mail <{}> {size:?}{} [{}]",
            sender.as_ref().map(address).unwrap_or_default(),
            if *smtputf8 { " utf8" } else { "" },
            String::from_utf8_lossy(params),
        )),
        Event::Rcpt(Rcpt { recipient, params }) => {
            Some(format!("rcpt <{}> [{}]", address(recipient), String::from_utf8_lossy(params)))
        }
        Event::Data => Some("data".into()),
        Event::End(end) => {
            let flags = match (end.bare_line_ending, end.too_big) {
                (false, false) => "",
                (true, false) => " bare",
                (false, true) => " big",
                (true, true) => " bare big",
            };
            let text = std::mem::take(body).escape_ascii().to_string();
            Some(if end.too_big {
                format!("end {}{flags}", end.bytes)
            } else {
                format!("end {}{flags} \"{text}\"", end.bytes)
            })
        }
        Event::Reset => {
            body.clear();
            Some("reset".into())
        }
        Event::StartTls => Some("starttls".into()),
        Event::Close(cause) => Some(format!("close {cause:?}")),
    }
}

/// `\r \n \0 \t \\ \xNN` as the bytes they name.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            bytes.extend(character.to_string().bytes());
            continue;
        }
        bytes.push(match characters.next() {
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let hex: String = characters.by_ref().take(2).collect();
                u8::from_str_radix(&hex, 16).expect("two hex digits")
            }
            other => panic!("\\{other:?} in a dialogue"),
        });
    }
    bytes
}

struct Dialogue {
    name: String,
    client: Client,
    offer: Offer,
    expected: String,
}

fn dialogues() -> Vec<Dialogue> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/smtp/dialogues");
    let mut all: Vec<Dialogue> = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the dialogues are there") {
        let path = entry.unwrap().path();
        let starttls = path.ends_with("starttls.txt");
        for line in std::fs::read_to_string(&path).unwrap().lines().filter(|line| !line.is_empty()) {
            let (kind, text) = line.split_at(line.len().min(3));
            match kind {
                "C: " | "c: " => {
                    let client = &mut all.last_mut().expect("a title").client.bytes;
                    client.extend(unescape(text));
                    if kind == "C: " {
                        client.extend(b"\r\n");
                    }
                }
                "S: " | "E: " => {
                    writeln!(all.last_mut().expect("a title").expected, "{line}").unwrap();
                }
                "T:" => {
                    let client = &mut all.last_mut().expect("a title").client;
                    client.handshakes.push(client.bytes.len());
                }
                _ if line.starts_with("# ") => all.push(Dialogue {
                    name: format!("{}: {}", path.file_name().unwrap().display(), &line[2..]),
                    client: Client::default(),
                    offer: Offer { starttls, ..OFFER },
                    expected: String::new(),
                }),
                _ => panic!("{}: what is this? {line}", path.display()),
            }
        }
    }
    all
}

#[test]
fn each_dialogue_goes_as_written_however_it_is_cut() {
    let all = dialogues();
    assert!(all.len() > 30, "dialogues are missing");
    for Dialogue { name, client, offer, expected } in &all {
        let trace = |cuts: &[usize]| trace_of(client, cuts, *offer);
        let whole = trace(&[]);
        assert!(&whole == expected, "{name}\n--- expected\n{expected}--- got\n{whole}");
        for cut in 0..client.bytes.len() {
            assert_eq!(&trace(&[cut]), expected, "{name}, cut at {cut}");
        }
        let bytewise: Vec<usize> = (0..client.bytes.len()).collect();
        assert_eq!(&trace(&bytewise), expected, "{name}, byte by byte");
    }
}

#[test]
fn the_greeting_names_the_host_and_what_is_not_offered_is_not_listed() {
    let mut session = session(Offer::default());
    let mut out = Vec::new();
    session.greet(&mut out);
    assert_eq!(out, b"220 edge.example ESMTP\r\n");
    out.clear();
    assert_eq!(session.client_name(), (&b""[..], false));
    session.next(b"EHLO me\r\n", &mut out);
    assert_eq!(out, b"250-edge.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 ENHANCEDSTATUSCODES\r\n");
    assert_eq!(session.client_name(), (&b"me"[..], true));
    for (line, reply) in [
        (&b"MAIL FROM:<a@b.example> BODY=8BITMIME\r\n"[..], &b"555"[..]),
        (b"MAIL FROM:<a@b.example> SMTPUTF8\r\n", b"555"),
        (b"MAIL FROM:<a@b.example> RET=FULL\r\n", b"555"),
        (b"STARTTLS\r\n", b"502"),
    ] {
        out.clear();
        assert_eq!(session.next(line, &mut out).event, Event::Answered);
        assert!(out.starts_with(reply), "{}", line.escape_ascii());
    }
}

#[test]
fn the_protocol_is_the_transactions() {
    let mut session = session(OFFER);
    let mut out = Vec::new();
    session.next(b"HELO me\r\n", &mut out);
    assert_eq!(session.protocol(), "SMTP");
    session.next(b"EHLO me\r\n", &mut out);
    assert_eq!(session.protocol(), "ESMTP");
    session.next(b"MAIL FROM:<> SMTPUTF8\r\n", &mut out);
    session.accept(&mut out);
    assert_eq!(session.protocol(), "UTF8SMTP");
    session.next(b"RSET\r\n", &mut out);
    assert_eq!(session.protocol(), "ESMTP");
}

#[test]
fn the_protocol_says_whether_it_came_by_tls() {
    let mut session = session(Offer { starttls: true, ..OFFER });
    let mut out = Vec::new();
    session.next(b"EHLO me\r\n", &mut out);
    assert_eq!(session.next(b"STARTTLS\r\n", &mut out).event, Event::StartTls);
    session.accept(&mut out);
    session.secured();
    assert_eq!(session.client_name(), (&b""[..], false), "what was said in clear is forgotten");
    session.next(b"HELO me\r\n", &mut out);
    assert_eq!(session.protocol(), "SMTP");
    session.next(b"EHLO me\r\n", &mut out);
    assert_eq!(session.protocol(), "ESMTPS");
    session.next(b"MAIL FROM:<> SMTPUTF8\r\n", &mut out);
    session.accept(&mut out);
    assert_eq!(session.protocol(), "UTF8SMTPS");
}

#[test]
fn a_closed_session_says_nothing_more() {
    let mut session = session(OFFER);
    let mut out = Vec::new();
    let closed = Event::Close(CloseCause::Quit);
    assert_eq!(session.next(b"QUIT\r\nNOOP\r\n", &mut out), Step { consumed: 6, event: closed });
    out.clear();
    assert_eq!(session.next(b"NOOP\r\n", &mut out), Step { consumed: 0, event: closed });
    assert_eq!(out, b"");
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => proptest::sample::select(vec![
            "EHLO x\r\n", "HELO x\r\n", "MAIL FROM:<>\r\n", "MAIL FROM:<a@b> SIZE=9\r\n", "RCPT TO:<c@d>\r\n",
            "RCPT TO:<unknown@d>\r\n", "DATA\r\n", ".\r\n", "\r\n.\r\n", "RSET\r\n", "QUIT\r\n", "text\r\n", "..\r\n",
        ]).prop_map(|word| word.as_bytes().to_vec()),
        2 => proptest::sample::select(vec!["\r", "\n", ".", " ", "\0", "<", ">", "\"", "GET / ", "\x16\x03"])
            .prop_map(|word| word.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..9),
        1 => (0..700usize).prop_map(|len| vec![b'x'; len]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// `trace` itself asserts progress, consumption and that each piece is a slice of the wire.
    #[test]
    fn any_bytes_go_the_same_however_they_are_cut(words in proptest::collection::vec(word(), 0..16),
        cuts in proptest::collection::vec(0..4000usize, 0..6)) {
        let client = words.concat();
        let whole = trace(&client, &[]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(client.len())).collect();
        cuts.sort_unstable();
        prop_assert_eq!(&trace(&client, &cuts), &whole);
        let bytewise: Vec<usize> = (0..client.len()).collect();
        prop_assert_eq!(&trace(&client, &bytewise), &whole);
    }

    /// Whatever was put behind STARTTLS in clear, and however it came.
    #[test]
    fn nothing_that_came_in_clear_is_heard_behind_the_handshake(
        injected in proptest::collection::vec(word(), 0..8),
        protected in proptest::collection::vec(word(), 0..8),
        cuts in proptest::collection::vec(0..4000usize, 0..6),
    ) {
        let offer = Offer { starttls: true, ..OFFER };
        let client = |injected: &[u8]| {
            let mut bytes = [b"EHLO x\r\nSTARTTLS\r\n", injected].concat();
            let handshakes = vec![bytes.len()];
            bytes.extend(protected.concat());
            Client { bytes, handshakes }
        };
        let clean = trace_of(&client(b""), &[], offer);
        let client = client(&injected.concat());
        let cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(client.bytes.len())).collect();
        prop_assert_eq!(&trace_of(&client, &cuts, offer), &clean);
        let bytewise: Vec<usize> = (0..client.bytes.len()).collect();
        prop_assert_eq!(&trace_of(&client, &bytewise, offer), &clean);
    }
}
