//! What a server offers in its EHLO reply (RFC 5321 section 4.1.1.1).

/// The extensions of an EHLO reply that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    /// SIZE (RFC 1870): 0 is "no limit stated".
    pub size: Option<u64>,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
}

impl Capabilities {
    /// Reads them from the raw lines of an EHLO reply. The first line is the greeting and offers nothing.
    #[must_use]
    pub fn of_ehlo(raw: &[u8]) -> Self {
        let mut offered = Self::default();
        for line in raw.split(|&octet| octet == b'\n').skip(1) {
            let Some(line) = line.strip_prefix(b"250").and_then(|line| line.get(1..)) else { continue };
            let mut words = line.trim_ascii().split(|&octet| octet == b' ').filter(|word| !word.is_empty());
            let Some(keyword) = words.next() else { continue };
            let is = |name: &str| keyword.eq_ignore_ascii_case(name.as_bytes());
            if is("SIZE") {
                let limit = words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
                offered.size = Some(limit.unwrap_or(0));
            }
            offered.pipelining |= is("PIPELINING");
            offered.eight_bit_mime |= is("8BITMIME");
            offered.smtputf8 |= is("SMTPUTF8");
            offered.dsn |= is("DSN");
            offered.starttls |= is("STARTTLS");
        }
        offered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_is_read_and_the_greeting_offers_nothing() {
        let raw = b"250-DSN Hello\r\n250-pipelining\r\n250-SIZE 10240000\r\n250-VRFY\r\n250-STARTTLS\r\n250 8BITMIME\r\n";
        assert_eq!(
            Capabilities::of_ehlo(raw),
            Capabilities {
                size: Some(10_240_000),
                pipelining: true,
                eight_bit_mime: true,
                smtputf8: false,
                dsn: false,
                starttls: true
            }
        );
        assert_eq!(Capabilities::of_ehlo(b"250 mail.example\r\n"), Capabilities::default());
        assert_eq!(Capabilities::of_ehlo(b"250-m\r\n250-DSN\r\n250-SMTPUTF8\r\n250 SIZE\r\n").size, Some(0));
    }
}
