//! What `cargo xtask bench smtp --guest` boots: QEMU, a kernel of the system's, and a busybox for its init. They are
//! unpacked below `target/lab/guest`; `cargo xtask setup` does it only with `--guest`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lab::program::target;

use super::command::output;
use super::{apt, unpack};

/// QEMU and the shell of the guest's init.
const PACKAGES: [&str; 2] = ["qemu-system-x86", "busybox-static"];
/// What depends on the system's newest kernel for virtual machines: Debian's, Ubuntu's.
const KERNELS: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-virtual"];

/// The parts of it, unpacked.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The emulator.
    pub(crate) qemu: PathBuf,
    /// The libraries that it needs and this machine lacks.
    pub(crate) libraries: Vec<PathBuf>,
    /// Its own modules.
    pub(crate) modules: PathBuf,
    /// Its firmware.
    pub(crate) firmware: Vec<PathBuf>,
    /// A static busybox.
    pub(crate) busybox: PathBuf,
    /// The kernel.
    pub(crate) kernel: PathBuf,
}

impl Parts {
    /// What `setup --guest` unpacked.
    ///
    /// # Errors
    /// Something of it is not there.
    pub(crate) fn unpacked() -> Result<Self> {
        Self::of(&folder()).context("no guest: run `cargo xtask setup --guest`")
    }

    fn of(folder: &Path) -> Result<Self> {
        let parts = Self {
            qemu: folder.join("usr/bin/qemu-system-x86_64"),
            libraries: ["usr/lib/x86_64-linux-gnu", "usr/lib"].map(|path| folder.join(path)).to_vec(),
            modules: folder.join("usr/lib/x86_64-linux-gnu/qemu"),
            firmware: ["usr/share/qemu", "usr/share/seabios"].map(|path| folder.join(path)).to_vec(),
            busybox: folder.join("usr/bin/busybox"),
            kernel: kernel(&folder.join("boot"))?,
        };
        for file in [&parts.qemu, &parts.busybox, &parts.kernel] {
            ensure!(file.is_file(), "{} is not there", file.display());
        }
        let missing = unpack::missing_libraries(&parts.qemu, &parts.libraries);
        ensure!(missing.is_empty(), "QEMU needs more libraries: {}", missing.join(", "));
        Ok(parts)
    }
}

/// Where they are unpacked.
pub(super) fn folder() -> PathBuf {
    target().join("lab/guest")
}

/// For messages.
pub(super) fn names() -> String {
    format!("{} and a kernel ({})", PACKAGES.join(", "), KERNELS.join(" or "))
}

/// Whether the package lists that are there name all of it.
pub(super) fn is_in_the_lists() -> bool {
    PACKAGES.iter().all(|package| apt::has_candidate(package)) && newest_kernel().is_ok()
}

/// Downloads and unpacks it.
pub(super) fn unpack() -> Result<()> {
    let mut wanted: Vec<String> = PACKAGES.iter().map(ToString::to_string).collect();
    for dependency in apt::simulate(&PACKAGES)? {
        if !wanted.contains(&dependency) {
            wanted.push(dependency);
        }
    }
    wanted.push(newest_kernel()?);
    unpack::into(&folder(), &wanted, |new| {
        // 90 MB, and the guest needs none of them.
        unpack::remove(&new.join("usr/lib/modules"))?;
        Parts::of(new).map(drop)
    })
    .context("unpacking the guest")
}

/// The package of the newest kernel for virtual machines.
fn newest_kernel() -> Result<String> {
    let found = KERNELS.iter().find_map(|kernel| named_kernel(&output("apt-cache", &["depends", kernel])?));
    found.with_context(|| format!("the package lists have neither {}", KERNELS.join(" nor ")))
}

/// The image among what `apt-cache depends` says.
fn named_kernel(said: &str) -> Option<String> {
    let mut depends = said.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    depends.find(|package| package.starts_with("linux-image-")).map(String::from)
}

/// The only kernel in a folder.
fn kernel(boot: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(boot).with_context(|| format!("cannot list {}", boot.display()))?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_kernel =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"));
    let kernel = files.into_iter().find(is_kernel);
    kernel.with_context(|| format!("no kernel in {}", boot.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_found_among_what_the_newest_kernel_depends_on() {
        let said = "linux-image-virtual\n  Depends: linux-modules-extra-6.8.0-31-generic\n                     Depends: linux-image-6.8.0-31-generic\n  Recommends: thermald\n";
        assert_eq!(named_kernel(said).as_deref(), Some("linux-image-6.8.0-31-generic"));
        assert_eq!(named_kernel("linux-image-virtual\n"), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = format!("{:#}", Parts::of(folder.path()).unwrap_err());
        assert!(error.contains("boot"), "{error}");
        std::fs::create_dir(folder.path().join("boot")).unwrap();
        std::fs::write(folder.path().join("boot/vmlinuz-6.1.0-1-cloud-amd64"), "").unwrap();
        let error = format!("{:#}", Parts::of(folder.path()).unwrap_err());
        assert!(error.contains("qemu-system-x86_64 is not there"), "{error}");
    }
}
