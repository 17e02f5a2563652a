//! The canonical address that tokens, tags and records are bound to.

use std::borrow::Cow;

use crate::smtp::{Address, is_atext, is_domain_name};

/// Longest domain name, in octets of its A-label form (RFC 1035 section 2.3.4).
const DOMAIN_BYTES_MAX: usize = 253;
/// Longest label, in octets of its A-label form.
const LABEL_BYTES_MAX: usize = 63;

/// A canonical address: tag removed, needless quotes removed, local part ASCII-lowercased, domain as a lowercase
/// A-label. Two spellings of one mailbox give the same `Mailbox`, and a `Mailbox` read again gives itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mailbox {
    text: String,
    at: usize,
}

impl Mailbox {
    /// The canonical form of an address as it stood in an envelope. `None`: the domain is no domain name
    /// (an address literal, a broken label).
    ///
    /// Whatever has the form of a tag is taken off, whoever made it: nothing is proven by that.
    #[must_use]
    pub fn of(address: &Address<'_>) -> Option<Self> {
        Self::of_in(address, String::new())
    }

    /// The same, in the memory of a text that is needed no more.
    #[must_use]
    pub fn of_in(address: &Address<'_>, spare: String) -> Option<Self> {
        let domain = canonical_domain(std::str::from_utf8(address.domain).ok()?)?;
        let local = unquoted(std::str::from_utf8(address.local).ok()?);
        let mut bare = &*local;
        while let Some(untagged) = without_tag(bare) {
            bare = untagged;
        }
        let mut text = spare;
        text.clear();
        text.reserve(bare.len() + 1 + domain.len());
        push_local(&mut text, bare);
        text.make_ascii_lowercase();
        let at = text.len();
        text.push('@');
        text.push_str(&domain);
        Some(Self { text, at })
    }

    /// The canonical form of an address written as text, e.g. in a configuration or on a command line.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::of(&Address::parse(text.as_bytes())?)
    }

    /// `local@domain`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its text, for whoever needs memory for another one.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
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

/// A domain name as a lowercase A-label (RFC 5890). `None`: it is none.
#[must_use]
pub fn canonical_domain(domain: &str) -> Option<Cow<'_, str>> {
    if is_canonical(domain.as_bytes()) { Some(Cow::Borrowed(domain)) } else { made_canonical(domain) }
}

/// Whether a domain is its own canonical form, as nearly all are: letters in lowercase and digits, between them single
/// hyphens and dots (so that no A-label is among them), and not so long that any label could be too long.
fn is_canonical(domain: &[u8]) -> bool {
    let mut may_part = false;
    let is_plain = domain.iter().all(|octet| {
        let parts = matches!(octet, b'.' | b'-');
        let fits = may_part || !parts;
        may_part = !parts;
        fits && (parts || matches!(octet, b'a'..=b'z' | b'0'..=b'9'))
    });
    is_plain && may_part && domain.len() <= LABEL_BYTES_MAX
}

fn made_canonical(domain: &str) -> Option<Cow<'_, str>> {
    let plain = domain.bytes().all(|octet| octet.is_ascii() && !octet.is_ascii_uppercase());
    // What is plain and has no A-label in it is its own canonical form.
    let canonical = if plain && !domain.contains("xn--") {
        Cow::Borrowed(domain)
    } else {
        let ascii = idna::domain_to_ascii_cow(domain.as_bytes(), idna::AsciiDenyList::EMPTY).ok()?;
        Cow::Owned(ascii.into_owned())
    };
    let short = |label: &str| label.len() <= LABEL_BYTES_MAX;
    let right = canonical.is_ascii()
        && canonical.len() <= DOMAIN_BYTES_MAX
        && canonical.split('.').all(short)
        && is_domain_name(canonical.as_bytes());
    right.then_some(canonical)
}

/// The content of a local part: quotes and backslashes taken off (RFC 5321 section 4.1.2: they are no part of it).
fn unquoted(local: &str) -> Cow<'_, str> {
    let Some(inside) = local.strip_prefix('"').and_then(|local| local.strip_suffix('"')) else {
        return Cow::Borrowed(local);
    };
    if !inside.contains('\\') {
        return Cow::Borrowed(inside);
    }
    let mut content = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        content.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    Cow::Owned(content)
}

/// Appends a local part, quoted only where it must be.
fn push_local(text: &mut String, content: &str) {
    if !content.is_empty() && content.bytes().all(|octet| is_atext(octet) || octet == b'.') {
        return text.push_str(content);
    }
    text.push('"');
    for character in content.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
}

/// What stands behind `prvs=KDDDSSSSSS=` (draft-levine-smtp-batv-01); scheme and MAC in any letter case.
fn without_tag(local: &str) -> Option<&str> {
    let (scheme, rest) = local.split_at_checked(5)?;
    let (value, rest) = rest.split_at_checked(10)?;
    let untagged = rest.strip_prefix('=')?;
    let (day, mac) = value.as_bytes().split_at(4);
    let right = scheme.eq_ignore_ascii_case("prvs=")
        && day.iter().all(u8::is_ascii_digit)
        && mac.iter().all(u8::is_ascii_hexdigit)
        && !untagged.is_empty();
    right.then_some(untagged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_mailbox_are_one_mailbox() {
        for (canonical, spellings) in [
            ("user@example.jp", &["User@EXAMPLE.jp", "\"user\"@example.jp", "\"u\\ser\"@Example.JP"][..]),
            ("user@example.jp", &["prvs=0123abcdef=user@example.jp", "PRVS=9999ABCDEF=USER@example.jp"]),
            ("user@example.jp", &["\"prvs=0123abcdef=user\"@example.jp"]),
            ("user@example.jp", &["prvs=0123abcdef=prvs=0123abcdef=user@example.jp"]),
            ("user@xn--r8jz45g.jp", &["user@例え.jp", "user@XN--R8JZ45G.jp", "user@例え。jp"]),
            ("a..b@docomo.ne.jp", &["a..b@docomo.ne.jp", "\"a..b\"@docomo.ne.jp"]),
            ("\"a b\"@example.jp", &["\"a b\"@example.jp", "\"A\\ b\"@example.jp"]),
            ("\"a\\\"\\\\\"@example.jp", &["\"a\\\"\\\\\"@example.jp"]),
            ("\"\"@example.jp", &["\"\"@example.jp"]),
            ("利用者@example.jp", &["利用者@example.jp"]),
        ] {
            for spelling in spellings {
                let mailbox = Mailbox::parse(spelling).unwrap_or_else(|| panic!("{spelling}"));
                assert_eq!(mailbox.as_str(), canonical, "{spelling}");
                assert_eq!(format!("{}@{}", mailbox.local(), mailbox.domain()), canonical);
            }
        }
    }

    #[test]
    fn what_only_looks_like_a_tag_stays() {
        for text in [
            "prvs=0123abcde=user@example.jp",
            "prvs=0123abcdeg=user@example.jp",
            "prvs=01x3abcdef=user@example.jp",
            "prvs=0123abcdef=@example.jp",
            "xprvs=0123abcdef=user@example.jp",
            "btv1==0123abcdef==user@example.jp",
        ] {
            assert_eq!(Mailbox::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_domain_that_is_no_name_gives_no_mailbox() {
        let too_long = format!("a@{}", ["d".repeat(63).as_str(); 4].join("."));
        for text in ["a@[192.0.2.1]", "a@xn--a", "a@xn--0.example", "a@例え.-", &too_long] {
            assert_eq!(Mailbox::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_domain_is_the_same_where_it_is_seen_at_once(
            domain in prop_oneof!["[a-z0-9.-]{0,20}", "([a-z0-9]{1,9}[.-]){0,12}[a-z0-9.-]", "[a-zA-Z0-9._ -]{0,9}"]
        ) {
            prop_assert_eq!(canonical_domain(&domain), made_canonical(&domain), "{}", domain);
        }

        #[test]
        fn a_mailbox_read_again_is_itself(
            local in prop_oneof![
                "[a-zA-Z0-9.+=_-]{1,20}",
                "(prvs=[0-9]{4}[a-f0-9]{6}=){0,3}[a-zA-Z=]{1,9}",
                "\"([a-zA-Z @.!<>]|\\\\[ -~]){0,20}\"",
                "\"prvs=0123abcdef=([a-z \"]|\\\\\"){0,5}\"",
                "\\PC{1,8}",
            ],
            domain in prop_oneof!["[a-zA-Z0-9_-]{1,9}(\\.[a-zA-Z0-9-]{1,9}){0,3}", "\\PC{1,9}", "xn--[a-z0-9-]{1,9}"],
        ) {
            if let Some(mailbox) = Mailbox::parse(&format!("{local}@{domain}")) {
                prop_assert_eq!(Mailbox::parse(mailbox.as_str()), Some(mailbox.clone()), "{}", mailbox.as_str());
                prop_assert!(mailbox.domain().is_ascii());
                prop_assert!(!mailbox.as_str().bytes().any(|octet| octet.is_ascii_uppercase()));
            }
        }

        #[test]
        fn case_and_quotes_make_no_difference(local in "[a-z0-9.+=_-]{1,20}", domain in "[a-z0-9]{1,9}(\\.[a-z0-9]{1,9}){0,2}") {
            let plain = Mailbox::parse(&format!("{local}@{domain}"));
            prop_assert!(plain.is_some());
            let upper = format!("{}@{}", local.to_uppercase(), domain.to_uppercase());
            prop_assert_eq!(&Mailbox::parse(&upper), &plain);
            prop_assert_eq!(&Mailbox::parse(&format!("\"{local}\"@{domain}")), &plain);
        }
    }
}
