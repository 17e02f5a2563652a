//! The schema: each section of the file is written once, as a struct with its defaults, by [`section!`]. From it come
//! the struct, its reading with all errors, and the manual that `backstop init` writes.

use toml::de::{DeTable, DeValue};

use super::reader::Reader;

/// What can stand behind a key.
pub(super) trait Value: Sized {
    /// What it is.
    const KIND: Kind;

    /// Whether its type says what an absent key means.
    const OPTIONAL: bool = false;

    /// Reads it. `None`: it is wrong, and the reader was told.
    fn read(value: &DeValue<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self>;

    /// What it is when its key is absent. `None`: the key is needed.
    fn absent() -> Option<Self> {
        None
    }
}

/// A section, which reads its own keys.
pub(super) trait Section: Sized {
    /// Its keys, in the order of the manual.
    const FIELDS: &'static [Field];

    /// Reads them all. `None`: something is wrong, and the reader was told of everything that is.
    fn of_table(table: &DeTable<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self>;
}

/// What is known of one key.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in the file.
    pub key: &'static str,
    /// Its doc comment, line by line, each with the space in front.
    pub doc: &'static [&'static str],
    /// Whether it may be absent. (A section may be when all its keys may.)
    pub optional: bool,
    /// What stands behind it.
    pub kind: Kind,
}

/// What stands behind a key.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A value: what is expected, in words.
    Plain(&'static str),
    /// A section, `[name]`.
    Table(&'static [Field]),
    /// Any number of sections, `[[name]]`.
    Tables(&'static [Field]),
}

impl Kind {
    pub(super) const fn expected(self) -> &'static str {
        match self {
            Self::Plain(expected) => expected,
            Self::Table(_) => "a section of its own",
            Self::Tables(_) => "at least one section of its own",
        }
    }
}

/// Writes a section: a struct whose fields may have a default (`= value`) and another name in the file
/// (`#[key = "name"]`). A field without a default is needed, unless its type says what absent means (`Option`, a
/// section whose keys all have defaults).
macro_rules! section {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $(#[key = $key:literal])?
                pub $field:ident: $type:ty $(= $default:expr)?,
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, serde::Serialize)]
        pub struct $name {
            $(
                $(#[doc = $doc])*
                $(#[serde(rename = $key)])?
                pub $field: $type,
            )*
        }

        impl $crate::config::section::Section for $name {
            const FIELDS: &'static [$crate::config::section::Field] = &[
                $($crate::config::section::Field {
                    key: section!(@key $field $($key)?),
                    doc: &[$($doc),*],
                    optional: section!(@optional $type $(, $default)?),
                    kind: <$type as $crate::config::section::Value>::KIND,
                },)*
            ];

            fn of_table(
                table: &toml::de::DeTable<'_>,
                path: &str,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Option<Self> {
                reader.unknown_keys(table, path, Self::FIELDS);
                $(let $field = reader.field(
                    table, path, section!(@key $field $($key)?), || section!(@absent $type $(, $default)?),
                );)*
                // Only now, when every key was looked at.
                Some(Self { $($field: $field?,)* })
            }
        }

        impl $crate::config::section::Value for $name {
            const KIND: $crate::config::section::Kind =
                $crate::config::section::Kind::Table(<Self as $crate::config::section::Section>::FIELDS);

            fn read(
                value: &toml::de::DeValue<'_>,
                path: &str,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Option<Self> {
                match value {
                    toml::de::DeValue::Table(table) => {
                        <Self as $crate::config::section::Section>::of_table(table, path, reader)
                    }
                    other => {
                        reader.mismatch(path, other, "a section");
                        None
                    }
                }
            }

            fn absent() -> Option<Self> {
                Some(Self { $($field: section!(@absent $type $(, $default)?)?,)* })
            }
        }
    };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
    (@optional $type:ty) => { <$type as $crate::config::section::Value>::OPTIONAL };
    (@optional $type:ty, $default:expr) => { true };
    (@absent $type:ty) => { <$type as $crate::config::section::Value>::absent() };
    (@absent $type:ty, $default:expr) => { Some::<$type>($default) };
}
pub(super) use section;

/// `Default` for sections whose keys all have one.
macro_rules! defaults {
    ($($name:ident),+) => {
        $(impl Default for $name {
            fn default() -> Self {
                <Self as $crate::config::section::Value>::absent().expect("every key of this section has a default")
            }
        })+
    };
}
pub(super) use defaults;
