//! One daemon for each pin directory: whoever attaches or detaches holds a lock on it (`flock(2)`).
//!
//! Two daemons would write each other's settings and take each other's bans off. Another pin directory with the same
//! interface is no way around: the kernel has one place for a program there, and the second to come finds it taken.
//! The lock is on the directory itself, since a BPF file system holds no ordinary files; the kernel lets go of it when
//! its holder ends, however it ends.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::error::DataplaneError;

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(super) struct PinLock {
    dir: File,
}

impl PinLock {
    /// Takes the lock on a pin directory that is there.
    pub(super) fn take(pin_dir: &Path) -> Result<Self, DataplaneError> {
        let dir = File::open(pin_dir).map_err(DataplaneError::pins("open the directory", pin_dir))?;
        match dir.try_lock() {
            Ok(()) => Ok(Self { dir }),
            Err(TryLockError::WouldBlock) => Err(DataplaneError::Held { dir: pin_dir.to_owned() }),
            Err(TryLockError::Error(error)) => Err(DataplaneError::pins("lock", pin_dir)(error)),
        }
    }
}

impl Drop for PinLock {
    fn drop(&mut self) {
        // Not left to the closing of the file: a child that was forked elsewhere in this process and has not yet come
        // to its exec shares the lock, and would hold it a moment longer. Where this fails, the closing still ends it.
        let _ = self.dir.unlock();
    }
}
