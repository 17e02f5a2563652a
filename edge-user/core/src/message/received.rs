//! The `Received` field that each direction adds in front (RFC 5321 section 4.4).

use std::net::IpAddr;

use crate::time::UnixMillis;

/// What a `Received` field says.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The name the client gave in EHLO or HELO, as it came: what is not printable ASCII must not get into the field.
    pub client_name: &'a [u8],
    /// The client's address.
    pub client: IpAddr,
    /// Whether it said EHLO (`ESMTP`) or HELO (`SMTP`).
    pub extended: bool,
    /// The edge's own name.
    pub hostname: &'a str,
    /// Names this message in the log.
    pub id: u64,
    /// The recipient, where there is just one (more would tell one of the others).
    pub recipient: Option<&'a str>,
    /// When it came.
    pub at: UnixMillis,
}

impl Received<'_> {
    /// Appends the whole field, folded, the last CRLF included.
    pub fn write(&self, _out: &mut Vec<u8>) {
        todo!()
    }
}
