//! The parts of a message, as far as they tell its kind: borders and header fields (RFC 2045, 2046), bounded.
//!
//! What is inside a part of type `message/*` is never looked at: there lies the original, which a stranger wrote.
//! Values and encodings are read by mail-parser; the borders are walked here, so that depth, parts and fields have a
//! bound whatever a message looks like.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::LazyLock;

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::parsers::MessageStream;
use mail_parser::{ContentType, HeaderValue};
use memchr::memmem::Finder;

/// Multiparts within multiparts that are looked into. Real reports have at most three.
const DEPTH_MAX: usize = 4;

/// Parts of a message that are looked at.
const PARTS_MAX: usize = 32;

/// Fields of one header section that are looked at.
const FIELDS_MAX: usize = 256;

/// Octets of a field's value that are read.
const VALUE_BYTES_MAX: usize = 4096;

/// A field's name and value.
type Field<'m> = (&'m [u8], &'m [u8]);

/// A message or a part of one: its header fields and its body as it stands.
#[derive(Debug)]
pub(super) struct Part<'m> {
    fields: Vec<Field<'m>>,
    /// `type/subtype`, lowercased.
    pub(super) media_type: Cow<'static, str>,
    /// Read when a parameter is asked for.
    content_type: OnceCell<Option<ContentType<'m>>>,
    /// What stands behind the header section; `None`: that did not end.
    body: Option<&'m [u8]>,
}

/// The message and its parts in order, the message itself first.
pub(super) fn parts(message: &[u8]) -> Vec<Part<'_>> {
    let mut all = Vec::new();
    walk(message, "text/plain", DEPTH_MAX, &mut all);
    all
}

fn walk<'m>(entity: &'m [u8], default_type: &'static str, depth: usize, all: &mut Vec<Part<'m>>) {
    if all.len() >= PARTS_MAX {
        return;
    }
    let part = Part::of(entity, default_type);
    let (body, boundary) = (part.body(), part.boundary().map(str::to_owned));
    // RFC 2046 section 5.1.5: a digest's parts are messages.
    let inner_type = if part.media_type == "multipart/digest" { "message/rfc822" } else { "text/plain" };
    all.push(part);
    if let (Some(boundary), Some(depth)) = (boundary, depth.checked_sub(1)) {
        for inner in split(body, boundary.as_bytes()) {
            walk(inner, inner_type, depth, all);
        }
    }
}

impl<'m> Part<'m> {
    fn of(entity: &'m [u8], default_type: &'static str) -> Self {
        let (fields, body) = section(entity);
        let mut part = Self { fields, media_type: default_type.into(), content_type: OnceCell::new(), body };
        if let Some(media_type) = part.raw("Content-Type").and_then(plain_type) {
            part.media_type = media_type;
        } else if let Some(content_type) = part.content_type() {
            let subtype = content_type.subtype().unwrap_or_default();
            part.media_type = format!("{}/{subtype}", content_type.ctype()).to_ascii_lowercase().into();
        }
        part
    }

    fn content_type(&self) -> Option<&ContentType<'m>> {
        self.content_type.get_or_init(|| self.raw("Content-Type").and_then(content_type)).as_ref()
    }

    /// Whether its header section is whole: what is cut within it may have more to say.
    pub(super) fn has_whole_header(&self) -> bool {
        self.body.is_some()
    }

    fn body(&self) -> &'m [u8] {
        self.body.unwrap_or_default()
    }

    fn boundary(&self) -> Option<&str> {
        let is_multipart = self.media_type.starts_with("multipart/");
        is_multipart.then(|| self.parameter("boundary").filter(|boundary| !boundary.is_empty()))?
    }

    /// A parameter of its `Content-Type`.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.content_type()?.attribute(name)
    }

    /// The file name that it proposes (RFC 2183 section 2.3; older mail has it in `Content-Type`).
    pub(super) fn file_name(&self) -> Option<String> {
        let disposition = self.raw("Content-Disposition").and_then(content_type);
        let named = disposition.as_ref().and_then(|disposition| disposition.attribute("filename"));
        named.or_else(|| self.parameter("name")).map(str::to_owned)
    }

    /// The values of all fields of this name, folds and all.
    fn raws<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'m [u8]> + 'a {
        let named = self.fields.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name.as_bytes()));
        named.map(|(_, value)| *value)
    }

    fn raw(&self, name: &str) -> Option<&'m [u8]> {
        self.raws(name).next()
    }

    /// Whether it has such a field.
    pub(super) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// The values of all fields of this name, in lowercase, unfolded.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        self.raws(name).map(plain)
    }

    /// The first such value; empty: there is none.
    pub(super) fn value(&self, name: &str) -> String {
        self.raw(name).map(plain).unwrap_or_default()
    }

    /// The first such field as text: encoded words decoded (RFC 2047), in lowercase.
    pub(super) fn text_of(&self, name: &str) -> String {
        let Some(raw) = self.raw(name) else { return String::new() };
        match MessageStream::new(raw).parse_unstructured() {
            HeaderValue::Text(text) => text.to_lowercase(),
            _ => plain(raw),
        }
    }

    /// The names of all fields, in lowercase.
    pub(super) fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.fields.iter().map(|(name, _)| String::from_utf8_lossy(name).to_ascii_lowercase())
    }

    /// Its body, its encoding taken off (RFC 2045 section 6); as it stands where it is not what it says.
    pub(super) fn contents(&self) -> Cow<'m, [u8]> {
        let encoding = self.raw("Content-Transfer-Encoding").map(plain).unwrap_or_default();
        let decoded = match encoding.as_str() {
            "base64" => base64_decode(whole_groups(self.body())),
            "quoted-printable" => quoted_printable_decode(self.body()),
            _ => None,
        };
        decoded.map_or(Cow::Borrowed(self.body()), Cow::Owned)
    }

    /// The characters of its contents, or of their beginning. What is UTF-8 is read as such, whatever it says.
    pub(super) fn decoded<'c>(&self, contents: &'c [u8]) -> Cow<'c, str> {
        // The last character may have been cut.
        let is_utf8 =
            std::str::from_utf8(contents).map_or_else(|fault| fault.error_len().is_none(), |_| true);
        let charset = self.parameter("charset").and_then(|charset| charset_decoder(charset.as_bytes()));
        match charset {
            // ISO-2022-JP and its like are in ASCII, too.
            Some(decode) if contents.is_ascii() || !is_utf8 => Cow::Owned(decode(contents)),
            Some(_) | None => String::from_utf8_lossy(contents),
        }
    }

    /// Whether its text is in HTML: by its type, or where it begins as such.
    pub(super) fn is_html(&self, contents: &[u8]) -> bool {
        let begin = contents.trim_ascii_start();
        self.media_type == "text/html"
            || ["<html", "<!doctype html"].iter().any(|mark| {
                begin.get(..mark.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(mark.as_bytes()))
            })
    }

    /// Whether it is an attachment, by its own word.
    pub(super) fn is_attached(&self) -> bool {
        self.value("Content-Disposition").starts_with("attachment")
    }
}

/// The lines of base64 that are whole: the last one may have been cut with the message.
fn whole_groups(body: &[u8]) -> &[u8] {
    let last = body.trim_ascii_end();
    let line = memchr::memrchr(b'\n', last).map_or(0, |at| at + 1);
    if last[line..].len().is_multiple_of(4) { last } else { &last[..line] }
}

/// The media type of a value that is written as nearly all are: a token, `/`, a token, and the end or a `;` (RFC 2045
/// section 5.1). `None`: the parser must say.
fn plain_type(raw: &[u8]) -> Option<Cow<'static, str>> {
    // Where the line does not end, the value may go on.
    let raw = raw.strip_suffix(b"\n")?.trim_ascii();
    let media_type = &raw[..memchr::memchr(b';', raw).unwrap_or(raw.len())];
    let mut tokens = media_type.split(|octet| *octet == b'/');
    let is_token = |token: &[u8]| {
        !token.is_empty()
            && token
                .iter()
                .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'+' | b'_'))
    };
    let is_plain =
        tokens.next().is_some_and(is_token) && tokens.next().is_some_and(is_token) && tokens.next().is_none();
    let text = str::from_utf8(media_type).ok().filter(|_| is_plain)?;
    let often = ["text/plain", "text/html", "message/rfc822", "message/delivery-status", "multipart/report"];
    let known = often.into_iter().find(|own| own.eq_ignore_ascii_case(text));
    Some(known.map_or_else(|| Cow::Owned(text.to_ascii_lowercase()), Cow::Borrowed))
}

fn content_type(raw: &[u8]) -> Option<ContentType<'_>> {
    match MessageStream::new(raw).parse_content_type() {
        HeaderValue::ContentType(content_type) => Some(content_type),
        _ => None,
    }
}

/// A value in lowercase, its folds and what stands around it taken off.
fn plain(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw).to_lowercase();
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// The lines of a text, each with what ends it (CRLF on the wire, LF within base64).
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (line, behind) = rest.split_at(memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1));
        rest = behind;
        (!line.is_empty()).then_some(line)
    })
}

/// The fields of a header section and what stands behind its empty line (`None`: it does not end). A line that is no
/// field ends it, too.
pub(super) fn section(entity: &[u8]) -> (Vec<Field<'_>>, Option<&[u8]>) {
    let mut fields = Vec::new();
    let mut at = 0;
    let mut next = lines(entity).peekable();
    while let Some(first) = next.next() {
        if matches!(first, b"\n" | b"\r\n") {
            return (fields, Some(&entity[at + first.len()..]));
        }
        let mut len = first.len();
        while let Some(more) = next.next_if(|line| matches!(line, [b' ' | b'\t', ..])) {
            len += more.len();
        }
        let field = &entity[at..at + len];
        match split_name(field) {
            Some((name, value)) if fields.len() < FIELDS_MAX => {
                fields.push((name, &value[..value.len().min(VALUE_BYTES_MAX)]));
            }
            Some(_) => {}
            // The separator of an mbox that some programs leave in front.
            None if at == 0 && (field.starts_with(b"From ") || field.starts_with(b">From ")) => {}
            None => return (fields, Some(&entity[at..])),
        }
        at += len;
    }
    (fields, None)
}

/// A field's name and value.
pub(super) fn split_name(field: &[u8]) -> Option<Field<'_>> {
    let colon = memchr::memchr(b':', field)?;
    let name = field[..colon].trim_ascii_end();
    let right = !name.is_empty() && name.iter().all(|octet| matches!(octet, 33..=57 | 59..=126));
    right.then_some((name, &field[colon + 1..]))
}

static DASHES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\n--"));

/// The parts between the lines `--boundary` (RFC 2046 section 5.1.1). The last may be cut.
fn split<'m>(body: &'m [u8], boundary: &[u8]) -> Vec<&'m [u8]> {
    let (mut inner, mut begins) = (Vec::new(), None);
    let first = body.starts_with(b"--").then_some(0);
    for at in first.into_iter().chain(DASHES.find_iter(body).map(|end| end + 1)) {
        let Some(behind) = body[at + 2..].strip_prefix(boundary) else { continue };
        let len = memchr::memchr(b'\n', behind).map_or(behind.len(), |end| end + 1);
        if let after @ (b"" | b"--") = behind[..len].trim_ascii_end() {
            inner.extend(begins.take().map(|begins| &body[begins..at]));
            if inner.len() >= PARTS_MAX || after == b"--" {
                return inner;
            }
            begins = Some(body.len() - behind.len() + len);
        }
    }
    inner.extend(begins.map(|begins| &body[begins..]));
    inner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_is_written_plainly_is_what_the_parser_says() {
        let rows: [&[u8]; 9] = [
            b" text/plain\r\n",
            b"Text/HTML; charset=utf-8\r\n",
            b" multipart/report; report-type=delivery-status;\r\n\tboundary=\"a;b/c\"\r\n",
            b" message/delivery-status\r\n",
            b" application/vnd.ms-excel;name=x\n",
            b" image/svg+xml;\n",
            b" text/x_y-z.q; \n",
            b"MESSAGE/RFC822\r\n",
            b"a/1;b\n",
        ];
        for raw in rows {
            let parsed = content_type(raw).unwrap();
            let parsed = format!("{}/{}", parsed.ctype(), parsed.subtype().unwrap()).to_ascii_lowercase();
            assert_eq!(plain_type(raw).as_deref(), Some(parsed.as_str()), "{}", raw.escape_ascii());
        }
        for raw in [
            &b" text\r\n"[..],
            b" text/plain (a comment)\r\n",
            b" text/plain",
            b" text/plain charset=x",
            b"a/b/c",
            b"",
            b"/x",
        ] {
            assert_eq!(plain_type(raw), None, "{}", raw.escape_ascii());
        }
    }
}
