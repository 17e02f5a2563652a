//! End to end: real mail servers and Backstop in the lab. Needs root and what `cargo xtask setup` installs; without
//! them these tests fail and say so.

mod bench_flood;
mod bench_guest;
mod bench_smtp;
mod command_line;
mod crash;
mod deploy;
mod docs;
mod doctor;
mod forged_bounce;
mod forwarders;
mod handover;
mod kept;
mod kinds;
mod lab_itself;
mod last_packet;
mod mass;
mod missing;
mod quarantine;
mod readme;
mod real_bounce;
mod record;
mod relay;
mod servers_alone;
mod service;
mod tls;
mod watch_to_enforce;

/// A user's message, told from others by its subject; the field `X-Returned` names it inside a bounce.
fn message(subject: &str) -> String {
    format!(
        "From: Alice <alice@example.jp>\nTo: Somebody <somebody@elsewhere.example>\nSubject: {subject}\n\
         Message-ID: <{subject}@example.jp>\nX-Returned: {subject}\n\nHello.\n"
    )
}
