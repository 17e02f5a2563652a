//! What a systemd unit lets the service do with a directory (systemd.exec(5), "Sandboxing" and "Directories"). Of what
//! it says about a directory and those above it, the nearest counts.

use std::path::{Path, PathBuf};

use super::unit::Settings;

/// What becomes of what the service writes there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// As the rights of files say.
    Open,
    /// systemd makes it, for the service's user.
    Made,
    /// It can write nothing.
    ReadOnly(&'static str),
    /// It sees nothing that is there.
    Hidden(&'static str),
    /// It writes to a place of its own, which is gone when it stops.
    Forgotten(&'static str),
}

/// Directories that systemd makes for a service, and below what.
const MADE: [(&str, &str); 3] =
    [("StateDirectory", "/var/lib"), ("CacheDirectory", "/var/cache"), ("LogsDirectory", "/var/log")];
/// Lists of paths. A later row wins over an earlier one with the same path.
const LISTS: [(&str, Way); 6] = [
    ("InaccessiblePaths", Way::Hidden("InaccessiblePaths")),
    ("TemporaryFileSystem", Way::Forgotten("TemporaryFileSystem")),
    ("ReadOnlyPaths", Way::ReadOnly("ReadOnlyPaths")),
    ("BindReadOnlyPaths", Way::ReadOnly("BindReadOnlyPaths")),
    ("ReadWritePaths", Way::Open),
    ("BindPaths", Way::Open),
];

/// What the unit says of `dir`.
pub(super) fn way(settings: &Settings, dir: &Path) -> Way {
    let mut nearest = (0, Way::Open);
    for (place, way) in rules(settings) {
        let depth = place.components().count();
        if dir.starts_with(&place) && depth >= nearest.0 {
            nearest = (depth, way);
        }
    }
    nearest.1
}

fn rules(settings: &Settings) -> Vec<(PathBuf, Way)> {
    let last = |name: &str| settings.get(name)?.last().map(String::as_str);
    let words = |name: &str| {
        let lines = settings.get(name).into_iter().flatten();
        lines.flat_map(|line| line.split_ascii_whitespace()).collect::<Vec<_>>()
    };
    let mut rules = Vec::new();
    let mut all = |places: &[&str], way| rules.extend(places.iter().map(|place| (PathBuf::from(place), way)));
    let read_only = Way::ReadOnly("ProtectSystem");
    match last("ProtectSystem") {
        Some("strict") => all(&["/"], read_only),
        Some("full") => all(&["/usr", "/boot", "/efi", "/etc"], read_only),
        Some("no" | "false" | "off" | "0") | None => {}
        Some(_yes) => all(&["/usr", "/boot", "/efi"], read_only),
    }
    let homes = ["/home", "/root", "/run/user"];
    match last("ProtectHome") {
        Some("read-only") => all(&homes, Way::ReadOnly("ProtectHome")),
        Some("tmpfs") => all(&homes, Way::Forgotten("ProtectHome")),
        Some("no" | "false" | "off" | "0") | None => {}
        Some(_yes) => all(&homes, Way::Hidden("ProtectHome")),
    }
    match last("PrivateTmp") {
        Some("no" | "false" | "off" | "0") | None => {}
        Some(_yes) => all(&["/tmp", "/var/tmp"], Way::Forgotten("PrivateTmp")),
    }
    for name in words("RuntimeDirectory") {
        // Below /run, and removed when the service stops.
        all(&[&format!("/run/{name}")], Way::Forgotten("RuntimeDirectory"));
    }
    for (setting, below) in MADE {
        for name in words(setting) {
            let name = name.split(':').next().unwrap_or(name);
            all(&[&format!("{below}/{name}")], Way::Made);
        }
    }
    for (setting, way) in LISTS {
        for path in words(setting) {
            // `-`: no error where it is not there; `+`: below RootDirectory=. Behind a colon: where it is bound to.
            let path = path.trim_start_matches(['-', '+']);
            let path = path.split(':').nth(usize::from(setting.starts_with("Bind"))).unwrap_or(path);
            all(&[path.split(':').next().unwrap_or(path)], way);
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::super::unit::service;
    use super::*;

    const OURS: &str = include_str!("../../../../contrib/systemd/backstop.service");

    #[test]
    fn the_nearest_of_what_a_unit_says_counts() {
        let strict = Way::ReadOnly("ProtectSystem");
        for (more, dir, expected) in [
            ("", "/var/lib/backstop", Way::Made),
            ("", "/var/lib/backstop/state", Way::Made),
            ("", "/var/lib/backstop2", strict),
            ("", "/srv/edge", strict),
            ("", "/sys/fs/bpf/backstop", Way::Open),
            ("", "/run/user/9", Way::Hidden("ProtectHome")),
            ("", "/var/tmp/edge", Way::Forgotten("PrivateTmp")),
            ("", "/run/backstop/state", Way::Forgotten("RuntimeDirectory")),
            ("ReadWritePaths=/srv/edge /x", "/srv/edge/state", Way::Open),
            ("ReadWritePaths=-/run/user", "/run/user/9", Way::Open),
            ("ReadWritePaths=/srv\nReadOnlyPaths=/srv/edge", "/srv/edge/x", Way::ReadOnly("ReadOnlyPaths")),
            ("BindPaths=/disk:/srv/edge:rbind", "/srv/edge", Way::Open),
            ("StateDirectory=edge:other", "/var/lib/edge", Way::Made),
            ("StateDirectory=", "/var/lib/backstop", strict),
            ("ProtectSystem=full", "/srv/edge", Way::Open),
            ("ProtectSystem=full", "/etc/edge", strict),
            ("ProtectSystem=no\nProtectHome=no\nPrivateTmp=no", "/tmp/edge", Way::Open),
        ] {
            let settings = service(&[OURS.into(), format!("[Service]\n{more}\n")]);
            assert_eq!(way(&settings, Path::new(dir)), expected, "{more} {dir}");
        }
        assert_eq!(way(&Settings::new(), Path::new("/srv/edge")), Way::Open);
    }
}
