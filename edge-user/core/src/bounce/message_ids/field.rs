//! From lines to fields, and to the Message-IDs in them.

use edge_octets::LineEnds;

use super::{FIELDS_MIN, LINE_BYTES_MAX, Place, REFERENCES_MAX};
use crate::bounce::names::{is, split_name};
use crate::bounce::returned::{indent, is_common};
use crate::bounce::unwrapping::escape;
use crate::signature::record::canonical;

/// Octets of one field's value that are kept: the last ones, where a `References` field is longer.
const VALUE_BYTES_MAX: usize = 4 * LINE_BYTES_MAX;

/// Longest name of a field that is of interest, in octets, with what is white between it and the colon.
const NAME_BYTES_MAX: usize = 25;

/// When a line that begins so may mean something, while no field is open: in the message's own header section, ..
const IN_HEADER: u8 = 1;
/// .. in its body, ..
const IN_BODY: u8 = 2;
/// .. and there only while fields that every message has are counted.
const FOR_COMMON: u8 = 4;

/// For each octet, when a line that begins with it may mean something.
static TELLS: [u8; 256] = tells();

const fn tells() -> [u8; 256] {
    // Names of fields are of ASCII, in any case; marks and indentation may stand before them in a body; an empty line
    // ends what was before.
    const BEGINNINGS: [(&[u8], u8); 6] = [
        (b"\r\n", IN_HEADER | IN_BODY),
        (b" \t>|", IN_BODY),
        (b"CcOoXx", IN_HEADER | IN_BODY),
        (b"IiRr", IN_HEADER),
        (b"Mm", IN_BODY),
        (b"DdFfRrSsTt", FOR_COMMON),
    ];
    let mut tells = [0; 256];
    let mut row = 0;
    while row < BEGINNINGS.len() {
        let (octets, when) = BEGINNINGS[row];
        let mut at = 0;
        while at < octets.len() {
            tells[octets[at] as usize] |= when;
            at += 1;
        }
        row += 1;
    }
    tells
}

/// Whether a line begins as the fields do that mail servers add most of, and not as `References`.
#[inline]
fn is_received(line: &[u8]) -> bool {
    matches!(line, [b'R' | b'r', b'e', b'c', ..])
}

/// Reads lines.
#[derive(Debug)]
pub(super) struct Reader {
    /// In the message's own header section.
    in_header: bool,
    /// Of the lines since the last empty one, so many begin with the name of a field that every message has.
    common: u32,
    /// A Message-ID that stood in these lines before it was clear that they are a header section.
    waiting: Vec<u8>,
    /// These lines hold a Message-ID: what comes behind them is a message's body, not a part's.
    is_message: bool,
    /// These lines say that what comes behind them is in base64 ..
    is_base64: bool,
    /// .. and that it is no text.
    is_binary: bool,
    open: Option<Open>,
    /// The value of the open field; [`kept`] of it counts.
    value: Vec<u8>,
}

/// The field that is being read.
#[derive(Clone, Copy, Debug)]
struct Open {
    place: Place,
    /// Octets of marks and indentation before its name.
    indent: usize,
    /// Its last line ended with `=`: a soft line break of quoted-printable.
    torn: bool,
}

impl Reader {
    pub(super) fn in_header() -> Self {
        Self { in_header: true, ..Self::in_body() }
    }

    pub(super) fn in_body() -> Self {
        Self {
            in_header: false,
            common: 0,
            waiting: Vec::new(),
            is_message: false,
            is_base64: false,
            is_binary: false,
            open: None,
            value: Vec::new(),
        }
    }

    /// Whether a section without a Message-ID or base64 in it would mean nothing, and lines of this one would mean nothing up
    /// to the next place where either stands, but for how they count there.
    pub(super) fn waits_for_nothing(&self) -> bool {
        !self.in_header && !self.is_base64 && self.waiting.is_empty() && self.open.is_none()
    }

    /// Whether, besides, nothing that came before in its section has a say in what a line means that now begins.
    pub(super) fn is_calm(&self) -> bool {
        let Self { in_header: _, common, waiting: _, is_message, is_base64: _, is_binary, open: _, value: _ } =
            self;
        self.waits_for_nothing() && !*is_message && !*is_binary && *common == 0
    }

    /// A blank line was leapt over.
    pub(super) fn section_is_over(&mut self) {
        self.empty_line();
    }

    /// Where the first line at `at`, where one begins, or behind it begins that means something now; all that is passed over
    /// are whole lines. `Err`: none does; where the last line begins, which has no end yet.
    pub(super) fn first_telling(
        &self,
        piece: &[u8],
        line_ends: &mut LineEnds<'_>,
        mut at: usize,
    ) -> Result<usize, usize> {
        if self.open.is_some() {
            return Ok(at);
        }
        let now = match self.in_header {
            true => IN_HEADER,
            false if self.common < FIELDS_MIN => IN_BODY | FOR_COMMON,
            false => IN_BODY,
        };
        while let Some(first) = piece.get(at) {
            if TELLS[usize::from(*first)] & now != 0 && !(self.in_header && is_received(&piece[at..])) {
                break;
            }
            at = line_ends.first(at).ok_or(at)? + 1;
        }
        Ok(at)
    }

    /// Takes a line without its end. Returns whether text in base64 begins behind it.
    pub(super) fn line(&mut self, line: &[u8], found: &mut dyn FnMut(Place, &[u8])) -> bool {
        let indent = indent(line);
        let text = &line[indent..];
        // White space alone ends a paragraph, but not the message's own header section (RFC 5322 section 4.2); a mark
        // alone may be the bracket of a Message-ID that was torn before it.
        let torn = self.open.is_some_and(|open| open.torn);
        if line.is_empty() || text.is_empty() && !self.in_header && !torn {
            self.close(found);
            return self.empty_line();
        }
        if let Some(open) = &mut self.open {
            let folded = indent > open.indent || text.starts_with(b"=09") || text.starts_with(b"=20");
            if open.torn || folded {
                // Stuffed (RFC 5321 section 4.5.2): one of two dots is none of the value's.
                let more = if line.starts_with(b"..") { &line[1..] } else { line };
                // A fold is white space; what only quoted-printable has torn is whole again without any.
                let more = if open.torn { more } else { text };
                if !open.torn {
                    push(&mut self.value, b" ");
                }
                let (more, torn) = without_soft_break(more);
                open.torn = torn;
                push(&mut self.value, more);
                return false;
            }
            self.close(found);
        }
        // In the message's own header section an indented line goes on with a field that is of no interest. In a body
        // the whole section may be indented.
        if indent == 0 || !self.in_header {
            self.field(line, indent, found);
        }
        false
    }

    /// No more lines come.
    pub(super) fn end(&mut self, found: &mut dyn FnMut(Place, &[u8])) {
        self.close(found);
        self.empty_line();
    }

    fn empty_line(&mut self) -> bool {
        let begins = self.is_base64 && !self.is_binary && (self.in_header || !self.is_message);
        self.in_header = false;
        (self.common, self.is_message, self.is_base64, self.is_binary) = (0, false, false, false);
        self.waiting.clear();
        begins
    }

    /// A line that begins a field, if it does.
    #[inline]
    fn field(&mut self, line: &[u8], indent: usize, found: &mut dyn FnMut(Place, &[u8])) {
        // Nearly all lines of a message end here: no field that is of interest begins with their first character.
        if !matches!(line[indent] | 0x20, b'c' | b'd' | b'f' | b'i' | b'm' | b'o' | b'r' | b's' | b't' | b'x')
        {
            return;
        }
        let Some((name, value)) = split_name(&line[indent..]) else { return };
        if line.len() - indent - value.len() > NAME_BYTES_MAX + 1 {
            return;
        }
        if self.common < FIELDS_MIN && is_common(name) {
            self.common += 1;
            if self.common == FIELDS_MIN && !self.waiting.is_empty() {
                hand_out(Place::Returned, &std::mem::take(&mut self.waiting), found);
            }
        } else if is(name, b"message-id") {
            self.is_message = true;
            // The message's own names itself, not what it answers.
            if !self.in_header {
                self.open(Place::Returned, indent, value);
            }
        } else if is(name, b"original-message-id") || is(name, b"x-original-message-id") {
            self.open(Place::OriginalMessageId, indent, value);
        } else if self.in_header && is(name, b"in-reply-to") {
            self.open(Place::InReplyTo, indent, value);
        } else if self.in_header && is(name, b"references") {
            self.open(Place::References, indent, value);
        } else if is(name, b"content-transfer-encoding") {
            self.is_base64 |= is(value.trim_ascii(), b"base64");
        } else if is(name, b"content-type") {
            let value = value.trim_ascii_start();
            let begins = |kind: &[u8]| {
                value.split_at_checked(kind.len()).is_some_and(|(head, _)| head.eq_ignore_ascii_case(kind))
            };
            self.is_binary = !begins(b"text/") && !begins(b"message/");
        }
    }

    fn open(&mut self, place: Place, indent: usize, value: &[u8]) {
        let (value, torn) = without_soft_break(value);
        self.open = Some(Open { place, indent, torn });
        self.value.clear();
        push(&mut self.value, value);
    }

    /// The open field is over.
    fn close(&mut self, found: &mut dyn FnMut(Place, &[u8])) {
        let Some(Open { place, .. }) = self.open.take() else { return };
        match place {
            Place::Returned if self.common < FIELDS_MIN => {
                if self.waiting.is_empty() {
                    self.waiting.extend_from_slice(kept(&self.value));
                }
            }
            Place::Returned | Place::OriginalMessageId | Place::InReplyTo | Place::References => {
                hand_out(place, kept(&self.value), found);
            }
        }
    }
}

/// A line without the soft line break of quoted-printable at its end (RFC 2045 section 6.7), if there is one.
fn without_soft_break(line: &[u8]) -> (&[u8], bool) {
    match line.trim_ascii_end() {
        [torn @ .., b'='] => (torn, true),
        _ => (line, false),
    }
}

/// Appends to a value; where there is no room, what came first goes. It goes when there is as much of it as is kept: each
/// octet moves at most once, however many lines a field is folded into.
fn push(value: &mut Vec<u8>, more: &[u8]) {
    if value.len() + more.len() > 2 * VALUE_BYTES_MAX {
        value.drain(..value.len() - kept(value).len());
    }
    value.extend_from_slice(more);
}

/// What is kept of a value that may still have what came first before it.
fn kept(value: &[u8]) -> &[u8] {
    &value[value.len().saturating_sub(VALUE_BYTES_MAX)..]
}

/// Hands out the Message-IDs in a field's value.
fn hand_out(place: Place, value: &[u8], found: &mut dyn FnMut(Place, &[u8])) {
    match place {
        Place::Returned | Place::OriginalMessageId => hand_out_one(place, value, found),
        Place::InReplyTo | Place::References => {
            // Each in its brackets (RFC 5322 section 3.6.4); one without stands alone.
            let opens = memchr::memchr_iter(b'<', value).count();
            if opens == 0 {
                return hand_out_one(place, value, found);
            }
            for at in memchr::memchr_iter(b'<', value).skip(opens.saturating_sub(REFERENCES_MAX)) {
                let end = memchr::memchr(b'>', &value[at..]).map_or(value.len(), |len| at + len + 1);
                hand_out_one(place, &value[at..end], found);
            }
        }
    }
}

/// Hands out a Message-ID as it stands, and as quoted-printable would have it, where that is something else.
fn hand_out_one(place: Place, value: &[u8], found: &mut dyn FnMut(Place, &[u8])) {
    if let Some(id) = canonical(value) {
        found(place, id);
    }
    if memchr::memchr(b'=', value).is_none() {
        return;
    }
    let decoded = unescaped(value);
    if decoded != value
        && let Some(id) = canonical(&decoded)
    {
        found(place, id);
    }
}

/// The value without the escapes of quoted-printable.
fn unescaped(value: &[u8]) -> Vec<u8> {
    let (mut octets, mut rest) = (Vec::with_capacity(value.len()), value);
    while let [first, behind @ ..] = rest {
        rest = behind;
        match *rest {
            [a, b, ..]
                if *first == b'='
                    && let Some(octet) = escape(a, b) =>
            {
                octets.push(octet);
                rest = &rest[2..];
            }
            _ => octets.push(*first),
        }
    }
    octets
}

/// Whether a line of a body ends a paragraph; it may still have the CR of CRLF.
pub(super) fn is_blank(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    indent(line) == line.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_countless_folds_is_moved_seldom_and_its_end_is_kept() {
        let all: Vec<u8> = (0..20 * VALUE_BYTES_MAX).map(|n| (n % 251) as u8).collect();
        let (mut value, mut moved) = (Vec::new(), 0);
        for (at, octet) in all.iter().enumerate() {
            let before = value.len();
            push(&mut value, &[*octet]);
            moved += if value.len() > before { 0 } else { value.len() };
            assert!(value.len() <= 2 * VALUE_BYTES_MAX);
            assert!(kept(&value) == &all[(at + 1).saturating_sub(VALUE_BYTES_MAX)..=at], "after {at}");
        }
        assert!(moved <= all.len(), "{moved} octets were moved of {}", all.len());
    }
}
