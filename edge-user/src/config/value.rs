//! What can stand behind a key: numbers, texts, addresses, words, lists, sections.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use edge_core::policy::{Action, KindRule, RequireTag};
use ipnet::IpNet;
use serde::de::{DeserializeOwned, IntoDeserializer as _, value::StrDeserializer};
use toml::de::DeValue;

use super::reader::{Reader, list, nearest};
use super::section::{Kind, Section, Value};
use super::{LogFormat, TlsMode, XdpMode};

macro_rules! whole_numbers {
    ($($type:ty),+) => {
        $(impl Value for $type {
            const KIND: Kind = Kind::Plain("a whole number");

            fn read(value: &DeValue<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
                let DeValue::Integer(number) = value else {
                    reader.mismatch(path, value, "a whole number");
                    return None;
                };
                let read = Self::from_str_radix(number.as_str(), number.radix()).ok();
                if read.is_none() {
                    reader.mismatch(path, value, &format!("a whole number from 0 to {}", Self::MAX));
                }
                read
            }
        })+
    };
}
whole_numbers!(u16, u32, u64, usize);

impl Value for f64 {
    const KIND: Kind = Kind::Plain("a number");

    fn read(value: &DeValue<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let read = match value {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            _ => None,
        };
        if read.is_none() {
            reader.mismatch(path, value, "a number");
        }
        read
    }
}

impl Value for bool {
    const KIND: Kind = Kind::Plain("`true` or `false`");

    fn read(value: &DeValue<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Boolean(yes) = value else {
            reader.mismatch(path, value, Self::KIND.expected());
            return None;
        };
        Some(*yes)
    }
}

/// Reads a text by `parse`, which says `None` to what is no such thing.
fn text<T: Value>(
    value: &DeValue<'_>,
    path: &str,
    reader: &mut Reader<'_>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let read = value.as_str().and_then(parse);
    if read.is_none() {
        reader.mismatch(path, value, T::KIND.expected());
    }
    read
}

impl Value for String {
    const KIND: Kind = Kind::Plain("a text in quotes");

    fn read(value: &DeValue<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        text(value, path, reader, |text| Some(text.to_owned()))
    }
}

impl Value for PathBuf {
    const KIND: Kind = Kind::Plain("a path in quotes");

    fn read(value: &DeValue<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        text(value, path, reader, |text| (!text.is_empty()).then(|| text.into()))
    }
}

impl Value for SocketAddr {
    const KIND: Kind = Kind::Plain("an address with a port, like \"192.0.2.1:25\" or \"[2001:db8::1]:25\"");

    fn read(value: &DeValue<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        text(value, path, reader, |text| text.parse().ok())
    }
}

impl Value for IpNet {
    const KIND: Kind = Kind::Plain("an address or a prefix, like \"192.0.2.0/24\" or \"2001:db8::/32\"");

    fn read(value: &DeValue<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let net: Self = text(value, path, reader, |text| {
            text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(Into::into))
        })?;
        if net == net.trunc() {
            return Some(net);
        }
        reader.error(path, format!("{net} has bits behind its prefix; did you mean \"{}\"?", net.trunc()));
        None
    }
}

/// A word of an enum: which there are, the enum's own `Deserialize` says.
fn word<T: Value + DeserializeOwned>(value: &DeValue<'_>, path: &str, reader: &mut Reader<'_>) -> Option<T> {
    let Some(text) = value.as_str() else {
        reader.mismatch(path, value, T::KIND.expected());
        return None;
    };
    let deserializer: StrDeserializer<'_, NotAWord> = text.into_deserializer();
    match T::deserialize(deserializer) {
        Ok(word) => Some(word),
        Err(NotAWord { known }) => {
            let hint = nearest(text, known.iter().copied());
            let hint = hint.map_or(String::new(), |near| format!("; did you mean \"{near}\"?"));
            reader.error(path, format!("expected {}, found \"{text}\"{hint}", list(known.iter().copied())));
            None
        }
    }
}

/// The error of an enum's `Deserialize`, of which only the words that it knows are kept.
#[derive(Debug)]
struct NotAWord {
    known: &'static [&'static str],
}

impl fmt::Display for NotAWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&list(self.known.iter().copied()))
    }
}

impl std::error::Error for NotAWord {}

impl serde::de::Error for NotAWord {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self { known: &[] }
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self { known }
    }
}

macro_rules! words {
    ($($type:ty: $expected:literal),+ $(,)?) => {
        $(impl Value for $type {
            const KIND: Kind = Kind::Plain($expected);

            fn read(value: &DeValue<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
                word(value, path, reader)
            }
        })+
    };
}
words! {
    Action: "an action in quotes, like \"reject\"",
    KindRule: "\"bounce\" or an action in quotes, like \"deliver\"",
    RequireTag: "\"never\", \"flood\" or \"always\"",
    XdpMode: "\"auto\", \"native\" or \"generic\"",
    LogFormat: "\"human\" or \"json\"",
    TlsMode: "\"off\", \"opportunistic\" or \"verified\"",
}

impl<T: Value> Value for Option<T> {
    const KIND: Kind = T::KIND;
    const OPTIONAL: bool = true;

    fn read(value: &DeValue<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        T::read(value, path, reader).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Item> Value for Vec<T> {
    const KIND: Kind = T::LIST;

    fn read(value: &DeValue<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Array(array) = value else {
            reader.mismatch(path, value, Self::KIND.expected());
            return None;
        };
        let items: Vec<Option<T>> = array
            .iter()
            .enumerate()
            .map(|(place, item)| reader.value(item, &format!("{path}[{place}]")))
            .collect();
        items.into_iter().collect()
    }
}

/// What a list can hold.
pub(super) trait Item: Value {
    /// The list.
    const LIST: Kind;
}

impl Item for String {
    const LIST: Kind = Kind::Plain("a list of texts, like [\"example.com\"]");
}

impl Item for u16 {
    const LIST: Kind = Kind::Plain("a list of numbers, like [25, 587]");
}

impl Item for SocketAddr {
    const LIST: Kind = Kind::Plain("a list of addresses with ports, like [\"192.0.2.1:25\"]");
}

impl Item for IpNet {
    const LIST: Kind = Kind::Plain("a list of prefixes, like [\"192.0.2.0/24\"]");
}

impl<S: Section + Value> Item for S {
    const LIST: Kind = Kind::Tables(S::FIELDS);
}
