//! Keys: named by id; the newest signs, all that are not expired verify.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::time::UnixMillis;

/// One signing key.
#[derive(Clone)]
pub struct Key {
    id: u8,
    secret: Zeroizing<[u8; 32]>,
    created: UnixMillis,
    retired: Option<UnixMillis>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("created", &self.created).finish_non_exhaustive()
    }
}

impl Key {
    /// A key that signs from `created` on.
    #[must_use]
    pub fn new(id: u8, secret: [u8; 32], created: UnixMillis) -> Self {
        Self { id, secret: Zeroizing::new(secret), created, retired: None }
    }

    /// The same key, signing no more from `at` on; it verifies for `max_age` after that.
    #[must_use]
    pub fn retired_at(mut self, at: UnixMillis) -> Self {
        self.retired = Some(at);
        self
    }

    /// Its id, as it stands in a token's first byte. A tag names it by `id % 10`.
    #[must_use]
    pub fn id(&self) -> u8 {
        self.id
    }

    /// When it began to sign.
    #[must_use]
    pub fn created(&self) -> UnixMillis {
        self.created
    }

    /// When it stopped to sign, if it did.
    #[must_use]
    pub fn retired(&self) -> Option<UnixMillis> {
        self.retired
    }

    /// The secret itself, for MACs and for the key file.
    #[must_use]
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The secret as text (base64url, no padding): the HMAC key of tags, so that Exim's `prvs` agrees with this text.
    #[must_use]
    pub fn tag_secret(&self) -> Zeroizing<String> {
        todo!()
    }

    /// Whether what it signed may still be believed at `now`.
    #[must_use]
    pub fn verifies(&self, _now: UnixMillis, _max_age: Duration) -> bool {
        todo!()
    }
}

/// All keys of an edge.
#[derive(Clone, Debug)]
pub struct Keys {
    keys: Vec<Key>,
}

/// Why keys do not fit together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeysError {
    /// Two keys have one id.
    #[error("two keys have the id {0}")]
    SameId(u8),
}

impl Keys {
    /// Takes keys in any order.
    ///
    /// # Errors
    /// Two keys have one id.
    pub fn new(keys: Vec<Key>) -> Result<Self, KeysError> {
        let _ = &keys;
        todo!()
    }

    /// The newest key that signs at `now`.
    #[must_use]
    pub fn signer(&self, _now: UnixMillis) -> Option<&Key> {
        todo!()
    }

    /// The key named `id`.
    #[must_use]
    pub fn get(&self, _id: u8) -> Option<&Key> {
        todo!()
    }

    /// All keys, newest first.
    pub fn iter(&self) -> std::slice::Iter<'_, Key> {
        self.keys.iter()
    }
}
