//! Where program, link and maps are pinned.
//!
//! ```text
//! <xdp.pin_dir>/abi-1/link          the attachment: the program stays on while this exists
//! <xdp.pin_dir>/abi-1/program
//! <xdp.pin_dir>/abi-1/BANS, ...     the maps, by the names of edge_ebpf::map_names
//! ```
//! A BPF file system holds nothing but BPF objects, so the ABI version is a directory's name.
//!
//! **Which BPF file system.** `xdp.pin_dir` may lie on any mount of type `bpf`; each mount is a file system of its
//! own. `ip netns exec` gives its command a fresh `/sys` without one, so what was pinned at `/sys/fs/bpf` before is
//! not seen there. In a network namespace, either keep one mount namespace alive that has its own
//! (`mount -t bpf bpf /sys/fs/bpf` inside it, as the lab does), or mount one outside `/sys` beforehand
//! (`mkdir -p /run/x/bpf && mount -t bpf bpf /run/x/bpf`) and set `xdp.pin_dir` to a directory in it: that mount is
//! inherited by every later `ip netns exec`, and the pins outlive each of them.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use edge_ebpf::ABI_VERSION;
use nix::sys::statfs::{FsType, statfs};

use super::error::DataplaneError;

/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPF_FS: FsType = FsType(0xcafe_4a11);

/// The pin directory of one ABI version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pins {
    dir: PathBuf,
    version: u32,
}

impl Pins {
    /// The pins of this program's ABI version, there or not.
    pub(super) fn own(pin_dir: &Path) -> Self {
        Self::of(pin_dir, ABI_VERSION)
    }

    fn of(pin_dir: &Path, version: u32) -> Self {
        Self { dir: pin_dir.join(format!("abi-{version}")), version }
    }

    /// Whatever is pinned, by any ABI version, ours first.
    pub(super) fn found(pin_dir: &Path) -> Result<Vec<Self>, DataplaneError> {
        let entries = match fs::read_dir(pin_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(DataplaneError::pins("read the directory", pin_dir)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(DataplaneError::pins("read the directory", pin_dir))?;
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix("abi-")?.parse().ok());
            found.extend(version.map(|version| Self::of(pin_dir, version)));
        }
        found.sort_by_key(|pins| (pins.version != ABI_VERSION, pins.version));
        Ok(found)
    }

    /// The ABI version that they speak.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The link's pin.
    pub(super) fn link(&self) -> PathBuf {
        self.dir.join("link")
    }

    /// The program's pin.
    pub(super) fn program(&self) -> PathBuf {
        self.dir.join("program")
    }

    /// A map's pin.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes the directory.
    pub(super) fn create(&self) -> Result<(), DataplaneError> {
        create_dir(&self.dir, self.dir.parent().unwrap_or(&self.dir))
    }

    /// Removes everything in it, and the directory: the link last but one, so that a failure on the way leaves the
    /// program attached rather than half of its maps unpinned and the rest forgotten.
    pub(super) fn remove(&self) -> Result<(), DataplaneError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(DataplaneError::pins("read the directory", &self.dir)(error)),
        };
        for entry in entries {
            let path = entry.map_err(DataplaneError::pins("read the directory", &self.dir))?.path();
            if path != self.link() {
                remove_file(&path)?;
            }
        }
        remove_file(&self.link())?;
        fs::remove_dir(&self.dir).map_err(DataplaneError::pins("remove the directory", &self.dir))
    }
}

/// Makes a directory at or under `pin_dir`, on a BPF file system. Who may not open it cannot hold its lock either.
pub(super) fn create_dir(dir: &Path, pin_dir: &Path) -> Result<(), DataplaneError> {
    let nearest = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    if !is_bpf_fs(nearest).map_err(DataplaneError::pins("find out the file system of", nearest))? {
        return Err(DataplaneError::NotBpffs { dir: pin_dir.to_owned() });
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(dir).map_err(DataplaneError::pins("make the directory", dir))
}

/// Whether a directory that is there lies on a BPF file system.
pub(super) fn is_bpf_fs(dir: &Path) -> io::Result<bool> {
    Ok(statfs(dir)?.filesystem_type() == BPF_FS)
}

/// Removes a pin; one that is gone already is as good.
pub(super) fn remove_file(path: &Path) -> Result<(), DataplaneError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DataplaneError::pins("remove the pin", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_no_bpf_file_system_is_refused_with_the_mount_command() {
        let dir = tempfile::tempdir().unwrap();
        let error = Pins::own(&dir.path().join("backstop")).create().unwrap_err().to_string();
        assert!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
        assert!(!dir.path().join("backstop").exists());
    }

    #[test]
    fn pins_of_every_version_are_found_and_ours_come_first() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "abi-0".to_owned(),
            format!("abi-{ABI_VERSION}"),
            "abi-77".into(),
            "abi-x".into(),
            "other".into(),
        ] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let versions: Vec<_> = Pins::found(dir.path()).unwrap().iter().map(Pins::version).collect();
        assert_eq!(versions, [ABI_VERSION, 0, 77]);
        assert_eq!(Pins::found(&dir.path().join("absent")).unwrap(), []);
    }
}
