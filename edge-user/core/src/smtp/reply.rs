//! Replies (RFC 5321 section 4.2), ours and the upstream's.

use std::borrow::Cow;

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

    /// Appends the reply's line, CRLF included.
    pub fn write(&self, _out: &mut Vec<u8>) {
        todo!()
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
/// What stands there can never become a reply (codes that change between lines, no digits, a line over 2,048 octets,
/// more than 64 lines).
pub fn read_reply(_input: &[u8]) -> Result<Option<UpstreamReply<'_>>, NotAReply> {
    todo!()
}
