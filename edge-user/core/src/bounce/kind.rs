//! What a message with a null reverse-path is. Only what shows positive structure is anything else than a bounce.

use serde::{Deserialize, Serialize};

/// A kind of null-sender mail.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
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
