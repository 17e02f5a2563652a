//! Packages, by apt.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::command::{output, run};
use super::system::{Privilege, System};

/// Lists of three or four suites.
const UPDATE: Duration = Duration::from_secs(5 * 60);
/// About 200 MB on a machine that has none of it.
const DOWNLOAD: Duration = Duration::from_secs(20 * 60);
/// Without the network: unpacking and configuring. Ended half-way it would leave packages unconfigured, so it has time.
const INSTALL: Duration = Duration::from_secs(60 * 60);
/// How long another apt may hold its locks.
const LOCKED: Duration = Duration::from_secs(5 * 60);

/// What every call says: no questions, a stalled mirror is an error, another apt is waited for, nothing is removed.
const OPTIONS: [&str; 10] = [
    "--yes",
    "--quiet",
    "--no-remove",
    "--no-install-recommends",
    "-o",
    "Acquire::http::Timeout=30",
    "-o",
    "Acquire::Retries=3",
    "-o",
    "DPkg::Lock::Timeout=300",
];

/// Packages that are mail servers, or bring one. None of them may ever be installed.
const MAIL_SERVERS: [&str; 12] = [
    "postfix",
    "exim4",
    "exim4-base",
    "exim4-config",
    "exim4-daemon-light",
    "exim4-daemon-heavy",
    "opensmtpd",
    "sendmail",
    "sendmail-bin",
    "nullmailer",
    "msmtp-mta",
    "dma",
];

/// Whether a package is a mail server, or brings one.
pub(super) fn is_mail_server(package: &str) -> bool {
    MAIL_SERVERS.contains(&package)
}

/// Whether a package is installed and configured.
pub(super) fn is_installed(package: &str) -> bool {
    output("dpkg-query", &["--show", "--showformat=${db:Status-Status}", package])
        .is_some_and(|status| status == "installed")
}

/// What to type as root.
pub(super) fn commands(packages: &[&str]) -> Vec<String> {
    let mut commands = vec!["apt-get update".to_owned()];
    if !packages.is_empty() {
        commands.push(format!("apt-get install --no-install-recommends {}", packages.join(" ")));
    }
    commands
}

/// Brings the lists up to date. Another apt that holds the lists' lock is waited for; one suite that cannot be reached
/// is no reason to stop, if the packages are found.
pub(super) fn update(system: &System) -> Result<()> {
    let started = Instant::now();
    while let Some(holder) = lists_lock_holder() {
        if started.elapsed() > LOCKED {
            bail!("another apt (process {holder}) has held its lock for {} s: wait for it", LOCKED.as_secs());
        }
        println!("waiting for another apt (process {holder}) ...");
        std::thread::sleep(Duration::from_secs(5));
    }
    if let Err(error) = as_root(system, &["apt-get", "update"], UPDATE) {
        println!("{error:#}: going on with the lists that are there");
    }
    Ok(())
}

/// Installs packages, having seen that no mail server comes with them.
pub(super) fn install(system: &System, packages: &[&str]) -> Result<()> {
    for package in packages {
        ensure!(
            has_candidate(package),
            "no package {package} in the lists: apt's sources must name the main and security suites (on Debian 12: \
             deb http://deb.debian.org/debian-security bookworm-security main), and `apt-get update` reach them"
        );
    }
    let changes = simulate(packages)?;
    let mail = changes.iter().find(|package| is_mail_server(package));
    if let Some(mail) = mail {
        bail!("these packages would bring the mail server {mail} with them, which this must never install");
    }
    // The part that needs the network has the deadline; the part that changes the system is not cut off.
    as_root(system, &[&["apt-get", "install", "--download-only"], packages].concat(), DOWNLOAD)?;
    as_root(system, &[&["apt-get", "install"], packages].concat(), INSTALL)
}

/// The packages that installing these would install, themselves included where they are not yet.
pub(super) fn simulate(packages: &[&str]) -> Result<Vec<String>> {
    let arguments = [&["--simulate", "--no-install-recommends", "install"], packages].concat();
    let said = output("apt-get", &arguments).with_context(|| {
        format!("apt-get cannot resolve {}: does `apt-get check` say why?", packages.join(" "))
    })?;
    Ok(said
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next().map(String::from))
        .collect())
}

/// Whether the lists have a package.
pub(super) fn has_candidate(package: &str) -> bool {
    output("apt-cache", &["policy", package]).is_some_and(|said| {
        said.lines().any(|line| line.trim().starts_with("Candidate:") && !line.contains("(none)"))
    })
}

fn as_root(system: &System, command: &[&str], deadline: Duration) -> Result<()> {
    let environment = ["env", "DEBIAN_FRONTEND=noninteractive"];
    let words = [&environment, command, &OPTIONS].concat();
    match system.privilege {
        Privilege::Root => run(words[0], &words[1..], &[], deadline),
        Privilege::Sudo => run("sudo", &words, &[], deadline),
        Privilege::None => bail!("`{}` takes root", command.join(" ")),
    }
}

/// The process that holds the lock of the package lists, for which apt itself does not wait.
fn lists_lock_holder() -> Option<String> {
    let inode = {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata("/var/lib/apt/lists/lock").ok()?.ino()
    };
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ours = words.get(5)?.rsplit(':').next()? == inode.to_string();
        ours.then(|| words.get(4).copied().unwrap_or("?").to_owned())
    })
}
