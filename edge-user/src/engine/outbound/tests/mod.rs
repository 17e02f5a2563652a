//! The outbound listener over loopback, between a client and a scripted next hop.

mod failover;
mod hop;
mod record;
mod tenants;

use std::time::Duration;

use edge_core::mailbox::Mailbox;
use edge_core::message::header::fields;
use edge_core::signature::{Candidate, Token, tags, tokens};
use edge_core::smtp::Address;

use self::hop::{Does, Hop, Server, keys};
use crate::engine::clock::system_now;

const PLAIN: &str = "250 hop\r\n";
const DSN: &str = "250-hop\r\n250-8BITMIME\r\n250-SIZE 100000\r\n250 DSN\r\n";
const ANYBODY: &str = "127.0.0.0/8";
const MESSAGE: &str = "From: user@example.jp\r\nMessage-ID: <x@y>\r\n\r\n..dots\r\ntext\r\n";

/// What the hop got between DATA and the dot.
fn message(transcript: &str) -> &str {
    let (_, body) = transcript.split_once("DATA\r\n").expect("DATA");
    body.split_once("\r\n.\r\n").map(|_| &body[..body.rfind("\r\n.\r\n").unwrap() + 2]).expect("a final dot")
}

/// The tokens in a message's header that verify for `mailbox`.
fn tokens_for(mailbox: &str, message: &str) -> Vec<Token> {
    let mailbox = Mailbox::parse(mailbox).unwrap();
    let candidates =
        fields(message.as_bytes()).filter(|(name, _)| *name == b"Backstop-Token").map(|(_, value)| value);
    candidates.filter_map(|value| verify(std::str::from_utf8(value).unwrap().trim(), &mailbox)).collect()
}

fn verify(token: &str, mailbox: &Mailbox) -> Option<Token> {
    let candidate = Candidate(token.strip_prefix("bs1.")?.as_bytes().try_into().ok()?);
    tokens::verify(&keys(), &candidate, mailbox, system_now(), Duration::from_secs(3600)).ok()
}

#[test]
fn a_message_of_ours_gets_a_token_and_arrives_otherwise_unchanged() {
    let hop = Hop::start(PLAIN, &[]);
    let server = Server::start(hop.address, ANYBODY, "");
    let mut client = server.client();
    assert_eq!(client.greeting, "220 edge.example ESMTP\r\n");
    client.begin("User@Example.JP", &["a@far.example", "b@far.example", "c@far.example"]);
    client.send(MESSAGE.as_bytes());
    assert_eq!(client.say("."), "250 2.0.0 queued as 7\r\n");
    assert_eq!(client.say("QUIT"), "221 2.0.0 Bye\r\n");
    let heard = hop.transcripts(&server, 1).remove(0);
    assert!(heard.contains("MAIL FROM:<User@Example.JP>\r\nRCPT TO:<a@far.example>\r\n"), "{heard}");
    let message = message(&heard);
    let tokens = tokens_for("user@example.jp", message);
    assert_eq!(tokens.iter().map(|token| token.recipients_log2).collect::<Vec<_>>(), [2]);
    assert!(
        message
            .starts_with("Received: from client.example ([127.0.0.1])\r\n\tby edge.example with ESMTP id ")
    );
    assert!(message.ends_with(&format!("\r\n{MESSAGE}")), "{message}");
    assert_eq!(message.matches("\r\nBackstop-Token: ").count(), 1);
    assert!(!message.contains("\tfor "), "one of three recipients is nobody else's business: {message}");
    assert_eq!((server.edge.metrics.signed.get(), server.edge.metrics.relayed_unsigned.get()), (1, 0));
    let first = server.edge.watched(0).first_signature.expect("something was signed");
    assert!(!first.by_oldest_key, "the key is far older, and says nothing of that");
    let correspondents = &server.edge.correspondents;
    assert!(correspondents.knows(b"far.example", system_now()) && correspondents.len() == 1);
}

#[test]
fn foreign_and_null_senders_are_relayed_unsigned() {
    let hop = Hop::start(DSN, &[]);
    let server = Server::start(hop.address, ANYBODY, "");
    let mut client = server.client();
    for sender in ["somebody@elsewhere.example", "", "user@[192.0.2.1]"] {
        client.begin(sender, &["a@far.example"]);
        client.send(MESSAGE.as_bytes());
        assert_eq!(client.say("."), "250 2.0.0 queued as 7\r\n");
    }
    client.say("QUIT");
    let heard = hop.transcripts(&server, 1).remove(0);
    assert!(!heard.contains("Backstop-Token") && !heard.contains("ENVID"), "{heard}");
    assert_eq!(heard.matches(&format!(" +0000\r\n{MESSAGE}.\r\n")).count(), 3, "{heard}");
    assert_eq!((server.edge.metrics.signed.get(), server.edge.metrics.relayed_unsigned.get()), (0, 3));
    assert!(server.edge.correspondents.len() == 0, "none of our users wrote");
}

#[test]
fn who_is_not_of_the_networks_is_turned_away() {
    let hop = Hop::start(PLAIN, &[]);
    let server = Server::start(hop.address, "192.0.2.0/24", "");
    let mut client = server.client();
    assert!(client.greeting.starts_with("550 5.7.1 "), "{}", client.greeting);
    assert_eq!(client.say("EHLO client.example"), "", "the connection is closed");
    assert_eq!(server.edge.metrics.refused_outsiders.get(), 1);
}

#[test]
fn the_next_hops_refusals_are_the_replies_and_the_session_goes_on() {
    let hop = Hop::start(
        PLAIN,
        &[
            ("MAIL FROM:<bad@", Does::Say("550-5.7.1 no\r\n550 5.7.1 never\r\n")),
            ("RCPT TO:<unknown@", Does::Say("550 5.1.1 unknown\r\n")),
            ("RCPT TO:<busy@", Does::Say("450 4.2.0 busy\r\n")),
        ],
    );
    let server = Server::start(hop.address, ANYBODY, "");
    let mut client = server.client();
    client.say("EHLO client.example");
    assert_eq!(client.say("MAIL FROM:<bad@example.jp>"), "550-5.7.1 no\r\n550 5.7.1 never\r\n");
    assert!(client.say("MAIL FROM:<user@example.jp>").starts_with("250 "));
    assert_eq!(client.say("RCPT TO:<unknown@far.example>"), "550 5.1.1 unknown\r\n");
    assert_eq!(client.say("RCPT TO:<busy@far.example>"), "450 4.2.0 busy\r\n");
    assert_eq!(client.say("RCPT TO:<a@far.example>"), "250 2.0.0 ok\r\n");
    assert!(client.say("DATA").starts_with("354 "));
    client.send(MESSAGE.as_bytes());
    assert_eq!(client.say("."), "250 2.0.0 queued as 7\r\n");
    client.say("QUIT");
    assert_eq!(
        tokens_for("user@example.jp", message(&hop.transcripts(&server, 1)[0]))[0].recipients_log2,
        0,
        "one accepted"
    );
}

#[test]
fn refusals_of_data_and_of_the_message_are_passed_on() {
    for (script, at_data, at_dot) in [
        (&[("DATA", Does::Say("554 5.5.1 no\r\n"))][..], "554 5.5.1 no\r\n", ""),
        (&[(".\r\n", Does::Say("552 5.3.4 too big\r\n"))], "354 ", "552 5.3.4 too big\r\n"),
        (&[(".\r\n", Does::Say("451 4.3.0 later\r\n"))], "354 ", "451 4.3.0 later\r\n"),
        (&[(".\r\n", Does::SayAndClose("421 4.3.2 going\r\n"))], "354 ", "451 4.4.1 "),
        (&[("DATA", Does::SayAndClose("421 4.3.2 going\r\n"))], "451 4.4.1 ", ""),
        (&[("DATA", Does::Say("250 what\r\n"))], "451 4.4.1 ", ""),
        (&[(".\r\n", Does::Say("354 what\r\n"))], "354 ", "451 4.4.1 "),
    ] {
        let hop = Hop::start(PLAIN, script);
        let server = Server::start(hop.address, ANYBODY, "");
        let mut client = server.client();
        client.say("EHLO client.example");
        client.say("MAIL FROM:<user@example.jp>");
        client.say("RCPT TO:<a@far.example>");
        let reply = client.say("DATA");
        assert!(reply.starts_with(at_data), "{reply}, not {at_data}");
        if reply.starts_with("354") {
            client.send(MESSAGE.as_bytes());
            let reply = client.say(".");
            assert!(reply.starts_with(at_dot), "{reply}, not {at_dot}");
        }
        assert_eq!(client.say("NOOP"), "250 2.0.0 Ok\r\n");
        assert_eq!(server.edge.metrics.signed.get(), 0);
        assert_eq!(server.edge.metrics.in_doubt.get(), 0);
    }
}

#[test]
fn a_next_hop_that_is_lost_is_a_4xx_wherever_it_happens() {
    for (script, in_doubt) in [
        (&[("MAIL", Does::Close)][..], 0),
        (&[("RCPT", Does::Close)], 0),
        (&[("DATA", Does::Close)], 0),
        (&[("body", Does::Close)], 0),
        (&[(".\r\n", Does::Close)], 1),
        (&[(".\r\n", Does::Say("what is this\r\n"))], 1),
    ] {
        let hop = Hop::start(PLAIN, script);
        let server = Server::start(hop.address, ANYBODY, "");
        let mut client = server.client();
        client.say("EHLO client.example");
        let mut reply = client.say("MAIL FROM:<user@example.jp>");
        for line in ["RCPT TO:<a@far.example>", "DATA"] {
            if reply.starts_with('2') {
                reply = client.say(line);
            }
        }
        if reply.starts_with("354") {
            client.send(MESSAGE.as_bytes());
            if script[0].0 == "body" {
                // The rest comes when the hop is surely gone.
                hop.transcripts(&server, 1);
                client.send(&b"0123456789012345678901234567890123456789\r\n".repeat(9000));
            }
            reply = client.say(".");
        }
        assert!(reply.starts_with("451 4."), "{reply}");
        assert_eq!(server.edge.metrics.in_doubt.get(), in_doubt, "{reply}");
    }
    // Bound, so that the port is nobody else's, and no listener.
    let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    nobody.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = nobody.local_addr().unwrap().as_socket().unwrap();
    let server = Server::start(address, ANYBODY, "");
    let mut client = server.client();
    client.say("EHLO client.example");
    assert!(client.say("MAIL FROM:<user@example.jp>").starts_with("451 4.4.1 "));
}

#[test]
fn a_refusal_in_the_middle_of_the_body_is_the_reply_to_the_dot() {
    let hop = Hop::start(PLAIN, &[("body", Does::SayAndClose("552 5.3.4 enough\r\n"))]);
    let server = Server::start(hop.address, ANYBODY, "");
    let mut client = server.client();
    client.begin("user@example.jp", &["a@far.example"]);
    client.send(MESSAGE.as_bytes());
    client.send(&b"0123456789012345678901234567890123456789012345678901234567890\r\n".repeat(9000));
    let reply = client.say(".");
    // The hop closed with our octets unread: its words may be lost to a reset, but never become a yes.
    assert!(reply == "552 5.3.4 enough\r\n" || reply.starts_with("451 4."), "{reply}");
}

#[test]
fn a_domain_that_asks_for_it_gets_a_tag_in_its_envelope_sender() {
    let hop = Hop::start(PLAIN, &[]);
    let server = Server::start(hop.address, ANYBODY, "");
    let mut client = server.client();
    client.begin("User@tagged.example", &["a@far.example"]);
    client.send(MESSAGE.as_bytes());
    client.say(".");
    client.say("QUIT");
    let heard = hop.transcripts(&server, 1).remove(0);
    let (_, sender) = heard.split_once("MAIL FROM:<").unwrap();
    let (sender, _) = sender.split_once('>').unwrap();
    let tagged = tags::split(&Address::parse(sender.as_bytes()).unwrap()).expect(sender);
    assert_eq!(tagged.address.local, b"user");
    assert!(tags::verify(&keys(), &tagged, system_now()).is_ok());
    assert_eq!(tokens_for("user@tagged.example", message(&heard)).len(), 1);
    assert_eq!(
        tokens_for("user@example.jp", message(&heard)).len(),
        1,
        "header From is another mailbox of ours"
    );
}

#[test]
fn the_token_goes_out_as_envid_where_the_next_hop_offers_dsn() {
    let hop = Hop::start(DSN, &[]);
    let server = Server::start(hop.address, ANYBODY, "");
    let mut client = server.client();
    let offered = client.say("EHLO client.example");
    assert!(offered.contains("250-8BITMIME\r\n250-DSN\r\n") && !offered.contains("SMTPUTF8"), "{offered}");
    assert!(offered.contains("250-SIZE 97952\r\n"), "less what we add: {offered}");
    assert!(client.say("MAIL FROM:<user@example.jp> SIZE=97953").starts_with("552 5.3.4 "));
    assert!(client.say("MAIL FROM:<user@example.jp> SIZE=1000 BODY=8BITMIME").starts_with("250 "));
    client.say("RSET");
    assert!(client.say("MAIL FROM:<user@example.jp> RET=HDRS ENVID=own").starts_with("250 "));
    assert!(
        client.say("RCPT TO:<a@far.example> NOTIFY=FAILURE ORCPT=rfc822;a@far.example").starts_with("250 ")
    );
    client.say("QUIT");
    let heard = hop.transcripts(&server, 1).remove(0);
    let (_, envid) = heard.split_once(" SIZE=3048 BODY=8BITMIME ENVID=").expect(&heard);
    let mailbox = Mailbox::parse("user@example.jp").unwrap();
    let token = verify(envid.split("\r\n").next().unwrap(), &mailbox).expect("a token");
    assert_eq!(token.uses_max(), 512, "of a hundred recipients at most");
    assert!(heard.contains("MAIL FROM:<user@example.jp> RET=HDRS ENVID=own\r\n"), "{heard}");
    assert!(
        heard.contains("RCPT TO:<a@far.example> NOTIFY=FAILURE ORCPT=rfc822;a@far.example\r\n"),
        "{heard}"
    );
}

#[test]
fn a_message_is_the_same_byte_by_byte_and_however_large() {
    let hop = Hop::start(PLAIN, &[]);
    let server = Server::start(hop.address, ANYBODY, "");
    let mut client = server.client();
    client.begin("user@example.jp", &["a@far.example"]);
    for octet in MESSAGE.bytes() {
        client.send(&[octet]);
    }
    assert_eq!(client.say("."), "250 2.0.0 queued as 7\r\n");
    client.begin("user@example.jp", &["a@far.example"]);
    let large = format!("{MESSAGE}{}", "..a line of a large message that goes through\r\n".repeat(60_000));
    client.send(large.as_bytes());
    assert_eq!(client.say("."), "250 2.0.0 queued as 7\r\n");
    client.say("QUIT");
    let heard = hop.transcripts(&server, 1).remove(0);
    assert!(heard.contains(&format!("\r\n{MESSAGE}.\r\n")));
    assert!(heard.contains(&format!("\r\n{large}.\r\n")), "{} octets came", heard.len());
}

#[test]
fn what_may_not_arrive_is_never_ended_at_the_next_hop() {
    let hops = "Received: from a by b; today\r\n".repeat(51);
    let long = format!("X: {}\r\n", "x".repeat(700)).repeat(30);
    for (text, want, why) in [
        (format!("{hops}{MESSAGE}.\r\n"), "554 5.4.6 ", "loop"),
        (format!("{long}{MESSAGE}.\r\n"), "552 5.3.4 ", "header_too_long"),
        (format!("{MESSAGE}a\n.\nb\r\n.\r\n"), "550 5.6.", "bare_line_ending"),
        ("From: user@example.jp\n\r\n.\r\n".to_owned(), "550 5.6.", "bare_line_ending"),
        (format!("{MESSAGE}{}.\r\n", "0123456789\r\n".repeat(20_000)), "552 5.3.4 ", "too_big"),
    ] {
        let hop = Hop::start(PLAIN, &[]);
        let server =
            Server::start(hop.address, ANYBODY, "header_bytes_max = 20000\nmessage_bytes_max = 100000");
        let mut client = server.client();
        client.begin("user@example.jp", &["a@far.example"]);
        client.send(text.as_bytes());
        let reply = client.reply();
        assert!(reply.starts_with(want), "{reply}, not {want}");
        assert_eq!(client.say("NOOP"), "250 2.0.0 Ok\r\n");
        let heard = hop.transcripts(&server, 1).remove(0);
        assert!(!heard.contains("\r\n.\r\n") && heard.ends_with("[closed]"), "{want}: {heard}");
        assert_eq!(server.edge.metrics.signed.get(), 0);
        let log = server.logged();
        assert!(log.contains(&format!("\"reason\":\"{why}\"")), "{why}: {log}");
    }
}

#[test]
fn the_log_says_whether_a_message_was_signed_and_for_how_many() {
    let hop = Hop::start(PLAIN, &[]);
    let server = Server::start(hop.address, ANYBODY, "");
    for (sender, why) in [("user@example.jp", "signed"), ("a@far.example", "relayed_unsigned")] {
        let mut client = server.client();
        client.begin(sender, &["a@far.example", "b@far.example"]);
        client.send(format!("{MESSAGE}.\r\n").as_bytes());
        assert!(client.reply().starts_with("250"), "{why}");
        let log = server.logged();
        let last = log.lines().last().unwrap_or_default();
        assert!(last.contains(&format!("\"reason\":\"{why}\"")), "{why}: {last}");
        assert!(last.contains("\"recipients\":2"), "{last}");
        assert!(last.contains(r#""recipient":"a@far.example","also_to":["b@far.example"]"#), "{last}");
    }
}

#[test]
fn a_client_that_goes_in_the_middle_of_a_message_leaves_nothing_behind() {
    let hop = Hop::start(PLAIN, &[]);
    let server = Server::start(hop.address, ANYBODY, "");
    let mut client = server.client();
    client.begin("user@example.jp", &["a@far.example"]);
    client.send(MESSAGE.as_bytes());
    client.output.shutdown(std::net::Shutdown::Both).unwrap();
    let heard = hop.transcripts(&server, 1).remove(0);
    assert!(heard.contains("Backstop-Token") && !heard.contains("\r\n.\r\n"), "{heard}");
}

#[test]
fn a_kept_connection_that_the_next_hop_ended_is_replaced() {
    let hop = Hop::start(PLAIN, &[(".\r\n", Does::SayAndClose("250 2.0.0 queued as 7\r\n"))]);
    let server = Server::start(hop.address, ANYBODY, "");
    let mut client = server.client();
    for _ in 0..3 {
        client.begin("user@example.jp", &["a@far.example"]);
        client.send(MESSAGE.as_bytes());
        assert_eq!(client.say("."), "250 2.0.0 queued as 7\r\n");
    }
    assert_eq!(hop.transcripts(&server, 3).len(), 3);
}

#[test]
fn a_message_that_is_only_a_header_or_has_none_goes_through() {
    let hop = Hop::start(PLAIN, &[]);
    let server = Server::start(hop.address, ANYBODY, "");
    let mut client = server.client();
    for text in ["", "Subject: only\r\n", "\r\nonly text\r\n", "no header\r\n"] {
        client.begin("user@example.jp", &["a@far.example"]);
        client.send(text.as_bytes());
        assert_eq!(client.say("."), "250 2.0.0 queued as 7\r\n", "{text:?}");
    }
    client.say("QUIT");
    let heard = hop.transcripts(&server, 1).remove(0);
    assert_eq!(heard.matches("\r\nBackstop-Token: ").count(), 4);
    assert_eq!(
        heard.matches("@example.jp>\r\n.\r\n").count(),
        1,
        "the empty one ends with its Message-ID: {heard}"
    );
}
