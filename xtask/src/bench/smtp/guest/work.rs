//! The folder of one run: what its guest boots, and its console. It goes with the run; where the run is killed, the next
//! one takes it away.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::statvfs::statvfs;

/// What it is called, before the number of its process.
const NAME: &str = "guest-run.";
/// Room that is left for the console and what else there is, in octets.
const BESIDES_BYTES: u64 = 16 << 20;

/// The folder.
#[derive(Debug)]
pub(super) struct Work(PathBuf);

impl Work {
    /// One of this process, below `parent`.
    pub(super) fn begin(parent: &Path) -> Result<Self> {
        let folder = parent.join(format!("{NAME}{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let own = Self(folder);
        for left in left_behind(parent)? {
            std::fs::remove_dir_all(&left).with_context(|| format!("cannot remove {}", left.display()))?;
        }
        Ok(own)
    }

    /// A path in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it, if there is room.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let there = statvfs(&self.0).with_context(|| format!("{}", self.0.display()))?;
        let room = there.blocks_available().saturating_mul(there.fragment_size());
        ensure_room(&self.0, content.len() as u64 + BESIDES_BYTES, room)?;
        let path = self.path(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

fn ensure_room(folder: &Path, needed: u64, room: u64) -> Result<()> {
    ensure!(
        needed <= room,
        "the guest's files take {} MiB, and {} has {} left: make room there, or name a target folder on another disk \
         (CARGO_TARGET_DIR)",
        needed >> 20,
        folder.display(),
        room >> 20
    );
    Ok(())
}

/// Folders of runs that are no more.
fn left_behind(parent: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(parent).with_context(|| format!("cannot list {}", parent.display()))?;
    let is_left = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let process = name.strip_prefix(NAME).and_then(|number| number.parse::<u32>().ok());
        process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists())
    };
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_left).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_takes_its_files_away_and_those_of_one_that_was_killed() {
        let parent = tempfile::tempdir().unwrap();
        // Above what a process may be numbered with (proc(5), pid_max).
        let (killed, runs) = (parent.path().join("guest-run.4194305"), parent.path().join("guest-run.1"));
        for folder in [&killed, &runs] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("files.cpio"), "old").unwrap();
        }
        let work = Work::begin(parent.path()).unwrap();
        assert!(!killed.exists() && runs.exists());
        let written = work.write("files.cpio", b"new").unwrap();
        assert_eq!(std::fs::read(&written).unwrap(), b"new");
        drop(work);
        assert!(!written.exists() && runs.exists());
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_full_disk_is_named_with_what_would_do() {
        ensure_room(Path::new("/target/lab"), 5 << 20, 5 << 20).unwrap();
        let error = ensure_room(Path::new("/target/lab"), 100 << 20, 7 << 20).unwrap_err().to_string();
        assert!(
            error.contains("100 MiB, and /target/lab has 7") && error.contains("CARGO_TARGET_DIR"),
            "{error}"
        );
    }
}
