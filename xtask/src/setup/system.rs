//! Which system this is, and whether packages can be installed.

use anyhow::{Context, Result};

use super::command::succeeds;

/// The machine.
#[derive(Debug)]
pub(super) struct System {
    /// As it calls itself.
    pub(super) name: String,
    id: String,
    version: String,
    pub(super) privilege: Privilege,
}

/// How root's work is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Privilege {
    /// This is root.
    Root,
    /// By sudo, which may ask for a password.
    Sudo,
    /// Not at all.
    None,
}

impl System {
    pub(super) fn detect() -> Result<Self> {
        let release =
            std::fs::read_to_string("/etc/os-release").context("cannot tell which system this is")?;
        let privilege = if nix::unistd::geteuid().is_root() {
            Privilege::Root
        } else if succeeds("sudo", &["--version"]) {
            Privilege::Sudo
        } else {
            Privilege::None
        };
        Ok(Self::from_release(&release, privilege))
    }

    fn from_release(release: &str, privilege: Privilege) -> Self {
        let field = |name: &str| {
            let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches('"').to_owned()
        };
        Self { name: field("PRETTY_NAME"), id: field("ID"), version: field("VERSION_ID"), privilege }
    }

    /// Whether the packages are known to exist there under the names used here.
    pub(super) fn is_supported(&self) -> bool {
        self.id == "debian" && ["12", "13"].contains(&self.version.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_12_and_13_are_supported_and_others_are_named() {
        for (release, supported) in [
            ("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n", true),
            ("PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_ID=\"13\"\nID=debian\n", true),
            ("PRETTY_NAME=\"Debian GNU/Linux 11 (bullseye)\"\nVERSION_ID=\"11\"\nID=debian\n", false),
            ("PRETTY_NAME=\"Ubuntu 24.04\"\nID_LIKE=debian\nID=ubuntu\nVERSION_ID=\"24.04\"\n", false),
            ("", false),
        ] {
            let system = System::from_release(release, Privilege::None);
            assert_eq!(system.is_supported(), supported, "{release}");
        }
    }
}
