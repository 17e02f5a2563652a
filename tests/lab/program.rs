//! The project's own programs, built when a test or the demo first asks for one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// How a program is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Quick to build, with debug assertions: for tests.
    Dev,
    /// As an operator has it: for the demo.
    Release,
}

/// A program of this workspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// The daemon and its command line.
    Backstop,
    /// The load generator.
    Load,
}

impl Program {
    const fn package(self) -> &'static str {
        match self {
            Self::Backstop => "edge-user",
            Self::Load => "backstop-benches",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Backstop => "backstop",
            Self::Load => "backstop-load",
        }
    }

    /// Builds it, which takes no time when it is up to date, and says where it is.
    ///
    /// # Errors
    /// With what the compiler said.
    pub fn build(self, profile: Profile) -> Result<PathBuf> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(root()).args(["build", "--quiet", "--package", self.package()]);
        command.args(["--bin", self.name()]);
        if profile == Profile::Release {
            command.arg("--release");
        }
        let output = command.output().context("cannot run cargo")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} does not build:\n{said}", self.name());
        let folder = match profile {
            Profile::Dev => "debug",
            Profile::Release => "release",
        };
        let built = target().join(folder).join(self.name());
        ensure!(built.exists(), "cargo built {}, but it is not at {}", self.name(), built.display());
        Ok(built)
    }
}

/// The workspace's folder.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// Cargo's target folder.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
