//! The state directory: what must outlive the daemon, and survive a power cut.
//!
//! One daemon at a time: the directory is locked as long as its [`StateDir`] lives, and the kernel lets go of the lock
//! also after `kill -9`. A file is replaced whole (written beside, synced, renamed, the directory synced), so that a
//! reader finds the old or the new one and never half of any. What a file means is its owner's concern.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{Flock, FlockArg};

/// The lock's file within the directory.
const LOCK: &str = ".lock";

/// An open state directory, this daemon's alone.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// None while another process has it, to which this one hands over.
    lock: Mutex<Option<Flock<File>>>,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another daemon has it.
    #[error("another edge uses {0}; give each its own `dir` in [state]")]
    Locked(PathBuf),
    /// The system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StateDir {
    /// Opens it, for the owner only, and makes it where it is not there.
    ///
    /// # Errors
    /// It cannot be made or locked.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        make(path)?;
        Ok(Self { path: path.to_owned(), lock: Mutex::new(Some(lock(path)?)) })
    }

    /// Lets another process have it: nothing may be written here any more.
    pub(crate) fn let_go(&self) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Takes it again after [`Self::let_go`].
    ///
    /// # Errors
    /// Another process has it.
    pub(crate) fn hold_again(&self) -> Result<(), StateError> {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock(&self.path)?);
        Ok(())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory in it, made where it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(&self, name: &str) -> Result<PathBuf, StateError> {
        let path = self.path.join(name);
        make(&path)?;
        Ok(path)
    }

    /// What a file in it holds; `None`: it is not there.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        read(&self.path, name)
    }

    /// Puts a file in the place of the one before; after a power cut either of them is there, whole.
    ///
    /// # Errors
    /// It cannot be written; the one before is still there.
    pub fn replace(&self, name: &str, octets: &[u8]) -> Result<(), StateError> {
        replace(&self.path, name, octets)
    }
}

/// Puts a file in the place of the one before, in the state directory or a directory in it; after a power cut either of
/// them is there, whole.
///
/// # Errors
/// It cannot be written; the one before is still there.
pub fn replace(dir: &Path, name: &str, octets: &[u8]) -> Result<(), StateError> {
    let path = dir.join(name);
    let beside = dir.join(format!(".{name}.new"));
    let write = || {
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
        file.write_all(octets)?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| {
        // Where the disk is full, half a file must not keep it so.
        let _ = std::fs::remove_file(&beside);
        StateError::Io { action: "write", path, source }
    })
}

/// What a file of the state directory `dir` holds; `None`: it is not there. For who is not the daemon: nothing is locked,
/// and since files are replaced whole, what is read is whole.
///
/// # Errors
/// It is there and cannot be read.
pub fn read(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, StateError> {
    let path = dir.join(name);
    match std::fs::read(&path) {
        Ok(octets) => Ok(Some(octets)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Io { action: "read", path, source }),
    }
}

/// Locks a state directory that is there.
fn lock(path: &Path) -> Result<Flock<File>, StateError> {
    let lock = path.join(LOCK);
    let failed = |source| StateError::Io { action: "open", path: lock.clone(), source };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock)
        .map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(StateError::Locked(path.to_owned())),
        Err((_, errno)) => Err(StateError::Io { action: "lock", path: lock, source: errno.into() }),
    }
}

fn make(path: &Path) -> Result<(), StateError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| StateError::Io {
        action: "make",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("a/b")).unwrap();
        assert_eq!(state.read("x").unwrap(), None);
        state.replace("x", b"one").unwrap();
        state.replace("x", b"two").unwrap();
        assert_eq!(state.read("x").unwrap().unwrap(), b"two");
        let names: Vec<_> =
            std::fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "only the lock beside it: {names:?}");
    }

    #[test]
    fn a_directory_has_one_daemon_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        let second = StateDir::open(dir.path()).unwrap_err();
        assert!(matches!(second, StateError::Locked(_)), "{second:?}");
        drop(first);
        StateDir::open(dir.path()).unwrap();
    }

    #[test]
    fn what_cannot_be_written_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        state.replace("x", b"one").unwrap();
        std::fs::create_dir(dir.path().join(".x.new")).unwrap();
        let error = state.replace("x", b"two").unwrap_err();
        assert!(error.to_string().contains("cannot write"), "{error}");
        assert_eq!(state.read("x").unwrap().unwrap(), b"one");
    }
}
