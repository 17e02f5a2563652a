//! The mail servers that the same mail may go to.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;

use serde::{Serialize, Serializer};
use toml::de::DeValue;

use super::reader::Reader;
use super::section::{Kind, Value};

/// Most servers for the same mail: a client that waits for the reply to RCPT waits while they are tried.
pub const SERVERS_MAX: usize = 8;

/// One server, or several in the order in which they are tried: `"192.0.2.1:25"` or `["192.0.2.1:25", "192.0.2.2:25"]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Servers(Vec<SocketAddr>);

impl Servers {
    /// The one that is tried first, and is meant where only one can be.
    #[must_use]
    pub fn first(&self) -> SocketAddr {
        self.0[0]
    }
}

impl Deref for Servers {
    type Target = [SocketAddr];

    fn deref(&self) -> &[SocketAddr] {
        &self.0
    }
}

impl From<SocketAddr> for Servers {
    fn from(only: SocketAddr) -> Self {
        Self(vec![only])
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, address) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(", else ")?;
            }
            write!(f, "{address}")?;
        }
        Ok(())
    }
}

/// As it stands in the file.
impl Serialize for Servers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [only] => only.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl Value for Servers {
    const KIND: Kind = <SocketAddr as Value>::KIND;

    fn read(value: &DeValue<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        if !matches!(value, DeValue::Array(_)) {
            return SocketAddr::read(value, path, reader).map(Self::from);
        }
        let several = Vec::<SocketAddr>::read(value, path, reader)?;
        if several.is_empty() || several.len() > SERVERS_MAX {
            let found = several.len();
            reader.error(path, format!("expected 1 to {SERVERS_MAX} servers, found {found}"));
            return None;
        }
        if let Some(twice) = several.iter().enumerate().find(|(place, one)| several[..*place].contains(one)) {
            reader.error(&format!("{path}[{}]", twice.0), format!("{} stands here twice", twice.1));
            return None;
        }
        Some(Self(several))
    }
}
