//! Mailboxes in log lines as keyed hashes, where the configuration asks for it.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Replaces local parts by a keyed hash. The domain stays readable: an operator still sees which one is hit.
///
/// The same mailbox has the same hash for as long as the key lives, so lines can still be counted and joined.
#[derive(Clone)]
pub struct AddressHasher {
    key: [u8; 32],
}

impl std::fmt::Debug for AddressHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AddressHasher")
    }
}

impl AddressHasher {
    /// A hasher whose key is derived from a secret of this installation, so that its hashes outlive the process
    /// without telling anything of the secret.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Self {
        Self { key: mac(secret, b"backstop-log-1") }
    }

    /// `local@domain` as `#<16 hex digits>@domain`; the null sender stays empty.
    #[must_use]
    pub fn hash(&self, address: &str) -> String {
        if address.is_empty() {
            return String::new();
        }
        let lowercase = address.to_ascii_lowercase();
        let tag = mac(&self.key, lowercase.as_bytes());
        let hex: String = tag[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        match lowercase.rsplit_once('@') {
            Some((_, domain)) => format!("#{hex}@{domain}"),
            None => format!("#{hex}"),
        }
    }
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_hides_the_local_part_and_keeps_the_domain() {
        let hashed = AddressHasher::from_secret(b"secret").hash("Some.User@Example.jp");
        assert!(hashed.starts_with('#') && hashed.ends_with("@example.jp"), "{hashed}");
        assert!(!hashed.contains("user"), "{hashed}");
    }

    #[test]
    fn spellings_agree_and_keys_do_not() {
        let one = AddressHasher::from_secret(b"one");
        assert_eq!(one.hash("user@example.jp"), one.hash("USER@EXAMPLE.JP"));
        assert_ne!(one.hash("user@example.jp"), one.hash("usex@example.jp"));
        assert_ne!(one.hash("user@example.jp"), AddressHasher::from_secret(b"two").hash("user@example.jp"));
        assert_eq!(one.hash(""), "");
    }
}
