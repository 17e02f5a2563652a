//! The edge is no open relay, whatever stands behind it.
//!
//! A mail server trusts its own host, and with the edge on that host every stranger would seem to be there: that these
//! servers do relay for 127.0.0.1 is shown in `servers_alone`. So the edge itself takes only its own recipients.

use anyhow::Result;
use lab::client::Client;
use lab::edge::{Edge, Settings};
use lab::mta::Software;
use lab::program::Profile;
use lab::{Host, Lab};

/// Ways to name a foreign recipient, plainly or through a mailbox of ours.
const FOREIGN: [&str; 13] = [
    "victim@elsewhere.example",
    "victim%elsewhere.example@example.jp",
    "victim%elsewhere.example@EXAMPLE.JP",
    "elsewhere.example!victim@example.jp",
    "@example.jp:victim@elsewhere.example",
    "@example.jp,@mail.example.jp:victim@elsewhere.example",
    "\"victim@elsewhere.example\"@example.jp",
    "\"victim%elsewhere.example\"@example.jp",
    "\"elsewhere.example!victim\"@example.jp",
    "prvs=0123abcdef=victim%elsewhere.example@example.jp",
    "victim@[198.18.64.9]",
    "victim@localhost",
    "victim%elsewhere.example@localhost",
];

/// What is no address at all, but some servers take for one.
const MALFORMED: [&str; 3] =
    ["victim@elsewhere.example@example.jp", "victim@elsewhere.example,example.jp", "victim"];

fn the_edge_does_not_relay_to(software: Software) -> Result<()> {
    let lab = Lab::up("relay")?;
    let server = lab.with_defaults(software)?;
    let settings = Settings::default().set("domain.0.upstream", "127.0.0.1:25").without("outbound");
    let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;

    let senders = ["", "stranger@elsewhere.example", "alice@example.jp", "root@localhost"];
    let attempts =
        FOREIGN.into_iter().map(|to| (to, "550 5.7.1")).chain(MALFORMED.into_iter().map(|to| (to, "5")));
    for (n, (recipient, refusal)) in (0..).zip(attempts) {
        // Each from an address of its own: no attempt is refused for what came before.
        let mut client = Client::connect(&lab, Host::Internet, Some(lab::client(n)), (lab::EDGE, 25).into())?;
        assert_eq!(client.command("EHLO client.lab.example")?.code, 250);
        for sender in senders {
            let reply = client.command(&format!("MAIL FROM:<{sender}>"))?;
            assert_eq!(reply.code, 250, "<{sender}>: {reply}");
            let reply = client.command(&format!("RCPT TO:<{recipient}>"))?;
            assert!(reply.is(refusal), "from <{sender}> to <{recipient}>: {reply}, not {refusal}");
            let reply = client.command("DATA")?;
            assert_eq!(reply.code / 100, 5, "DATA without a recipient: {reply}");
            assert_eq!(client.command("RSET")?.code, 250);
        }
    }
    let log = server.log();
    assert!(!log.contains("victim"), "an attempt reached the server: {log}");

    // The way is open for whom it is meant for.
    let mut client = Client::connect(&lab, Host::Internet, Some(lab::client(100)), (lab::EDGE, 25).into())?;
    client.command("EHLO client.lab.example")?;
    client.command("MAIL FROM:<>")?;
    let reply = client.command("RCPT TO:<postmaster@example.jp>")?;
    assert_eq!(reply.code, 250, "{reply}\n{}", server.log());
    edge.stop()
}

#[test]
fn the_edge_does_not_relay_to_a_default_postfix() -> Result<()> {
    the_edge_does_not_relay_to(Software::Postfix)
}

#[test]
fn the_edge_does_not_relay_to_a_default_exim() -> Result<()> {
    the_edge_does_not_relay_to(Software::Exim)
}

#[test]
fn the_edge_does_not_relay_to_a_default_sendmail() -> Result<()> {
    the_edge_does_not_relay_to(Software::Sendmail)
}
