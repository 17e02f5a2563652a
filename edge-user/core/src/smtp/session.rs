//! The server's side of a session: which command may come when, and what it is answered.
//!
//! The session answers by itself what needs no decision (EHLO, HELO, NOOP, VRFY, RSET, QUIT, syntax and order
//! errors) and hands the rest out as events. After `Mail`, `Rcpt`, `Data`, `End` and `StartTls` it waits for exactly one
//! answer (`accept`, `refuse` or `pass_on`) before `next` may be called again.
//!
//! Between an accepted `StartTls` and [`Session::secured`] every octet is discarded: what somebody put behind STARTTLS
//! in clear would else be taken for what came protected (RFC 3207 section 4.2; CVE-2011-0411).
//!
//! Memory: the client's name, at most 255 octets; nothing else is kept. The read buffer must hold `line_bytes_max`
//! octets.

mod answering;

use std::sync::Arc;

use super::answers;
use super::command::{self, Argument, Command, Needs, Said, Verb};
use super::data::{Piece, Scanner, TERMINATOR};
use super::line::{self, Line, Skip, Skipped};
use super::reply::push_number;
use super::{CloseCause, EndOfData, Enhanced, Event, Limits, Offer, Reply, Step, params};

/// Longest name of a client, in octets (RFC 5321 section 4.5.3.1.2).
const NAME_BYTES_MAX: usize = 255;

/// Where a session stands.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Between commands.
    Command,
    /// Inside a refused line.
    Skip(Skip),
    /// Inside a message.
    Message(Scanner),
    /// STARTTLS was answered 220, and the handshake is not done.
    Handshake,
    /// Over.
    Closed(CloseCause),
}

/// What was handed out and not answered yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Nothing,
    Mail { smtputf8: bool },
    Rcpt,
    Data,
    End(EndOfData),
    StartTls,
}

/// An open transaction (RFC 5321 section 3.3).
#[derive(Clone, Copy, Debug)]
struct Transaction {
    recipients: usize,
    /// A recipient got a 4xx.
    deferred: bool,
    smtputf8: bool,
}

/// The name that a client gave, in the session's own memory: each session has one.
#[derive(Debug)]
struct ClientName {
    octets: [u8; NAME_BYTES_MAX],
    length: usize,
}

impl Default for ClientName {
    fn default() -> Self {
        Self { octets: [0; NAME_BYTES_MAX], length: 0 }
    }
}

impl ClientName {
    fn get(&self) -> &[u8] {
        &self.octets[..self.length]
    }

    /// `false`: it is too long.
    fn set(&mut self, name: &[u8]) -> bool {
        let Some(room) = self.octets.get_mut(..name.len()) else { return false };
        room.copy_from_slice(name);
        self.length = name.len();
        true
    }
}

/// The server's side of one session.
#[derive(Debug)]
pub struct Session {
    hostname: Arc<str>,
    limits: Limits,
    offer: Offer,
    phase: Phase,
    asked: Asked,
    transaction: Option<Transaction>,
    client_name: ClientName,
    extended: bool,
    /// The handshake is done.
    secured: bool,
    /// Whether any line was a command of SMTP.
    spoke_smtp: bool,
    /// Whether any octet came.
    began: bool,
    errors: u32,
}

impl Session {
    /// A session of the host `hostname`. Nothing is written yet.
    #[must_use]
    pub fn new(hostname: Arc<str>, limits: Limits, offer: Offer) -> Self {
        Self {
            hostname,
            limits,
            offer,
            phase: Phase::Command,
            asked: Asked::Nothing,
            transaction: None,
            client_name: ClientName::default(),
            extended: false,
            secured: false,
            spoke_smtp: false,
            began: false,
            errors: 0,
        }
    }

    /// Writes the greeting (220).
    pub fn greet(&mut self, out: &mut Vec<u8>) {
        for part in [b"220 ", self.hostname.as_bytes(), b" ESMTP\r\n"] {
            out.extend_from_slice(part);
        }
    }

    /// What the bytes at the start of `input` mean. Replies go to `out`.
    pub fn next<'b>(&mut self, input: &'b [u8], out: &mut Vec<u8>) -> Step<'b> {
        debug_assert_eq!(self.asked, Asked::Nothing, "an event was not answered");
        if self.asked != Asked::Nothing {
            return Step { consumed: 0, event: Event::NeedMore };
        }
        if self.errors > self.limits.errors_max && matches!(self.phase, Phase::Command | Phase::Skip(_)) {
            return self.close(0, self.cause_of_errors(), &answers::TOO_MANY_ERRORS, out);
        }
        match self.phase {
            Phase::Command => self.command_line(input, out),
            Phase::Skip(skip) => self.skip(skip, input, out),
            Phase::Message(scanner) => self.message(scanner, input),
            Phase::Handshake if input.is_empty() => Step { consumed: 0, event: Event::NeedMore },
            Phase::Handshake => Step { consumed: input.len(), event: Event::Answered },
            Phase::Closed(cause) => Step { consumed: 0, event: Event::Close(cause) },
        }
    }

    fn command_line<'b>(&mut self, input: &'b [u8], out: &mut Vec<u8>) -> Step<'b> {
        if let (Some(&first), false) = (input.first(), self.began) {
            self.began = true;
            if command::is_binary(first) {
                return self.close(input.len(), CloseCause::NotSmtp, &answers::NOT_SMTP, out);
            }
        }
        match line::read(input, self.limits.line_bytes_max) {
            Line::Partial => Step { consumed: 0, event: Event::NeedMore },
            Line::Whole(line) => self.command(line, out),
            Line::Bare { consumed } => {
                self.phase = Phase::Skip(Skip::default());
                self.error(consumed, &answers::BARE, out)
            }
            Line::TooLong { consumed } if !self.spoke_smtp => {
                self.close(consumed, CloseCause::NotSmtp, &answers::TOO_LONG, out)
            }
            Line::TooLong { consumed } => {
                self.phase = Phase::Skip(Skip::default());
                self.error(consumed, &answers::TOO_LONG, out)
            }
        }
    }

    fn cause_of_errors(&self) -> CloseCause {
        if self.spoke_smtp { CloseCause::TooManyErrors } else { CloseCause::NotSmtp }
    }

    fn skip<'b>(&mut self, mut skip: Skip, input: &'b [u8], out: &mut Vec<u8>) -> Step<'b> {
        let skipped = skip.read(input, self.limits.line_bytes_max);
        self.phase = Phase::Skip(skip);
        match skipped {
            Skipped::Partial => Step { consumed: 0, event: Event::NeedMore },
            Skipped::Some { consumed } => Step { consumed, event: Event::Answered },
            Skipped::BareLf { consumed } => self.error(consumed, &answers::BARE, out),
            Skipped::End { consumed } => {
                self.phase = Phase::Command;
                Step { consumed, event: Event::Answered }
            }
            // Its 500 was said already; who spoke SMTP before is faulty, and no stranger to the protocol.
            Skipped::Endless => self.close(0, self.cause_of_errors(), &answers::ENDLESS, out),
        }
    }

    fn message<'b>(&mut self, mut scanner: Scanner, input: &'b [u8]) -> Step<'b> {
        let piece = scanner.next(input);
        self.phase = Phase::Message(scanner);
        match piece {
            Piece::Partial => Step { consumed: 0, event: Event::NeedMore },
            Piece::Body(body) => Step { consumed: body.len(), event: Event::Body(body) },
            Piece::Swallowed(consumed) => Step { consumed, event: Event::Answered },
            Piece::End(end) => {
                self.phase = Phase::Command;
                self.asked = Asked::End(end);
                Step { consumed: TERMINATOR.len(), event: Event::End(end) }
            }
        }
    }

    fn command<'b>(&mut self, line: &'b [u8], out: &mut Vec<u8>) -> Step<'b> {
        let consumed = line.len() + 2;
        let (command, argument) = match command::read(line) {
            Said::Garbage if !self.spoke_smtp => {
                return self.close(consumed, CloseCause::NotSmtp, &answers::NOT_SMTP, out);
            }
            Said::Garbage | Said::UnknownWord => return self.error(consumed, &answers::UNKNOWN, out),
            Said::Command(command, argument) => (command, argument),
        };
        self.spoke_smtp |= command.verb != Verb::Foreign;
        match command.needs {
            Needs::Greeting | Needs::NoTransaction | Needs::Transaction
                if self.client_name.get().is_empty() =>
            {
                return self.error(consumed, &answers::SAY_EHLO, out);
            }
            Needs::NoTransaction if self.transaction.is_some() => {
                return self.error(consumed, &answers::NESTED_MAIL, out);
            }
            Needs::Transaction if self.transaction.is_none() => {
                return self.error(consumed, &answers::NEED_MAIL, out);
            }
            Needs::Nothing | Needs::Greeting | Needs::NoTransaction | Needs::Transaction => {}
        }
        match command.argument {
            Argument::Required if argument.is_empty() => return self.syntax_error(consumed, command, out),
            Argument::None if !argument.is_empty() => return self.syntax_error(consumed, command, out),
            Argument::Required | Argument::Optional | Argument::None => {}
        }
        let answered = Step { consumed, event: Event::Answered };
        match command.verb {
            Verb::Ehlo | Verb::Helo => return self.hello(consumed, command, argument, out),
            Verb::Mail => match params::mail(argument, &self.offer, &self.limits) {
                Ok(mail) => {
                    self.asked = Asked::Mail { smtputf8: mail.smtputf8 };
                    return Step { consumed, event: Event::Mail(mail) };
                }
                Err(reply) => return self.error(consumed, &reply, out),
            },
            Verb::Rcpt => return self.rcpt(consumed, argument, out),
            Verb::Data if self.recipients() == 0 => {
                // RFC 2920 section 3.1: what a pipelining client sends after its recipients were refused is no error.
                // Who was told to come again is not told to give up.
                if self.transaction.is_some_and(|transaction| transaction.deferred) {
                    answers::RCPT_LATER.write(out);
                } else {
                    answers::NEED_RCPT.write(out);
                }
            }
            Verb::Data => {
                self.asked = Asked::Data;
                return Step { consumed, event: Event::Data };
            }
            Verb::Rset => {
                answers::OK.write(out);
                return Step { consumed, event: self.drop_transaction() };
            }
            Verb::Noop => answers::OK.write(out),
            Verb::Vrfy => answers::VRFY.write(out),
            Verb::Help => answers::HELP.write(out),
            Verb::Quit => return self.close(consumed, CloseCause::Quit, &answers::BYE, out),
            Verb::StartTls if self.secured => return self.error(consumed, &answers::TLS_IS_ON, out),
            Verb::StartTls if self.offer.starttls => {
                if self.transaction.is_some() {
                    return self.error(consumed, &answers::TLS_IN_TRANSACTION, out);
                }
                self.asked = Asked::StartTls;
                return Step { consumed, event: Event::StartTls };
            }
            Verb::StartTls | Verb::NotImplemented => {
                return self.error(consumed, &answers::NOT_IMPLEMENTED, out);
            }
            Verb::Foreign => return self.close(consumed, CloseCause::NotSmtp, &answers::NOT_SMTP, out),
        }
        answered
    }

    /// EHLO and HELO (RFC 5321 section 4.1.1.1). The name is not checked against DNS nor grammar (section 4.1.4 forbids
    /// refusal for what it says), but it is one word of printable ASCII, since it goes into `Received`.
    fn hello<'b>(&mut self, consumed: usize, command: &Command, name: &[u8], out: &mut Vec<u8>) -> Step<'b> {
        if !name.iter().all(u8::is_ascii_graphic) || !self.client_name.set(name) {
            return self.syntax_error(consumed, command, out);
        }
        self.extended = command.verb == Verb::Ehlo;
        if !self.extended {
            for part in [b"250 ", self.hostname.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
            return Step { consumed, event: self.drop_transaction() };
        }
        for part in [b"250-", self.hostname.as_bytes(), b"\r\n250-PIPELINING\r\n250-SIZE "] {
            out.extend_from_slice(part);
        }
        push_number(out, self.limits.message_bytes_max);
        out.extend_from_slice(b"\r\n");
        let Offer { eight_bit_mime, smtputf8, dsn, starttls } = self.offer;
        for (offered, line) in [
            (eight_bit_mime, &b"250-8BITMIME\r\n"[..]),
            (smtputf8, b"250-SMTPUTF8\r\n"),
            (dsn, b"250-DSN\r\n"),
            // RFC 3207 section 4.2: never in a session that has it.
            (starttls && !self.secured, b"250-STARTTLS\r\n"),
            (true, b"250 ENHANCEDSTATUSCODES\r\n"),
        ] {
            if offered {
                out.extend_from_slice(line);
            }
        }
        Step { consumed, event: self.drop_transaction() }
    }

    fn rcpt<'b>(&mut self, consumed: usize, argument: &'b [u8], out: &mut Vec<u8>) -> Step<'b> {
        let smtputf8 = self.transaction.is_some_and(|transaction| transaction.smtputf8);
        match params::rcpt(argument, &self.offer, smtputf8) {
            Ok(_) if self.recipients() >= self.limits.recipients_max => {
                // RFC 5321 section 4.5.3.1.10: the client sends the rest in another transaction; no error.
                answers::TOO_MANY_RECIPIENTS.write(out);
                Step { consumed, event: Event::Answered }
            }
            Ok(rcpt) => {
                self.asked = Asked::Rcpt;
                Step { consumed, event: Event::Rcpt(rcpt) }
            }
            Err(reply) => self.error(consumed, &reply, out),
        }
    }

    fn drop_transaction(&mut self) -> Event<'static> {
        match self.transaction.take() {
            Some(_) => Event::Reset,
            None => Event::Answered,
        }
    }

    fn error<'b>(&mut self, consumed: usize, reply: &Reply, out: &mut Vec<u8>) -> Step<'b> {
        self.errors = self.errors.saturating_add(1);
        reply.write(out);
        Step { consumed, event: Event::Answered }
    }

    fn syntax_error<'b>(&mut self, consumed: usize, command: &Command, out: &mut Vec<u8>) -> Step<'b> {
        self.error(consumed, &Reply::new(501, Enhanced(5, 5, 4), command.syntax), out)
    }

    fn close<'b>(
        &mut self,
        consumed: usize,
        cause: CloseCause,
        reply: &Reply,
        out: &mut Vec<u8>,
    ) -> Step<'b> {
        reply.write(out);
        self.transaction = None;
        self.phase = Phase::Closed(cause);
        Step { consumed, event: Event::Close(cause) }
    }

    /// The name the client gave in EHLO or HELO; empty before. And whether it was EHLO.
    #[must_use]
    pub fn client_name(&self) -> (&[u8], bool) {
        (self.client_name.get(), self.extended)
    }

    /// The protocol of the open transaction, as `Received` names it (RFC 3848; RFC 6531 section 4.3). TLS without EHLO
    /// has no name there.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        let smtputf8 = self.transaction.is_some_and(|transaction| transaction.smtputf8);
        match (smtputf8, self.extended, self.secured) {
            (true, _, false) => "UTF8SMTP",
            (true, _, true) => "UTF8SMTPS",
            (false, true, false) => "ESMTP",
            (false, true, true) => "ESMTPS",
            (false, false, _) => "SMTP",
        }
    }

    /// Recipients accepted in the open transaction.
    #[must_use]
    pub fn recipients(&self) -> usize {
        self.transaction.map_or(0, |transaction| transaction.recipients)
    }
}
