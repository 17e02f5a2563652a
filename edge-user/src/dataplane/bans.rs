//! Bans in the kernel: written with their end, read back as what is left of them.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use aya::maps::{HashMap, MapData, MapError};
use edge_core::source::Source;
use edge_ebpf::map_names::BANS;
use edge_ebpf::{Ban, SourceKey};

use super::clock;
use super::error::DataplaneError;
use super::{Dataplane, KernelBan, lock};

type Bans = HashMap<MapData, SourceKey, Ban>;

impl Dataplane {
    /// Drops a source from now on, for `length` ([`Duration::MAX`]: for ever). A ban that stands is replaced.
    ///
    /// # Errors
    /// It lies in a never-ban or allowed prefix, or as many bans as the map holds are in force.
    pub fn ban(&self, source: Source, length: Duration, cause: u32) -> Result<(), DataplaneError> {
        self.refuse_spared(source)?;
        let now = clock::now_ns();
        let ban = Ban { until_ns: clock::until_ns(now, length), cause, _zero: 0 };
        let mut bans = lock(&self.bans);
        match bans.insert(key(source), ban, 0) {
            Err(error) if is_full(&error) && remove_past(&mut bans, now)? > 0 => {
                bans.insert(key(source), ban, 0).map_err(|error| self.cannot_write(error))
            }
            done => done.map_err(|error| self.cannot_write(error)),
        }
    }

    /// Lifts a ban; `false` when there was none.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn unban(&self, source: Source) -> Result<bool, DataplaneError> {
        let mut bans = lock(&self.bans);
        let held = match bans.get(&key(source), 0) {
            Ok(ban) => clock::left(clock::now_ns(), ban.until_ns).is_some(),
            Err(MapError::KeyNotFound) => return Ok(false),
            Err(error) => return Err(DataplaneError::map("read", BANS)(error)),
        };
        remove(&mut bans, &key(source))?;
        Ok(held)
    }

    /// The bans in force, in no order.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn bans(&self) -> Result<Vec<KernelBan>, DataplaneError> {
        let now = clock::now_ns();
        let bans = lock(&self.bans);
        let mut found = Vec::new();
        for key in keys(&bans)? {
            let ban = match bans.get(&key, 0) {
                Ok(ban) => ban,
                Err(MapError::KeyNotFound) => continue, // another process lifted it meanwhile
                Err(error) => return Err(DataplaneError::map("read", BANS)(error)),
            };
            if let (Some(left), Some(source)) = (clock::left(now, ban.until_ns), source(key)) {
                found.push(KernelBan { source, left, cause: ban.cause });
            }
        }
        Ok(found)
    }

    /// Removes the bans that are over, which the kernel ignores but keeps; says how many. [`Self::attend`] does it
    /// once a minute.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_past_bans(&self) -> Result<usize, DataplaneError> {
        remove_past(&mut lock(&self.bans), clock::now_ns())
    }

    fn cannot_write(&self, error: MapError) -> DataplaneError {
        if is_full(&error) {
            DataplaneError::BansFull { max: self.bans_max }
        } else {
            DataplaneError::map("write", BANS)(error)
        }
    }
}

fn keys(bans: &Bans) -> Result<Vec<SourceKey>, DataplaneError> {
    bans.keys().collect::<Result<_, _>>().map_err(DataplaneError::map("list", BANS))
}

fn remove(bans: &mut Bans, key: &SourceKey) -> Result<(), DataplaneError> {
    match bans.remove(key) {
        Ok(()) => Ok(()),
        Err(error) if errno(&error) == Some(libc::ENOENT) => Ok(()),
        Err(error) => Err(DataplaneError::map("remove an entry from", BANS)(error)),
    }
}

fn remove_past(bans: &mut Bans, now_ns: u64) -> Result<usize, DataplaneError> {
    let mut removed = 0;
    for key in keys(bans)? {
        if bans.get(&key, 0).is_ok_and(|ban| clock::left(now_ns, ban.until_ns).is_none()) {
            remove(bans, &key)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// A hash map without room says E2BIG.
fn is_full(error: &MapError) -> bool {
    errno(error) == Some(libc::E2BIG)
}

fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => io::Error::raw_os_error(&error.io_error),
        _ => None,
    }
}

/// How the kernel's maps name a source.
pub(super) fn key(source: Source) -> SourceKey {
    match source {
        Source::V4(address) => SourceKey::v4(address.octets()),
        Source::V6Net64(net) => SourceKey::v6(net.to_be_bytes()),
    }
}

/// The source that the kernel's maps name so; `None` for what this ABI version does not write.
pub(super) fn source(key: SourceKey) -> Option<Source> {
    let [a, b, c, d, ..] = key.net;
    match key.family {
        4 => Some(Source::from(IpAddr::from([a, b, c, d]))),
        6 => {
            Some(Source::from(IpAddr::V6(Ipv6Addr::from_bits(u128::from(u64::from_be_bytes(key.net)) << 64))))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_comes_back_from_its_key() {
        for text in ["192.0.2.7", "0.0.0.0", "2001:2:0:9::/64"] {
            let wanted: Source = text.parse().unwrap();
            assert_eq!(source(key(wanted)), Some(wanted));
        }
        assert_eq!(source(SourceKey { family: 5, net: [0; 8] }), None);
    }
}
