//! Times as texts (RFC 3339), in files and output that people read.

use jiff::Timestamp;
use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

use crate::time::UnixMillis;

pub(super) fn serialize<S: Serializer>(at: &UnixMillis, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&timestamp(*at))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<UnixMillis, D::Error> {
    let text = String::deserialize(from)?;
    let at: Timestamp = text.parse().map_err(D::Error::custom)?;
    Ok(UnixMillis(u64::try_from(at.as_millisecond()).unwrap_or(0)))
}

/// The latest that can be written stands for all that is later.
fn timestamp(at: UnixMillis) -> Timestamp {
    i64::try_from(at.0)
        .ok()
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
        .unwrap_or(Timestamp::MAX)
}

/// The same for a time that may be missing.
pub(super) mod option {
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    use crate::time::UnixMillis;

    pub(in super::super) fn serialize<S: Serializer>(
        at: &Option<UnixMillis>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        at.map(|at| super::timestamp(at).to_string()).serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<UnixMillis>, D::Error> {
        #[derive(Deserialize)]
        struct Moment(#[serde(with = "super")] UnixMillis);
        Ok(Option::<Moment>::deserialize(from)?.map(|moment| moment.0))
    }
}
