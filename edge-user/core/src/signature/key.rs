//! Keys: named by id; the newest signs, all that are not expired verify.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::time::UnixMillis;

/// One signing key.
///
/// The secret is wiped when the key is dropped. The MACs' states that are derived from it (so that no message pays
/// for that again) live as long as the key and are not wiped: the crates that hold them offer no such thing.
#[derive(Clone)]
pub struct Key {
    id: u8,
    secret: Zeroizing<[u8; 32]>,
    token_mac: Hmac<Sha256>,
    tag_mac: Hmac<Sha1>,
    created: UnixMillis,
    retired: Option<UnixMillis>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("created", &self.created)
            .field("retired", &self.retired)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// A key that signs from `created` on.
    #[must_use]
    pub fn new(id: u8, secret: [u8; 32], created: UnixMillis) -> Self {
        let secret = Zeroizing::new(secret);
        let token_mac = Hmac::new_from_slice(secret.as_slice()).expect("HMAC takes keys of any length");
        let tag_mac =
            Hmac::new_from_slice(secret_text(&secret).as_bytes()).expect("HMAC takes keys of any length");
        Self { id, secret, token_mac, tag_mac, created, retired: None }
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
        secret_text(&self.secret)
    }

    /// Whether what it signed may still be believed at `now`: until `max_age` after its last signature.
    #[must_use]
    pub fn verifies(&self, now: UnixMillis, max_age: Duration) -> bool {
        self.retired.is_none_or(|retired| now <= retired.plus(max_age))
    }

    /// The digit by which a tag names this key.
    pub(super) fn digit(&self) -> u8 {
        self.id % 10
    }

    /// HMAC-SHA-256 with the secret, before its first byte.
    pub(super) fn token_mac(&self) -> Hmac<Sha256> {
        self.token_mac.clone()
    }

    /// HMAC-SHA-1 with the secret's text, before its first byte.
    pub(super) fn tag_mac(&self) -> Hmac<Sha1> {
        self.tag_mac.clone()
    }

    fn signs(&self, now: UnixMillis) -> bool {
        self.created <= now && self.retired.is_none_or(|retired| now < retired)
    }
}

fn secret_text(secret: &Zeroizing<[u8; 32]>) -> Zeroizing<String> {
    // With room for all of it from the start: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(43));
    URL_SAFE_NO_PAD.encode_string(secret.as_slice(), &mut text);
    text
}

/// All keys of an edge, newest first.
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
    pub fn new(mut keys: Vec<Key>) -> Result<Self, KeysError> {
        keys.sort_unstable_by_key(Key::id);
        if let Some(pair) = keys.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(KeysError::SameId(pair[0].id));
        }
        keys.sort_by_key(|key| std::cmp::Reverse((key.created, key.id)));
        Ok(Self { keys })
    }

    /// The newest key that signs at `now`.
    #[must_use]
    pub fn signer(&self, now: UnixMillis) -> Option<&Key> {
        self.keys.iter().find(|key| key.signs(now))
    }

    /// The key named `id`.
    #[must_use]
    pub fn get(&self, id: u8) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// All keys, newest first.
    pub fn iter(&self) -> std::slice::Iter<'_, Key> {
        self.keys.iter()
    }
}

impl<'k> IntoIterator for &'k Keys {
    type Item = &'k Key;
    type IntoIter = std::slice::Iter<'k, Key>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u8, created: u64) -> Key {
        Key::new(id, [id; 32], UnixMillis::from_secs(created))
    }

    fn at(secs: u64) -> UnixMillis {
        UnixMillis::from_secs(secs)
    }

    #[test]
    fn the_newest_key_that_is_neither_retired_nor_yet_to_come_signs() {
        let keys =
            Keys::new(vec![key(1, 100), key(2, 300), key(3, 200).retired_at(at(250)), key(4, 900)]).unwrap();
        let signer = |now| keys.signer(at(now)).map(Key::id);
        assert_eq!(signer(99), None);
        assert_eq!(signer(100), Some(1));
        assert_eq!(signer(249), Some(3));
        assert_eq!(signer(250), Some(1), "a retired key signs no more");
        assert_eq!(signer(300), Some(2));
        assert_eq!(signer(900), Some(4));
        assert_eq!(keys.iter().map(Key::id).collect::<Vec<_>>(), [4, 2, 3, 1]);
    }

    #[test]
    fn a_retired_key_verifies_until_max_age_after_its_last_signature() {
        let max_age = Duration::from_secs(50);
        let retired = key(1, 100).retired_at(at(200));
        assert!(retired.verifies(at(250), max_age));
        assert!(!retired.verifies(at(251), max_age));
        assert!(key(1, 100).verifies(at(1_000_000), max_age), "a key in use has no end");
    }

    #[test]
    fn two_keys_of_one_id_are_refused() {
        assert_eq!(Keys::new(vec![key(7, 1), key(8, 2), key(7, 3)]).unwrap_err(), KeysError::SameId(7));
    }

    #[test]
    fn what_is_printed_of_a_key_is_not_its_secret() {
        let key = Key::new(9, *b"a secret of thirty-two bytes, eh", at(1));
        let printed = format!("{key:?}");
        assert!(!printed.contains("secret") && !printed.contains("97, 32"), "{printed}");
        assert_eq!(key.tag_secret().as_str(), "YSBzZWNyZXQgb2YgdGhpcnR5LXR3byBieXRlcywgZWg");
    }
}
