//! From unwrapped text to candidates: the needles in it, and what is being read behind them.

use super::needle::{Encoding, Needle, Read, Reading};
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
    open: [Open; OPEN_MAX],
    open_len: usize,
    /// Candidates that are complete, to be handed out: at most one for each that was open.
    complete: [Option<(Candidate, Encoding)>; OPEN_MAX],
    complete_len: usize,
}

/// What is being read behind a needle.
#[derive(Clone, Copy, Debug)]
struct Open {
    reading: Reading,
    quoted_printable: bool,
}

impl Candidates {
    pub(super) fn new() -> Self {
        let open = Open { reading: Reading::behind(Needle::Plain), quoted_printable: false };
        Self {
            window: 0,
            quoted_printable: 0,
            open: [open; OPEN_MAX],
            open_len: 0,
            complete: [None; OPEN_MAX],
            complete_len: 0,
        }
    }

    /// Whether nothing that came so far can become a candidate: nothing is being read, and no needle has begun.
    #[inline]
    pub(super) fn calm(&self) -> bool {
        self.open_len == 0 && !Needle::begins_at_end_of(self.window)
    }

    /// What came since is text in which no needle begins. To be called when all is calm.
    #[inline]
    pub(super) fn leap(&mut self) {
        (self.window, self.quoted_printable) = (0, 0);
    }

    /// Hands out what is complete.
    #[inline]
    pub(super) fn drain(&mut self, mut take: impl FnMut(Candidate, Encoding)) {
        for (candidate, encoding) in self.complete[..self.complete_len].iter().flatten() {
            take(*candidate, *encoding);
        }
        self.complete_len = 0;
    }

    fn remember(&mut self, character: u8) {
        self.window = self.window << 8 | u64::from(character);
        self.quoted_printable <<= 1;
    }

    /// Begins to read behind a needle that has just ended, if one has.
    fn begin_if_needle(&mut self) {
        if let Some(needle) = Needle::at_end_of(self.window) {
            self.begin(needle);
        }
    }

    fn begin(&mut self, needle: Needle) {
        if self.open_len < OPEN_MAX {
            let within = (1_u8 << needle.text().len()) - 1;
            let quoted_printable = self.quoted_printable & within != 0;
            self.open[self.open_len] = Open { reading: Reading::behind(needle), quoted_printable };
            self.open_len += 1;
        }
    }

    /// Reads one character behind each open needle.
    fn read(&mut self, character: u8) {
        let mut at = 0;
        while at < self.open_len {
            match self.open[at].reading.take(character) {
                Read::GoesOn => {
                    at += 1;
                    continue;
                }
                Read::Failed => {}
                Read::Complete(candidate) => {
                    self.complete[self.complete_len] = Some((candidate, self.open[at].encoding()));
                    self.complete_len += 1;
                }
            }
            self.open_len -= 1;
            self.open[at] = self.open[self.open_len];
        }
    }
}

impl Open {
    fn encoding(&self) -> Encoding {
        if self.reading.is_base64() {
            Encoding::Base64
        } else if self.quoted_printable {
            Encoding::QuotedPrintable
        } else {
            Encoding::Plain
        }
    }
}

impl Text for Candidates {
    #[inline]
    fn character(&mut self, character: u8) {
        self.read(character);
        self.remember(character);
        self.begin_if_needle();
    }

    fn escaped(&mut self, character: u8) {
        for open in &mut self.open[..self.open_len] {
            open.quoted_printable = true;
        }
        self.read(character);
        self.remember(character);
        self.quoted_printable |= 1;
        self.begin_if_needle();
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
