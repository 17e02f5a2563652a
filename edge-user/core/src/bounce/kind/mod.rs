//! What a message with a null reverse-path is, and what it says of itself.
//!
//! Nothing that it says is proof of anything: whoever sends it writes it as he likes. So only what shows positive
//! structure or fields is anything else than a bounce, and only where nothing in it speaks for a bounce. What tells is
//! the message's own header section and its own parts; the original that a bounce returns is never asked, because the
//! forger wrote it. Who forges a kind gains no more than with a sender of his own, and a place within the mailbox's
//! rate.
//!
//! In: the first octets of a message, as on the wire, in pieces, and whose domains are one's own: a report on another's
//! cannot be honest, so it counts as a bounce. Out: a [`Reading`]. Bounded: [`START_BYTES_MAX`]
//! octets, and so many parts, fields and words as `mime` and `signs` say. What is done with a kind decides `policy`.

mod html;
mod mime;
mod others;
mod report;
mod reported;
mod signs;
mod words;

use std::borrow::Cow;

use edge_octets::Run;
use serde::{Deserialize, Serialize};

use mime::Part;
pub use report::Report;
use report::Reports;
use signs::Signs;

/// Octets of a message that are read. What tells a kind stands before the original.
pub const START_BYTES_MAX: usize = 64 << 10;

/// Visible octets and blanks: what nearly all values of fields are made of.
const VISIBLE: Run<0> = Run::new(b' ', []);

/// A kind of null-sender mail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nothing tells: it counts as a bounce.
    #[default]
    Unknown,
    /// A delivery failure (RFC 3464 section 2.3.3: `failed`, or the same in another form).
    Failure,
    /// A delivery is late, and goes on (`delayed`).
    Delay,
    /// A delivery went well, or went on (`delivered`, `relayed`, `expanded`).
    Success,
    /// An automatic reply (RFC 3834).
    AutoReply,
    /// A read receipt (RFC 8098).
    Receipt,
    /// An invitation or its answer (RFC 5546, 6047).
    Calendar,
    /// Mail of a list (RFC 2369, 2919).
    List,
    /// A challenge: the receiver wants the sender to prove that he is one.
    Challenge,
    /// A complaint (RFC 5965).
    Complaint,
    /// A DMARC report, aggregate or of one failure (RFC 7489 section 7, RFC 6591).
    DmarcReport,
    /// A TLS report (RFC 8460).
    TlsReport,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Unknown,
        Self::Failure,
        Self::Delay,
        Self::Success,
        Self::AutoReply,
        Self::Receipt,
        Self::Calendar,
        Self::List,
        Self::Challenge,
        Self::Complaint,
        Self::DmarcReport,
        Self::TlsReport,
    ];

    /// Its name, as configuration, log and command line have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Failure => "failure",
            Self::Delay => "delay",
            Self::Success => "success",
            Self::AutoReply => "auto_reply",
            Self::Receipt => "receipt",
            Self::Calendar => "calendar",
            Self::List => "list",
            Self::Challenge => "challenge",
            Self::Complaint => "complaint",
            Self::DmarcReport => "dmarc_report",
            Self::TlsReport => "tls_report",
        }
    }
}

/// How sure a kind is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// Nothing told it.
    #[default]
    None,
    /// Fields or words that such mail has told it.
    Likely,
    /// A structure or field told it that a standard defines for this and nothing else.
    Certain,
}

/// What a message says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Reading {
    /// What it is.
    pub kind: Kind,
    /// How sure that is.
    pub confidence: Confidence,
    /// What told: a field's name, a part's media type, or `words`. Empty: nothing did.
    pub told_by: &'static str,
    /// What its machine-readable part says, for the log.
    pub report: Option<Report>,
}

/// Builds what reading needs once in a process, some milliseconds of work: a daemon does so before it serves, or its first
/// message would wait for it.
pub fn prepare() {
    words::prepare();
}

/// Reads the message; `pieces` are its octets in order, as on the wire. `is_ours` says whether reports on a domain, given
/// as a lowercase A-label, may be meant for its receiver.
#[must_use]
pub fn read<'p>(pieces: impl IntoIterator<Item = &'p [u8]>, is_ours: &dyn Fn(&str) -> bool) -> Reading {
    let start = start_of(pieces);
    let mut reports = Reports::default();
    mime::walk(&start, &mut |part| {
        reports.take(&part);
        !reports.are_settled()
    });
    // A bounce's structure first, so that no field can talk it away; and most have it: then nothing else is asked, and no part
    // is kept.
    let told = reports.told().unwrap_or_else(|| tell(&mime::parts(&start), is_ours));
    Reading { kind: told.kind, confidence: told.confidence, told_by: told.by, report: reports.report() }
}

/// The first octets in one run. A message that came in one piece is not copied.
fn start_of<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Cow<'p, [u8]> {
    let mut start = Cow::Borrowed(&[][..]);
    for piece in pieces {
        let piece = &piece[..piece.len().min(START_BYTES_MAX - start.len())];
        if start.is_empty() {
            start = Cow::Borrowed(piece);
        } else {
            start.to_mut().extend_from_slice(piece);
        }
    }
    start
}

/// A kind, and what told it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Told {
    kind: Kind,
    confidence: Confidence,
    by: &'static str,
}

impl Told {
    const fn certain(kind: Kind, by: &'static str) -> Self {
        Self { kind, confidence: Confidence::Certain, by }
    }

    const fn likely(kind: Kind, by: &'static str) -> Self {
        Self { kind, confidence: Confidence::Likely, by }
    }
}

/// Puts the signs of what has no delivery report together: first the structures of other kinds; then words and fields, a
/// bounce's before the others'.
fn tell(parts: &[Part<'_>], is_ours: &dyn Fn(&str) -> bool) -> Told {
    let signs = &Signs::of(parts);
    others::by_structure(signs, is_ours)
        .or_else(|| signs.challenge())
        .or_else(|| signs.bounce_in_words())
        .or_else(|| others::by_fields(signs))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
