//! BATV tags, `prvs=KDDDSSSSSS=local@domain` (draft-levine-smtp-batv-01), as Exim makes and reads them.
//!
//! K names the key, DDD is the Unix day on which the tag expires, modulo 1000, and SSSSSS the first three bytes of
//! HMAC-SHA1(secret, K DDD address). A tag is only 24 bits strong: wrong guesses are to be counted by source.

use std::time::Duration;

use hmac::{Hmac, Mac};
use sha1::Sha1;
use subtle::ConstantTimeEq;

use super::{Key, Keys};
use crate::smtp::Address;
use crate::time::UnixMillis;

/// For how many days a tag proves something, the day of its making not counted.
const VALID_DAYS: u64 = 7;

/// By how many days the clock of another edge, which made the tag, may be ahead of ours.
const CLOCK_AHEAD_DAYS: u64 = 1;

/// No tag proves anything longer than this after it was first seen.
pub const AGE_MAX: Duration = Duration::from_secs((VALID_DAYS + CLOCK_AHEAD_DAYS + 1) * 86_400);

/// The longest local part that gets a tag, in octets: with the tag's 16 it is at the limit of RFC 5321 section
/// 4.5.3.1.1, 64.
const LOCAL_BYTES_MAX: usize = 48;

/// `prvs=`, in any case.
const SCHEME: &[u8] = b"prvs=";

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
///
/// A tag within needless quotes (`"prvs=...=user"@example.jp`) counts too: some relays quote what holds a `=`.
#[must_use]
pub fn split<'b>(address: &Address<'b>) -> Option<Tagged<'b>> {
    let local = needless_quotes_removed(address.local);
    let (scheme, rest) = local.split_at_checked(SCHEME.len())?;
    let (tag, rest) = rest.split_at_checked(10)?;
    let original = rest.strip_prefix(b"=")?;
    if !scheme.eq_ignore_ascii_case(SCHEME) || original.is_empty() {
        return None;
    }
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0, |n: u16, d| d.is_ascii_digit().then(|| n * 10 + u16::from(d - b'0')))
    };
    let hex = |at: usize| {
        let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
        Some(digit(tag[at])? << 4 | digit(tag[at + 1])?)
    };
    Some(Tagged {
        key_digit: number(&tag[..1])? as u8,
        day: number(&tag[1..4])?,
        mac: [hex(4)?, hex(6)?, hex(8)?],
        address: Address { local: original, domain: address.domain },
    })
}

/// The local part with a tag, for an envelope sender. Local part and domain are lowercased first, and the tag is
/// made for them so: servers return them in any case.
/// `None`: it does not [`fit`](fits), or has a tag already, and gets none.
#[must_use]
pub fn issue(key: &Key, local: &str, domain: &str, now: UnixMillis) -> Option<String> {
    let tagged_already = split(&Address { local: local.as_bytes(), domain: domain.as_bytes() }).is_some();
    if tagged_already || !fits(local) {
        return None;
    }
    let local = local.to_ascii_lowercase();
    let domain = domain.to_ascii_lowercase();
    let day = ((now.days() + VALID_DAYS) % 1000) as u16;
    let [a, b, c] = mac(key.tag_mac(), key.digit(), day, local.as_bytes(), domain.as_bytes());
    Some(format!("prvs={}{day:03}{a:02x}{b:02x}{c:02x}={local}", key.digit()))
}

/// Whether a local part can get a tag: it is at most 48 octets, needs no quotes, and is no SRS address. That carries
/// somebody else's address with the case of its letters, and a signature of its own.
#[must_use]
pub fn fits(local: &str) -> bool {
    !local.is_empty() && local.len() <= LOCAL_BYTES_MAX && !needs_quotes(local.as_bytes()) && !is_srs(local)
}

/// Whether a local part begins as the Sender Rewriting Scheme's do: `SRS0` or `SRS1` and a separator.
#[must_use]
pub fn is_srs(local: &str) -> bool {
    let local = local.as_bytes();
    let [scheme @ .., _, _] = local.get(..5).unwrap_or_default() else { return false };
    scheme.eq_ignore_ascii_case(b"SRS") && matches!(local[3], b'0' | b'1') && b"=+-".contains(&local[4])
}

/// Checks a tag: the address as received, then with its local part and domain lowercased.
///
/// # Errors
/// It is not ours.
pub fn verify(keys: &Keys, tagged: &Tagged<'_>, now: UnixMillis) -> Result<TagProof, TagFault> {
    let Address { local, domain } = tagged.address;
    let (local_lower, domain_lower) = (local.to_ascii_lowercase(), domain.to_ascii_lowercase());
    let mut fault = TagFault::UnknownKey;
    for key in keys.iter().filter(|key| key.digit() == tagged.key_digit) {
        fault = TagFault::BadMac;
        for (local, domain) in [(local, domain), (local_lower.as_slice(), domain_lower.as_slice())] {
            let expected = mac(key.tag_mac(), tagged.key_digit, tagged.day, local, domain);
            if bool::from(expected.ct_eq(&tagged.mac)) {
                return Ok(TagProof { key_id: key.id(), expired: expired(key, tagged.day, now) });
            }
        }
    }
    Err(fault)
}

/// Whether a tag of `key` that names `day` as its last proves nothing at `now`.
fn expired(key: &Key, day: u16, now: UnixMillis) -> bool {
    let days_left = (u64::from(day) + 1000 - now.days() % 1000) % 1000;
    if days_left > VALID_DAYS + CLOCK_AHEAD_DAYS {
        return true;
    }
    // A key that was taken out of use made no tag after that day.
    let issued = (now.days() + days_left).saturating_sub(VALID_DAYS);
    key.retired().is_some_and(|retired| issued > retired.days() + CLOCK_AHEAD_DAYS)
}

/// SSSSSS: HMAC-SHA1(secret, K DDD local@domain), its first three bytes.
fn mac(mut state: Hmac<Sha1>, key_digit: u8, day: u16, local: &[u8], domain: &[u8]) -> [u8; 3] {
    let digit = |n: u16| b'0' + (n % 10) as u8;
    state.update(&[digit(u16::from(key_digit)), digit(day / 100), digit(day / 10), digit(day)]);
    state.update(local);
    state.update(b"@");
    state.update(domain);
    let whole = state.finalize().into_bytes();
    [whole[0], whole[1], whole[2]]
}

fn needless_quotes_removed(local: &[u8]) -> &[u8] {
    match local {
        [b'"', inner @ .., b'"'] if !needs_quotes(inner) => inner,
        _ => local,
    }
}

/// Whether a local part is no dot-string (RFC 5321 section 4.1.2; UTF-8 as RFC 6531 section 3.3).
fn needs_quotes(local: &[u8]) -> bool {
    local.split(|&c| c == b'.').any(|atom| {
        atom.is_empty() || atom.iter().any(|&c| c <= b' ' || c == 0x7f || b"\"(),:;<>@[\\]".contains(&c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis::from_secs(20781 * 86_400 + 3600);

    fn days(n: u64) -> std::time::Duration {
        std::time::Duration::from_secs(n * 86_400)
    }

    fn address(text: &str) -> Address<'_> {
        let (local, domain) = text.rsplit_once('@').unwrap();
        Address { local: local.as_bytes(), domain: domain.as_bytes() }
    }

    fn key(id: u8) -> Key {
        Key::new(id, [id; 32], NOW.minus(days(30)))
    }

    fn keys() -> Keys {
        Keys::new(vec![key(3), key(13), key(4)]).unwrap()
    }

    fn check(text: &str, now: UnixMillis) -> Option<Result<TagProof, TagFault>> {
        split(&address(text)).map(|tagged| verify(&keys(), &tagged, now))
    }

    #[derive(serde::Deserialize)]
    struct Vector {
        address: String,
        secret: String,
        key_digit: u8,
        unix_day: u64,
        tag: String,
    }

    #[test]
    fn tags_agree_with_exims() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/batv-vectors.json");
        let text = std::fs::read(path).unwrap_or_else(|fault| panic!("{path}: {fault}"));
        let vectors: Vec<Vector> = serde_json::from_slice(&text).unwrap();
        assert!(!vectors.is_empty(), "{path} holds no vector");
        for Vector { address: original, secret, key_digit, unix_day, tag } in vectors {
            let tagged = split(&address(&tag)).unwrap_or_else(|| panic!("{tag} is not taken apart"));
            assert_eq!(tagged.address, address(&original));
            assert_eq!(tagged.key_digit, key_digit);
            assert_eq!(u64::from(tagged.day), (unix_day + VALID_DAYS) % 1000);
            let state = Hmac::new_from_slice(secret.as_bytes()).unwrap();
            let Address { local, domain } = tagged.address;
            assert_eq!(mac(state, key_digit, tagged.day, local, domain), tagged.mac, "{tag}");
        }
    }

    #[test]
    fn exims_prvs_with_a_keys_text_makes_our_tags() {
        let ours = issue(&key(3), "user", "example.com", NOW).unwrap();
        let state = Hmac::new_from_slice(key(3).tag_secret().as_bytes()).unwrap();
        let [a, b, c] = mac(state, 3, 788, b"user", b"example.com");
        assert_eq!(ours, format!("prvs=3788{a:02x}{b:02x}{c:02x}=user"));
    }

    #[test]
    fn a_tag_is_believed_for_seven_days_and_stays_ours_after_that() {
        let tagged = issue(&key(3), "User", "Example.jp", NOW).unwrap() + "@example.jp";
        for (later, expired) in [(0, false), (1, false), (7, false), (8, true), (500, true)] {
            let proof = check(&tagged, NOW.plus(days(later))).unwrap();
            assert_eq!(proof, Ok(TagProof { key_id: 3, expired }), "{later} days later");
        }
        let proof = check(&tagged, NOW.minus(days(1))).unwrap();
        assert_eq!(proof, Ok(TagProof { key_id: 3, expired: false }), "our clock is a day behind");
        let proof = check(&tagged, NOW.minus(days(2))).unwrap();
        assert_eq!(proof, Ok(TagProof { key_id: 3, expired: true }), "two days behind");
    }

    #[test]
    fn a_tag_that_comes_back_in_another_case_is_believed() {
        let tagged = issue(&key(13), "User.Name", "Example.JP", NOW).unwrap() + "@Example.JP";
        for text in [tagged.clone(), tagged.to_uppercase(), tagged.to_lowercase()] {
            let proof = check(&text, NOW).unwrap();
            assert_eq!(proof, Ok(TagProof { key_id: 13, expired: false }), "{text}");
        }
    }

    #[test]
    fn a_tag_that_was_made_for_an_address_in_mixed_case_is_believed_as_received() {
        let [a, b, c] = mac(key(4).tag_mac(), 4, 788, b"User", b"Example.COM");
        let text = format!("prvs=4788{a:02X}{b:02x}{c:02x}=User@Example.COM");
        assert_eq!(check(&text, NOW), Some(Ok(TagProof { key_id: 4, expired: false })));
    }

    #[test]
    fn a_tag_proves_nothing_for_another_address_day_or_key() {
        let tagged = issue(&key(3), "user", "example.jp", NOW).unwrap();
        let changed_day = tagged.replace("prvs=3788", "prvs=3789");
        for text in
            [format!("{tagged}@example.com"), format!("{tagged}x@example.jp"), changed_day + "@example.jp"]
        {
            assert_eq!(check(&text, NOW), Some(Err(TagFault::BadMac)), "{text}");
        }
        let other_key = tagged.replace("prvs=3", "prvs=4") + "@example.jp";
        assert_eq!(check(&other_key, NOW), Some(Err(TagFault::BadMac)));
        let no_key = tagged.replace("prvs=3", "prvs=5") + "@example.jp";
        assert_eq!(check(&no_key, NOW), Some(Err(TagFault::UnknownKey)));
    }

    #[test]
    fn a_retired_key_makes_no_new_tags() {
        let keys = Keys::new(vec![key(3).retired_at(NOW.minus(days(20)))]).unwrap();
        let text = issue(&key(3), "user", "example.jp", NOW).unwrap() + "@example.jp";
        let tagged = split(&address(&text)).unwrap();
        assert_eq!(verify(&keys, &tagged, NOW), Ok(TagProof { key_id: 3, expired: true }));
    }

    #[test]
    fn what_is_no_tag_is_not_taken_apart() {
        for text in [
            "user@example.jp",
            "prvs=@example.jp",
            "prvs=3788b9ac3e@example.jp",
            "prvs=3788b9ac3e=@example.jp",
            "prvs=x788b9ac3e=user@example.jp",
            "prvs=3788b9ac3g=user@example.jp",
            "prvs=3788b9ac3ee=user@example.jp",
            "prvt=3788b9ac3e=user@example.jp",
            "prvs=\u{e9}788b9ac3=user@example.jp",
        ] {
            assert_eq!(split(&address(text)), None, "{text}");
        }
        assert!(split(&address("\"PRVS=3788b9ac3e=user\"@example.jp")).is_some(), "needless quotes");
    }

    #[test]
    fn a_local_part_that_cannot_carry_a_tag_gets_none() {
        let issued = |local: &str| issue(&key(3), local, "example.jp", NOW);
        assert!(issued(&"x".repeat(48)).is_some_and(|tagged| tagged.len() == 64));
        assert_eq!(issued(&"x".repeat(49)), None);
        assert_eq!(issued("\"a b\""), None);
        assert_eq!(issued(""), None);
        for srs in ["SRS0=AbCd=XY=far.example=Ann", "srs1+AbCd=far.example==x", "SRS0-AbCd=XY=far.example=x"]
        {
            assert_eq!(issued(srs), None, "{srs}");
        }
        assert!(["srs0", "srs", "srs2=x", "srs0x"].into_iter().all(|local| issued(local).is_some()));
        let tagged = issued("user").unwrap();
        assert_eq!(issued(&tagged), None);
    }
}
