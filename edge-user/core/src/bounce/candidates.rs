//! From unwrapped text to candidates: the needles in it, and what is being read behind them.

use super::needle::{Encoding, NEEDLE_MAX, Needle, REST_MAX};
use super::unwrapping::Text;
use crate::signature::{Candidate, MAGIC};

/// Needles behind which characters are read at once. Behind a plain one there can be no second (no token holds a
/// dot); in base64 whoever wants can write more, and they are not read.
const OPEN_MAX: usize = 8;

/// The end of the text so far.
#[derive(Debug)]
pub(super) struct Candidates {
    /// The last eight characters, the last one lowest.
    window: u64,
    /// For each of the last eight characters, the last one lowest, whether quoted-printable wrote it, or broke the
    /// line behind it.
    quoted_printable: u8,
    /// How many of the last characters stood side by side on the wire, in the piece that is being scanned.
    side_by_side: u8,
    open: [Open; OPEN_MAX],
    open_len: usize,
    /// Candidates that are complete, to be handed out: at most one for each that was open.
    complete: [Option<(Candidate, Encoding)>; OPEN_MAX],
    complete_len: usize,
}

/// A needle, and what was read behind it.
#[derive(Clone, Copy, Debug)]
struct Open {
    needle: Needle,
    quoted_printable: bool,
    len: usize,
    rest: [u8; REST_MAX],
}

impl Candidates {
    pub(super) fn new() -> Self {
        let open = Open { needle: Needle::Plain, quoted_printable: false, len: 0, rest: [0; REST_MAX] };
        Self {
            window: 0,
            quoted_printable: 0,
            side_by_side: 0,
            open: [open; OPEN_MAX],
            open_len: 0,
            complete: [None; OPEN_MAX],
            complete_len: 0,
        }
    }

    /// What comes next does not stand beside the last character: it is another piece, or something is taken off
    /// between them.
    pub(super) fn torn(&mut self) {
        self.side_by_side = 0;
    }

    /// Whether nothing is begun here but what a search of the piece finds by itself: nothing is being read, and the
    /// last characters, in which a needle may have begun, stand in the piece as they are.
    pub(super) fn calm(&self) -> bool {
        self.open_len == 0 && usize::from(self.side_by_side) >= NEEDLE_MAX - 1
    }

    /// Takes text within which no needle ends.
    pub(super) fn leap_over(&mut self, text: &[u8]) {
        for &character in &text[text.len().saturating_sub(NEEDLE_MAX)..] {
            self.remember(character);
        }
    }

    /// Takes text at whose end this needle stands, whole and as it is.
    pub(super) fn leap_behind(&mut self, needle: Needle, text: &[u8]) {
        self.leap_over(text);
        self.begin(needle);
    }

    /// Hands out what is complete.
    #[inline]
    pub(super) fn drain(&mut self, mut take: impl FnMut(Candidate, Encoding)) {
        for (candidate, encoding) in self.complete[..self.complete_len].iter().flatten() {
            take(*candidate, *encoding);
        }
        self.complete_len = 0;
    }

    #[inline]
    fn remember(&mut self, character: u8) {
        self.window = self.window << 8 | u64::from(character);
        self.quoted_printable <<= 1;
        self.side_by_side = self.side_by_side.saturating_add(1);
    }

    fn begin(&mut self, needle: Needle) {
        if self.open_len < OPEN_MAX {
            let within = (1_u8 << needle.text().len()) - 1;
            let quoted_printable = self.quoted_printable & within != 0;
            self.open[self.open_len] = Open { needle, quoted_printable, len: 0, rest: [0; REST_MAX] };
            self.open_len += 1;
        }
    }

    /// Reads one character behind each open needle; those that cannot take it are no candidates.
    fn read(&mut self, character: u8) {
        let mut at = 0;
        while at < self.open_len {
            let open = &mut self.open[at];
            let goes_on = open.needle.takes(character) && {
                open.rest[open.len] = character;
                open.len += 1;
                open.len < open.needle.rest()
            };
            if goes_on {
                at += 1;
                continue;
            }
            if open.len == open.needle.rest() {
                self.complete[self.complete_len] = open.candidate();
                self.complete_len += 1;
            }
            self.open_len -= 1;
            self.open[at] = self.open[self.open_len];
        }
    }
}

impl Open {
    fn candidate(&self) -> Option<(Candidate, Encoding)> {
        let candidate = self.needle.candidate(&self.rest[..self.len])?;
        let encoding = match self.needle {
            Needle::First | Needle::Second | Needle::Third => Encoding::Base64,
            Needle::Plain if self.quoted_printable => Encoding::QuotedPrintable,
            Needle::Plain => Encoding::Plain,
        };
        Some((candidate, encoding))
    }
}

impl Text for Candidates {
    #[inline]
    fn character(&mut self, character: u8) {
        if self.open_len > 0 {
            self.read(character);
        }
        self.remember(character);
        if let Some(needle) = Needle::at_end_of(self.window) {
            self.begin(needle);
        }
    }

    fn escaped(&mut self, character: u8) {
        for open in &mut self.open[..self.open_len] {
            open.quoted_printable = true;
        }
        if self.open_len > 0 {
            self.read(character);
        }
        self.remember(character);
        self.quoted_printable |= 1;
        self.side_by_side = 0;
        if let Some(needle) = Needle::at_end_of(self.window) {
            self.begin(needle);
        }
    }

    fn soft_break(&mut self) {
        for open in &mut self.open[..self.open_len] {
            open.quoted_printable = true;
        }
        self.quoted_printable |= 1;
    }

    fn wants_dot(&self) -> bool {
        let [b, s, one, _] = *MAGIC;
        self.window as u32 & 0xff_ffff == u32::from_be_bytes([0, b, s, one])
    }
}
