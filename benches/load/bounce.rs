//! Bounces in the forms that real servers make them, in our own words.
//!
//! Forms: Postfix, Exim, Sendmail (RFC 3464 reports with the original's header section or the whole original),
//! qmail (RFC 1894 knows it not: plain text with a copy below), and a gateway's report whose returned header
//! section is quoted-printable or base64, as Exchange and appliances send it.

use std::fmt::Write as _;

use base64::Engine as _;
use rand::Rng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::message::{DATE, ID_FIELD, Message, choose, forged_header, host, prose, wire};
use crate::plan::{self, Kind};
use crate::smtp::Envelope;

/// An original that the edge signed, as its bounce will return it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
pub struct SignedOriginal {
    /// Where its bounce goes: its envelope sender as it left, tagged or not.
    pub recipient: String,
    /// Its header section as it left, LF or CRLF.
    pub header: String,
}

/// Reads signed originals, one JSON object a line.
///
/// # Errors
/// A line is none; the message names it.
pub fn signed_originals(lines: &str) -> anyhow::Result<Vec<SignedOriginal>> {
    use anyhow::Context as _;
    (1..)
        .zip(lines.lines())
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            serde_json::from_str(line).with_context(|| {
                format!("line {number} is no signed original: expected {{\"recipient\": .., \"header\": ..}}")
            })
        })
        .collect()
}

/// A form of bounce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// `multipart/report` with `text/rfc822-headers`.
    Postfix,
    /// `multipart/report` with `message/rfc822`.
    Exim,
    /// `multipart/report` with a session transcript before.
    Sendmail,
    /// Plain text, the original below a line.
    Qmail,
    /// Returned header section in quoted-printable.
    QuotedPrintable,
    /// Returned header section in base64.
    Base64,
}

/// All forms.
pub const FORMS: [Form; 6] =
    [Form::Postfix, Form::Exim, Form::Sendmail, Form::Qmail, Form::QuotedPrintable, Form::Base64];

/// A bounce that answers a forgery. One in twenty returns a made-up token as well.
#[must_use]
pub fn forged(number: u32, seed: u64, victims: &[String]) -> Message {
    let id = plan::id(Kind::Forged, number, seed);
    let mut rng = plan::rng(seed, &id);
    let victim = choose(&mut rng, victims).to_owned();
    let unknown = format!("nobody-{number}@{}", host(&mut rng));
    let token = rng.random_bool(0.05);
    let original = forged_header(&mut rng, &victim, &unknown, token);
    let form = FORMS[rng.random_range(0..FORMS.len())];
    bounce(form, &id, &victim, &unknown, &original, &mut rng)
}

/// A bounce that returns a signed original.
#[must_use]
pub fn real(number: u32, seed: u64, original: &SignedOriginal) -> Message {
    let id = plan::id(Kind::RealBounce, number, seed);
    let mut rng = plan::rng(seed, &id);
    let unknown = format!("nobody-{number}@{}", host(&mut rng));
    // Each form in turn: fifty real bounces try all of them.
    let form = FORMS[number as usize % FORMS.len()];
    bounce(form, &id, &original.recipient, &unknown, original.header.trim_end(), &mut rng)
}

/// A bounce of `form` to `to`, about `unknown`, returning `original` (a header section).
fn bounce(form: Form, id: &str, to: &str, unknown: &str, original: &str, rng: &mut StdRng) -> Message {
    const WHY: [&str; 4] = [
        "550 5.1.1 the mailbox is unknown here",
        "552 5.2.2 the mailbox is full",
        "550 5.7.1 Rejected per DMARC policy",
        "554 5.4.4 no server for this name",
    ];
    let parts = Parts {
        id,
        to,
        unknown,
        original: original.trim_end(),
        server: host(rng),
        why: WHY[rng.random_range(0..WHY.len())],
        boundary: format!("part-{:016x}", rng.random::<u64>()),
    };
    let text = match form {
        Form::Postfix => {
            let said = format!("This is {}.\n\nYour message did not arrive.\n\n", parts.server);
            parts.report("text/rfc822-headers", None, &said, parts.original)
        }
        Form::Exim => {
            let said = "A message that you sent could not be delivered to all of its recipients.\n\n";
            let mut whole = format!("{}\n\n", parts.original);
            let length = rng.random_range(200..3000);
            prose(&mut whole, rng, length);
            parts.report("message/rfc822", None, said, &whole)
        }
        Form::Sendmail => {
            let said = format!(
                "The message was received from [198.51.100.9]\n\n   ---- fatal errors for ----\n<{unknown}>\n\n\
                 \x20  ---- transcript ----\n>>> RCPT To:<{unknown}>\n<<< {}\n",
                parts.why
            );
            parts.report("text/rfc822-headers", None, &said, parts.original)
        }
        Form::Qmail => parts.plain(rng),
        Form::QuotedPrintable => {
            let encoded = quoted_printable(parts.original);
            parts.report("text/rfc822-headers", Some("quoted-printable"), "Undeliverable.\n", &encoded)
        }
        Form::Base64 => {
            let encoded = base64_lines(&parts.original.replace("\r\n", "\n").replace('\n', "\r\n"));
            parts.report("text/rfc822-headers", Some("base64"), "Undeliverable.\n", &encoded)
        }
    };
    let envelope = Envelope { sender: String::new(), recipient: to.to_owned() };
    Message { envelope, wire: wire(&text) }
}

/// What every form is made of.
struct Parts<'a> {
    id: &'a str,
    to: &'a str,
    unknown: &'a str,
    original: &'a str,
    server: String,
    why: &'a str,
    boundary: String,
}

impl Parts<'_> {
    fn header(&self, content_type: &str) -> String {
        let Self { id, to, server, .. } = self;
        format!(
            "{ID_FIELD}: {id}\nFrom: Mail Delivery System <MAILER-DAEMON@{server}>\nTo: <{to}>\n\
             Subject: Undelivered Mail Returned to Sender ({id})\nDate: {DATE}\nMessage-ID: <{id}@{server}>\n\
             Auto-Submitted: auto-replied\nMIME-Version: 1.0\nContent-Type: {content_type}\n\n"
        )
    }

    /// RFC 3464, with the returned part of `kind`.
    fn report(&self, kind: &str, encoding: Option<&str>, said: &str, returned: &str) -> String {
        let Self { unknown, server, why, boundary, .. } = self;
        let status = why.split(' ').nth(1).unwrap_or("5.0.0");
        let mut text = self
            .header(&format!("multipart/report; report-type=delivery-status;\n\tboundary=\"{boundary}\""));
        let _ = write!(
            text,
            "--{boundary}\nContent-Type: text/plain; charset=us-ascii\n\n{said}\n<{unknown}>: {why}\n\n\
             --{boundary}\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; {server}\n\n\
             Final-Recipient: rfc822; {unknown}\nAction: failed\nStatus: {status}\n\
             Diagnostic-Code: smtp; {why}\n\n--{boundary}\nContent-Type: {kind}\n"
        );
        if let Some(encoding) = encoding {
            let _ = writeln!(text, "Content-Transfer-Encoding: {encoding}");
        }
        let _ = write!(text, "\n{returned}\n--{boundary}--\n");
        text
    }

    /// No MIME at all.
    fn plain(&self, rng: &mut StdRng) -> String {
        let Self { unknown, server, why, original, .. } = self;
        let mut text = self.header("text/plain");
        let _ = write!(
            text,
            "This is the mail program at {server}. I gave up on your message.\n\n<{unknown}>:\n{why}\n\n\
             --- Below this line is the message.\n\n{original}\n\n"
        );
        let length = rng.random_range(200..3000);
        prose(&mut text, rng, length);
        text
    }
}

/// RFC 2045 section 6.7: `=` and what is not printable ASCII are encoded, lines are at most 76 long.
fn quoted_printable(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut column = 0;
        let octets = line.as_bytes();
        for (place, octet) in octets.iter().enumerate() {
            let last = place + 1 == octets.len();
            let plain = match octet {
                b' ' | b'\t' => !last,
                b'!'..=b'~' => *octet != b'=',
                _ => false,
            };
            let width = if plain { 1 } else { 3 };
            if column + width > 75 {
                out.push_str("=\n");
                column = 0;
            }
            column += width;
            if plain {
                out.push(char::from(*octet));
            } else {
                let _ = write!(out, "={octet:02X}");
            }
        }
        out.push('\n');
    }
    out
}

fn base64_lines(text: &str) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(text);
    let mut out = String::with_capacity(encoded.len() + encoded.len() / 76 + 1);
    for (place, letter) in encoded.chars().enumerate() {
        if place > 0 && place % 76 == 0 {
            out.push('\n');
        }
        out.push(letter);
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::arrivals;

    const TOKEN: &str = "bs1.AbCdEfGhIjKlMnOpQrStUvWxYz0123456789";

    fn original() -> SignedOriginal {
        SignedOriginal {
            recipient: "user@load.example".to_owned(),
            header: format!("From: <user@load.example>\r\nBackstop-Token: {TOKEN}\r\nSubject: a = b\r\n"),
        }
    }

    #[test]
    fn every_form_returns_the_token_in_its_own_encoding() {
        for (number, form) in (0..).zip(FORMS) {
            let text = String::from_utf8(real(number, 7, &original()).wire).unwrap();
            let decoded = match form {
                Form::Postfix | Form::Exim | Form::Sendmail | Form::Qmail => text.clone(),
                Form::QuotedPrintable => text.replace("=\r\n", "").replace("=3D", "="),
                Form::Base64 => {
                    let body = text.split("base64\r\n\r\n").nth(1).unwrap();
                    let body = body.split("--part").next().unwrap().replace("\r\n", "");
                    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(body).unwrap())
                        .unwrap()
                }
            };
            assert!(decoded.contains(&format!("Backstop-Token: {TOKEN}")), "{form:?}:\n{text}");
        }
    }

    #[test]
    fn a_bounce_has_its_own_id_once_and_the_null_sender() {
        for number in 0..100 {
            let message = forged(number, 7, &["user@load.example".to_owned()]);
            assert_eq!(message.envelope.sender, "");
            let id = plan::id(Kind::Forged, number, 7);
            assert_eq!(arrivals(&message.wire), [(id, 1)].into());
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_bounce() {
        let victims = ["user@load.example".to_owned()];
        assert_eq!(forged(3, 7, &victims), forged(3, 7, &victims));
        assert_ne!(forged(3, 7, &victims), forged(3, 8, &victims));
    }

    #[test]
    fn a_broken_line_of_signed_originals_is_named() {
        let good = serde_json::to_string(&original()).unwrap();
        assert_eq!(signed_originals(&format!("{good}\n\n{good}\n")).unwrap().len(), 2);
        let error = signed_originals(&format!("{good}\nnonsense")).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
