//! A list of next hops, and clients that send commands in bursts (RFC 2920).

use super::hop::{Does, Hop, Script, Server};
use super::{ANYBODY, MESSAGE, PLAIN, message, tokens_for};

/// One message through `server`: the reply to its end, or to what refused it.
fn one_message(server: &Server) -> String {
    let mut client = server.client();
    client.begin("user@example.jp", &["a@far.example"]);
    client.send(MESSAGE.as_bytes());
    let reply = client.say(".");
    client.say("QUIT");
    assert_eq!(client.reply(), "", "its connection to the next hop is free from here on");
    reply
}

#[test]
fn a_next_hop_that_is_lost_before_a_recipient_was_accepted_is_replaced() {
    let cases: [(&str, &'static str, Script); 5] = [
        ("EHLO refused", "421 4.3.2 shutting down\r\n", &[]),
        ("MAIL closes", PLAIN, &[("MAIL", Does::Close)]),
        ("MAIL 421", PLAIN, &[("MAIL", Does::SayAndClose("421 4.3.2 going\r\n"))]),
        ("RCPT closes", PLAIN, &[("RCPT", Does::Close)]),
        ("RCPT 421", PLAIN, &[("RCPT", Does::SayAndClose("421 4.3.2 going\r\n"))]),
    ];
    for (case, ehlo, script) in cases {
        let (first, second) = (Hop::start(ehlo, script), Hop::start(PLAIN, &[]));
        let server = Server::before(&[first.address, second.address], ANYBODY, "");
        for _ in 0..2 {
            assert_eq!(one_message(&server), "250 2.0.0 queued as 7\r\n", "{case}");
        }
        assert!(server.logged().contains("upstream_down"), "{case}");
        let heard = second.transcripts(&server, 1).remove(0);
        assert_eq!(heard.matches("MAIL FROM").count(), 2, "{case}: {heard}");
        assert_eq!(tokens_for("user@example.jp", message(&heard)).len(), 2, "{case}: one in each message");
        assert_eq!(server.edge.metrics.signed.get(), 2, "{case}");
    }
}

#[test]
fn once_the_next_hop_accepted_a_recipient_the_message_goes_nowhere_else() {
    for (script, at) in [
        (&[("RCPT TO:<b@", Does::Close)][..], "RCPT"),
        (&[("DATA", Does::Close)], "DATA"),
        (&[(".\r\n", Does::Close)], "."),
    ] {
        let (first, second) = (Hop::start(PLAIN, script), Hop::start(PLAIN, &[]));
        let server = Server::before(&[first.address, second.address], ANYBODY, "");
        let mut client = server.client();
        client.say("EHLO client.example");
        for line in ["MAIL FROM:<user@example.jp>", "RCPT TO:<a@far.example>"] {
            assert!(client.say(line).starts_with("250 "), "{at}");
        }
        let mut last = String::new();
        for (step, line) in
            [("RCPT", "RCPT TO:<b@far.example>"), ("DATA", "DATA"), (".", &format!("{MESSAGE}."))]
        {
            last = client.say(line);
            if step == at {
                break;
            }
        }
        assert!(last.starts_with("451 4.4."), "{at}: {last}");
        assert!(second.heard.lock().unwrap().is_empty(), "{at}: {:?}", second.heard);
    }
}

#[test]
fn where_all_next_hops_are_lost_the_client_keeps_its_mail() {
    let lost: Script = &[("MAIL", Does::Close)];
    let (first, second) = (Hop::start(PLAIN, lost), Hop::start(PLAIN, lost));
    let server = Server::before(&[first.address, second.address], ANYBODY, "");
    let mut client = server.client();
    client.say("EHLO client.example");
    let reply = client.say("MAIL FROM:<user@example.jp>");
    assert!(reply.starts_with("451 4.4.1 "), "{reply}");
    assert_eq!((first.transcripts(&server, 1).len(), second.transcripts(&server, 1).len()), (1, 1));
}

#[test]
fn a_burst_with_several_recipients_gets_its_replies_in_order_over_a_kept_connection() {
    let hop = Hop::start(PLAIN, &[("RCPT TO:<no@", Does::Say("550 5.1.1 unknown\r\n"))]);
    let server = Server::start(hop.address, ANYBODY, "");
    for _ in 0..3 {
        let mut client = server.client();
        client.say("EHLO client.example");
        client.send(
            b"MAIL FROM:<user@example.jp>\r\nRCPT TO:<a@far.example>\r\nRCPT TO:<no@far.example>\r\n\
              RCPT TO:<b@far.example>\r\nDATA\r\n",
        );
        for code in ["250 ", "250 ", "550 5.1.1 unknown", "250 ", "354 "] {
            let reply = client.reply();
            assert!(reply.starts_with(code), "{code}: {reply}");
        }
        // The message with the next command behind it.
        client.send(format!("{MESSAGE}.\r\nQUIT\r\n").as_bytes());
        assert_eq!(client.reply(), "250 2.0.0 queued as 7\r\n");
        assert_eq!(client.reply(), "221 2.0.0 Bye\r\n");
        assert_eq!(client.reply(), "", "its connection to the next hop is free from here on");
    }
    let heard = hop.transcripts(&server, 1).remove(0);
    assert_eq!(heard.matches("EHLO").count(), 1, "{heard}");
    let envelope = "MAIL FROM:<user@example.jp>\r\nRCPT TO:<a@far.example>\r\nRCPT TO:<no@far.example>\r\n\
                    RCPT TO:<b@far.example>\r\nDATA\r\n";
    assert_eq!(heard.matches(envelope).count(), 3, "{heard}");
    // Two of three recipients: two bounces are to be expected, not three.
    assert_eq!(tokens_for("user@example.jp", message(&heard))[0].recipients_log2, 1);
}
