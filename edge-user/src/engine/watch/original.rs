//! The original that a bounce returns, as it stands in it: whole, its header section only, or cut.

use std::borrow::Cow;

use edge_core::message::header::fields;
use mail_parser::{Encoding, Message, MessagePart, MimeHeaders as _, PartType};
use memchr::memmem;

/// Names of fields that an original's header section begins with, where it stands in running text.
const FIRST_FIELDS: [&str; 8] =
    ["return-path", "received", "dkim-signature", "arc-seal", "from", "date", "message-id", "x-"];

/// Fields by at least one of which a header section in running text is known for one.
const TELLING_FIELDS: [&[u8]; 2] = [b"received", b"dkim-signature"];

/// Places in running text that are tried for a header section.
const TRIES_MAX: usize = 64;

/// The octets of the returned original, `raw` being the octets of `bounce`. `None`: none came back.
pub(super) fn original<'m>(bounce: &'m Message<'_>, raw: &'m [u8]) -> Option<Cow<'m, [u8]>> {
    let parts = || bounce.parts.iter().skip(1).chain(bounce.parts.first());
    parts().find_map(|part| in_a_part_of_its_own(part, raw)).or_else(|| {
        parts().find_map(|part| in_text(&contents(part, raw)).map(|text| Cow::Owned(text.to_vec())))
    })
}

/// `message/rfc822`, `text/rfc822-headers` and their international forms (RFC 2046, 6522, 6533).
fn in_a_part_of_its_own<'m>(part: &'m MessagePart<'_>, raw: &'m [u8]) -> Option<Cow<'m, [u8]>> {
    let is = |media_type, subtype| part.is_content_type(media_type, subtype);
    match &part.body {
        PartType::Message(original) => Some(Cow::Borrowed(original.raw_message())),
        PartType::Text(_) | PartType::Html(_) | PartType::Binary(_) | PartType::InlineBinary(_)
            if is("text", "rfc822-headers")
                || is("text", "rfc822-header")
                || is("message", "rfc822")
                || is("message", "rfc822-headers")
                || is("message", "global")
                || is("message", "global-headers") =>
        {
            Some(contents(part, raw))
        }
        PartType::Text(_)
        | PartType::Html(_)
        | PartType::Binary(_)
        | PartType::InlineBinary(_)
        | PartType::Multipart(_) => None,
    }
    .filter(|original| !original.is_empty())
}

/// A part's octets; those on the wire where they were not encoded, since a text may have been converted.
fn contents<'m>(part: &'m MessagePart<'_>, raw: &'m [u8]) -> Cow<'m, [u8]> {
    match (part.encoding, &part.body) {
        (_, PartType::Multipart(_) | PartType::Message(_)) => Cow::Borrowed(&[]),
        (Encoding::None, _) => {
            let range = part.raw_body_offset() as usize..part.raw_end_offset() as usize;
            Cow::Borrowed(raw.get(range).unwrap_or_default())
        }
        (Encoding::QuotedPrintable | Encoding::Base64, PartType::Text(text) | PartType::Html(text)) => {
            Cow::Borrowed(text.as_bytes())
        }
        (
            Encoding::QuotedPrintable | Encoding::Base64,
            PartType::Binary(octets) | PartType::InlineBinary(octets),
        ) => Cow::Borrowed(octets),
    }
}

/// From the first line that begins a header section to the text's end, as qmail and others return it.
fn in_text(text: &[u8]) -> Option<&[u8]> {
    let (mut after_blank, mut tries, mut at) = (true, 0, 0);
    while at < text.len() && tries < TRIES_MAX {
        let end = line_end(text, at);
        let line = text[at..end].trim_ascii_end();
        if after_blank && begins_header(line) {
            if is_header(&text[at..]) {
                return Some(&text[at..]);
            }
            tries += 1;
        }
        after_blank = line.is_empty();
        at = end;
    }
    None
}

/// Where the line from `at` on ends, behind its line feed.
fn line_end(text: &[u8], at: usize) -> usize {
    text[at..].iter().position(|octet| *octet == b'\n').map_or(text.len(), |feed| at + feed + 1)
}

fn begins_header(line: &[u8]) -> bool {
    let begins =
        |name: &&str| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()));
    line.contains(&b':') && FIRST_FIELDS.iter().any(begins)
}

/// The header section that a message begins with.
pub(super) fn header_section(message: &[u8]) -> &[u8] {
    let end = memmem::find(message, b"\r\n\r\n");
    end.map_or(message, |end| &message[..end + 2])
}

/// Whether what begins here is a header section that tells something.
fn is_header(text: &[u8]) -> bool {
    let mut fields = fields(header_section(text));
    fields.any(|(name, _)| TELLING_FIELDS.iter().any(|telling| name.eq_ignore_ascii_case(telling)))
}

#[cfg(test)]
mod tests {
    use mail_parser::MessageParser;

    use super::*;

    const ORIGINAL: &str = "Received: from shop.example.jp by mx.far.example; Tue, 24 Nov 2026 00:00:00 +0000\r\n\
         From: shop@example.jp\r\nSubject: your order\r\n\r\nHello\r\n";

    fn found(bounce: &str) -> Option<String> {
        let message = MessageParser::default().parse(bounce.as_bytes())?;
        Some(String::from_utf8_lossy(&original(&message, bounce.as_bytes())?).into_owned())
    }

    fn report(part: &str) -> String {
        format!(
            "From: MAILER-DAEMON@far.example\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\nIt failed.\r\n\
             --b\r\n{part}\r\n--b--\r\n"
        )
    }

    #[test]
    fn an_original_is_found_however_it_is_returned() {
        use base64::Engine as _;
        let header = ORIGINAL.split_once("\r\n\r\n").map(|(header, _)| format!("{header}\r\n")).unwrap();
        let base64 = base64::engine::general_purpose::STANDARD.encode(ORIGINAL);
        let rows = [
            (report(&format!("Content-Type: message/rfc822\r\n\r\n{ORIGINAL}")), "message/rfc822"),
            (report(&format!("Content-Type: text/rfc822-headers\r\n\r\n{header}")), "headers"),
            (
                report(&format!(
                    "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n{base64}\r\n"
                )),
                "base64",
            ),
            (
                format!(
                    "From: MAILER-DAEMON@far.example\r\n\r\nHi. I am qmail.\r\n\r\n--- Below this line:\r\n\r\n{ORIGINAL}"
                ),
                "qmail",
            ),
        ];
        for (bounce, name) in rows {
            let found = found(&bounce).unwrap_or_else(|| panic!("{name}: nothing in {bounce}"));
            assert!(found.starts_with("Received: from shop.example.jp"), "{name}: {found}");
            assert_eq!(found.contains("\r\nHello"), name != "headers", "{name}: {found}");
        }
    }

    #[test]
    fn where_none_came_back_none_is_found() {
        let rows = [
            "From: MAILER-DAEMON@far.example\r\n\r\nIt failed.\r\nFrom: me: or so\r\n".to_owned(),
            report("Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n"),
            "\r\n".to_owned(),
        ];
        for bounce in rows {
            assert_eq!(found(&bounce), None, "{bounce}");
        }
    }

    #[test]
    fn a_cut_bounce_never_panics() {
        let bounce = report(&format!("Content-Type: message/rfc822\r\n\r\n{ORIGINAL}"));
        for end in 0..bounce.len() {
            let _ = found(&bounce[..end]);
        }
    }
}
