//! What the outbound side remembers.

use edge_core::signature::record::Sent;

use super::*;

fn sent(server: &Server, mailbox: &str, id: &str) -> Option<Sent> {
    server.edge.find_sent(&Mailbox::parse(mailbox).unwrap(), id.as_bytes())
}

#[test]
fn a_message_is_remembered_for_its_sender_and_its_author_before_its_end() {
    let hop = Hop::start(PLAIN, &[]);
    let server = Server::start(hop.address, ANYBODY, "");
    let mut client = server.client();
    client
        .begin("user@example.jp", &["a@far.example", "b@far.example", "c@a.example", "d@a.example", "e@x.y"]);
    client.send(b"From: Boss <boss@tagged.example>\r\nMessage-Id:\r\n <x@y>\r\n\r\nHello\r\n");
    // No dot yet.
    while server.edge.metrics.record_kept.get() < 2 {
        std::thread::yield_now();
    }
    for mailbox in ["user@example.jp", "boss@tagged.example"] {
        assert_eq!(sent(&server, mailbox, "<x@y>").map(|sent| sent.uses_max()), Some(32), "{mailbox}");
    }
    assert_eq!(sent(&server, "other@example.jp", "<x@y>"), None);
    assert_eq!(sent(&server, "user@example.jp", "<z@y>"), None);
    assert_eq!(client.say("."), "250 2.0.0 queued as 7\r\n");
}

#[test]
fn a_message_id_that_was_added_is_remembered_and_what_is_not_signed_is_not() {
    let hop = Hop::start(PLAIN, &[]);
    let server = Server::start(hop.address, ANYBODY, "");
    let mut client = server.client();
    for sender in ["user@example.jp", "somebody@elsewhere.example", ""] {
        client.begin(sender, &["a@far.example"]);
        client.send(b"From: user@example.jp\r\nSubject: no id\r\n\r\nHello\r\n");
        assert_eq!(client.say("."), "250 2.0.0 queued as 7\r\n");
    }
    client.begin("", &["a@far.example"]);
    client.send(MESSAGE.as_bytes());
    assert_eq!(client.say("."), "250 2.0.0 queued as 7\r\n");
    client.say("QUIT");
    let heard = hop.transcripts(&server, 1).remove(0);
    let (_, added) = heard.split_once("\r\nMessage-ID: ").expect("a Message-ID was added");
    let added = added.lines().next().unwrap();
    assert!(sent(&server, "user@example.jp", added).is_some(), "{added}");
    assert_eq!(server.edge.metrics.record_kept.get(), 1);
    assert_eq!(sent(&server, "user@example.jp", "<x@y>"), None);
}
