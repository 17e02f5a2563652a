//! The `Received` field that each direction adds in front (RFC 5321 section 4.4).

use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::smtp::is_domain;
use crate::time::UnixMillis;

/// What a `Received` field says.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The name the client gave in EHLO or HELO, as it came: what is not printable ASCII must not get into the field.
    pub client_name: &'a [u8],
    /// The client's address.
    pub client: IpAddr,
    /// How it came: [`Session::protocol`](crate::smtp::Session::protocol).
    pub protocol: &'static str,
    /// The edge's own name.
    pub hostname: &'a str,
    /// Names this message in the log.
    pub id: u64,
    /// The recipient, where there is just one (more would tell one of the others).
    pub recipient: Option<&'a str>,
    /// When it came.
    pub at: UnixMillis,
}

impl Received<'_> {
    /// The longest field, in octets: three names of a domain's length (255), an address, id and date.
    pub const BYTES_MAX: usize = 1024;

    /// Appends the whole field, folded, the last CRLF included.
    ///
    /// Nothing that a client says can break out of it: a name that is no domain and no address literal gives way to the
    /// address literal, and a recipient that is not printable ASCII is left out.
    pub fn write(&self, out: &mut Vec<u8>) {
        let literal = Literal(self.client);
        let named = std::str::from_utf8(self.client_name)
            .ok()
            .filter(|name| name.is_ascii() && is_domain(name.as_bytes()));
        let protocol = self.protocol;
        let written = match named {
            Some(name) => write!(out, "Received: from {name} ({literal})\r\n"),
            None => write!(out, "Received: from {literal} ({literal})\r\n"),
        }
        .and_then(|()| write!(out, "\tby {} with {protocol} id {:x}", self.hostname, self.id))
        .and_then(|()| match self.recipient {
            Some(recipient) if recipient.bytes().all(|octet| octet.is_ascii_graphic()) => {
                write!(out, "\r\n\tfor <{recipient}>")
            }
            Some(_) | None => Ok(()),
        })
        .and_then(|()| write!(out, ";\r\n\t{}\r\n", Date(self.at)));
        written.expect("a Vec takes all bytes");
    }
}

/// An address literal (RFC 5321 section 4.1.3).
struct Literal(IpAddr);

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.to_canonical() {
            IpAddr::V4(v4) => write!(f, "[{v4}]"),
            IpAddr::V6(v6) => write!(f, "[IPv6:{v6}]"),
        }
    }
}

/// A date of RFC 5322 section 3.3, in UTC.
struct Date(UnixMillis);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is beyond the year 9999 becomes 1970: a clock that wrong has other troubles.
        let millis = i64::try_from(self.0.0).unwrap_or_default();
        let zoned = Timestamp::from_millisecond(millis).unwrap_or_default().to_zoned(TimeZone::UTC);
        f.write_str(&jiff::fmt::rfc2822::to_string(&zoned).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(client_name: &[u8], client: &str, recipient: Option<&str>) -> String {
        let mut out = Vec::new();
        Received {
            client_name,
            client: client.parse().unwrap(),
            protocol: "ESMTP",
            hostname: "edge.example",
            id: 0xab12,
            recipient,
            at: UnixMillis::from_secs(1_800_000_000),
        }
        .write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_field_says_from_by_with_id_for_and_when() {
        assert_eq!(
            written(b"mail.example.com", "192.0.2.7", Some("user@example.jp")),
            "Received: from mail.example.com ([192.0.2.7])\r\n\tby edge.example with ESMTP id ab12\r\n\
             \tfor <user@example.jp>;\r\n\tFri, 15 Jan 2027 08:00:00 +0000\r\n"
        );
        assert_eq!(
            written(b"[IPv6:2001:2::1]", "2001:2::1", None),
            "Received: from [IPv6:2001:2::1] ([IPv6:2001:2::1])\r\n\tby edge.example with ESMTP id ab12;\r\n\
             \tFri, 15 Jan 2027 08:00:00 +0000\r\n"
        );
    }

    #[test]
    fn the_longest_names_make_no_longer_field_than_is_said() {
        let domain = format!("{}.{}", ["d".repeat(63).as_str(); 3].join("."), "d".repeat(63));
        assert!(is_domain(domain.as_bytes()) && !is_domain(format!("{domain}.d").as_bytes()));
        let recipient = format!("postmaster@{domain}");
        let mut out = Vec::new();
        Received {
            client_name: domain.as_bytes(),
            client: "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff".parse().unwrap(),
            protocol: "UTF8SMTP",
            hostname: &domain,
            id: u64::MAX,
            recipient: Some(&recipient),
            at: UnixMillis::from_secs(1_800_000_000),
        }
        .write(&mut out);
        assert!((900..Received::BYTES_MAX).contains(&out.len()), "{} octets", out.len());
    }

    #[test]
    fn nothing_that_a_client_says_breaks_out_of_the_field() {
        for name in [&b""[..], b"x) (y", b"a;b", b"x\r\nBcc: y", b"\xff\xfe", "例え.jp".as_bytes(), b"a b"]
        {
            let field = written(name, "192.0.2.7", Some("a\r\nBcc: b@example.jp"));
            assert!(field.starts_with("Received: from [192.0.2.7] ([192.0.2.7])\r\n\tby "), "{field}");
            assert!(!field.contains("for") && !field.contains("Bcc"), "{field}");
        }
    }
}
