//! Replies as a client reads them (RFC 5321 section 4.2): a code, over one line or several, however the octets are cut.

use memchr::memchr;

/// Most octets of a line that has not ended: RFC 5321 section 4.5.3.1.5 allows 512.
const LINE_BYTES_MAX: usize = 4096;

/// What was read of a reply so far.
#[derive(Debug, Default)]
pub struct Replies {
    /// The beginning of a line whose end has not come.
    rest: Vec<u8>,
    /// The code of the lines so far, where more of them come.
    begun: Option<u16>,
}

/// What comes is no reply.
#[derive(Debug, PartialEq, Eq)]
pub struct NoReply {
    /// The line, as far as it can be shown.
    pub line: String,
}

impl Replies {
    /// Reads what came; `each` hears the code of every reply that is complete, and its last line.
    ///
    /// # Errors
    /// A line is none of a reply.
    pub fn take(&mut self, mut octets: &[u8], mut each: impl FnMut(u16, &[u8])) -> Result<(), NoReply> {
        while let Some(end) = memchr(b'\n', octets) {
            let (line, after) = octets.split_at(end + 1);
            octets = after;
            if self.rest.is_empty() {
                self.line(line, &mut each)?;
            } else {
                self.rest.extend_from_slice(line);
                let whole = std::mem::take(&mut self.rest);
                self.line(&whole, &mut each)?;
            }
        }
        if self.rest.len() + octets.len() > LINE_BYTES_MAX {
            return Err(NoReply { line: shown(octets) });
        }
        self.rest.extend_from_slice(octets);
        Ok(())
    }

    fn line(&mut self, line: &[u8], each: &mut impl FnMut(u16, &[u8])) -> Result<(), NoReply> {
        let no_reply = || NoReply { line: shown(line) };
        let [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', after @ .., b'\r', b'\n'] = line else {
            return Err(no_reply());
        };
        let code = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
        if self.begun.is_some_and(|begun| begun != code) {
            return Err(no_reply());
        }
        match after.first() {
            Some(b'-') => self.begun = Some(code),
            Some(b' ') | None => {
                self.begun = None;
                each(code, line);
            }
            Some(_) => return Err(no_reply()),
        }
        Ok(())
    }
}

/// A line for messages.
pub(crate) fn shown(line: &[u8]) -> String {
    let start = &line[..line.len().min(200)];
    String::from_utf8_lossy(start).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: &[u8] =
        b"220 mx ESMTP\r\n250-mx\r\n250-SIZE 1\r\n250 DSN\r\n354 go on\r\n250\r\n550 5.1.1 no\r\n";
    const CODES: [u16; 5] = [220, 250, 354, 250, 550];

    fn codes(pieces: &[&[u8]]) -> Result<Vec<u16>, NoReply> {
        let (mut replies, mut codes) = (Replies::default(), Vec::new());
        for piece in pieces {
            replies.take(piece, |code, _| codes.push(code))?;
        }
        Ok(codes)
    }

    #[test]
    fn a_burst_means_the_same_however_it_is_cut() {
        assert_eq!(codes(&[BURST]).unwrap(), CODES);
        for cut in 0..=BURST.len() {
            let (head, tail) = BURST.split_at(cut);
            assert_eq!(codes(&[head, tail]).unwrap(), CODES, "cut before octet {cut}");
        }
        let single: Vec<&[u8]> = BURST.chunks(1).collect();
        assert_eq!(codes(&single).unwrap(), CODES);
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for line in [
            &b"hello\r\n"[..],
            b"25\r\n",
            b"250 bare line feed\n",
            b"250_no\r\n",
            b"950 no such class\r\n",
            b"250-one\r\n251 another code\r\n",
            b"\r\n",
            &[b'2'; LINE_BYTES_MAX + 1],
        ] {
            assert!(codes(&[line]).is_err(), "{}", shown(line));
        }
    }

    #[test]
    fn a_reply_that_has_not_ended_is_none() {
        assert_eq!(codes(&[b"250-one\r\n250"]), Ok(Vec::new()));
    }

    #[test]
    fn the_last_line_is_shown() {
        let mut last = Vec::new();
        Replies::default().take(b"550-no\r\n550 never\r\n", |_, line| last = line.to_vec()).unwrap();
        assert_eq!(shown(&last), "550 never");
    }
}
