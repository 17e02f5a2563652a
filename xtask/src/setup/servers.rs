//! The tests' servers: the system's packages, downloaded and unpacked into a folder of the project's own.
//!
//! As packages they exclude each other, and installing one would start it. Unpacked, each lies in its own folder with
//! the libraries that this machine lacks; the lab overlays it over `/usr`, `/etc` and `/var` of a namespace.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::mta::{Software, prefix};

use super::apt;
use super::command::{run, run_in};

/// One row a server: the packages to unpack, whether this machine has them installed or not; the first is the one whose
/// dependencies are looked up.
const SERVERS: [(Software, &[&str]); 13] = [
    (Software::Postfix, &["postfix"]),
    (Software::Exim, &["exim4-daemon-light", "exim4-base", "exim4-config"]),
    (Software::OpenSmtpd, &["opensmtpd"]),
    (Software::Sendmail, &["sendmail-bin", "sendmail-base", "sendmail-cf", "m4"]),
    (Software::Dovecot, &["dovecot-core", "dovecot-lmtpd", "dovecot-sieve"]),
    (Software::Postsrsd, &["postsrsd"]),
    (Software::Mlmmj, &["mlmmj"]),
    (Software::OpenDkim, &["opendkim"]),
    (Software::Stunnel, &["stunnel4"]),
    (Software::Nsd, &["nsd"]),
    (Software::OpenSsh, &["openssh-server"]),
    (Software::HaProxy, &["haproxy"]),
    (Software::Nginx, &["libnginx-mod-mail", "nginx", "nginx-common"]),
];

/// For messages.
pub(super) fn names() -> String {
    SERVERS.map(|(software, _)| software.name()).join(", ")
}

/// A few MB each.
const DOWNLOAD: Duration = Duration::from_secs(5 * 60);
const UNPACK: Duration = Duration::from_secs(60);

/// Whether every one is there, with all libraries.
pub(super) fn are_unpacked() -> bool {
    SERVERS.iter().all(|(software, _)| is_unpacked(*software))
}

/// Whether the package lists that are there name all their packages.
pub(super) fn are_in_the_lists() -> bool {
    SERVERS.iter().flat_map(|(_, packages)| *packages).all(|package| apt::has_candidate(package))
}

/// Downloads and unpacks those that are not there.
pub(super) fn unpack() -> Result<()> {
    for (software, packages) in SERVERS.into_iter().filter(|(software, _)| !is_unpacked(*software)) {
        unpack_one(software, packages).with_context(|| format!("unpacking {}", software.name()))?;
    }
    Ok(())
}

fn is_unpacked(software: Software) -> bool {
    software.package().is_ok_and(|folder| missing_libraries(software, &folder).is_empty())
}

/// Into a folder beside, which takes its place when it is complete: a run that was cut off leaves nothing half done.
fn unpack_one(software: Software, named: &[&str]) -> Result<()> {
    let work = prefix().join(format!(".{}", software.name()));
    let (downloads, new) = (work.join("downloads"), work.join("unpacked"));
    remove(&work)?;
    std::fs::create_dir_all(&downloads).with_context(|| format!("cannot make {}", downloads.display()))?;
    std::fs::create_dir_all(&new).with_context(|| format!("cannot make {}", new.display()))?;

    let mut wanted: Vec<String> = named.iter().map(ToString::to_string).collect();
    for dependency in apt::simulate(&named[..1])? {
        // What a list manager depends on is a mail server of its own, and an overlay of its files would be in the way.
        if !wanted.contains(&dependency) && !apt::is_mail_server(&dependency) {
            wanted.push(dependency);
        }
    }
    download(&downloads, &wanted)?;
    for file in files(&downloads)? {
        run("dpkg", &["--extract", shown(&file)?, shown(&new)?], &[], UNPACK)?;
    }
    merge_usr(&new)?;
    let missing = missing_libraries(software, &new);
    ensure!(
        missing.is_empty(),
        "these libraries are neither here nor among its packages: {}",
        missing.join(", ")
    );

    let place = prefix().join(software.name());
    remove(&place)?;
    std::fs::rename(&new, &place).with_context(|| format!("cannot move it to {}", place.display()))?;
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

/// The shared libraries that its program needs and that are neither unpacked nor on the machine.
fn missing_libraries(software: Software, folder: &Path) -> Vec<String> {
    let libraries = ["usr/lib", "usr/lib/x86_64-linux-gnu", "usr/lib/postfix", "usr/lib/dovecot"]
        .map(|path| folder.join(path));
    let path = libraries.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>().join(":");
    let said =
        Command::new("ldd").arg(folder.join(software.landmark())).env("LD_LIBRARY_PATH", path).output();
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

fn remove(folder: &Path) -> Result<()> {
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
