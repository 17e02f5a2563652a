//! The server's side of a session: which command may come when, and what it is answered.
//!
//! The session answers by itself what needs no decision (EHLO, HELO, NOOP, VRFY, RSET, QUIT, syntax and order
//! errors) and hands the rest out as events. After `Mail`, `Rcpt`, `Data` and `End` it waits for exactly one
//! answer (`accept`, `refuse` or `pass_on`) before `next` may be called again.

use super::{Address, Reply, UpstreamReply};

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
    /// Nothing whole is there: read more, and come again with all unconsumed bytes first.
    NeedMore,
    /// The session answered by itself.
    Answered,
    /// A new transaction may begin. Answer it.
    Mail(Mail<'b>),
    /// A recipient. Answer it.
    Rcpt(Rcpt<'b>),
    /// DATA, with at least one accepted recipient. Answer it; accepted is 354, and the body follows.
    Data,
    /// A piece of the message as it stands on the wire: dots still stuffed, never a part of the terminator.
    Body(&'b [u8]),
    /// CRLF.CRLF was seen. Answer it; the transaction is over then.
    End(EndOfData),
    /// RSET, EHLO or HELO dropped the transaction that was open. Already answered.
    Reset,
    /// Write what is in `out`, then close.
    Close(CloseCause),
}

/// How a message ended.
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

/// The server's side of one session.
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// A session of the host `hostname`. Nothing is written yet.
    #[must_use]
    pub fn new(_hostname: std::sync::Arc<str>, _limits: Limits, _offer: Offer) -> Self {
        todo!()
    }

    /// Writes the greeting (220).
    pub fn greet(&mut self, _out: &mut Vec<u8>) {
        todo!()
    }

    /// What the bytes at the start of `input` mean. Replies go to `out`.
    pub fn next<'b>(&mut self, _input: &'b [u8], _out: &mut Vec<u8>) -> Step<'b> {
        todo!()
    }

    /// Yes to the `Mail`, `Rcpt`, `Data` or `End` that was handed out: 250, or 354 for `Data`.
    pub fn accept(&mut self, _out: &mut Vec<u8>) {
        todo!()
    }

    /// No to it. A 4xx or 5xx reply. A refused `Data` or `End` ends the transaction.
    pub fn refuse(&mut self, _reply: &Reply, _out: &mut Vec<u8>) {
        todo!()
    }

    /// The upstream's own words, yes or no by their code.
    pub fn pass_on(&mut self, _reply: UpstreamReply<'_>, _out: &mut Vec<u8>) {
        todo!()
    }

    /// The name the client gave in EHLO or HELO; empty before. And whether it was EHLO.
    #[must_use]
    pub fn client_name(&self) -> (&[u8], bool) {
        todo!()
    }

    /// Recipients accepted in the open transaction.
    #[must_use]
    pub fn recipients(&self) -> usize {
        todo!()
    }
}
