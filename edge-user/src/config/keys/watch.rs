//! Noticing that keys on disk changed, without reading them.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Watches a directory of keys: whoever makes, retires or rotates a key need not tell the running edge.
#[derive(Debug)]
pub struct Watch {
    dir: PathBuf,
    seen: Look,
}

/// What can be seen from outside; that it cannot be looked at is a state as well.
type Look = Result<Vec<Stamp>, io::ErrorKind>;

/// One file. The inode's change time moves with contents, mode and owner alike.
type Stamp = (OsString, u64, i64, i64);

impl Watch {
    /// Watches `dir` from now on. To be called before the keys are read: or a change in between is missed.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), seen: look(dir) }
    }

    /// Which directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether a key came, went or changed since it was asked last.
    pub fn changed(&mut self) -> bool {
        let now = look(&self.dir);
        let changed = now != self.seen;
        self.seen = now;
        changed
    }
}

fn look(dir: &Path) -> Look {
    let mut stamps = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| error.kind())? {
        let entry = entry.map_err(|error| error.kind())?;
        if entry.file_name().to_str().and_then(super::id_of).is_none() {
            continue;
        }
        let metadata = entry.path().metadata().map_err(|error| error.kind())?;
        stamps.push((entry.file_name(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()));
    }
    stamps.sort_unstable();
    Ok(stamps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;
    use edge_core::time::UnixMillis;

    const NOW: UnixMillis = UnixMillis::from_secs(1_795_000_000);

    #[test]
    fn every_change_of_a_key_is_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        keys::create(dir.path(), NOW).unwrap();
        let mut watch = Watch::new(dir.path());
        assert!(!watch.changed());
        std::fs::write(dir.path().join("README"), "no key").unwrap();
        assert!(!watch.changed(), "a file that is no key changes nothing");
        let mut noticed = |what| {
            assert!(watch.changed(), "{what}");
            assert!(!watch.changed(), "{what}, twice");
        };
        keys::create(dir.path(), NOW).unwrap();
        noticed("made");
        keys::retire(dir.path(), 1, NOW).unwrap();
        noticed("retired");
        keys::rotate(dir.path(), NOW).unwrap();
        noticed("rotated");
        std::fs::remove_file(keys::path_of(dir.path(), 1)).unwrap();
        noticed("removed");
        std::fs::remove_dir_all(dir.path()).unwrap();
        noticed("gone");
    }
}
