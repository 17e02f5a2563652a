//! The token: `Backstop-Token: bs1.<36 characters of base64url>`, bound to the mailbox that bounces return to.
//!
//! ```text
//! 27 bytes: key id (1) | recipients, as ceil(log2(n)), masked (1) | issued, hours since 1970, big endian (3) | nonce (6) | MAC (16)
//! MAC  = first 16 bytes of HMAC-SHA-256(key, "backstop-token-1" | the 11 bytes before it, unmasked | mailbox)
//! mask = first byte of HMAC-SHA-256(key, "backstop-mask-1" | nonce)
//! ```

use std::time::Duration;

use super::{Key, Keys};
use crate::mailbox::Mailbox;
use crate::time::UnixMillis;

/// The header field's name.
pub const FIELD_NAME: &str = "Backstop-Token";

/// What every token begins with.
pub const MAGIC: &[u8; 4] = b"bs1.";

/// Makes each token unique.
pub type Nonce = [u8; 6];

/// A whole token as text: `bs1.` and 36 characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenText(pub [u8; 40]);

impl TokenText {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// 36 base64url characters that stood behind the magic: perhaps a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Candidate(pub [u8; 36]);

/// What a valid token says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    /// The key that made it.
    pub key_id: u8,
    /// The message's recipients, as ceil(log2(n)).
    pub recipients_log2: u8,
    /// When it was made, in hours since 1970.
    pub issued_hours: u32,
    /// Names it among all.
    pub nonce: Nonce,
}

impl Token {
    /// How many bounces may come back for it: max(16, 4n).
    #[must_use]
    pub fn uses_max(&self) -> u32 {
        todo!()
    }
}

/// Why a candidate proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenFault {
    /// Not 27 bytes of base64url.
    #[error("it is no token")]
    Malformed,
    /// Its key is unknown or expired.
    #[error("its key {0} is unknown or expired")]
    UnknownKey(u8),
    /// The MAC is wrong: forged, or bound to another mailbox.
    #[error("its MAC does not fit this mailbox")]
    BadMac,
    /// Older than `max_age`, or from the future.
    #[error("it is out of date: issued {issued_hours} hours after 1970")]
    OutOfDate {
        /// When it claims to be made.
        issued_hours: u32,
    },
}

/// Makes a token for a message of `recipients` recipients whose bounces return to `mailbox`.
#[must_use]
pub fn issue(_key: &Key, _mailbox: &Mailbox, _recipients: u32, _now: UnixMillis, _nonce: Nonce) -> TokenText {
    todo!()
}

/// Checks a candidate for `mailbox`.
///
/// # Errors
/// It proves nothing; the fault says why.
pub fn verify(
    _keys: &Keys,
    _candidate: &Candidate,
    _mailbox: &Mailbox,
    _now: UnixMillis,
    _max_age: Duration,
) -> Result<Token, TokenFault> {
    todo!()
}
