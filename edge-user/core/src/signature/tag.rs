//! BATV tags, `prvs=KDDDSSSSSS=local@domain` (draft-levine-smtp-batv-01), as Exim makes and reads them.

use super::{Key, Keys};
use crate::smtp::Address;
use crate::time::UnixMillis;

/// An address that has the form of a tagged one, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tagged<'b> {
    /// K: names the key by its id modulo 10.
    pub key_digit: u8,
    /// DDD: the Unix day on which the tag expires, modulo 1000.
    pub day: u16,
    /// SSSSSS: the first three bytes of the MAC.
    pub mac: [u8; 3],
    /// The address without the tag.
    pub address: Address<'b>,
}

/// A tag that was made with one of our keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TagProof {
    /// The key that made it.
    pub key_id: u8,
    /// Whether it has expired: then it proves nothing, but is still ours and is taken off.
    pub expired: bool,
}

/// Why a tag is not ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TagFault {
    /// No key has this digit.
    #[error("no key has the tag's digit")]
    UnknownKey,
    /// The MAC is wrong.
    #[error("the tag's MAC is wrong")]
    BadMac,
}

/// Takes a tagged address apart. `None`: it has no tag.
#[must_use]
pub fn split<'b>(_address: &Address<'b>) -> Option<Tagged<'b>> {
    todo!()
}

/// The local part with a tag, for an envelope sender. The local part is lowercased first.
/// `None`: it is over 48 octets, or has a tag already, and gets none.
#[must_use]
pub fn issue(_key: &Key, _local: &str, _domain: &str, _now: UnixMillis) -> Option<String> {
    todo!()
}

/// Checks a tag: the address as received, then with its local part and domain lowercased.
///
/// # Errors
/// It is not ours.
pub fn verify(_keys: &Keys, _tagged: &Tagged<'_>, _now: UnixMillis) -> Result<TagProof, TagFault> {
    todo!()
}
