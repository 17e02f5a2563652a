//! From pieces to lines.

use edge_octets::LineEnds;

use super::LINE_BYTES_MAX;
use super::field::Reader;
use super::leap::leap;

/// The line that has not ended yet, and the reader of all.
#[derive(Debug)]
pub(super) struct Lines {
    /// At most [`LINE_BYTES_MAX`] octets of it.
    begun: Vec<u8>,
    reader: Reader,
}

impl Lines {
    /// At the start of a message.
    pub(super) fn of_message() -> Self {
        Self { begun: Vec::new(), reader: Reader::in_header() }
    }

    /// At the start of a part's body.
    pub(super) fn of_part() -> Self {
        Self { begun: Vec::new(), reader: Reader::in_body() }
    }

    pub(super) fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    /// Whether a line has begun that has not ended.
    pub(super) fn is_within_line(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Hands on each line that ends in this piece, without its end. A line that lies in the piece whole is not copied.
    /// Lines that mean nothing may not be handed on, where `may_leap`, and `line` behind each of them, says so.
    pub(super) fn take(
        &mut self,
        piece: &[u8],
        mut may_leap: bool,
        mut line: impl FnMut(&[u8], &mut Reader) -> bool,
    ) {
        let mut line_ends = LineEnds::of(piece);
        let (mut at, mut leapt_until) = (0, 0);
        loop {
            if may_leap && self.begun.is_empty() {
                if at >= leapt_until && self.reader.waits_for_nothing() {
                    let from = at;
                    (at, leapt_until) = leap(piece, &mut line_ends, from, self.reader.is_calm());
                    if at > from {
                        self.reader.section_is_over();
                    }
                }
                match self.reader.first_telling(piece, &mut line_ends, at) {
                    Ok(telling) => at = telling,
                    Err(last) => return self.begin(&piece[last..]),
                }
            }
            let Some(end) = line_ends.first(at) else { return self.begin(&piece[at..]) };
            let ended = &piece[at..end];
            if self.begun.is_empty() {
                may_leap = line(trimmed(ended), &mut self.reader);
            } else {
                self.begin(ended);
                may_leap = line(trimmed(&self.begun), &mut self.reader);
                self.begun.clear();
            }
            at = end + 1;
        }
    }

    fn begin(&mut self, part: &[u8]) {
        let room = LINE_BYTES_MAX.saturating_sub(self.begun.len());
        self.begun.extend_from_slice(&part[..part.len().min(room)]);
    }
}

/// The first [`LINE_BYTES_MAX`] octets, without the CR of CRLF.
fn trimmed(line: &[u8]) -> &[u8] {
    let line = &line[..line.len().min(LINE_BYTES_MAX)];
    line.strip_suffix(b"\r").unwrap_or(line)
}
