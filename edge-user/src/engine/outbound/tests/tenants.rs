//! Networks that many share.

use super::*;
use crate::engine::Tenants;

const SECRET: &str = "0123456789abcdef0123";

/// The outbound section's end for tests whose client is in a shared network.
fn tenant(networks: &str, dir: &tempfile::TempDir) -> String {
    let path = dir.path().join("secret");
    std::fs::write(&path, SECRET).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, permissions).unwrap();
    let path = path.display();
    format!(
        "[[outbound.tenant]]\nnetworks = [\"{networks}\"]\nheader = \"Our-Tenant\"\nsecret_file = \"{path}\"\n"
    )
}

#[test]
fn mail_with_the_secret_is_signed_and_goes_on_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let hop = Hop::start(PLAIN, &[]);
    // The listener's own networks leave it out: the tenant's let it in.
    let server = Server::start(hop.address, "192.0.2.0/24", &tenant("127.0.0.0/8", &dir));
    let mut client = server.client();
    client.begin("user@example.jp", &["a@far.example"]);
    let fields = format!("Our-Tenant: wrong\r\nour-tenant :\r\n {SECRET}\r\n");
    client.send(format!("{fields}{MESSAGE}").as_bytes());
    assert_eq!(client.say("."), "250 2.0.0 queued as 7\r\n");
    client.say("QUIT");
    let heard = hop.transcripts(&server, 1).remove(0);
    assert!(!heard.to_ascii_lowercase().contains("our-tenant") && !heard.contains(SECRET), "{heard}");
    assert!(message(&heard).ends_with(MESSAGE), "{heard}");
    assert_eq!(tokens_for("user@example.jp", message(&heard)).len(), 1);
}

#[test]
fn mail_without_it_is_refused_and_nothing_of_it_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let hop = Hop::start(PLAIN, &[]);
    // Also where the listener's own networks have it too.
    let server = Server::start(hop.address, ANYBODY, &tenant("127.0.0.0/8", &dir));
    let mut client = server.client();
    for (field, sender) in [
        (String::new(), "user@example.jp"),
        ("Our-Tenant: 0123456789abcdef0124\r\n".to_owned(), "user@example.jp"),
        (format!("Our-Tenant: {}\r\n", &SECRET[1..]), "user@example.jp"),
        (format!("X-Our-Tenant: {SECRET}\r\n"), "user@example.jp"),
        (format!("Subject: Our-Tenant: {SECRET}\r\n"), "user@example.jp"),
        (String::new(), "stranger@elsewhere.example"),
        (String::new(), ""),
    ] {
        client.begin(sender, &["a@far.example"]);
        client.send(format!("{field}{MESSAGE}").as_bytes());
        let reply = client.say(".");
        assert!(reply.starts_with("550 5.7.1 Many share your network"), "{field}{sender}: {reply}");
    }
    // In the body it is no header field.
    client.begin("user@example.jp", &["a@far.example"]);
    client.send(format!("{MESSAGE}Our-Tenant: {SECRET}\r\n").as_bytes());
    assert!(client.say(".").starts_with("550 5.7.1 "));
    client.say("QUIT");
    for heard in hop.transcripts(&server, 8) {
        assert!(heard.ends_with("DATA\r\n[closed]"), "{heard:?}");
    }
    let metrics = &server.edge.metrics;
    assert_eq!((metrics.refused_tenants.get(), metrics.signed.get()), (8, 0));
}

#[test]
fn a_secret_that_is_taken_over_counts_from_the_next_message_on() {
    let dir = tempfile::tempdir().unwrap();
    let hop = Hop::start(PLAIN, &[]);
    let server = Server::start(hop.address, "192.0.2.0/24", &tenant("127.0.0.0/8", &dir));
    let mut client = server.client();
    let mut reply_to = |secret: &str| {
        client.begin("user@example.jp", &["a@far.example"]);
        client.send(format!("Our-Tenant: {secret}\r\n{MESSAGE}").as_bytes());
        client.say(".")
    };
    assert!(reply_to(SECRET).starts_with("250"));
    let new = "a-secret-of-another-day";
    std::fs::write(dir.path().join("secret"), new).unwrap();
    server.edge.set_tenants(Tenants::of(&server.edge.config).unwrap());
    assert!(reply_to(SECRET).starts_with("550 5.7.1"));
    assert!(reply_to(new).starts_with("250"));
    // Whoever came in by a tenant that is no more is not at home here for that.
    server.edge.set_tenants(Tenants::default());
    assert!(reply_to(new).starts_with("550 5.7.1"));
}

#[test]
fn from_networks_of_our_own_nothing_is_asked_but_the_field_is_taken_off_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let hop = Hop::start(PLAIN, &[]);
    let server = Server::start(hop.address, ANYBODY, &tenant("192.0.2.0/24", &dir));
    let mut client = server.client();
    client.begin("user@example.jp", &["a@far.example"]);
    client.send(format!("Our-Tenant: {SECRET}\r\n{MESSAGE}").as_bytes());
    assert_eq!(client.say("."), "250 2.0.0 queued as 7\r\n");
    client.say("QUIT");
    assert!(!hop.transcripts(&server, 1)[0].contains("Our-Tenant"));
}
