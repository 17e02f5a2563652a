//! The parts of a message, as far as they tell its kind: borders and header fields (RFC 2045, 2046), bounded.
//!
//! What is inside a part of type `message/*` is never looked at: there lies the original, which a stranger wrote.
//! Values and encodings that are not written plainly are read by mail-parser; the borders are walked here, so that depth,
//! parts and fields have a bound whatever a message looks like.

mod borders;
mod fields;
mod parameters;

use std::borrow::Cow;
use std::cell::OnceCell;

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::parsers::MessageStream;
use mail_parser::{ContentType, HeaderValue};

use borders::split;
use fields::Field;
pub(super) use fields::Fields;
use parameters::{Parameters, plain_type};

use crate::bounce::names::is;

/// Multiparts within multiparts that are looked into. Real reports have at most three.
const DEPTH_MAX: usize = 4;

/// Parts of a message that are looked at.
const PARTS_MAX: usize = 32;

/// A message or a part of one: its header fields and its body as it stands.
#[derive(Debug)]
pub(super) struct Part<'m> {
    /// Header section and body.
    entity: &'m [u8],
    /// What stands behind the header section; `None`: that did not end.
    body: Option<&'m [u8]>,
    /// The values of the two fields that every part is asked for.
    raw_type: Option<&'m [u8]>,
    raw_encoding: Option<&'m [u8]>,
    /// The parameters of a type that is written plainly.
    parameters: Option<Parameters<'m>>,
    /// `type/subtype`, lowercased.
    pub(super) media_type: Cow<'static, str>,
    /// What a multipart says of itself.
    multipart: Option<Multipart<'m>>,
    /// All fields, read when another one is asked for.
    fields: OnceCell<Vec<Field<'m>>>,
    /// Read when the type is not written plainly.
    content_type: OnceCell<Option<Box<ContentType<'m>>>>,
}

/// Parameters of a multipart, read together.
#[derive(Debug)]
struct Multipart<'m> {
    /// The border of its parts (RFC 2046 section 5.1.1).
    boundary: Option<Cow<'m, str>>,
    /// Of `multipart/report` (RFC 6522).
    report_type: Option<Cow<'m, str>>,
}

/// Gives the message and its parts in order, the message itself first, as long as `take` says that it wants another.
pub(super) fn walk<'m>(message: &'m [u8], take: &mut dyn FnMut(Part<'m>) -> bool) {
    Walk { parts_left: PARTS_MAX, take }.enter(message, "text/plain", DEPTH_MAX);
}

/// All of them.
pub(super) fn parts(message: &[u8]) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    walk(message, &mut |part| {
        parts.push(part);
        true
    });
    parts
}

struct Walk<'w, 'm> {
    parts_left: usize,
    take: &'w mut dyn FnMut(Part<'m>) -> bool,
}

impl<'m> Walk<'_, 'm> {
    /// Whether to go on.
    fn enter(&mut self, entity: &'m [u8], default_type: &'static str, depth: usize) -> bool {
        let Some(parts_left) = self.parts_left.checked_sub(1) else { return false };
        self.parts_left = parts_left;
        let part = Part::of(entity, default_type);
        let body = part.body();
        let boundary = part.multipart.as_ref().and_then(|multipart| multipart.boundary.clone());
        // RFC 2046 section 5.1.5: a digest's parts are messages.
        let inner_type = if part.media_type == "multipart/digest" { "message/rfc822" } else { "text/plain" };
        let goes_on = (self.take)(part);
        match (boundary, depth.checked_sub(1)) {
            (Some(boundary), Some(depth)) if goes_on => {
                split(body, boundary.as_bytes()).all(|inner| self.enter(inner, inner_type, depth))
            }
            _ => goes_on,
        }
    }
}

impl<'m> Part<'m> {
    fn of(entity: &'m [u8], default_type: &'static str) -> Self {
        let (mut raw_type, mut raw_encoding) = (None, None);
        let mut fields = Fields::of(entity);
        for (name, value) in &mut fields {
            if is(name, b"content-type") {
                raw_type.get_or_insert(value);
            } else if is(name, b"content-transfer-encoding") {
                raw_encoding.get_or_insert(value);
            }
        }
        let mut part = Self {
            entity,
            body: fields.behind(),
            raw_type,
            raw_encoding,
            parameters: None,
            multipart: None,
            media_type: default_type.into(),
            fields: OnceCell::new(),
            content_type: OnceCell::new(),
        };
        if let Some((media_type, parameters)) = raw_type.and_then(plain_type) {
            (part.media_type, part.parameters) = (media_type, Some(parameters));
        } else if let Some(content_type) = part.content_type() {
            let subtype = content_type.subtype().unwrap_or_default();
            part.media_type = format!("{}/{subtype}", content_type.ctype()).to_ascii_lowercase().into();
        }
        if part.media_type.starts_with("multipart/") {
            let [boundary, report_type] = part.parameters(["boundary", "report-type"]);
            let boundary = boundary.filter(|boundary| !boundary.is_empty());
            part.multipart = Some(Multipart { boundary, report_type });
        }
        part
    }

    fn content_type(&self) -> Option<&ContentType<'m>> {
        self.content_type.get_or_init(|| self.raw_type.and_then(content_type).map(Box::new)).as_deref()
    }

    /// Whether its header section is whole: what is cut within it may have more to say.
    pub(super) fn has_whole_header(&self) -> bool {
        self.body.is_some()
    }

    fn body(&self) -> &'m [u8] {
        self.body.unwrap_or_default()
    }

    /// A parameter of its `Content-Type`. `name` is in lowercase.
    pub(super) fn parameter(&self, name: &str) -> Option<Cow<'m, str>> {
        let [value] = self.parameters([name]);
        value
    }

    fn parameters<const N: usize>(&self, names: [&str; N]) -> [Option<Cow<'m, str>>; N] {
        if let Some(values) = self.parameters.and_then(|parameters| parameters.plain(names)) {
            return values.map(|value| value.map(Cow::Borrowed));
        }
        let all = self.content_type().and_then(ContentType::attributes).unwrap_or_default();
        names.map(|name| all.iter().find(|own| own.name == name).map(|own| own.value.clone()))
    }

    /// The `report-type` of a multipart.
    pub(super) fn report_type(&self) -> Option<&str> {
        self.multipart.as_ref()?.report_type.as_deref()
    }

    /// All fields, values with their folds.
    fn fields(&self) -> &[Field<'m>] {
        self.fields.get_or_init(|| Fields::of(self.entity).collect())
    }

    /// The file name that it proposes (RFC 2183 section 2.3; older mail has it in `Content-Type`).
    pub(super) fn file_name(&self) -> Option<String> {
        let disposition = self.raw("Content-Disposition").and_then(content_type);
        let named = disposition.as_ref().and_then(|disposition| disposition.attribute("filename"));
        named.map(str::to_owned).or_else(|| self.parameter("name").map(Cow::into_owned))
    }

    /// The values of all fields of this name, folds and all.
    fn raws<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'m [u8]> + 'a {
        let named = self.fields().iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name.as_bytes()));
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
        self.fields().iter().map(|(name, _)| String::from_utf8_lossy(name).to_ascii_lowercase())
    }

    /// Its body, its encoding taken off (RFC 2045 section 6); as it stands where it is not what it says.
    pub(super) fn contents(&self) -> Cow<'m, [u8]> {
        let Some(encoding) = self.raw_encoding.map(<[u8]>::trim_ascii) else {
            return Cow::Borrowed(self.body());
        };
        let decoded = if encoding.eq_ignore_ascii_case(b"base64") {
            base64_decode(whole_groups(self.body()))
        } else if encoding.eq_ignore_ascii_case(b"quoted-printable") {
            quoted_printable_decode(self.body())
        } else {
            None
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
