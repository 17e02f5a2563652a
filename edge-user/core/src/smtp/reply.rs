//! Replies (RFC 5321 section 4.2), ours and the upstream's.

use std::borrow::Cow;

use memchr::memchr2;

/// Longest line of a reply of ours, CRLF included, in octets (RFC 5321 section 4.5.3.1.5).
const REPLY_LINE_BYTES_MAX: usize = 512;
/// Longest line of an upstream's reply that is taken, CRLF included, in octets.
const UPSTREAM_LINE_BYTES_MAX: usize = 2048;
/// Most lines of an upstream's reply.
const UPSTREAM_LINES_MAX: usize = 64;

/// An enhanced status code (RFC 3463), e.g. 5.7.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Enhanced(pub u8, pub u16, pub u16);

/// A reply of ours: one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// Three digits, 200 to 599.
    pub code: u16,
    /// Its enhanced status code; none on greetings, 354 and the EHLO reply.
    pub enhanced: Option<Enhanced>,
    /// Printable ASCII, no line ends.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// A reply with a fixed text.
    #[must_use]
    pub const fn new(code: u16, enhanced: Enhanced, text: &'static str) -> Self {
        Self { code, enhanced: Some(enhanced), text: Cow::Borrowed(text) }
    }

    /// Appends the reply's line, CRLF included. What is not printable ASCII in the text becomes `?`, and a text too
    /// long for a line is cut: a reply can never become two.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let code = self.code;
        if let 100..1000 = code {
            let digit = |power: u16| b'0' + (code / power % 10) as u8;
            out.extend_from_slice(&[digit(100), digit(10), digit(1), b' ']);
        } else {
            push_number(out, code);
            out.push(b' ');
        }
        match self.enhanced {
            // So are all that are common.
            Some(Enhanced(class @ 0..10, subject @ 0..10, detail @ 0..10)) => {
                let [class, subject, detail] =
                    [u16::from(class), subject, detail].map(|digit| b'0' + digit as u8);
                out.extend_from_slice(&[class, b'.', subject, b'.', detail, b' ']);
            }
            Some(Enhanced(class, subject, detail)) => {
                for (number, behind) in [(u16::from(class), b'.'), (subject, b'.'), (detail, b' ')] {
                    push_number(out, number);
                    out.push(behind);
                }
            }
            None => {}
        }
        let text = self.text.as_bytes();
        let room = REPLY_LINE_BYTES_MAX - 2 - (out.len() - start);
        let text = &text[..text.len().min(room)];
        let place = out.len();
        out.extend_from_slice(text);
        // Each is written, whether it changes or not: so many are at once.
        for octet in &mut out[place..] {
            *octet = if matches!(octet, b' '..=b'~') { *octet } else { b'?' };
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends a number in decimal. (The formatting machinery of `write!` would cost more than all the rest of a reply.)
pub(super) fn push_number(out: &mut Vec<u8>, number: impl Into<u64>) {
    let mut number = number.into();
    let mut digits = [b'0'; 20];
    let mut begin = digits.len();
    loop {
        begin -= 1;
        digits[begin] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[begin..]);
        }
    }
}

/// A whole reply of the upstream, as it stands in the read buffer: one line or many, the last CRLF included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpstreamReply<'b> {
    /// Its code.
    pub code: u16,
    /// All its lines, as received: may be passed on to the client as they are.
    pub raw: &'b [u8],
}

/// What is wrong with an upstream's reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the upstream's reply is not SMTP")]
pub struct NotAReply;

/// Reads one whole reply from the start of `input`. `Ok(None)`: not all of it is there yet.
///
/// # Errors
/// What stands there can never become a reply (codes that change between lines, no digits, a bare CR or LF, a line
/// over 2,048 octets, more than 64 lines).
pub fn read_reply(input: &[u8]) -> Result<Option<UpstreamReply<'_>>, NotAReply> {
    let (mut start, mut first_code) = (0, None);
    for _ in 0..UPSTREAM_LINES_MAX {
        let rest = &input[start..];
        let window = &rest[..rest.len().min(UPSTREAM_LINE_BYTES_MAX)];
        let line = match memchr2(b'\r', b'\n', window) {
            Some(at) if window[at..].starts_with(b"\r\n") => &window[..at],
            Some(at) if at + 1 < window.len() || window[at] == b'\n' => return Err(NotAReply),
            Some(_) | None if window.len() == UPSTREAM_LINE_BYTES_MAX => return Err(NotAReply),
            Some(_) | None => {
                let digits = &window[..window.len().min(3)];
                return if digits.iter().all(u8::is_ascii_digit) { Ok(None) } else { Err(NotAReply) };
            }
        };
        let (code, last) = code_of(line).ok_or(NotAReply)?;
        if *first_code.get_or_insert(code) != code {
            return Err(NotAReply);
        }
        start += line.len() + 2;
        if last {
            return Ok(Some(UpstreamReply { code, raw: &input[..start] }));
        }
    }
    Err(NotAReply)
}

/// A reply line's code, and whether it is the reply's last line.
fn code_of(line: &[u8]) -> Option<(u16, bool)> {
    let (digits, rest) = line.split_at_checked(3)?;
    let [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'] = digits else { return None };
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match rest.first() {
        None | Some(b' ') => Some((code, true)),
        Some(b'-') => Some((code, false)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_reply_is_one_line_whatever_its_text() {
        let reply = Reply::new(550, Enhanced(5, 7, 1), "Not ours");
        assert_eq!(written(&reply), "550 5.7.1 Not ours\r\n");
        let reply = Reply { code: 220, enhanced: None, text: "edge\r\n250 yes é".into() };
        assert_eq!(written(&reply), "220 edge??250 yes ??\r\n");
        let reply = Reply { code: 220, enhanced: None, text: "x".repeat(2000).into() };
        assert_eq!(written(&reply).len(), 512);
    }

    #[test]
    fn every_number_is_written_as_it_is_said() {
        for number in (0..=1100).chain([9_999, 10_000, 60_606, u64::MAX]) {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    #[test]
    fn a_reply_is_read_once_it_is_whole() {
        for reply in [
            &b"250 ok\r\n"[..],
            b"250\r\n",
            b"250-a\r\n250-b c\r\n250 d\r\n",
            b"550-5.1.1 no\r\n550 5.1.1 x\r\n",
        ] {
            for cut in 0..reply.len() {
                assert_eq!(read_reply(&reply[..cut]), Ok(None), "cut at {cut}");
            }
            let with_more = [reply, b"250 next\r\n"].concat();
            let code = if reply[0] == b'2' { 250 } else { 550 };
            assert_eq!(read_reply(&with_more), Ok(Some(UpstreamReply { code, raw: reply })));
        }
    }

    #[test]
    fn what_can_never_be_a_reply_is_an_error() {
        for raw in [
            &b"hello\r\n"[..],
            b"2x",
            b"25\r\n",
            b"250_ok\r\n",
            b"650 ok\r\n",
            b"150 ok\r\n",
            b"250-a\r\n550 b\r\n",
            b"250 ok\n",
            b"250 o\rk\r\n",
            b"\r\n",
        ] {
            assert_eq!(read_reply(raw), Err(NotAReply), "{}", raw.escape_ascii());
        }
        assert_eq!(read_reply(&[b"250 ", "x".repeat(2044).as_bytes()].concat()), Err(NotAReply));
        assert_eq!(read_reply(&b"250-x\r\n".repeat(64)), Err(NotAReply));
        assert_eq!(read_reply(&b"250-x\r\n".repeat(63)), Ok(None));
    }
}
