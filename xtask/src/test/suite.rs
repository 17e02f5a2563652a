//! Which suites there are: one for each target of the workspace that has tests, read from Cargo itself. And which program
//! each is: what Cargo built for the whole workspace. Asked for one package alone, it would build the half of it anew,
//! because fewer features are wanted of what that needs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// Tests that run as one program.
#[derive(Debug)]
pub(super) struct Suite {
    /// Package and target, as they are shown.
    pub(super) name: String,
    /// What runs its tests.
    pub(super) runs: Runs,
    /// What it needs.
    pub(super) needs: Needs,
    /// How many of its tests may run at once; `None`: as many as there are cores.
    pub(super) threads: Option<usize>,
    /// Whether it may have no test at all: programs whose tests lie elsewhere, documentation.
    pub(super) may_be_empty: bool,
}

/// What runs a suite's tests.
#[derive(Debug)]
pub(super) enum Runs {
    /// The program that Cargo built of this target.
    Program(Target),
    /// Cargo itself, for the documentation of all packages.
    Documentation,
}

/// A target, as Cargo names it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Target {
    /// Its package's manifest.
    manifest: PathBuf,
    /// `lib`, `bin` or `test`.
    kind: &'static str,
    name: String,
}

impl Target {
    /// Where Cargo would run its tests.
    pub(super) fn folder(&self) -> &Path {
        self.manifest.parent().unwrap_or(Path::new("/"))
    }
}

/// The programs that were built, by their targets.
#[derive(Debug)]
pub(super) struct Programs(HashMap<Target, PathBuf>);

impl Programs {
    /// Those that `cargo test --message-format=json-render-diagnostics` names.
    pub(super) fn of(messages: &str) -> Self {
        let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
        let tests = artifacts.filter(|artifact| artifact.profile.test);
        Self(tests.filter_map(|artifact| Some((artifact.target()?, artifact.executable?))).collect())
    }

    /// The program of a target.
    pub(super) fn get(&self, target: &Target) -> Result<&Path> {
        let program = self.0.get(target).map(PathBuf::as_path);
        program.with_context(|| {
            format!("Cargo built no test program of {} in {}", target.name, target.manifest.display())
        })
    }
}

/// What Cargo says of what it built.
#[derive(Deserialize)]
struct Artifact {
    manifest_path: PathBuf,
    target: Named,
    profile: BuiltAs,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct BuiltAs {
    test: bool,
}

impl Artifact {
    fn target(&self) -> Option<Target> {
        let kind = kind(&self.target.kind)?;
        Some(Target { manifest: self.manifest_path.clone(), kind, name: self.target.name.clone() })
    }
}

/// The kind of a target, where it can have tests.
fn kind(kinds: &[String]) -> Option<&'static str> {
    ["lib", "bin", "test"].into_iter().find(|kind| kinds.iter().any(|own| own == kind))
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
    manifest_path: PathBuf,
    targets: Vec<TargetOfPackage>,
}

#[derive(Deserialize)]
struct TargetOfPackage {
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
    if metadata.packages.iter().flat_map(|package| &package.targets).any(|target| target.doctest) {
        suites.push(Suite {
            name: "documentation".into(),
            runs: Runs::Documentation,
            needs: Needs::Nothing,
            threads: None,
            may_be_empty: true,
        });
    }
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
    let suite = |target: &TargetOfPackage| {
        let kind = kind(&target.kind).filter(|_| target.test)?;
        let (needs, threads) = match (kind, target.name.as_str()) {
            // Each test has servers of its own: more at once would only starve each other.
            ("test", "e2e") => (Needs::Lab, Some(2)),
            ("test", "xdp") => (Needs::Xdp, None),
            ("test", "corpus") => (Needs::Bounces, None),
            (_, _) => (Needs::Nothing, None),
        };
        let name = if kind == "lib" { kind } else { &target.name };
        Some(Suite {
            name: format!("{} {name}", package.name),
            runs: Runs::Program(Target {
                manifest: package.manifest_path.clone(),
                kind,
                name: target.name.clone(),
            }),
            needs,
            threads,
            may_be_empty: kind != "test",
        })
    };
    package.targets.iter().filter_map(suite).collect()
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
        assert!(find("documentation").is_some());
    }

    #[test]
    fn the_program_of_a_suite_is_what_cargo_says_it_built_of_its_target() {
        let messages = r#"
{"reason":"compiler-artifact","package_id":"path+file:///w/a#a@0.1.0","manifest_path":"/w/a/Cargo.toml","target":{"kind":["lib"],"crate_types":["lib"],"name":"a","src_path":"/w/a/lib.rs"},"profile":{"opt_level":"0","test":true},"features":[],"filenames":["/t/a-1"],"executable":"/t/a-1","fresh":true}
{"reason":"compiler-artifact","package_id":"path+file:///w/a#a@0.1.0","manifest_path":"/w/a/Cargo.toml","target":{"kind":["lib"],"name":"a"},"profile":{"test":false},"filenames":["/t/liba.rlib"],"executable":null,"fresh":true}
{"reason":"compiler-artifact","package_id":"path+file:///w/a#a@0.1.0","manifest_path":"/w/a/Cargo.toml","target":{"kind":["bin"],"name":"a"},"profile":{"test":false},"filenames":["/t/a"],"executable":"/t/a","fresh":true}
{"reason":"build-finished","success":true}
"#;
        let programs = Programs::of(messages);
        let target = |kind| Target { manifest: "/w/a/Cargo.toml".into(), kind, name: "a".into() };
        assert_eq!(programs.get(&target("lib")).unwrap(), Path::new("/t/a-1"));
        assert_eq!(target("lib").folder(), Path::new("/w/a"));
        let missing = programs.get(&target("bin")).unwrap_err().to_string();
        assert!(missing.contains("/w/a/Cargo.toml"), "{missing}");
    }
}
