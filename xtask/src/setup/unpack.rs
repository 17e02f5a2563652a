//! Debian's packages, downloaded and unpacked into a folder of the project's own: nothing is installed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::command::{run, run_in};

/// A few MB each; a kernel has 30.
const DOWNLOAD: Duration = Duration::from_secs(5 * 60);
const UNPACK: Duration = Duration::from_secs(60);

/// Downloads packages and unpacks them into `place`. They are unpacked beside it, and take its place when `check` finds
/// that nothing is missing: a run that was cut off leaves nothing half done.
pub(super) fn into(place: &Path, packages: &[String], check: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let name = place.file_name().context("a folder without a name")?.to_string_lossy().into_owned();
    let work = place.with_file_name(format!(".{name}"));
    let (downloads, new) = (work.join("downloads"), work.join("unpacked"));
    remove(&work)?;
    std::fs::create_dir_all(&downloads).with_context(|| format!("cannot make {}", downloads.display()))?;
    std::fs::create_dir_all(&new).with_context(|| format!("cannot make {}", new.display()))?;
    download(&downloads, packages)?;
    for file in files(&downloads)? {
        run("dpkg", &["--extract", shown(&file)?, shown(&new)?], &[], UNPACK)?;
    }
    merge_usr(&new)?;
    check(&new)?;
    remove(place)?;
    std::fs::rename(&new, place).with_context(|| format!("cannot move it to {}", place.display()))?;
    remove(&work)
}

fn download(into: &Path, packages: &[String]) -> Result<()> {
    let mut arguments = vec!["--quiet", "-o", "APT::Sandbox::User=root"];
    arguments.extend(["-o", "Acquire::http::Timeout=30", "-o", "Acquire::Retries=3", "download"]);
    arguments.extend(packages.iter().map(String::as_str));
    run_in(into, "apt-get", &arguments, DOWNLOAD)
}

/// Debian's `/lib`, `/bin` and `/sbin` are links into `/usr`; some packages still ship files by the old paths.
fn merge_usr(root: &Path) -> Result<()> {
    for folder in ["lib", "lib64", "bin", "sbin"] {
        let old = root.join(folder);
        if old.is_dir() {
            let merged = root.join("usr").join(folder);
            std::fs::create_dir_all(&merged).with_context(|| format!("cannot make {}", merged.display()))?;
            run("cp", &["--archive", &format!("{}/.", shown(&old)?), shown(&merged)?], &[], UNPACK)?;
            remove(&old)?;
        }
    }
    Ok(())
}

/// The shared libraries that a program needs and that are neither in these folders nor on the machine.
pub(super) fn missing_libraries(program: &Path, folders: &[PathBuf]) -> Vec<String> {
    let path = folders.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>().join(":");
    let said = Command::new("ldd").arg(program).env("LD_LIBRARY_PATH", path).output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    said.lines()
        .filter(|line| line.contains("not found"))
        .filter_map(|line| line.split_whitespace().next().map(String::from))
        .collect()
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    entries.map(|entry| Ok(entry.context("cannot list a folder")?.path())).collect()
}

/// Removes a folder, if it is there.
pub(super) fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn shown(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
