//! What is deployed: the program, the files of its unit, and where each goes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use lab::program::{Profile, Program};
use sha2::{Digest, Sha256};

use super::elf::Needs;

/// A program larger than this is none of ours, in octets.
const PROGRAM_BYTES_MAX: u64 = 1 << 30;

/// A file on its way to a host.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Its name there.
    pub(super) name: String,
    /// Its permissions, in octal.
    pub(super) mode: &'static str,
    /// What is in it.
    pub(super) content: Vec<u8>,
    /// The hash of that, in hex.
    pub(super) sha256: String,
}

impl Item {
    pub(super) fn new(name: impl Into<String>, mode: &'static str, content: Vec<u8>) -> Self {
        let sha256 = hex(&content);
        Self { name: name.into(), mode, content, sha256 }
    }
}

/// A release: the same everywhere.
#[derive(Debug)]
pub(super) struct Release {
    /// The program first, the manifest last.
    pub(super) items: Vec<Item>,
    /// What the program needs of a host.
    pub(super) needs: Needs,
    /// How every directory of this release is called at its end: of the manifest's hash, so a changed unit is another
    /// release too.
    pub(super) hash: String,
}

impl Release {
    /// Builds the program where none is given, and takes all of the unit's files.
    pub(super) fn gather(binary: Option<&Path>, units: Option<&Path>) -> Result<Self> {
        let built;
        let binary = match binary {
            Some(binary) => binary,
            None => {
                built = Program::Backstop.build_aloud(Profile::Release)?;
                &built
            }
        };
        let size =
            std::fs::metadata(binary).with_context(|| format!("cannot read {}", binary.display()))?.len();
        ensure!(size <= PROGRAM_BYTES_MAX, "{} is too large for a program: {size} octets", binary.display());
        let program = std::fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
        let needs = Needs::of(&program).with_context(|| format!("cannot deploy {}", binary.display()))?;
        let units = units.map_or_else(|| lab::program::root().join("contrib/systemd"), Path::to_path_buf);
        let mut items = vec![Item::new("backstop", "0755", program)];
        let mut places = String::new();
        for (file, place) in unit_files(&units)? {
            let content = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let name =
                file.file_name().and_then(|name| name.to_str()).context("a unit's name is not UTF-8")?;
            let _ = writeln!(places, "{name} {place}");
            items.push(Item::new(name, "0644", content));
        }
        items.push(Item::new("PLACES", "0644", places.into_bytes()));
        let mut manifest = String::new();
        for item in &items {
            let _ = writeln!(manifest, "{}  {}", item.sha256, item.name);
        }
        let manifest = Item::new("MANIFEST", "0644", manifest.into_bytes());
        let hash = manifest.sha256[..12].to_owned();
        items.push(manifest);
        Ok(Self { items, needs, hash })
    }

    /// How large it is, in octets.
    pub(super) fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.content.len()).sum()
    }
}

/// The unit's files, each with its place on a host. A README beside them is not installed.
fn unit_files(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.ends_with(".md") {
            let place = place(name).with_context(|| format!("{}: where does this go?", path.display()))?;
            files.push((path, place));
        }
    }
    files.sort();
    ensure!(
        files.iter().any(|(_, place)| place.ends_with("/backstop.service")),
        "there is no backstop.service in {}",
        folder.display()
    );
    Ok(files)
}

/// Where a file of the unit goes: `/etc/systemd/system` for units, `sysusers.d` and `tmpfiles.d` for what is called so.
fn place(name: &str) -> Option<String> {
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-@".contains(c)) {
        return None;
    }
    if [".service", ".socket", ".timer", ".slice"].iter().any(|kind| name.ends_with(kind)) {
        return Some(format!("/etc/systemd/system/{name}"));
    }
    for kind in ["sysusers", "tmpfiles"] {
        if name.contains(kind) {
            return Some(format!("/etc/{kind}.d/backstop.conf"));
        }
    }
    None
}

/// A configuration, and keys, for hosts that have none.
#[derive(Debug)]
pub(super) struct Fresh {
    config: Option<PathBuf>,
    keys: Vec<Item>,
}

impl Fresh {
    /// `config` is a file for all hosts, or a folder with `HOST.toml` for each; `keys` a folder of keys.
    pub(super) fn gather(config: Option<&Path>, keys: Option<&Path>) -> Result<Self> {
        if let Some(config) = config {
            ensure!(config.exists(), "there is no {}", config.display());
        }
        let mut items = Vec::new();
        if let Some(folder) = keys {
            let entries =
                std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
            for entry in entries {
                let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
                let content =
                    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let name =
                    path.file_name().and_then(|name| name.to_str()).context("a key's name is not UTF-8")?;
                items.push(Item::new(format!("etc/keys/{name}"), "0600", content));
            }
            if items.is_empty() {
                bail!("there is no key in {}: `backstop key new --dir DIR` makes one", folder.display());
            }
        }
        Ok(Self { config: config.map(Path::to_path_buf), keys: items })
    }

    /// What a host without a configuration gets.
    pub(super) fn items(&self, host: &str) -> Result<Vec<Item>> {
        let Some(config) = &self.config else {
            bail!(
                "there is no configuration on this host: write one with `backstop init --output {host}.toml ...`, and \
                 give it with --config {host}.toml (and its keys with --keys DIR)"
            );
        };
        let file = if config.is_dir() { config.join(format!("{host}.toml")) } else { config.clone() };
        let content = std::fs::read(&file).with_context(|| {
            format!(
                "there is no configuration on this host, and --config does not lead to one: cannot read {}",
                file.display()
            )
        })?;
        let mut items = self.keys.clone();
        items.push(Item::new("etc/backstop.toml", "0644", content));
        Ok(items)
    }
}

fn hex(content: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for octet in Sha256::digest(content) {
        let _ = write!(hex, "{octet:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_a_unit_has_its_place_and_others_are_asked_about() {
        for (name, wanted) in [
            ("backstop.service", Some("/etc/systemd/system/backstop.service")),
            ("backstop.sysusers", Some("/etc/sysusers.d/backstop.conf")),
            ("tmpfiles.conf", Some("/etc/tmpfiles.d/backstop.conf")),
            ("notes.txt", None),
            ("a b.service", None),
        ] {
            assert_eq!(place(name).as_deref(), wanted, "{name}");
        }
    }

    #[test]
    fn a_changed_unit_is_another_release() {
        let folder = tempfile::tempdir().unwrap();
        let program = std::env::current_exe().unwrap();
        let gather = |text: &str| {
            std::fs::write(folder.path().join("backstop.service"), text).unwrap();
            Release::gather(Some(&program), Some(folder.path())).unwrap()
        };
        let (first, again, other) = (gather("[Unit]"), gather("[Unit]"), gather("[Service]"));
        assert_eq!(first.hash, again.hash);
        assert_ne!(first.hash, other.hash);
        assert_eq!(first.items.last().unwrap().name, "MANIFEST");
    }
}
