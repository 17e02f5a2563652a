//! What proves that a bounce answers our own mail: tags (BATV), tokens and the record of what was sent, the keys that
//! make them, and the count of their uses.

mod key;
pub mod record;
mod tag;
mod token;
mod uses;

pub use key::{Key, Keys, KeysError};
pub use tag::{TagFault, TagProof, Tagged};
pub use token::{Candidate, FIELD_NAME, MAGIC, Nonce, Token, TokenFault, TokenText};
pub use uses::{Reservation, TAG_USES_MAX, TagName, Uses};

pub mod tags {
    //! Making and checking tags, and which addresses get none.
    pub use super::tag::{AGE_MAX, fits, is_srs, issue, split, verify};
}

pub mod tokens {
    //! Making and checking tokens.
    pub use super::token::{issue, shows_signed, verify};
}

/// What proved a bounce.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// A valid BATV tag in the recipient.
    Tag,
    /// A valid token in the message.
    Token,
    /// A Message-ID in it that was sent for this mailbox: the weakest.
    Record,
}
