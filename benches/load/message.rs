//! Honest messages, forged originals, and what every message of the load has: an id that is counted on arrival.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rand::Rng;
use rand::rngs::StdRng;

use crate::plan::{self, Kind};
use crate::smtp::Envelope;

/// The field with a message's id, in its own header section.
pub const ID_FIELD: &str = "X-Load-Id";

/// The field with the id of a forged original that a real server bounces: it comes back inside that bounce.
pub const ORIGIN_FIELD: &str = "X-Load-Origin";

/// A message ready for the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Its envelope.
    pub envelope: Envelope,
    /// Header section and body: CRLF, dot-stuffed, without the final dot.
    pub wire: Vec<u8>,
}

/// How often each id stands in a mailbox's text (mbox or the files of a Maildir, one after the other).
#[must_use]
pub fn arrivals(mailbox: &[u8]) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    for line in mailbox.split(|octet| *octet == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let Some((name, id)) = line.split_once(": ") else { continue };
        if name == ID_FIELD || name == ORIGIN_FIELD {
            *found.entry(id.trim_end().to_owned()).or_default() += 1;
        }
    }
    found
}

/// Makes text ready for the wire: every line ends with CRLF, a leading dot is doubled (RFC 5321 section 4.5.2).
#[must_use]
pub fn wire(text: &str) -> Vec<u8> {
    let mut wire = Vec::with_capacity(text.len() + text.len() / 32);
    for line in text.lines() {
        if line.starts_with('.') {
            wire.push(b'.');
        }
        wire.extend_from_slice(line.as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

/// A wanted message: 1 to 8 KB of text, some lines of which begin with a dot.
#[must_use]
pub fn honest(number: u32, seed: u64, recipients: &[String]) -> Message {
    let id = plan::id(Kind::Honest, number, seed);
    let mut rng = plan::rng(seed, &id);
    let recipient = choose(&mut rng, recipients).to_owned();
    let sender = format!("{}@{}", word(&mut rng), host(&mut rng));
    let mut text = String::new();
    let _ = write!(
        text,
        "{ID_FIELD}: {id}\nFrom: <{sender}>\nTo: <{recipient}>\nSubject: minutes of our meeting ({id})\n\
         Date: {DATE}\nMessage-ID: <{id}.{:016x}@load.example>\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\n\n",
        rng.random::<u64>(),
    );
    let length = rng.random_range(1000..8000);
    prose(&mut text, &mut rng, length);
    Message { envelope: Envelope { sender, recipient }, wire: wire(&text) }
}

/// What a criminal sends to strangers in a victim's name; `recipient` is unknown there and will be bounced.
#[must_use]
pub fn forged_original(number: u32, seed: u64, victims: &[String], far_domain: &str) -> Message {
    let id = plan::id(Kind::Original, number, seed);
    let mut rng = plan::rng(seed, &id);
    let victim = choose(&mut rng, victims).to_owned();
    let recipient = format!("nobody-{number}@{far_domain}");
    let mut text = format!("{ORIGIN_FIELD}: {id}\n");
    text.push_str(&forged_header(&mut rng, &victim, &recipient, false));
    text.push('\n');
    prose(&mut text, &mut rng, 600);
    Message { envelope: Envelope { sender: victim, recipient }, wire: wire(&text) }
}

/// The header section of a forged message, with LF, ending with its last field. `token`: with a made-up token.
pub(crate) fn forged_header(rng: &mut StdRng, victim: &str, recipient: &str, token: bool) -> String {
    let mut text = String::new();
    for _ in 0..rng.random_range(1..5) {
        let _ = write!(
            text,
            "Received: from {} ([198.51.100.{}])\n\tby {} with ESMTP id {:08x}\n\tfor <{recipient}>; {DATE}\n",
            host(rng),
            rng.random_range(1..255),
            host(rng),
            rng.random::<u32>(),
        );
    }
    if rng.random_bool(0.4) {
        let _ = writeln!(text, "Authentication-Results: {}; dmarc=fail (p=reject)", host(rng));
    }
    if token {
        let _ = writeln!(text, "Backstop-Token: bs1.{}", base64url(rng, 36));
    }
    let _ = write!(
        text,
        "From: \"Account desk\" <{victim}>\nTo: <{recipient}>\nSubject: your invoice {}\nDate: {DATE}\n\
         Message-ID: <{:016x}@{}>\nMIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n",
        rng.random_range(10_000..99_999),
        rng.random::<u64>(),
        host(rng),
    );
    text
}

/// Nobody judges by it, and a fixed one keeps messages the same by seed.
pub(crate) const DATE: &str = "Tue, 24 Nov 2026 20:31:00 +0000";

/// Running text of about `length` octets in lines under 76.
pub(crate) fn prose(text: &mut String, rng: &mut StdRng, length: usize) {
    let end = text.len() + length;
    while text.len() < end {
        if rng.random_bool(0.03) {
            text.push('.');
        }
        for _ in 0..rng.random_range(4..10) {
            text.push_str(word(rng));
            text.push(' ');
        }
        text.push('\n');
    }
}

pub(crate) fn host(rng: &mut StdRng) -> String {
    format!("{}{}.{}.example", word(rng), rng.random_range(1..100), word(rng))
}

pub(crate) fn base64url(rng: &mut StdRng, length: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..length).map(|_| char::from(ALPHABET[rng.random_range(0..64)])).collect()
}

fn word(rng: &mut StdRng) -> &'static str {
    const WORDS: [&str; 24] = [
        "harbour", "meadow", "lantern", "copper", "window", "river", "garden", "winter", "letter", "bridge",
        "market", "silver", "orchard", "station", "paper", "morning", "castle", "anchor", "valley", "summer",
        "basket", "candle", "forest", "island",
    ];
    WORDS[rng.random_range(0..WORDS.len())]
}

/// One of `from`; an empty list is the caller's fault and checked at start.
pub(crate) fn choose<'a>(rng: &mut StdRng, from: &'a [String]) -> &'a str {
    &from[rng.random_range(0..from.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_has_only_crlf_and_doubled_dots() {
        assert_eq!(wire("a\n.b\n..\n\nc"), b"a\r\n..b\r\n...\r\n\r\nc\r\n");
    }

    #[test]
    fn an_id_is_counted_once_a_message() {
        let recipients = ["user@load.example".to_owned()];
        let mut mailbox = honest(1, 7, &recipients).wire;
        mailbox.extend(honest(2, 7, &recipients).wire);
        mailbox.extend(honest(2, 7, &recipients).wire);
        let found = arrivals(&mailbox);
        assert_eq!(found.get("h000001.7"), Some(&1));
        assert_eq!(found.get("h000002.7"), Some(&2));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn no_line_is_longer_than_rfc_5321_allows() {
        let recipients = ["user@load.example".to_owned()];
        for number in 0..50 {
            let message = honest(number, 7, &recipients);
            assert!(message.wire.split(|octet| *octet == b'\n').all(|line| line.len() < 999));
        }
    }
}
