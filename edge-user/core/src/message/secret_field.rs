//! The secret header field by which an operator's own mail is known where it comes from networks that many share.
//!
//! Whoever has the secret may have mail signed, so it goes no further than here: [`without`] takes off every field of
//! that name, whoever wrote it.

use std::borrow::Cow;
use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::header::{fields, is_field_name, whole_fields};

/// Shortest secret, in octets: of 64 characters each, that is 96 bits.
pub const SECRET_BYTES_MIN: usize = 16;
/// Longest one: it fits into a line that no relay folds.
pub const SECRET_BYTES_MAX: usize = 64;

/// Fields that mean something else: a message without them is no longer what it was.
const TAKEN: [&str; 21] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Received",
    "Return-Path",
    "DKIM-Signature",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
    "Auto-Submitted",
    "Backstop-Token",
    "List-Id",
];

/// A field's name, and the secret that stands in it.
#[derive(Clone)]
pub struct SecretField {
    name: String,
    secret: Zeroizing<Vec<u8>>,
}

impl SecretField {
    /// A field with a secret, as it stands in its file: white space around it is no part of it. `None`: the name is none
    /// that may be used, or the secret is too short, too long, or not of visible ASCII characters.
    #[must_use]
    pub fn new(name: &str, secret: &[u8]) -> Option<Self> {
        let secret = secret.trim_ascii();
        let right = Self::may_be_named(name)
            && (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len())
            && secret.iter().all(u8::is_ascii_graphic);
        right.then(|| Self { name: name.to_owned(), secret: Zeroizing::new(secret.to_vec()) })
    }

    /// Whether a secret field can have this name (RFC 5322 section 3.6.8, and no field that means something else).
    #[must_use]
    pub fn may_be_named(name: &str) -> bool {
        is_field_name(name.as_bytes()) && !TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(name))
    }

    /// Whether a field of this name (any letter case) is this one.
    #[must_use]
    pub fn is_named(&self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.name.as_bytes())
    }

    /// Whether the header section has the field with the secret. How long that takes says nothing of the secret.
    #[must_use]
    pub fn is_in(&self, section: &[u8]) -> bool {
        fields(section)
            .filter(|(name, _)| self.is_named(name))
            .any(|(_, value)| bool::from(value.trim_ascii().ct_eq(&self.secret)))
    }
}

impl fmt::Debug for SecretField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretField").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The header section without the fields that `is_secret` names, folds and all.
#[must_use]
pub fn without(section: &[u8], is_secret: impl Fn(&[u8]) -> bool) -> Cow<'_, [u8]> {
    if !fields(section).any(|(name, _)| is_secret(name)) {
        return Cow::Borrowed(section);
    }
    let mut rest = Vec::with_capacity(section.len());
    for whole in whole_fields(section) {
        if !fields(whole).next().is_some_and(|(name, _)| is_secret(name)) {
            rest.extend_from_slice(whole);
        }
    }
    Cow::Owned(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn field() -> SecretField {
        SecretField::new("Our-Tenant", format!(" {SECRET}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn the_secret_is_found_in_any_field_of_its_name_and_nowhere_else() {
        for (section, found) in [
            (format!("Our-Tenant: {SECRET}\r\n\r\n"), true),
            (format!("Subject: x\r\nour-TENANT:{SECRET}  \r\n"), true),
            (format!("Our-Tenant \t:\r\n {SECRET}\r\n\r\n"), true),
            (format!("Our-Tenant: wrong\r\nOur-Tenant: {SECRET}\r\n\r\n"), true),
            (format!("Our-Tenant: {}\r\n\r\n", &SECRET[1..]), false),
            (format!("Our-Tenant: {SECRET}x\r\n\r\n"), false),
            (format!("Our-Tenant: {}\r\n\r\n", SECRET.to_uppercase()), false),
            (format!("Our-Tenants: {SECRET}\r\nSubject: Our-Tenant: {SECRET}\r\n\r\n"), false),
            (format!("Subject: x\r\n Our-Tenant: {SECRET}\r\n\r\n"), false),
            ("Our-Tenant:\r\n\r\n".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(field().is_in(section.as_bytes()), found, "{section:?}");
        }
    }

    #[test]
    fn every_field_of_its_name_is_taken_off_and_nothing_else() {
        let field = field();
        let rest = |section: &str| {
            String::from_utf8(without(section.as_bytes(), |name| field.is_named(name)).into_owned()).unwrap()
        };
        for (section, left) in [
            ("A: 1\r\nOur-Tenant: x\r\nB: 2\r\n\r\n", "A: 1\r\nB: 2\r\n\r\n"),
            ("OUR-tenant : x\r\n\ty\r\n z\r\nB: 2\r\nour-tenant:\r\n\r\n", "B: 2\r\n\r\n"),
            ("A: 1\r\n Our-Tenant: no field\r\n\r\n", "A: 1\r\n Our-Tenant: no field\r\n\r\n"),
            ("From our-tenant Tue\r\nOur-Tenant: x\r\nA: 1\r\n", "From our-tenant Tue\r\nA: 1\r\n"),
            ("Our-Tenant: x\r\n", ""),
            ("Our-Tenant: without an end", ""),
            ("", ""),
        ] {
            assert_eq!(rest(section), left, "{section:?}");
            assert_eq!(rest(left), left);
        }
    }

    #[test]
    fn a_name_that_mail_needs_and_a_secret_that_is_easily_guessed_are_refused() {
        for (name, secret) in [
            ("From", SECRET),
            ("received", SECRET),
            ("Backstop-Token", SECRET),
            ("Our Tenant", SECRET),
            ("Our:Tenant", SECRET),
            ("", SECRET),
            ("Our-Tenant", "short"),
            ("Our-Tenant", "two words of a sentence"),
            ("Our-Tenant", "0123456789abcdef\r\nBcc:x"),
            ("Our-Tenant", "schl\u{fc}ssel-schl\u{fc}ssel"),
            ("Our-Tenant", &"x".repeat(SECRET_BYTES_MAX + 1)),
        ] {
            assert!(SecretField::new(name, secret.as_bytes()).is_none(), "{name}: {secret}");
        }
        assert!(!format!("{:?}", field()).contains(SECRET));
    }
}
