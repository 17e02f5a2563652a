//! The token: `Backstop-Token: bs1.<36 characters of base64url>`, bound to the mailbox that bounces return to.
//!
//! ```text
//! 27 bytes: key id (1) | recipients, as ceil(log2(n)), masked (1) | issued, hours since 1970, big endian (3) | nonce (6) | MAC (16)
//! MAC  = first 16 bytes of HMAC-SHA-256(key, "backstop-token-1" | the 11 bytes before it, unmasked | mailbox)
//! mask = first byte of HMAC-SHA-256(key, "backstop-mask-1" | nonce)
//! ```

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use subtle::ConstantTimeEq;

use super::{Key, Keys};
use crate::mailbox::Mailbox;
use crate::time::UnixMillis;

/// The header field's name.
pub const FIELD_NAME: &str = "Backstop-Token";

/// What every token begins with.
pub const MAGIC: &[u8; 4] = b"bs1.";

/// By how many hours the clock of another edge, which made the token, may be ahead of ours.
const CLOCK_AHEAD_HOURS: u64 = 25;

/// A token's octets before its MAC.
const HEAD_BYTES: usize = 11;

/// A token's octets.
const TOKEN_BYTES: usize = 27;

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

    /// The characters behind the magic.
    #[must_use]
    pub fn candidate(&self) -> Candidate {
        let mut characters = [0; 36];
        characters.copy_from_slice(&self.0[MAGIC.len()..]);
        Candidate(characters)
    }
}

/// 36 base64url characters that stood behind the magic: perhaps a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
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
        let recipients = 1_u32.checked_shl(u32::from(self.recipients_log2)).unwrap_or(u32::MAX);
        recipients.saturating_mul(4).max(16)
    }

    /// Whether it may still prove something.
    fn dated(&self, now: UnixMillis, max_age: Duration) -> Dated {
        let (issued, now) = (u64::from(self.issued_hours), now.hours());
        if issued > now + CLOCK_AHEAD_HOURS {
            Dated::Ahead
        } else if now > issued + max_age.as_secs() / 3600 {
            Dated::Late
        } else {
            Dated::InTime
        }
    }

    /// The 11 octets that the MAC covers.
    fn head(&self) -> [u8; HEAD_BYTES] {
        let [_, h1, h2, h3] = self.issued_hours.to_be_bytes();
        let [n1, n2, n3, n4, n5, n6] = self.nonce;
        [self.key_id, self.recipients_log2, h1, h2, h3, n1, n2, n3, n4, n5, n6]
    }
}

/// When a token was made, as seen from now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dated {
    InTime,
    /// It is too old.
    Late,
    /// It is from the future, by more than a clock is wrong.
    Ahead,
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
pub fn issue(key: &Key, mailbox: &Mailbox, recipients: u32, now: UnixMillis, nonce: Nonce) -> TokenText {
    issue_for(key, mailbox.as_str(), recipients, now, nonce)
}

fn issue_for(key: &Key, mailbox: &str, recipients: u32, now: UnixMillis, nonce: Nonce) -> TokenText {
    let token = Token {
        key_id: key.id(),
        recipients_log2: ceil_log2(recipients),
        // Three octets of hours last until the year 3883.
        issued_hours: (now.hours() & 0xff_ffff) as u32,
        nonce,
    };
    let mut bytes = [0; TOKEN_BYTES];
    bytes[..HEAD_BYTES].copy_from_slice(&token.head());
    bytes[1] ^= mask(key, &nonce);
    bytes[HEAD_BYTES..].copy_from_slice(&mac(key, &token, mailbox));
    let mut text = [0; 40];
    text[..MAGIC.len()].copy_from_slice(MAGIC);
    URL_SAFE_NO_PAD
        .encode_slice(bytes, &mut text[MAGIC.len()..])
        .expect("27 octets are 36 characters without padding");
    TokenText(text)
}

/// Checks a candidate for `mailbox`.
///
/// # Errors
/// It proves nothing; the fault says why.
pub fn verify(
    keys: &Keys,
    candidate: &Candidate,
    mailbox: &Mailbox,
    now: UnixMillis,
    max_age: Duration,
) -> Result<Token, TokenFault> {
    verify_for(keys, candidate, mailbox.as_str(), now, max_age)
}

fn verify_for(
    keys: &Keys,
    candidate: &Candidate,
    mailbox: &str,
    now: UnixMillis,
    max_age: Duration,
) -> Result<Token, TokenFault> {
    let token = open(keys, candidate, mailbox, |key| key.verifies(now, max_age))?;
    match token.dated(now, max_age) {
        Dated::InTime => Ok(token),
        Dated::Late | Dated::Ahead => Err(TokenFault::OutOfDate { issued_hours: token.issued_hours }),
    }
}

/// Whether a candidate shows that a message whose bounces return to `mailbox` was signed as it should be: it proves
/// something now, or did before it was too old. A token that a key made after it was retired, or that is from the future,
/// proves nothing at any time.
#[must_use]
pub fn shows_signed(
    keys: &Keys,
    candidate: &Candidate,
    mailbox: &Mailbox,
    now: UnixMillis,
    max_age: Duration,
) -> bool {
    let token = open(keys, candidate, mailbox.as_str(), |_| true);
    token.is_ok_and(|token| match token.dated(now, max_age) {
        Dated::InTime => keys.get(token.key_id).is_some_and(|key| key.verifies(now, max_age)),
        Dated::Late => true,
        Dated::Ahead => false,
    })
}

/// The token that one of those `keys` made for `mailbox` that are `known`, whenever it was.
fn open(
    keys: &Keys,
    candidate: &Candidate,
    mailbox: &str,
    known: impl FnOnce(&Key) -> bool,
) -> Result<Token, TokenFault> {
    let mut bytes = [0; TOKEN_BYTES];
    match URL_SAFE_NO_PAD.decode_slice(candidate.0, &mut bytes) {
        Ok(TOKEN_BYTES) => {}
        Ok(_) | Err(_) => return Err(TokenFault::Malformed),
    }
    let [key_id, masked, h1, h2, h3, n1, n2, n3, n4, n5, n6, claimed @ ..] = bytes;
    let key = keys.get(key_id).filter(|key| known(key)).ok_or(TokenFault::UnknownKey(key_id))?;
    let nonce = [n1, n2, n3, n4, n5, n6];
    let token = Token {
        key_id,
        recipients_log2: masked ^ mask(key, &nonce),
        issued_hours: u32::from_be_bytes([0, h1, h2, h3]),
        nonce,
    };
    let fits = bool::from(mac(key, &token, mailbox).ct_eq(&claimed));
    if fits { Ok(token) } else { Err(TokenFault::BadMac) }
}

pub(super) fn ceil_log2(recipients: u32) -> u8 {
    (u32::BITS - recipients.saturating_sub(1).leading_zeros()) as u8
}

fn mac(key: &Key, token: &Token, mailbox: &str) -> [u8; 16] {
    let mut state = key.token_mac();
    state.update(b"backstop-token-1");
    state.update(&token.head());
    state.update(mailbox.as_bytes());
    let mut first = [0; 16];
    first.copy_from_slice(&state.finalize().into_bytes()[..16]);
    first
}

fn mask(key: &Key, nonce: &Nonce) -> u8 {
    let mut state = key.token_mac();
    state.update(b"backstop-mask-1");
    state.update(nonce);
    state.finalize().into_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MAX_AGE: Duration = Duration::from_secs(16 * 86_400);
    const NOW: UnixMillis = UnixMillis::from_secs(1_800_000_000);
    const NONCE: Nonce = *b"\x00\xff\x10abc";
    const USER: &str = "user@example.jp";

    fn key(id: u8) -> Key {
        Key::new(id, [id ^ 0x55; 32], NOW.minus(MAX_AGE))
    }

    fn keys() -> Keys {
        Keys::new(vec![key(0), key(7), key(255)]).unwrap()
    }

    fn check(text: &TokenText, mailbox: &str, now: UnixMillis) -> Result<Token, TokenFault> {
        verify_for(&keys(), &text.candidate(), mailbox, now, MAX_AGE)
    }

    #[test]
    fn the_wire_format_is_what_another_implementation_computes() {
        // By Python's hmac, hashlib and base64 modules from the format at the top of this file.
        let text = issue_for(&Key::new(7, [0x2a; 32], NOW), USER, 5, NOW, NONCE);
        assert_eq!(text.as_str(), "bs1.ByYHoSAA_xBhYmMrgueTG27ftfM0XdvdRQe6");
    }

    #[test]
    fn a_token_says_what_was_put_into_it() {
        for id in [0, 7, 255] {
            let text = issue_for(&key(id), USER, 5, NOW, NONCE);
            assert!(text.as_str().starts_with("bs1."));
            let issued_hours = NOW.hours() as u32;
            let token = Token { key_id: id, recipients_log2: 3, issued_hours, nonce: NONCE };
            assert_eq!(check(&text, USER, NOW), Ok(token));
        }
    }

    #[test]
    fn a_token_of_one_mailbox_proves_nothing_for_another() {
        let text = issue_for(&key(7), USER, 1, NOW, NONCE);
        for other in ["other@example.jp", "user@example.com", "User@example.jp", "user@example.jp.", ""] {
            assert_eq!(check(&text, other, NOW), Err(TokenFault::BadMac), "{other}");
        }
    }

    #[test]
    fn no_changed_bit_goes_unnoticed() {
        let text = issue_for(&key(7), USER, 100, NOW, NONCE);
        let bytes = URL_SAFE_NO_PAD.decode(text.candidate().0).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let mut candidate = Candidate([0; 36]);
            URL_SAFE_NO_PAD.encode_slice(&changed, &mut candidate.0).unwrap();
            let checked = verify_for(&keys(), &candidate, USER, NOW, MAX_AGE);
            assert!(
                matches!(checked, Err(TokenFault::BadMac | TokenFault::UnknownKey(_))),
                "bit {bit}: {checked:?}"
            );
        }
    }

    #[test]
    fn a_token_dies_after_max_age_and_may_be_a_day_ahead() {
        let text = issue_for(&key(7), USER, 1, NOW, NONCE);
        let gone = Err(TokenFault::OutOfDate { issued_hours: NOW.hours() as u32 });
        assert!(check(&text, USER, NOW.plus(MAX_AGE)).is_ok());
        assert_eq!(check(&text, USER, NOW.plus(MAX_AGE + HOUR)).map(|_| ()), gone);
        assert!(check(&text, USER, NOW.minus(25 * HOUR)).is_ok());
        assert_eq!(check(&text, USER, NOW.minus(26 * HOUR)).map(|_| ()), gone);
    }

    #[test]
    fn a_token_dies_with_its_key() {
        let text = issue_for(&key(7), USER, 1, NOW, NONCE);
        let check_with = |keys: Vec<Key>, now| {
            verify_for(&Keys::new(keys).unwrap(), &text.candidate(), USER, now, MAX_AGE).map(|_| ())
        };
        assert_eq!(check_with(vec![key(0)], NOW), Err(TokenFault::UnknownKey(7)));
        let retired = || vec![key(7).retired_at(NOW.minus(MAX_AGE))];
        assert_eq!(check_with(retired(), NOW), Ok(()));
        assert_eq!(check_with(retired(), NOW.plus(HOUR)), Err(TokenFault::UnknownKey(7)));
        let other_secret = vec![Key::new(7, [9; 32], NOW)];
        assert_eq!(check_with(other_secret, NOW), Err(TokenFault::BadMac));
    }

    #[test]
    fn a_token_that_came_too_late_shows_that_its_message_was_signed_and_no_other_does() {
        let mailbox = Mailbox::parse(USER).unwrap();
        let text = issue_for(&key(7), USER, 1, NOW, NONCE);
        let shows = |keys: Vec<Key>, mailbox: &Mailbox, now| {
            shows_signed(&Keys::new(keys).unwrap(), &text.candidate(), mailbox, now, MAX_AGE)
        };
        let late = NOW.plus(MAX_AGE * 3);
        for (name, keys, now, expected) in [
            ("in time", vec![key(7)], NOW, true),
            ("late", vec![key(7)], late, true),
            ("late, its key retired since", vec![key(7).retired_at(NOW.plus(HOUR))], late, true),
            ("its key just retired", vec![key(7).retired_at(NOW.minus(HOUR))], NOW, true),
            (
                "by a key that had been retired",
                vec![key(7).retired_at(NOW.minus(MAX_AGE + HOUR))],
                NOW,
                false,
            ),
            ("from the future", vec![key(7)], NOW.minus(26 * HOUR), false),
            ("by an unknown key", vec![key(0)], NOW, false),
            ("by another key of its number", vec![Key::new(7, [9; 32], NOW)], late, false),
        ] {
            assert_eq!(shows(keys, &mailbox, now), expected, "{name}");
        }
        let other = Mailbox::parse("other@example.jp").unwrap();
        assert!(!shows(vec![key(7)], &other, NOW), "of another mailbox");
    }

    #[test]
    fn what_is_not_base64url_is_no_token() {
        let mut candidate = issue_for(&key(7), USER, 1, NOW, NONCE).candidate();
        for wrong in [b'+', b'/', b'=', b' ', 0, 0xff] {
            candidate.0[20] = wrong;
            let checked = verify_for(&keys(), &candidate, USER, NOW, MAX_AGE);
            assert_eq!(checked, Err(TokenFault::Malformed));
        }
    }

    #[test]
    fn the_number_of_recipients_cannot_be_read_off_a_token() {
        let masked = |nonce| {
            let text = issue_for(&key(7), USER, 64, NOW, nonce);
            URL_SAFE_NO_PAD.decode(text.candidate().0).unwrap()[1]
        };
        let mut seen: Vec<u8> = (0..64).map(|n| masked([n; 6])).collect();
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() > 40, "64 nonces gave only {} masks", seen.len());
    }

    #[test]
    fn a_token_allows_four_bounces_a_recipient_and_sixteen_at_least() {
        for (recipients, log2, uses) in
            [(0, 0, 16), (1, 0, 16), (4, 2, 16), (5, 3, 32), (8, 3, 32), (9, 4, 64), (u32::MAX, 32, u32::MAX)]
        {
            assert_eq!(ceil_log2(recipients), log2, "{recipients}");
            let token = Token { key_id: 0, recipients_log2: log2, issued_hours: 0, nonce: NONCE };
            assert_eq!(token.uses_max(), uses, "{recipients}");
        }
    }
}
