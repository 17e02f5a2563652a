//! What goes into a session and what comes out: limits, the offer, events.

use super::Address;

/// The limits of a session (RFC 5321 section 4.5.3.1 where it names one).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longest command line, CRLF included, in octets.
    pub line_bytes_max: usize,
    /// Most recipients a transaction.
    pub recipients_max: usize,
    /// Most refused commands (syntax, order, refused recipients) before 421 and close.
    pub errors_max: u32,
    /// Largest message, in octets; offered as SIZE.
    pub message_bytes_max: u64,
}

/// What EHLO offers beside PIPELINING, SIZE and ENHANCEDSTATUSCODES.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offer {
    /// 8BITMIME.
    pub eight_bit_mime: bool,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// DSN.
    pub dsn: bool,
    /// STARTTLS.
    pub starttls: bool,
}

/// The arguments of MAIL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mail<'b> {
    /// The reverse-path; `None` is the null one, `<>`.
    pub sender: Option<Address<'b>>,
    /// SIZE=, in octets.
    pub size: Option<u64>,
    /// SMTPUTF8 was said (RFC 6531).
    pub smtputf8: bool,
    /// All parameters as written (`SIZE=100 BODY=8BITMIME`), to be passed on; empty when there are none.
    pub params: &'b [u8],
}

/// The arguments of RCPT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rcpt<'b> {
    /// The forward-path, source route removed. `<postmaster>` without a domain has an empty `domain`.
    pub recipient: Address<'b>,
    /// All parameters as written (`NOTIFY=NEVER`); empty when there are none.
    pub params: &'b [u8],
}

/// Why a session ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseCause {
    /// QUIT.
    Quit,
    /// More errors than `errors_max`.
    TooManyErrors,
    /// The client speaks no SMTP: an HTTP request, a line that never ends, binary garbage as its first command.
    NotSmtp,
}

/// What the next bytes mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'b> {
    /// Nothing whole is there: read more, and come again with all unconsumed bytes first. Consumes nothing; every other
    /// event but `Close` consumes at least one octet.
    NeedMore,
    /// The session dealt with the bytes by itself; there may be a reply in `out`.
    Answered,
    /// A new transaction may begin. Answer it.
    Mail(Mail<'b>),
    /// A recipient. Answer it.
    Rcpt(Rcpt<'b>),
    /// DATA, with at least one accepted recipient. Answer it; accepted is 354, and the body follows.
    Data,
    /// A piece of the message as it stands on the wire: dots still stuffed, never a part of the terminator `.CRLF`. The
    /// message's last CRLF is part of it, so that `.CRLF` behind the pieces ends the message for an upstream too. What
    /// follows the first bare CR or LF, or exceeds `message_bytes_max`, is not handed out.
    Body(&'b [u8]),
    /// CRLF.CRLF was seen. Answer it; the transaction is over then. With a flag set in it, yes becomes a refusal.
    End(EndOfData),
    /// RSET, EHLO or HELO dropped the transaction that was open. Already answered.
    Reset,
    /// STARTTLS, outside a transaction (RFC 3207). Answer it. Accepted (220): write what is in `out`, throw away what was
    /// read behind it, do the handshake, then call `secured`. Refused: 454, where TLS cannot be had at the moment.
    StartTls,
    /// Write what is in `out`, then close.
    Close(CloseCause),
}

/// How a message ended.
///
/// A message with a flag set was not handed out whole: it must never be ended at an upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndOfData {
    /// A CR or LF stood alone in the message: it must be refused, whoever sent it (SMTP smuggling).
    pub bare_line_ending: bool,
    /// More than `message_bytes_max` octets came: it must be refused (552 5.3.4).
    pub too_big: bool,
    /// Octets of the message on the wire, terminator excluded.
    pub bytes: u64,
}

/// One step: how many bytes of the input are done with, and what they meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step<'b> {
    /// Consumed octets, from the start of the input.
    pub consumed: usize,
    /// What they meant.
    pub event: Event<'b>,
}
