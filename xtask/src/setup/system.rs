//! Which system this is, and whether packages can be installed.

use anyhow::{Context, Result};

use super::command::succeeds;
use super::packages::{BpfToolchain, SYSTEMS};

/// The machine.
#[derive(Debug)]
pub(super) struct System {
    /// As it calls itself.
    pub(super) name: String,
    /// How it gets a Rust for BPF; none: its packages' names are not known.
    pub(super) toolchain: Option<BpfToolchain>,
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
        let (id, version) = (field("ID"), field("VERSION_ID"));
        let row = SYSTEMS.iter().find(|(known, of, _)| *known == id && *of == version);
        Self { name: field("PRETTY_NAME"), toolchain: row.map(|(_, _, toolchain)| *toolchain), privilege }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_systems_have_their_toolchain_and_others_are_named() {
        for (release, toolchain) in [
            (
                "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n",
                Some(BpfToolchain::Packaged),
            ),
            (
                "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_ID=\"13\"\nID=debian\n",
                Some(BpfToolchain::Packaged),
            ),
            ("PRETTY_NAME=\"Debian GNU/Linux 11 (bullseye)\"\nVERSION_ID=\"11\"\nID=debian\n", None),
            (
                "PRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\nID_LIKE=debian\nID=ubuntu\nVERSION_ID=\"24.04\"\n",
                Some(BpfToolchain::Nightly),
            ),
            ("PRETTY_NAME=\"Ubuntu 22.04\"\nID_LIKE=debian\nID=ubuntu\nVERSION_ID=\"22.04\"\n", None),
            ("", None),
        ] {
            let system = System::from_release(release, Privilege::None);
            assert_eq!(system.toolchain, toolchain, "{release}");
        }
    }
}
