//! Keys on disk: a directory with one file a key, `007.key`.
//!
//! What changes files takes the directory's lock first, so that two commands never give one id twice. A file is
//! written whole under another name, synced and renamed: whoever reads sees all of it or none.
//!
//! The directory says who may read: its owner alone (mode 0700), or its group too (0750). So a daemon that is not root
//! reads root's keys through its group, and cannot change them.

mod file;
mod readers;
#[cfg(test)]
mod tests;
mod watch;

use std::fs::{File, Metadata};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use edge_core::signature::{Key, Keys, KeysError};
use edge_core::time::UnixMillis;
use rand::TryRngCore as _;
use zeroize::Zeroizing;

use self::readers::Readers;
pub use file::rfc3339;
pub use watch::Watch;

/// Why keys cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyDirError {
    /// A call of the system failed.
    #[error("{path}: cannot {what}: {cause}{}", may_help(cause), path = path.display())]
    Io {
        /// Of which file or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Others can read a key, or put one there.
    #[error("{path}: mode {mode:04o} lets others at the keys; run: chmod {right:o} {path}", path = path.display())]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode that it should have.
        right: u32,
    },
    /// Another user owns a key, and so can read and replace it.
    #[error("{path}: user {uid} owns it; run: chown {own} {path}", path = path.display())]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
        /// Whose it should be.
        own: u32,
    },
    /// A file is no key file.
    #[error("{path}: {wrong}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what was expected.
        wrong: String,
    },
    /// There is none.
    #[error("{dir}: no key in it; make one: backstop key new --dir {dir}", dir = dir.display())]
    NoKey {
        /// The directory.
        dir: PathBuf,
    },
    /// All are retired, or begin later.
    #[error("{dir}: no key signs any more; make one: backstop key new --dir {dir}", dir = dir.display())]
    NoSigner {
        /// The directory.
        dir: PathBuf,
    },
    /// No key has this id.
    #[error("{dir}: no key has the id {id}; backstop key list --dir {dir} shows them", dir = dir.display())]
    UnknownKey {
        /// The directory.
        dir: PathBuf,
        /// The id.
        id: u8,
    },
    /// All 256 ids are taken.
    #[error("{dir}: all 256 ids are taken; remove the files of keys that were retired long ago", dir = dir.display())]
    Full {
        /// The directory.
        dir: PathBuf,
    },
    /// Keys do not fit together.
    #[error("{dir}: {fault}", dir = dir.display())]
    Keys {
        /// The directory.
        dir: PathBuf,
        /// Why.
        fault: KeysError,
    },
}

/// Refuses what belongs neither to root nor to the user of this process.
fn owned(path: &Path, metadata: &Metadata) -> Result<(), KeyDirError> {
    let own = nix::unistd::geteuid().as_raw();
    let uid = metadata.uid();
    if uid == 0 || uid == own {
        return Ok(());
    }
    Err(KeyDirError::Foreign { path: path.to_owned(), uid, own })
}

/// What to do about it, where that is known.
fn may_help(cause: &std::io::Error) -> &'static str {
    match cause.kind() {
        std::io::ErrorKind::PermissionDenied => " (run it as root, or as the user that the edge runs as)",
        _ => "",
    }
}

impl KeyDirError {
    fn io(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { path, what, cause }
    }
}

/// The keys in `dir`, for signing and verifying.
///
/// # Errors
/// There is none, one cannot be read, or others can read one.
pub fn load(dir: &Path) -> Result<Keys, KeyDirError> {
    let keys = read_all(dir)?;
    if keys.is_empty() {
        return Err(KeyDirError::NoKey { dir: dir.to_owned() });
    }
    Keys::new(keys).map_err(|fault| KeyDirError::Keys { dir: dir.to_owned(), fault })
}

/// The same for an edge that is to sign with them at `now`.
///
/// # Errors
/// As [`load`]; or none of them signs.
pub fn load_signing(dir: &Path, now: UnixMillis) -> Result<Keys, KeyDirError> {
    let keys = load(dir)?;
    match keys.signer(now) {
        Some(_) => Ok(keys),
        None => Err(KeyDirError::NoSigner { dir: dir.to_owned() }),
    }
}

/// The file of the key `id` in `dir`.
#[must_use]
pub fn path_of(dir: &Path, id: u8) -> PathBuf {
    dir.join(format!("{id:03}.key"))
}

/// Makes a key that signs from `now` on. The directory is made too (mode 0700) where it does not exist.
///
/// # Errors
/// It cannot be written, or all ids are taken.
pub fn create(dir: &Path, now: UnixMillis) -> Result<Key, KeyDirError> {
    let lock = Lock::take(dir)?;
    create_in(&lock, &read_all(dir)?, now)
}

/// Makes a new key and retires all others. Returns the new one.
///
/// # Errors
/// As [`create`]. The new key is written first: when retiring fails, it signs all the same, and the old ones verify.
pub fn rotate(dir: &Path, now: UnixMillis) -> Result<Key, KeyDirError> {
    let lock = Lock::take(dir)?;
    let old = read_all(dir)?;
    let new = create_in(&lock, &old, now)?;
    for key in old.into_iter().filter(|key| key.retired().is_none()) {
        file::replace(&path_of(dir, key.id()), &key.retired_at(now), lock.readers)?;
    }
    lock.sync()?;
    Ok(new)
}

/// Lets the key `id` sign no more; it verifies for `max_age` after `now`. A key that was retired before stays so.
///
/// # Errors
/// There is no such key, or it cannot be written.
pub fn retire(dir: &Path, id: u8, now: UnixMillis) -> Result<Key, KeyDirError> {
    let lock = Lock::take(dir)?;
    let key = read_all(dir)?.into_iter().find(|key| key.id() == id);
    let key = key.ok_or_else(|| KeyDirError::UnknownKey { dir: dir.to_owned(), id })?;
    if key.retired().is_some() {
        return Ok(key);
    }
    let key = key.retired_at(now);
    file::replace(&path_of(dir, id), &key, lock.readers)?;
    lock.sync()?;
    Ok(key)
}

fn create_in(lock: &Lock<'_>, old: &[Key], now: UnixMillis) -> Result<Key, KeyDirError> {
    let dir = lock.dir;
    // The next id, so that neighbours in time have different digits in their tags.
    let newest = old.iter().max_by_key(|key| (key.created(), key.id())).map_or(0, Key::id);
    let id = (1..=u8::MAX)
        .map(|step| newest.wrapping_add(step))
        .chain([newest])
        .find(|&id| old.iter().all(|key| key.id() != id))
        .ok_or_else(|| KeyDirError::Full { dir: dir.to_owned() })?;
    let mut secret = Zeroizing::new([0; 32]);
    rand::rngs::OsRng
        .try_fill_bytes(secret.as_mut_slice())
        .map_err(|fault| KeyDirError::io(dir, "get randomness for a key")(std::io::Error::other(fault)))?;
    let key = Key::new(id, *secret, UnixMillis::from_secs(now.secs()));
    file::create(&path_of(dir, id), &key, lock.readers)?;
    lock.sync()?;
    Ok(key)
}

/// All keys in `dir`, by id.
fn read_all(dir: &Path) -> Result<Vec<Key>, KeyDirError> {
    let metadata = std::fs::metadata(dir).map_err(KeyDirError::io(dir, "open the directory of keys"))?;
    owned(dir, &metadata)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(KeyDirError::Exposed { path: dir.to_owned(), mode, right: 0o700 });
    }
    let readers = Readers::of(&metadata);
    let mut keys = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(KeyDirError::io(dir, "list the directory of keys"))? {
        let entry = entry.map_err(KeyDirError::io(dir, "list the directory of keys"))?;
        if let Some(id) = entry.file_name().to_str().and_then(id_of) {
            keys.push(file::read(&entry.path(), id, readers)?);
        }
    }
    keys.sort_unstable_by_key(Key::id);
    Ok(keys)
}

/// The id in a key file's name; `None`: it is none, and left alone.
fn id_of(name: &str) -> Option<u8> {
    name.strip_suffix(".key").filter(|digits| digits.len() == 3)?.parse().ok()
}

/// The directory, locked against other commands that change it.
struct Lock<'d> {
    dir: &'d Path,
    handle: File,
    readers: Readers,
}

impl<'d> Lock<'d> {
    fn take(dir: &'d Path) -> Result<Self, KeyDirError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(KeyDirError::io(dir, "make the directory of keys"))?;
        let handle = File::open(dir).map_err(KeyDirError::io(dir, "open the directory of keys"))?;
        handle.lock().map_err(KeyDirError::io(dir, "lock the directory of keys"))?;
        let metadata = handle.metadata().map_err(KeyDirError::io(dir, "look at the directory of keys"))?;
        Ok(Self { dir, handle, readers: Readers::of(&metadata) })
    }

    /// Renames in it last from here on.
    fn sync(&self) -> Result<(), KeyDirError> {
        self.handle.sync_all().map_err(KeyDirError::io(self.dir, "sync the directory of keys"))
    }
}
