//! The canonical address that tokens and tags are bound to.

use crate::smtp::Address;

/// A canonical address: tag removed, needless quotes removed, local part ASCII-lowercased, domain as a lowercase
/// A-label. Two spellings of one mailbox give the same `Mailbox`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mailbox {
    text: String,
    at: usize,
}

impl Mailbox {
    /// The canonical form of an address as it stood in an envelope. `None`: the domain is no domain name
    /// (an address literal, a broken label).
    #[must_use]
    pub fn of(_address: &Address<'_>) -> Option<Self> {
        todo!()
    }

    /// The canonical form of an address written as text, e.g. in a configuration or on a command line.
    #[must_use]
    pub fn parse(_text: &str) -> Option<Self> {
        todo!()
    }

    /// `local@domain`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The local part.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.text[..self.at]
    }

    /// The domain, as a lowercase A-label.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }
}
