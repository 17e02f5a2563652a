//! The floor's side of a session: what came, and what is answered. No policy but by names, no limits, no log: as little
//! as a server can do that reads every command and finds the end of every message.

use memchr::{memchr, memmem};

/// The first words of every session.
pub const GREETING: &[u8] = b"220 floor.example ESMTP\r\n";
const EHLO: &[u8] = b"250-floor.example\r\n250-SIZE 52428800\r\n250-PIPELINING\r\n250-8BITMIME\r\n\
                      250-SMTPUTF8\r\n250-DSN\r\n250 ENHANCEDSTATUSCODES\r\n";
const SENDER: &[u8] = b"250 2.1.0 Sender accepted\r\n";
const RECIPIENT: &[u8] = b"250 2.1.5 Recipient accepted\r\n";
const NOBODY: &[u8] = b"550 5.1.1 No such mailbox here\r\n";
const NO_DATA: &[u8] = b"550 5.7.1 This bounce answers no mail that was sent from here\r\n";
const GO_ON: &[u8] = b"354 End with <CRLF>.<CRLF>\r\n";
const DONE: &[u8] = b"250 2.0.0 Done\r\n";
const BYE: &[u8] = b"221 2.0.0 Closing\r\n";
const UNKNOWN: &[u8] = b"500 5.5.2 Unknown command\r\n";

/// How a message ends (RFC 5321 section 4.1.1.4).
const END: &[u8] = b"\r\n.\r\n";

/// A local part that begins so is nobody's: refused in answer to RCPT.
pub const NOBODYS: &str = "nobody";
/// A domain that begins so refuses in answer to DATA.
pub const TAGGED: &str = "tagged.";

/// Where a session stands.
#[derive(Debug, Default)]
pub struct Session {
    in_message: bool,
    refuses_data: bool,
}

/// Whether a session goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// It does.
    Read,
    /// It is over: write, and close.
    Close,
}

impl Session {
    /// Takes what it can of what came, and appends the replies; says how many octets it took.
    pub fn take(&mut self, input: &[u8], replies: &mut Vec<u8>) -> (usize, Next) {
        let mut taken = 0;
        loop {
            let left = &input[taken..];
            if self.in_message {
                let Some(end) = memmem::find(left, END) else {
                    // The end may be cut: what could be its beginning stays.
                    return (taken + left.len().saturating_sub(END.len() - 1), Next::Read);
                };
                taken += end + END.len();
                self.in_message = false;
                replies.extend_from_slice(DONE);
                continue;
            }
            let Some(end) = memchr(b'\n', left) else { return (taken, Next::Read) };
            taken += end + 1;
            if self.command(&left[..end], replies) == Next::Close {
                return (taken, Next::Close);
            }
        }
    }

    fn command(&mut self, line: &[u8], replies: &mut Vec<u8>) -> Next {
        let reply = match line {
            [b'E' | b'H', ..] => EHLO,
            [b'M', ..] => {
                self.refuses_data = false;
                SENDER
            }
            [b'R', b'C', ..] => {
                let path = line.get(b"RCPT TO:<".len()..).unwrap_or_default();
                if path.starts_with(NOBODYS.as_bytes()) {
                    NOBODY
                } else {
                    let domain = memchr(b'@', path).map_or(path, |at| &path[at + 1..]);
                    self.refuses_data |= domain.starts_with(TAGGED.as_bytes());
                    RECIPIENT
                }
            }
            [b'D', ..] if self.refuses_data => NO_DATA,
            [b'D', ..] => {
                self.in_message = true;
                GO_ON
            }
            [b'R' | b'N', ..] => DONE,
            [b'Q', ..] => {
                replies.extend_from_slice(BYE);
                return Next::Close;
            }
            _ => UNKNOWN,
        };
        replies.extend_from_slice(reply);
        Next::Read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &[u8] = b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<nobody1@b.example>\r\nRCPT TO:<u@tagged.b.example>\r\n\
        DATA\r\nMAIL FROM:<>\r\nRCPT TO:<u@b.example>\r\nDATA\r\nA: b\r\n\r\nbody\r\n..\r\n\r\n.\r\nRSET\r\nFOO\r\nQUIT\r\n";

    fn answered(pieces: &[&[u8]]) -> (Vec<u16>, Next) {
        let (mut session, mut waiting, mut replies) = (Session::default(), Vec::new(), Vec::new());
        let mut next = Next::Read;
        for piece in pieces {
            waiting.extend_from_slice(piece);
            let (taken, then) = session.take(&waiting, &mut replies);
            waiting.drain(..taken);
            next = then;
        }
        let mut codes = Vec::new();
        crate::reply::Replies::default().take(&replies, |code, _| codes.push(code)).unwrap();
        (codes, next)
    }

    #[test]
    fn a_session_is_answered_the_same_however_it_is_cut() {
        let want = (vec![250, 250, 550, 250, 550, 250, 250, 354, 250, 250, 500, 221], Next::Close);
        assert_eq!(answered(&[SESSION]), want);
        for cut in 0..SESSION.len() {
            let (head, tail) = SESSION.split_at(cut);
            assert_eq!(answered(&[head, tail]), want, "cut before octet {cut}");
        }
        let single: Vec<&[u8]> = SESSION.chunks(1).collect();
        assert_eq!(answered(&single), want);
    }

    #[test]
    fn a_long_message_is_not_kept() {
        let (mut session, mut replies) = (Session::default(), Vec::new());
        session.take(b"DATA\r\n", &mut replies);
        let (taken, _) = session.take(&[b'x'; 100_000], &mut replies);
        assert_eq!(taken, 100_000 - 4);
    }
}
