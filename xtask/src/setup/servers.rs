//! The tests' servers: the system's packages, downloaded and unpacked into a folder of the project's own.
//!
//! As packages they exclude each other, and installing one would start it. Unpacked, each lies in its own folder with
//! the libraries that this machine lacks; the lab overlays it over `/usr`, `/etc` and `/var` of a namespace.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use lab::mta::{Software, prefix};

use super::{apt, unpack};

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

fn unpack_one(software: Software, named: &[&str]) -> Result<()> {
    let mut wanted: Vec<String> = named.iter().map(ToString::to_string).collect();
    for dependency in apt::simulate(&named[..1])? {
        // What a list manager depends on is a mail server of its own, and an overlay of its files would be in the way.
        if !wanted.contains(&dependency) && !apt::is_mail_server(&dependency) {
            wanted.push(dependency);
        }
    }
    unpack::into(&prefix().join(software.name()), &wanted, |new| {
        let missing = missing_libraries(software, new);
        ensure!(
            missing.is_empty(),
            "these libraries are neither here nor among its packages: {}",
            missing.join(", ")
        );
        Ok(())
    })
}

/// The shared libraries that its program needs and that are neither unpacked nor on the machine.
fn missing_libraries(software: Software, folder: &Path) -> Vec<String> {
    let libraries = ["usr/lib", "usr/lib/x86_64-linux-gnu", "usr/lib/postfix", "usr/lib/dovecot"];
    unpack::missing_libraries(&folder.join(software.landmark()), &libraries.map(|path| folder.join(path)))
}
