//! From pieces to lines.

use super::LINE_BYTES_MAX;
use super::field::Reader;

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

    /// Hands on each line that ends in this piece, without its end. A line that lies in the piece whole is not copied.
    pub(super) fn take(&mut self, piece: &[u8], line: &mut dyn FnMut(&[u8], &mut Reader)) {
        let mut rest = piece;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (ended, behind) = (&rest[..end], &rest[end + 1..]);
            if self.begun.is_empty() {
                line(trimmed(ended), &mut self.reader);
            } else {
                self.begin(ended);
                line(trimmed(&self.begun), &mut self.reader);
                self.begun.clear();
            }
            rest = behind;
        }
        self.begin(rest);
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
