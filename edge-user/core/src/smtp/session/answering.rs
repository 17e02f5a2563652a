//! What is answered to the events that ask for it, and what that does to the session.

use super::super::answers::{self, flagged};
use super::super::data::Scanner;
use super::super::{Reply, UpstreamReply};
use super::{Asked, ClientName, Phase, Session, Transaction};

impl Session {
    /// Yes to the `Mail`, `Rcpt`, `Data`, `End` or `StartTls` that was handed out: 250, 354 for `Data`, 220 for
    /// `StartTls`. To an `End` with a flag set it becomes the refusal that the flag asks for.
    pub fn accept(&mut self, out: &mut Vec<u8>) {
        match self.asked {
            Asked::Nothing => debug_assert!(false, "nothing was asked"),
            Asked::Mail { .. } => out.extend_from_slice(answers::MAIL_OK),
            Asked::Rcpt => out.extend_from_slice(answers::RCPT_OK),
            Asked::Data => out.extend_from_slice(answers::GO_AHEAD),
            Asked::End(end) => match flagged(end) {
                Some(refusal) => return self.refuse(&refusal, out),
                None => out.extend_from_slice(answers::MESSAGE_OK),
            },
            Asked::StartTls => answers::TLS_READY.write(out),
        }
        self.answered(true, 250);
    }

    /// No to it. A 4xx or 5xx reply. A refused `Data` or `End` ends the transaction.
    pub fn refuse(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        debug_assert!(matches!(reply.code, 400..=599), "{} refuses nothing", reply.code);
        reply.write(out);
        self.answered(false, reply.code);
    }

    /// The upstream's own words, yes or no by their code (yes is 2xx, and 354 for `Data`; what is neither yes nor no
    /// becomes 451). Its 421 speaks of a channel that is not the client's (RFC 5321 section 3.8), and is passed on as 451.
    pub fn pass_on(&mut self, reply: UpstreamReply<'_>, out: &mut Vec<u8>) {
        let yes = match self.asked {
            Asked::Data => reply.code == 354,
            Asked::Nothing | Asked::Mail { .. } | Asked::Rcpt | Asked::End(_) | Asked::StartTls => {
                matches!(reply.code, 200..=299)
            }
        };
        if yes
            && let Asked::End(end) = self.asked
            && let Some(refusal) = flagged(end)
        {
            return self.refuse(&refusal, out);
        }
        if !yes && !matches!(reply.code, 400..=599) {
            return self.refuse(&answers::UPSTREAM_CONFUSED, out);
        }
        if reply.code == 421 {
            for line in reply.raw.split_inclusive(|&octet| octet == b'\n') {
                out.extend_from_slice(b"451");
                out.extend_from_slice(line.get(3..).unwrap_or_default());
            }
        } else {
            out.extend_from_slice(reply.raw);
        }
        self.answered(yes, reply.code);
    }

    /// What an answer does to the session. Only a refused sender or recipient is the client's error: a refused message
    /// is what the edge is for, and a 4xx is no fault.
    fn answered(&mut self, yes: bool, code: u16) {
        match (std::mem::replace(&mut self.asked, Asked::Nothing), yes) {
            (Asked::Nothing, _) => debug_assert!(false, "nothing was asked"),
            (Asked::Mail { smtputf8 }, true) => {
                self.transaction = Some(Transaction { recipients: 0, deferred: false, smtputf8 });
            }
            (Asked::Rcpt, true) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.recipients += 1;
                }
            }
            (Asked::Mail { .. } | Asked::Rcpt, false) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.deferred |= code < 500;
                }
                self.errors = self.errors.saturating_add(u32::from(code >= 500));
            }
            (Asked::Data, true) => self.phase = Phase::Message(Scanner::new(self.limits.message_bytes_max)),
            (Asked::Data | Asked::End(_), false) => self.transaction = None,
            (Asked::End(_), true) => {
                self.transaction = None;
                self.errors = 0;
            }
            // RFC 3207 section 4.2: nothing that was said in clear is known any more.
            (Asked::StartTls, true) => {
                self.client_name = ClientName::default();
                self.extended = false;
                self.phase = Phase::Handshake;
            }
            (Asked::StartTls, false) => {}
        }
    }

    /// The TLS handshake that an accepted `StartTls` asked for is done: the session is as after connecting, but for
    /// the faults that were counted, and STARTTLS, which is no more offered.
    pub fn secured(&mut self) {
        debug_assert!(matches!(self.phase, Phase::Handshake), "no handshake was asked for");
        if matches!(self.phase, Phase::Handshake) {
            self.phase = Phase::Command;
            self.secured = true;
        }
    }

    /// The refusal that was just given is not the client's error: it does not count against `errors_max`.
    pub fn forgive(&mut self) {
        self.errors = self.errors.saturating_sub(1);
    }
}
