//! What a bounce says of itself, for the log: its kind, its status and who reports (RFC 3462, 3464, 5965, 6533).
//!
//! Nothing is decided by it: whoever sends a bounce writes this as he likes. It is read after the scan, by a MIME
//! parser, from what is held; at most `REPORT_BYTES_MAX` of it.

use std::borrow::Cow;

use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders as _, PartType};

use crate::telemetry::Report;

/// Octets of a message that are read for its report. The report stands before the original.
const REPORT_BYTES_MAX: usize = 64 << 10;

/// Characters of each value that are kept.
const VALUE_CHARS_MAX: usize = 128;

/// What the message says; `pieces` are its octets in order, as on the wire. `None`: nothing.
#[must_use]
pub fn report<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Option<Report> {
    let start = start_of(pieces);
    let message = MessageParser::new().with_mime_headers().parse(start.as_ref())?;
    let mut report = Report { kind: kind(&message), ..Report::default() };
    for part in message.parts.iter().filter(|part| is_report(part)) {
        // The first of each: that is the first recipient's status.
        for (name, value) in fields(contents(part)) {
            let place = match name {
                _ if name.eq_ignore_ascii_case(b"Status") => &mut report.status,
                _ if name.eq_ignore_ascii_case(b"Reporting-MTA") => &mut report.reporting_mta,
                _ => continue,
            };
            if place.is_none() {
                *place = clean(value);
            }
        }
    }
    (report != Report::default()).then_some(report)
}

/// The first octets in one run. A message that came in one piece is not copied.
fn start_of<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Cow<'p, [u8]> {
    let mut start = Cow::Borrowed(&[][..]);
    for piece in pieces {
        let piece = &piece[..piece.len().min(REPORT_BYTES_MAX - start.len())];
        if start.is_empty() {
            start = Cow::Borrowed(piece);
        } else {
            start.to_mut().extend_from_slice(piece);
        }
    }
    start
}

/// The report type of `multipart/report`.
fn kind(message: &Message<'_>) -> Option<String> {
    let content_type = message.root_part().content_type()?;
    let of_report = content_type.subtype().is_some_and(|subtype| subtype.eq_ignore_ascii_case("report"));
    content_type.attribute("report-type").filter(|_| of_report).and_then(|kind| clean(kind.as_bytes()))
}

/// Whether a part is machine-readable: `message/delivery-status`, its international form, `message/feedback-report`.
fn is_report(part: &MessagePart<'_>) -> bool {
    ["delivery-status", "global-delivery-status", "feedback-report", "disposition-notification"]
        .iter()
        .any(|subtype| part.is_content_type("message", subtype))
}

fn contents<'m>(part: &'m MessagePart<'_>) -> &'m [u8] {
    match &part.body {
        PartType::Text(text) | PartType::Html(text) => text.as_bytes(),
        PartType::Binary(octets) | PartType::InlineBinary(octets) => octets,
        PartType::Message(message) => message.raw_message(),
        PartType::Multipart(_) => &[],
    }
}

/// Name and value of each line that has both; folded lines are left out, no value that counts has any.
fn fields(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|&octet| octet == b'\n').filter_map(|line| {
        let colon = line.iter().position(|&octet| octet == b':')?;
        Some((line[..colon].trim_ascii_end(), &line[colon + 1..]))
    })
}

/// A value fit for a line of log: visible, short, and not empty.
fn clean(value: &[u8]) -> Option<String> {
    let value: String = String::from_utf8_lossy(value)
        .trim()
        .chars()
        .filter(|character| !character.is_control())
        .take(VALUE_CHARS_MAX)
        .collect();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNCE: &str = "From: MAILER-DAEMON@far.example\r\n\
        Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"b\"\r\n\
        MIME-Version: 1.0\r\n\r\n\
        --b\r\nContent-Type: text/plain\r\n\r\nStatus: 9.9.9 is only said in passing\r\n\
        --b\r\nContent-Type: message/delivery-status\r\n\r\n\
        Reporting-MTA: dns; mx.far.example\r\n\r\n\
        Final-Recipient: rfc822; a@far.example\r\nAction: failed\r\nstatus: 5.1.1\r\n\r\n\
        Final-Recipient: rfc822; b@far.example\r\nStatus: 4.4.1\r\n\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\nReporting-MTA: no\r\n\r\nHello\r\n--b--\r\n";

    fn expected() -> Report {
        Report {
            kind: Some("delivery-status".into()),
            status: Some("5.1.1".into()),
            reporting_mta: Some("dns; mx.far.example".into()),
        }
    }

    #[test]
    fn a_bounce_says_its_kind_status_and_reporter_however_it_is_cut() {
        assert_eq!(report([BOUNCE.as_bytes()]), Some(expected()));
        for cut in 0..BOUNCE.len() {
            let (head, tail) = BOUNCE.as_bytes().split_at(cut);
            assert_eq!(report([head, tail]), Some(expected()), "cut before {cut}");
        }
        assert_eq!(report(BOUNCE.as_bytes().chunks(1)), Some(expected()));
    }

    #[test]
    fn a_report_in_base64_is_read_too() {
        use base64::Engine as _;
        let status = base64::engine::general_purpose::STANDARD
            .encode("Reporting-MTA: dns; mx.far.example\n\nStatus: 5.2.2\n");
        let bounce = format!(
            "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
             --b\r\nContent-Type: message/delivery-status\r\nContent-Transfer-Encoding: base64\r\n\r\n\
             {status}\r\n--b--\r\n"
        );
        assert_eq!(report([bounce.as_bytes()]).unwrap().status.unwrap(), "5.2.2");
    }

    #[test]
    fn what_says_nothing_has_no_report() {
        for message in ["", "\r\n", "Subject: x\r\n\r\nStatus: 5.1.1\r\n", "no header at all"] {
            assert_eq!(report([message.as_bytes()]), None, "{message:?}");
        }
    }

    #[test]
    fn a_value_is_short_and_has_no_control_characters() {
        let long = BOUNCE.replace("mx.far.example", &"m\u{1b}[31m\u{7f}".repeat(1000));
        let value = report([long.as_bytes()]).unwrap().reporting_mta.unwrap();
        assert_eq!(value.chars().count(), VALUE_CHARS_MAX);
        assert!(!value.chars().any(char::is_control), "{value:?}");
    }

    #[test]
    fn no_more_than_the_bound_is_read() {
        let filler = vec![b'x'; REPORT_BYTES_MAX + 10];
        assert_eq!(start_of([&filler[..]]).len(), REPORT_BYTES_MAX);
        assert_eq!(start_of([&filler[..9], &filler, &filler]).len(), REPORT_BYTES_MAX);
        let late = format!("Subject: x\r\n\r\n{}{BOUNCE}", "y\r\n".repeat(REPORT_BYTES_MAX));
        assert_eq!(report([late.as_bytes()]), None);
    }

    #[test]
    fn a_cut_bounce_never_panics() {
        for end in 0..BOUNCE.len() {
            let _ = report([&BOUNCE.as_bytes()[..end]]);
        }
    }
}
