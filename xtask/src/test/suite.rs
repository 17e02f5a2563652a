//! Which suites there are: one for each target of the workspace that has tests, read from Cargo itself.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// Tests that run as one program.
#[derive(Debug)]
pub(super) struct Suite {
    /// Package and target, as they are shown.
    pub(super) name: String,
    /// What Cargo is told.
    pub(super) args: Vec<String>,
    /// What it needs.
    pub(super) needs: Needs,
    /// How many of its tests may run at once; `None`: as many as there are cores.
    pub(super) threads: Option<usize>,
    /// Whether it may have no test at all: programs whose tests lie elsewhere, documentation.
    pub(super) may_be_empty: bool,
}

/// What a suite needs besides a built workspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Needs {
    /// Nothing.
    Nothing,
    /// Root, to load the XDP program.
    Xdp,
    /// Root, network namespaces and the unpacked mail servers.
    Lab,
    /// The collection of real bounces.
    Bounces,
}

impl Needs {
    /// What `--unprivileged` cannot count on; `None`: the suite runs.
    pub(super) fn missing(self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Xdp => Some("needs root and XDP".into()),
            Self::Lab => Some("needs root, network namespaces and mail servers".into()),
            Self::Bounces => {
                let place = std::env::var_os("BACKSTOP_BOUNCES")
                    .map_or_else(|| lab::program::root().join("../shared/bounces"), Into::into);
                let is_there = place.join("INDEX.tsv").is_file();
                (!is_there).then(|| format!("no collection at {} (BACKSTOP_BOUNCES)", place.display()))
            }
        }
    }
}

/// What of `cargo metadata` is read.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    test: bool,
    doctest: bool,
}

/// Cargo, in the workspace's folder.
pub(super) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(lab::program::root());
    command
}

/// Every suite of the workspace: what takes long comes last.
pub(super) fn all() -> Result<Vec<Suite>> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cannot run `cargo metadata`")?;
    ensure!(output.status.success(), "`cargo metadata`: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("`cargo metadata`")?;
    let mut suites: Vec<Suite> = metadata.packages.iter().flat_map(of_package).collect();
    ensure!(!suites.is_empty(), "no suite in {}", Path::new(".").display());
    suites.sort_by_key(|suite| match suite.needs {
        Needs::Nothing => 0,
        Needs::Bounces => 1,
        Needs::Xdp => 2,
        Needs::Lab => 3,
    });
    Ok(suites)
}

fn of_package(package: &Package) -> Vec<Suite> {
    let suite = |what: &str, args: &[&str], may_be_empty| Suite {
        name: format!("{} {what}", package.name),
        args: ["--package", &package.name].iter().chain(args).map(|arg| (*arg).to_owned()).collect(),
        needs: Needs::Nothing,
        threads: None,
        may_be_empty,
    };
    let mut suites = Vec::new();
    for target in &package.targets {
        let is = |kind: &str| target.kind.iter().any(|own| own == kind);
        if target.test && is("lib") {
            suites.push(suite("lib", &["--lib"], true));
        } else if target.test && is("bin") {
            suites.push(suite(&target.name, &["--bin", &target.name], true));
        } else if target.test && is("test") {
            let (needs, threads) = match target.name.as_str() {
                // Each test has servers of its own: more at once would only starve each other.
                "e2e" => (Needs::Lab, Some(2)),
                "xdp" => (Needs::Xdp, None),
                "corpus" => (Needs::Bounces, None),
                _ => (Needs::Nothing, None),
            };
            suites.push(Suite { needs, threads, ..suite(&target.name, &["--test", &target.name], false) });
        }
        if target.doctest && is("lib") {
            suites.push(suite("doc", &["--doc"], true));
        }
    }
    suites
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_of_the_workspace_that_has_tests_is_a_suite() {
        let suites = all().unwrap();
        let find = |name: &str| suites.iter().find(|suite| suite.name == name);
        for name in ["edge_core lib", "edge-user lib", "backstop-tests corpus", "xtask xtask"] {
            assert!(find(name).is_some_and(|suite| suite.needs != Needs::Lab), "{name}");
        }
        assert!(find("backstop-tests e2e").is_some_and(|suite| suite.needs == Needs::Lab));
        assert!(find("backstop-tests xdp").is_some_and(|suite| suite.needs == Needs::Xdp));
    }
}
