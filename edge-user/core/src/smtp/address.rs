//! Addresses as they stand in an envelope (RFC 5321 section 4.1.2), as slices of the read buffer.

/// An address: a slice of the read buffer, cut at its last `@`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address<'b> {
    /// The local part exactly as written, quotes included.
    pub local: &'b [u8],
    /// The domain exactly as written: a domain name, or an address literal in brackets.
    pub domain: &'b [u8],
}

impl<'b> Address<'b> {
    /// Reads `local@domain` (no angle brackets), with every rule of RFC 5321 section 4.1.2 checked. `None`: not an address.
    #[must_use]
    pub fn parse(_text: &'b [u8]) -> Option<Self> {
        todo!()
    }
}
