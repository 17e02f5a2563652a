//! The session's own replies, each with its code of RFC 5321 section 4.2 and RFC 3463.

use super::{EndOfData, Enhanced, Reply};

// Each message has these three: as lines, they need not be put together.
pub(super) const MAIL_OK: &[u8] = b"250 2.1.0 Sender ok\r\n";
pub(super) const RCPT_OK: &[u8] = b"250 2.1.5 Recipient ok\r\n";
pub(super) const MESSAGE_OK: &[u8] = b"250 2.6.0 Message accepted\r\n";
pub(super) const OK: Reply = Reply::new(250, Enhanced(2, 0, 0), "Ok");
// RFC 5321 section 3.5.3.
pub(super) const VRFY: Reply =
    Reply::new(252, Enhanced(2, 5, 0), "Cannot VRFY user, but will take mail for it");
pub(super) const HELP: Reply =
    Reply::new(214, Enhanced(2, 0, 0), "EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT");
pub(super) const BYE: Reply = Reply::new(221, Enhanced(2, 0, 0), "Bye");
pub(super) const GO_AHEAD: &[u8] = b"354 End data with <CR><LF>.<CR><LF>\r\n";

pub(super) const UNKNOWN: Reply = Reply::new(500, Enhanced(5, 5, 2), "Command not recognized");
pub(super) const BARE: Reply = Reply::new(500, Enhanced(5, 5, 2), "Bare CR or LF: lines end with CRLF");
pub(super) const TOO_LONG: Reply = Reply::new(500, Enhanced(5, 5, 2), "Line too long");
pub(super) const NOT_SMTP: Reply = Reply::new(500, Enhanced(5, 5, 2), "This is SMTP");
pub(super) const NOT_IMPLEMENTED: Reply = Reply::new(502, Enhanced(5, 5, 1), "Command not implemented");
pub(super) const TLS_READY: Reply = Reply::new(220, Enhanced(2, 0, 0), "Ready to start TLS");
pub(super) const TLS_IS_ON: Reply = Reply::new(503, Enhanced(5, 5, 1), "TLS is on already");
pub(super) const TLS_IN_TRANSACTION: Reply = Reply::new(503, Enhanced(5, 5, 1), "Not within a transaction");
pub(super) const SAY_EHLO: Reply = Reply::new(503, Enhanced(5, 5, 1), "Say EHLO first");
pub(super) const NESTED_MAIL: Reply = Reply::new(503, Enhanced(5, 5, 1), "Sender already given");
pub(super) const NEED_MAIL: Reply = Reply::new(503, Enhanced(5, 5, 1), "Need MAIL first");
pub(super) const NEED_RCPT: Reply = Reply::new(554, Enhanced(5, 5, 1), "No valid recipients");
pub(super) const RCPT_LATER: Reply =
    Reply::new(451, Enhanced(4, 5, 1), "No valid recipients now, try again later");
pub(super) const TOO_MANY_RECIPIENTS: Reply = Reply::new(452, Enhanced(4, 5, 3), "Too many recipients");
pub(super) const TOO_MANY_ERRORS: Reply = Reply::new(421, Enhanced(4, 7, 0), "Too many errors");
pub(super) const ENDLESS: Reply = Reply::new(421, Enhanced(4, 7, 0), "This line does not end");
pub(super) const BARE_IN_MESSAGE: Reply =
    Reply::new(550, Enhanced(5, 6, 0), "Bare CR or LF in the message: lines end with CRLF");
pub(super) const MESSAGE_TOO_BIG: Reply = Reply::new(552, Enhanced(5, 3, 4), "Message too big");
// Ours to say when the upstream's yes is none (e.g. 354 to RCPT).
pub(super) const UPSTREAM_CONFUSED: Reply =
    Reply::new(451, Enhanced(4, 3, 0), "Mail server gave an unexpected reply");

/// The refusal that a message's flags ask for.
pub(super) fn flagged(end: EndOfData) -> Option<Reply> {
    match end {
        EndOfData { bare_line_ending: true, .. } => Some(BARE_IN_MESSAGE),
        EndOfData { too_big: true, .. } => Some(MESSAGE_TOO_BIG),
        EndOfData { bare_line_ending: false, too_big: false, .. } => None,
    }
}
