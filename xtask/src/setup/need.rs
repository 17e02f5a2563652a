//! What the project needs of a machine: how to see whether it is there, and how to get it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::command::{output, run, succeeds};
use super::packages::{
    self, BpfToolchain, COMPILER, LINKER_LLVMS, PACKAGED_COMPONENTS, PACKAGED_LLVM, PACKAGED_RUST, PROGRAMS,
};
use super::system::System;
use super::{apt, guest, servers};

/// The toolchain's name by which `edge-user`'s build script finds Debian's compiler.
const TOOLCHAIN: &str = "debian-bpf";
/// The oldest bpf-linker that does, and the one that is installed.
const BPF_LINKER: (u32, u32, u32) = (0, 13, 0);
/// Building the linker downloads and compiles about a hundred crates: half a minute here.
const BUILD_LINKER: Duration = Duration::from_secs(20 * 60);
const ADD_COMPONENT: Duration = Duration::from_secs(5 * 60);
/// A nightly with its sources: about 150 MB.
const ADD_TOOLCHAIN: Duration = Duration::from_secs(15 * 60);

/// One thing that must be there. In the order in which they are met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    /// The programs of [`PROGRAMS`].
    LabTools,
    /// A C compiler, which some crates build with.
    Compiler,
    /// A Rust that compiles for the BPF target.
    BpfRust,
    /// The linker for it.
    BpfLinker,
    /// `cargo fmt` and `cargo clippy`.
    Components,
    /// The tests' servers, unpacked.
    Servers,
    /// What `bench smtp --guest` boots, unpacked.
    Guest,
}

impl Need {
    /// What everybody needs: not [`Need::Guest`].
    pub(super) const ALL: [Self; 6] =
        [Self::LabTools, Self::Compiler, Self::BpfRust, Self::BpfLinker, Self::Components, Self::Servers];

    pub(super) fn name(self) -> String {
        match self {
            Self::LabTools => format!("tools of the lab ({})", PROGRAMS.map(|(tool, _)| tool).join(", ")),
            Self::Compiler => "a C and C++ compiler".to_owned(),
            Self::BpfRust => "a Rust that compiles for BPF".to_owned(),
            Self::BpfLinker => {
                let (major, minor, patch) = BPF_LINKER;
                format!("bpf-linker {major}.{minor}.{patch} or newer")
            }
            Self::Components => "rustfmt and clippy".to_owned(),
            Self::Servers => {
                format!("servers for the tests (mail, DNS), in {}", lab::mta::prefix().display())
            }
            Self::Guest => {
                format!("QEMU and a kernel for `bench smtp --guest`, in {}", guest::folder().display())
            }
        }
    }

    pub(super) fn is_met(self) -> bool {
        match self {
            Self::LabTools => PROGRAMS.into_iter().all(|(tool, _)| in_path(tool)),
            Self::Compiler => in_path("cc") && in_path("c++"),
            Self::BpfRust => has_bpf_rust(),
            Self::BpfLinker => bpf_linker().is_some_and(|version| version >= BPF_LINKER),
            Self::Components => {
                succeeds("cargo", &["fmt", "--version"]) && succeeds("cargo", &["clippy", "--version"])
            }
            Self::Servers => servers::are_unpacked(),
            Self::Guest => guest::Parts::unpacked().is_ok(),
        }
    }

    /// The system's packages for it, as far as they are known before the first is installed.
    pub(super) fn packages(self, toolchain: BpfToolchain) -> Vec<String> {
        let owned = |packages: &[&str]| packages.iter().map(ToString::to_string).collect();
        match (self, toolchain) {
            (Self::LabTools, _) => owned(&PROGRAMS.map(|(_, package)| package)),
            (Self::Compiler, _) => owned(&COMPILER),
            (Self::BpfRust, BpfToolchain::Packaged) => owned(&PACKAGED_RUST),
            (Self::BpfLinker, BpfToolchain::Packaged) => packages::linker(PACKAGED_LLVM),
            // They are known when the nightly is there.
            (Self::BpfRust | Self::BpfLinker, BpfToolchain::Nightly) => Vec::new(),
            // rustup has its own.
            (Self::Components, BpfToolchain::Packaged) if !has_rustup() => owned(&PACKAGED_COMPONENTS),
            (Self::Components | Self::Servers | Self::Guest, _) => Vec::new(),
        }
    }

    /// What is done for it once its packages are there, in words.
    pub(super) fn after_packages(self, toolchain: BpfToolchain) -> Option<String> {
        match self {
            Self::LabTools | Self::Compiler => None,
            Self::BpfRust => {
                let rustup = add_bpf_rust(toolchain).join(" ");
                (has_rustup() || toolchain == BpfToolchain::Nightly).then(|| format!("rustup {rustup}"))
            }
            Self::BpfLinker => Some(match toolchain {
                BpfToolchain::Packaged => {
                    let (llvm, install) = (llvm_prefix(PACKAGED_LLVM), install_linker(PACKAGED_LLVM));
                    format!("build the linker: LLVM_PREFIX={llvm} cargo {}", install.join(" "))
                }
                BpfToolchain::Nightly => {
                    "build the linker, on the package of the LLVM that the nightly says it has".to_owned()
                }
            }),
            Self::Components => has_rustup().then(|| format!("rustup {}", ADD_COMPONENTS.join(" "))),
            Self::Servers => Some(format!(
                "download {} and unpack them into {} (nothing is installed)",
                servers::names(),
                lab::mta::prefix().display()
            )),
            Self::Guest => Some(format!(
                "download {} and unpack them into {} (nothing is installed)",
                guest::names(),
                guest::folder().display()
            )),
        }
    }

    /// Does it, once its packages are there.
    pub(super) fn meet(self, system: &System, toolchain: BpfToolchain) -> Result<()> {
        match self {
            Self::LabTools | Self::Compiler => Ok(()),
            Self::BpfRust if has_rustup() => {
                run("rustup", &add_bpf_rust(toolchain), &[], ADD_TOOLCHAIN).context("adding a Rust for BPF")
            }
            Self::BpfRust => Ok(()),
            Self::BpfLinker => build_linker(system, toolchain).context("building bpf-linker"),
            Self::Components if has_rustup() => {
                run("rustup", &ADD_COMPONENTS, &[], ADD_COMPONENT).context("adding rustfmt and clippy")
            }
            Self::Components => Ok(()),
            Self::Servers => servers::unpack(),
            Self::Guest => guest::unpack(),
        }
    }

    /// What to look at when it is still not there after [`Need::meet`].
    pub(super) fn why_unmet(self) -> &'static str {
        match self {
            Self::BpfRust => {
                "Is rustup in the path (package `rustup`)? On Debian the `rustc` in the path will do, if it is \
                 Debian's own."
            }
            Self::BpfLinker => "Is Cargo's folder of binaries (~/.cargo/bin) in the path?",
            Self::LabTools | Self::Compiler | Self::Components | Self::Servers | Self::Guest => "",
        }
    }

    /// How to get it on a system whose packages are not known here.
    pub(super) fn elsewhere(self) -> String {
        match self {
            Self::LabTools => "packages iproute2, util-linux, bash, glibc's ldd, OpenSSH's client".to_owned(),
            Self::Compiler => "packages gcc and g++".to_owned(),
            Self::BpfRust => "rustup toolchain install nightly --component rust-src".to_owned(),
            Self::BpfLinker => "cargo install bpf-linker (its README says which LLVM it needs)".to_owned(),
            Self::Components => "rustup component add rustfmt clippy".to_owned(),
            Self::Servers => format!(
                "Debian's packages of {}, unpacked there; without them run `cargo xtask test --unprivileged`",
                servers::names()
            ),
            Self::Guest => format!("Debian's packages of {}, unpacked there", guest::names()),
        }
    }
}

const ADD_COMPONENTS: [&str; 4] = ["component", "add", "rustfmt", "clippy"];

fn add_bpf_rust(toolchain: BpfToolchain) -> Vec<&'static str> {
    match toolchain {
        BpfToolchain::Packaged => vec!["toolchain", "link", TOOLCHAIN, "/usr"],
        BpfToolchain::Nightly => {
            vec!["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"]
        }
    }
}

fn build_linker(system: &System, toolchain: BpfToolchain) -> Result<()> {
    let llvm = match toolchain {
        BpfToolchain::Packaged => PACKAGED_LLVM,
        BpfToolchain::Nightly => {
            let llvm = nightly_llvm().context("`rustup run nightly rustc -vV` names no LLVM version")?;
            ensure!(
                LINKER_LLVMS.contains(&llvm),
                "the nightly is built with LLVM {llvm}, and bpf-linker {} is for {} to {}: link one that it knows as \
                 `nightly`, or build its newer version by hand",
                install_linker(llvm)[3],
                LINKER_LLVMS.start(),
                LINKER_LLVMS.end()
            );
            let wanted = packages::linker(llvm);
            let missing: Vec<&str> =
                wanted.iter().map(String::as_str).filter(|package| !apt::is_installed(package)).collect();
            if !missing.is_empty() {
                apt::install(system, &missing).context(
                    "where the system is older than the nightly's LLVM, apt.llvm.org has the package",
                )?;
            }
            llvm
        }
    };
    let arguments = install_linker(llvm);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run("cargo", &arguments, &[("LLVM_PREFIX", &llvm_prefix(llvm))], BUILD_LINKER)
}

/// Where Debian and Ubuntu have an LLVM.
fn llvm_prefix(llvm: u32) -> String {
    format!("/usr/lib/llvm-{llvm}")
}

/// The LLVM that the nightly is built with.
fn nightly_llvm() -> Option<u32> {
    llvm_of(&output("rustup", &["run", "nightly", "rustc", "-vV"])?)
}

fn llvm_of(version: &str) -> Option<u32> {
    version.lines().find_map(|line| line.strip_prefix("LLVM version: ")?.split('.').next()?.parse().ok())
}

fn install_linker(llvm: u32) -> [String; 8] {
    let feature = format!("llvm-{llvm}");
    [
        "install",
        "bpf-linker",
        "--version",
        "0.13.0",
        "--locked",
        "--no-default-features",
        "--features",
        &feature,
    ]
    .map(String::from)
}

fn has_rustup() -> bool {
    succeeds("rustup", &["--version"])
}

/// As `edge-user/build.rs` looks for it.
fn has_bpf_rust() -> bool {
    let sysroot = |program: &str, arguments: &[&str]| output(program, arguments).map(PathBuf::from);
    let holds = |sysroot: Option<PathBuf>, what: &str| sysroot.is_some_and(|root| root.join(what).is_dir());
    let core = "lib/rustlib/bpfel-unknown-none/lib";
    if has_rustup() {
        let of = |toolchain| sysroot("rustup", &["run", toolchain, "rustc", "--print", "sysroot"]);
        holds(of(TOOLCHAIN), core) || holds(of("nightly"), "lib/rustlib/src/rust/library/core")
    } else {
        holds(sysroot("rustc", &["--print", "sysroot"]), core)
    }
}

/// The version of the linker in the path.
fn bpf_linker() -> Option<(u32, u32, u32)> {
    let said = output("bpf-linker", &["--version"])?;
    let mut numbers = said.split_whitespace().last()?.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // The lab's tools stand in sbin, which a user's path may lack; the tests run as root.
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).any(|folder| Path::new(&folder).join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_says_which_llvm_it_has() {
        let said = "rustc 1.97.0-nightly\nbinary: rustc\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4";
        assert_eq!(llvm_of(said), Some(22));
        assert_eq!(llvm_of("rustc 1.97.0"), None);
    }

    #[test]
    fn a_packaged_toolchain_is_known_before_anything_is_installed() {
        let packages = Need::BpfLinker.packages(BpfToolchain::Packaged);
        assert!(packages.contains(&"llvm-22-dev".to_owned()), "{packages:?}");
        assert!(Need::BpfLinker.packages(BpfToolchain::Nightly).is_empty());
        assert!(LINKER_LLVMS.contains(&PACKAGED_LLVM));
    }
}
