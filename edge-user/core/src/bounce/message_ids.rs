//! Finds the Message-IDs by which a bounce, a receipt or an automatic reply says which message it answers.
//!
//! | where | which fields |
//! | --- | --- |
//! | its own header section | `In-Reply-To`, `References` (RFC 5322 section 3.6.4), `Original-Message-ID` |
//! | lines of its body that are a header section | `Message-ID`: the returned original's |
//! | any line of its body | `Original-Message-ID` (RFC 8098 section 3.2.6), also with `X-` (in RFC 3464 reports) |
//!
//! It knows no MIME tree: mail systems return the original's header in a part of its own, or in running text, quoted or
//! indented. A *header section* here is lines without an empty one between them, at least [`FIELDS_MIN`] of which begin
//! with the name of a field that every message has. So a Message-ID that is only talked about is none. A part in base64
//! is decoded where its header says so; quoted-printable is read everywhere.
//!
//! Lines that can tell it nothing are leapt over (`leap`). It reads the others one by one, at most [`LINE_BYTES_MAX`]
//! octets of each, and keeps no more than a line and a field. The result does not depend on how the message is cut into
//! pieces. Whether a Message-ID proves anything, the record says.

mod base64;
mod field;
mod leap;
mod lines;

use self::base64::Decoder;
use self::field::Reader;
use self::lines::Lines;
pub use super::returned::FIELDS_MIN;

/// How many Message-IDs of one message are handed out. A bounce names one or two.
pub const MESSAGE_IDS_MAX: usize = 32;

/// Of a `References` field only the last so many: the youngest ancestors stand there, and the others' place is kept.
pub const REFERENCES_MAX: usize = 16;

/// Octets of a line that are read.
pub const LINE_BYTES_MAX: usize = 2048;

/// Where a Message-ID stood.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// `In-Reply-To` of the message itself.
    InReplyTo,
    /// `References` of the message itself.
    References,
    /// `Original-Message-ID`.
    OriginalMessageId,
    /// `Message-ID` in the header section that it returns.
    Returned,
}

impl Place {
    /// In words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::InReplyTo => "In-Reply-To",
            Self::References => "References",
            Self::OriginalMessageId => "Original-Message-ID",
            Self::Returned => "the returned header section",
        }
    }
}

/// The search through one message.
#[derive(Debug)]
pub struct MessageIds {
    lines: Lines,
    /// The part in base64 that is being read: its lines are what it decodes to.
    part: Option<Box<Part>>,
    handed_out: usize,
}

#[derive(Debug)]
struct Part {
    decoder: Decoder,
    lines: Lines,
}

impl Default for MessageIds {
    fn default() -> Self {
        Self::new()
    }
}

impl MessageIds {
    /// At the start of a message.
    #[must_use]
    pub fn new() -> Self {
        Self { lines: Lines::of_message(), part: None, handed_out: 0 }
    }

    /// Takes the next piece (as on the wire: dots may be stuffed, lines end with LF or CRLF) and hands out each
    /// Message-ID, in canonical form, as it is found.
    pub fn scan(&mut self, piece: &[u8], found: &mut dyn FnMut(Place, &[u8])) {
        let Self { lines, part, handed_out } = self;
        let mut found = bounded(handed_out, found);
        let may_leap = part.is_none();
        lines.take(piece, may_leap, |line, reader| {
            if let Some(open) = part {
                if !line.starts_with(b"--") {
                    let Part { decoder, lines } = &mut **open;
                    decoder.decode(line, &mut |octets| lines.take(octets, false, read_all(&mut found)));
                    return false;
                }
                close(part.take(), &mut found);
            }
            if reader.line(line, &mut found) {
                *part = Some(Box::new(Part { decoder: Decoder::default(), lines: Lines::of_part() }));
            }
            part.is_none()
        });
    }

    /// The message is over: what waited for more octets is looked at.
    pub fn finish(&mut self, found: &mut dyn FnMut(Place, &[u8])) {
        // The last line may have had no end.
        if self.part.is_some() || self.lines.is_within_line() {
            self.scan(b"\n", found);
        }
        let mut found = bounded(&mut self.handed_out, found);
        close(self.part.take(), &mut found);
        self.lines.reader().end(&mut found);
    }
}

/// A part in base64 is over.
fn close(part: Option<Box<Part>>, found: &mut dyn FnMut(Place, &[u8])) {
    if let Some(mut part) = part {
        part.lines.take(b"\n", false, read_all(found));
        part.lines.reader().end(found);
    }
}

/// Reads each line of a part: it comes in pieces too small for a leap.
fn read_all(found: &mut dyn FnMut(Place, &[u8])) -> impl FnMut(&[u8], &mut Reader) -> bool {
    |line, reader| {
        reader.line(line, found);
        false
    }
}

/// Hands on the first [`MESSAGE_IDS_MAX`].
fn bounded<'f>(
    handed_out: &'f mut usize,
    found: &'f mut dyn FnMut(Place, &[u8]),
) -> impl FnMut(Place, &[u8]) + use<'f> {
    move |place, id| {
        if *handed_out < MESSAGE_IDS_MAX {
            *handed_out += 1;
            found(place, id);
        }
    }
}

#[cfg(test)]
#[path = "message_ids/tests.rs"]
mod tests;
