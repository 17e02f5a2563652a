//! What a server offers in its EHLO reply.

/// The extensions of an EHLO reply that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    /// SIZE (RFC 1870): 0 is "no limit stated".
    pub size: Option<u64>,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
}

impl Capabilities {
    /// Reads them from the raw lines of an EHLO reply.
    #[must_use]
    pub fn of_ehlo(_raw: &[u8]) -> Self {
        todo!()
    }
}
