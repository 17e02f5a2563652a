//! Who is on the other side of a connection, as budgets, credit and bans count it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A source of connections: one IPv4 address, or one IPv6 /64 (the least that one site holds, RFC 6177).
///
/// IPv4-mapped IPv6 addresses are their IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// One IPv4 address.
    V4(Ipv4Addr),
    /// The upper 64 bits of an IPv6 address, as a number whose big-endian bytes are the address's.
    V6Net64(u64),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => Self::V6Net64((v6.to_bits() >> 64) as u64),
        }
    }
}

impl Source {
    /// The first address of this source: the address itself for IPv4, `prefix::` for IPv6.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        match self {
            Self::V4(v4) => IpAddr::V4(v4),
            Self::V6Net64(net) => IpAddr::V6(Ipv6Addr::from_bits((net as u128) << 64)),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(v4) => v4.fmt(f),
            Self::V6Net64(_) => write!(f, "{}/64", self.address()),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

impl TryFrom<String> for Source {
    type Error = NotASource;

    fn try_from(text: String) -> Result<Self, NotASource> {
        text.parse()
    }
}

/// Why a text is no source.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is neither an IPv4 address, nor an IPv6 address or its /64")]
pub struct NotASource(pub String);

impl FromStr for Source {
    type Err = NotASource;

    /// Takes an address, or an IPv6 network written as `prefix::/64`.
    fn from_str(text: &str) -> Result<Self, NotASource> {
        let refuse = || NotASource(text.to_owned());
        match text.strip_suffix("/64") {
            Some(network) => match network.parse() {
                Ok(IpAddr::V6(v6)) => Ok(IpAddr::V6(v6).into()),
                _ => Err(refuse()),
            },
            None => text.parse::<IpAddr>().map(Into::into).map_err(|_| refuse()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_reads_back_as_it_was_written() {
        for text in ["192.0.2.7", "2001:2:0:9::/64"] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        assert_eq!("2001:2:0:9:1:2:3:4".parse::<Source>().unwrap().to_string(), "2001:2:0:9::/64");
        assert_eq!("::ffff:192.0.2.7".parse::<Source>().unwrap().to_string(), "192.0.2.7");
    }

    #[test]
    fn what_is_no_source_is_named() {
        for text in ["", "192.0.2.0/24", "192.0.2.7/64", "2001:2::/48", "host"] {
            assert_eq!(text.parse::<Source>(), Err(NotASource(text.to_owned())));
        }
    }
}
