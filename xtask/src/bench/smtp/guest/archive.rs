//! A guest's files as the kernel unpacks them: an archive in cpio's format "newc" (the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`). Written here, so that device nodes take no root.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_777;
const CHARACTERS: u32 = 0o020_600;

/// The archive as far as it is written.
#[derive(Debug, Default)]
pub(super) struct Archive {
    octets: Vec<u8>,
    entries: u32,
    folders: BTreeSet<String>,
}

impl Archive {
    /// A file with these octets; its folders are made. Paths begin with a slash.
    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.folders_of(path)?;
        self.entry(path, FILE | mode, [0, 0], content)
    }

    /// A file of this machine.
    pub(super) fn copy(&mut self, path: &str, mode: u32, from: &Path) -> Result<()> {
        let content = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(path, mode, &content)
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.folders_of(path)?;
        self.entry(path, LINK, [0, 0], target.as_bytes())
    }

    /// A folder, and those that it is in.
    pub(super) fn folder(&mut self, path: &str) -> Result<()> {
        self.folders_of(&format!("{path}/"))
    }

    /// A character device.
    pub(super) fn device(&mut self, path: &str, number: [u32; 2]) -> Result<()> {
        self.folders_of(path)?;
        self.entry(path, CHARACTERS, number, &[])
    }

    /// The whole of it.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, [0, 0], &[])?;
        Ok(self.octets)
    }

    fn folders_of(&mut self, path: &str) -> Result<()> {
        for (slash, _) in path.match_indices('/').skip(1) {
            let folder = &path[..slash];
            if self.folders.insert(folder.to_owned()) {
                self.entry(folder, FOLDER, [0, 0], &[])?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, mode: u32, device: [u32; 2], content: &[u8]) -> Result<()> {
        let name = path.trim_start_matches('/');
        let size =
            u32::try_from(content.len()).with_context(|| format!("{path} is too large for a guest"))?;
        self.entries += 1;
        let name_size = u32::try_from(name.len() + 1)?;
        let [major, minor] = device;
        // Inode, mode, owner, group, links, time, size, device it lies on, device it is, length of the name, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
        self.octets.extend_from_slice(b"070701");
        for field in fields {
            self.octets.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.octets.extend_from_slice(name.as_bytes());
        self.octets.push(0);
        self.pad();
        self.octets.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_header_of_110_octets_a_name_and_what_is_in_it() {
        let mut archive = Archive::default();
        archive.file("/init", 0o755, b"#!sh\n").unwrap();
        let octets = archive.finish().unwrap();
        let text = String::from_utf8_lossy(&octets);
        assert!(text.starts_with("07070100000001000081ED00000000000000000000000100000000"), "{text}");
        assert_eq!(&octets[54..62], b"00000005");
        assert_eq!(&octets[94..102], b"00000005");
        assert_eq!(&octets[110..116], b"init\0\0");
        // 110 and 6 are a multiple of four, and so is the end.
        assert_eq!(&octets[116..124], b"#!sh\n\0\0\0");
        assert_eq!(&octets[124..130], b"070701");
        assert!(text.contains("TRAILER!!!\0") && octets.len() % 4 == 0);
    }

    #[test]
    fn a_folder_comes_once_and_before_what_is_in_it() {
        let mut archive = Archive::default();
        archive.file("/run/lab/a", 0o644, b"").unwrap();
        archive.file("/run/lab/b", 0o644, b"").unwrap();
        archive.folder("/run/lab/c").unwrap();
        archive.device("/dev/console", [5, 1]).unwrap();
        archive.link("/bin/sh", "busybox").unwrap();
        let octets = archive.finish().unwrap();
        let names: Vec<&str> = std::str::from_utf8(&octets)
            .unwrap()
            .split("070701")
            .skip(1)
            .map(|entry| entry[104..].split('\0').next().unwrap())
            .collect();
        let wanted = [
            "run",
            "run/lab",
            "run/lab/a",
            "run/lab/b",
            "run/lab/c",
            "dev",
            "dev/console",
            "bin",
            "bin/sh",
            "TRAILER!!!",
        ];
        assert_eq!(names, wanted);
    }
}
