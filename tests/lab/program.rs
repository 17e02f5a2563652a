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
    /// What stands in for systemd around a service, on the lab's hosts that are reached by ssh.
    Service,
    /// Floor and load of `cargo xtask bench smtp`.
    BenchSmtp,
    /// The project's tasks.
    Xtask,
}

impl Program {
    const fn package(self) -> &'static str {
        match self {
            Self::Backstop => "edge-user",
            Self::Load => "backstop-benches",
            Self::Service => "backstop-tests",
            Self::BenchSmtp => "backstop-bench-smtp",
            Self::Xtask => "xtask",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Backstop => "backstop",
            Self::Load => "backstop-load",
            Self::Service => "backstop-service",
            Self::BenchSmtp => "backstop-bench-smtp",
            Self::Xtask => "xtask",
        }
    }

    /// Builds it, which takes no time when it is up to date, and says where it is.
    ///
    /// # Errors
    /// With what the compiler said.
    pub fn build(self, profile: Profile) -> Result<PathBuf> {
        let output = self.cargo_build(profile).arg("--quiet").output().context("cannot run cargo")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} does not build:\n{said}", self.name());
        self.built(profile)
    }

    /// The same for who waits at a terminal: what cargo says of its progress is shown on stderr.
    ///
    /// # Errors
    /// It does not build; the compiler's words stand above.
    pub fn build_aloud(self, profile: Profile) -> Result<PathBuf> {
        let status = self.cargo_build(profile).status().context("cannot run cargo")?;
        ensure!(status.success(), "{} does not build: what cargo said stands above", self.name());
        self.built(profile)
    }

    fn cargo_build(self, profile: Profile) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(root()).args(["build", "--package", self.package()]);
        command.args(["--bin", self.name()]);
        if profile == Profile::Release {
            command.arg("--release");
        }
        command
    }

    fn built(self, profile: Profile) -> Result<PathBuf> {
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

/// Copies a program to where it is to be run. `cp` does it: a file that this process writes is open in each child that
/// another thread starts at that moment, and a program that is open for writing does not run ("Text file busy").
///
/// # Errors
/// With what `cp` said.
pub fn copy(program: &Path, to: &Path) -> Result<()> {
    let output = Command::new("cp").arg(program).arg(to).output().context("cannot run cp")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
