//! Addresses as they stand in an envelope (RFC 5321 section 4.1.2), as slices of the read buffer.

use std::net::{Ipv4Addr, Ipv6Addr};

use memchr::memchr;

/// Longest path, angle brackets included, in octets (RFC 5321 section 4.5.3.1.3).
const PATH_BYTES_MAX: usize = 256;
/// Longest domain, in octets (RFC 5321 section 4.5.3.1.2).
const DOMAIN_BYTES_MAX: usize = 255;
/// Longest label of a domain, in octets (RFC 1035 section 2.3.4). A U-label may be longer than its A-label.
const LABEL_BYTES_MAX: usize = 63;

/// An address: a slice of the read buffer, cut at the `@` between its local part and its domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address<'b> {
    /// The local part exactly as written, quotes included.
    pub local: &'b [u8],
    /// The domain exactly as written: a domain name, or an address literal in brackets.
    pub domain: &'b [u8],
}

impl<'b> Address<'b> {
    /// Reads `local@domain` (no angle brackets) by the rules of RFC 5321 section 4.1.2, with RFC 6531's UTF-8.
    /// `None`: not an address.
    ///
    /// Two deviations, both because honest mail needs them:
    /// - Dots may stand anywhere in an unquoted local part: NTT docomo and au gave out `a..b@` and `a.@` for years.
    /// - A local part may exceed 64 octets within a path of 256 (section 4.5.3.1 asks for as few limits as possible):
    ///   SRS forwarders and the VERP senders of bulk mailers do.
    #[must_use]
    pub fn parse(text: &'b [u8]) -> Option<Self> {
        if text.len() + 2 > PATH_BYTES_MAX {
            return None;
        }
        let at = if text.first() == Some(&b'"') { quoted_string_len(text)? } else { dot_string_len(text)? };
        let (local, rest) = text.split_at(at);
        let domain = rest.strip_prefix(b"@")?;
        let utf8 = local.is_ascii() && domain.is_ascii() || std::str::from_utf8(text).is_ok();
        (utf8 && is_domain(domain)).then_some(Self { local, domain })
    }

    /// Whether it is all ASCII. Otherwise it may only be used where the client said SMTPUTF8 (RFC 6531 section 3.3).
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii() && self.domain.is_ascii()
    }

    /// Whether the domain is an address literal (RFC 5321 section 4.1.3).
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.domain.first() == Some(&b'[')
    }
}

/// An octet of an Atom (RFC 5322 section 3.2.3, RFC 6531 section 3.3).
pub(crate) const fn is_atext(octet: u8) -> bool {
    ATEXT[octet as usize]
}

/// Of each octet, whether it is one: it is asked for every octet of every address.
const ATEXT: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0;
    while octet < 256 {
        let other = matches!(octet as u8, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'/' | b'=' | b'?' | b'^'..=b'`' | b'{'..=b'~');
        table[octet] = (octet as u8).is_ascii_alphanumeric() || other || octet >= 0x80;
        octet += 1;
    }
    table
};

/// The length of the Dot-string at the start of `text`: up to the first octet that cannot be in one.
fn dot_string_len(text: &[u8]) -> Option<usize> {
    let len = text.iter().position(|&octet| !is_atext(octet) && octet != b'.').unwrap_or(text.len());
    (len > 0).then_some(len)
}

/// The length of the Quoted-string at the start of `text`, both quotes included.
fn quoted_string_len(text: &[u8]) -> Option<usize> {
    let mut octets = text.iter().enumerate().skip(1);
    while let Some((at, &octet)) = octets.next() {
        match octet {
            b'"' => return Some(at + 1),
            // quoted-pairSMTP takes only %d32-126.
            b'\\' if matches!(octets.next(), Some((_, 32..=126))) => {}
            b'\\' | 0..=31 | 127 => return None,
            32..=126 | 128..=255 => {}
        }
    }
    None
}

/// A domain name or an address literal.
pub(crate) fn is_domain(domain: &[u8]) -> bool {
    match domain {
        [b'[', literal @ .., b']'] => is_address_literal(literal),
        _ => is_domain_name(domain),
    }
}

/// A domain name: labels of letters, digits, hyphens and UTF-8. Underscores are not in the grammar, but stand in real
/// senders' host names; Postfix takes them too.
pub(crate) fn is_domain_name(domain: &[u8]) -> bool {
    if domain.len() <= LABEL_BYTES_MAX {
        return are_labels(domain);
    }
    let fits = |label: &[u8]| label.len() <= LABEL_BYTES_MAX || !label.is_ascii();
    domain.len() <= DOMAIN_BYTES_MAX && are_labels(domain) && domain.split(|&octet| octet == b'.').all(fits)
}

/// Whether it is made of labels, however long they are: none is empty, and none begins or ends with a hyphen.
fn are_labels(domain: &[u8]) -> bool {
    // A label may end behind this octet; it may begin behind it.
    let (mut may_end, mut may_begin) = (false, true);
    for &octet in domain {
        (may_end, may_begin) = match octet {
            b'.' if may_end => (false, true),
            b'-' if !may_begin => (false, false),
            _ if IN_LABEL[octet as usize] => (true, false),
            _ => return false,
        };
    }
    may_end
}

/// Of each octet, whether it stands in labels, wherever it is: it is asked for every octet of every domain.
const IN_LABEL: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = (octet as u8).is_ascii_alphanumeric() || octet as u8 == b'_' || octet >= 0x80;
        octet += 1;
    }
    table
};

/// The inside of `[...]`. No General-address-literal but `IPv6:` was ever registered with IANA.
fn is_address_literal(literal: &[u8]) -> bool {
    let Ok(literal) = std::str::from_utf8(literal) else { return false };
    match literal.split_at_checked(5) {
        Some((tag, v6)) if tag.eq_ignore_ascii_case("IPv6:") => v6.parse::<Ipv6Addr>().is_ok(),
        _ => literal.parse::<Ipv4Addr>().is_ok(),
    }
}

/// Takes the path in angle brackets from the start of `text`; what it returns is the path's inside, source route
/// removed (RFC 5321 appendix C), and the rest behind `>`. `None`: no path stands there.
pub(super) fn take_path(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = text.strip_prefix(b"<")?;
    let end = path_end(inside)?;
    let (path, rest) = (&inside[..end], &inside[end + 1..]);
    if path.first() == Some(&b'@') {
        let colon = memchr(b':', path)?;
        let hops = &path[..colon];
        let hop_is_right = |hop: &[u8]| hop.strip_prefix(b"@").is_some_and(is_domain);
        return hops.split(|&octet| octet == b',').all(hop_is_right).then_some((&path[colon + 1..], rest));
    }
    Some((path, rest))
}

/// Where the `>` stands that ends a path: a quoted one does not.
fn path_end(inside: &[u8]) -> Option<usize> {
    let quoted = memchr(b'"', inside).unwrap_or(inside.len());
    match memchr(b'>', &inside[..quoted]) {
        Some(end) => Some(end),
        None if quoted < inside.len() => {
            let behind = quoted + quoted_string_len(&inside[quoted..])?;
            memchr(b'>', &inside[behind..]).map(|end| behind + end)
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_atom_is_made_of_what_rfc_5322_says() {
        for octet in 0..=u8::MAX {
            let by_definition =
                octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&octet) || octet >= 0x80;
            assert_eq!(is_atext(octet), by_definition, "{octet:#x}");
        }
    }

    fn parts(text: &str) -> Option<(&str, &str)> {
        let of = |octets| std::str::from_utf8(octets).unwrap();
        Address::parse(text.as_bytes()).map(|address| (of(address.local), of(address.domain)))
    }

    #[test]
    fn addresses_are_cut_between_local_part_and_domain() {
        for (local, domain) in [
            ("user", "example.jp"),
            ("a.b+c", "x"),
            ("prvs=0123abcdef=user", "example.jp"),
            ("\"a@b\"", "example.jp"),
            ("\"a\\\"b\"", "example.jp"),
            ("\"a\\\\\"", "example.jp"),
            ("\"\"", "example.jp"),
            ("\" \"", "example.jp"),
            ("a..b", "docomo.ne.jp"),
            ("a.", "docomo.ne.jp"),
            ("a", "[192.0.2.1]"),
            ("a", "[IPv6:2001:2::1]"),
            ("a", "[ipv6:::1]"),
            ("a", "under_score.example"),
            ("利用者", "例え.jp"),
            ("\"利 用\"", "example.jp"),
            (&"x".repeat(80), "forwarder.example"),
        ] {
            let text = format!("{local}@{domain}");
            assert_eq!(parts(&text), Some((local, domain)), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "@",
            "user",
            "user@",
            "@example.jp",
            "a b@example.jp",
            "a@b@c",
            "a@example.jp ",
            "a@-x.example",
            "a@x-.example",
            "a@x..example",
            "a@.example",
            "a@example.",
            "a@exa mple",
            "a@exa\0mple",
            "a\0@example.jp",
            "a\u{7f}@example.jp",
            "\"a\0\"@example.jp",
            "\"a\t\"@example.jp",
            "\"a\\\u{1}\"@example.jp",
            "\"a@example.jp",
            "\"a\"b@example.jp",
            "a\"b\"@example.jp",
            "a\\b@example.jp",
            "a@[192.0.2.256]",
            "a@[192.0.2.1",
            "a@192.0.2.1]",
            "a@[]",
            "a@[tag:x]",
            "a@[IPv6:192.0.2.1]",
            "<a@example.jp>",
        ] {
            assert_eq!(parts(text), None, "{text:?}");
        }
        assert_eq!(Address::parse(b"a\xff@example.jp"), None, "not UTF-8");
    }

    #[test]
    fn a_domain_name_is_labels_between_dots() {
        let by_definition = |domain: &[u8]| {
            domain.split(|&octet| octet == b'.').all(|label| {
                let inner =
                    |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | 0x80..);
                label.iter().all(inner) && !label.is_empty() && label[0] != b'-' && !label.ends_with(b"-")
            })
        };
        let alphabet = b"a.-_\xc3@";
        for length in 0..=6 {
            for number in 0..alphabet.len().pow(length) {
                let octet = |place| alphabet[number / alphabet.len().pow(place) % alphabet.len()];
                let domain: Vec<u8> = (0..length).map(octet).collect();
                assert_eq!(is_domain_name(&domain), by_definition(&domain), "{}", domain.escape_ascii());
            }
        }
        for octet in 0..=u8::MAX {
            assert_eq!(
                is_domain_name(&[b'a', octet, b'a']),
                by_definition(&[b'a', octet, b'a']),
                "{octet:#x}"
            );
        }
    }

    #[test]
    fn lengths_end_where_section_4_5_3_1_says() {
        let label = "d".repeat(63);
        let domain = format!("{label}.{label}.{label}");
        assert_eq!(domain.len(), 191);
        let longest = format!("{}@{domain}", "l".repeat(254 - 1 - 191));
        assert!(parts(&longest).is_some());
        assert_eq!(parts(&format!("l{longest}")), None, "a path of 257");
        assert_eq!(parts(&format!("a@{}", "d".repeat(64))), None, "a label of 64");
    }

    #[test]
    fn a_path_ends_at_the_bracket_that_is_not_quoted() {
        assert_eq!(take_path(b"<> SIZE=1"), Some((&b""[..], &b" SIZE=1"[..])));
        assert_eq!(take_path(b"<a@b>"), Some((&b"a@b"[..], &b""[..])));
        assert_eq!(take_path(b"<\"a>b\"@c> X"), Some((&b"\"a>b\"@c"[..], &b" X"[..])));
        assert_eq!(take_path(b"<\"a\\\">b\"@c>"), Some((&b"\"a\\\">b\"@c"[..], &b""[..])));
        assert_eq!(take_path(b"<a@b> ORCPT=rfc822;\"x>"), Some((&b"a@b"[..], &b" ORCPT=rfc822;\"x>"[..])));
        assert_eq!(take_path(b"a@b"), None);
        assert_eq!(take_path(b"<a@b"), None);
        assert_eq!(take_path(b"<\"a>@b"), None);
    }

    #[test]
    fn source_routes_are_taken_off() {
        assert_eq!(take_path(b"<@a.example,@b.example:u@c>"), Some((&b"u@c"[..], &b""[..])));
        assert_eq!(take_path(b"<@[192.0.2.1]:u@c>"), Some((&b"u@c"[..], &b""[..])));
        assert_eq!(take_path(b"<@a.example,b.example:u@c>"), None);
        assert_eq!(take_path(b"<@a.example u@c>"), None);
        assert_eq!(take_path(b"<@:u@c>"), None);
    }
}
