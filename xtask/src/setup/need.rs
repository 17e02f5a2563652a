//! What the project needs of a machine: how to see whether it is there, and how to get it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::command::{output, run, succeeds};
use super::mail_servers;

/// The toolchain's name by which `edge-user`'s build script finds Debian's compiler.
const TOOLCHAIN: &str = "debian-bpf";
/// The oldest bpf-linker that does, and the one that is installed.
const BPF_LINKER: (u32, u32, u32) = (0, 13, 0);
/// Where Debian has the LLVM that the linker is built on: the one that Debian's compiler uses.
const LLVM: &str = "/usr/lib/llvm-22";
/// Building the linker downloads and compiles about a hundred crates: half a minute here.
const BUILD_LINKER: Duration = Duration::from_secs(20 * 60);
const ADD_COMPONENT: Duration = Duration::from_secs(5 * 60);

/// Programs that the lab calls, with Debian's package of each.
const LAB_TOOLS: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
    ("bash", "bash"),
    ("ldd", "libc-bin"),
];

/// One thing that must be there. In the order in which they are met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    /// The programs of [`LAB_TOOLS`].
    LabTools,
    /// A C compiler, which some crates build with.
    Compiler,
    /// A Rust that compiles for the BPF target.
    BpfRust,
    /// The linker for it.
    BpfLinker,
    /// `cargo fmt` and `cargo clippy`.
    Components,
    /// The mail servers and the DNS server, unpacked.
    MailServers,
}

impl Need {
    pub(super) const ALL: [Self; 6] =
        [Self::LabTools, Self::Compiler, Self::BpfRust, Self::BpfLinker, Self::Components, Self::MailServers];

    pub(super) fn name(self) -> String {
        match self {
            Self::LabTools => format!("tools of the lab ({})", LAB_TOOLS.map(|(tool, _)| tool).join(", ")),
            Self::Compiler => "a C and C++ compiler".to_owned(),
            Self::BpfRust => "a Rust that compiles for BPF".to_owned(),
            Self::BpfLinker => {
                let (major, minor, patch) = BPF_LINKER;
                format!("bpf-linker {major}.{minor}.{patch} or newer")
            }
            Self::Components => "rustfmt and clippy".to_owned(),
            Self::MailServers => {
                format!("servers for the tests (mail, DNS), in {}", lab::mta::prefix().display())
            }
        }
    }

    pub(super) fn is_met(self) -> bool {
        match self {
            Self::LabTools => LAB_TOOLS.into_iter().all(|(tool, _)| in_path(tool)),
            Self::Compiler => in_path("cc") && in_path("c++"),
            Self::BpfRust => has_bpf_rust(),
            Self::BpfLinker => bpf_linker().is_some_and(|version| version >= BPF_LINKER),
            Self::Components => {
                succeeds("cargo", &["fmt", "--version"]) && succeeds("cargo", &["clippy", "--version"])
            }
            Self::MailServers => mail_servers::are_unpacked(),
        }
    }

    /// Debian's packages for it.
    pub(super) fn packages(self) -> &'static [&'static str] {
        match self {
            Self::LabTools => &["iproute2", "util-linux", "mount", "bash", "libc-bin"],
            Self::Compiler => &["gcc", "g++", "libc6-dev"],
            Self::BpfRust => &["rustc-web", "libstd-rust-web-dev-bpf"],
            Self::BpfLinker => &["llvm-22-dev", "zlib1g-dev", "libzstd-dev", "g++"],
            // Debian's, which go with Debian's Rust; rustup has its own.
            Self::Components if !has_rustup() => &["rustfmt-web", "rust-web-clippy"],
            Self::Components | Self::MailServers => &[],
        }
    }

    /// What is done for it once its packages are there, in words.
    pub(super) fn after_packages(self) -> Option<String> {
        match self {
            Self::LabTools | Self::Compiler => None,
            Self::BpfRust => has_rustup().then(|| format!("rustup {}", link_toolchain().join(" "))),
            Self::BpfLinker => {
                Some(format!("build the linker: LLVM_PREFIX={LLVM} cargo {}", install_linker().join(" ")))
            }
            Self::Components => has_rustup().then(|| format!("rustup {}", ADD_COMPONENTS.join(" "))),
            Self::MailServers => Some(format!(
                "download {} and unpack them into {} (nothing is installed)",
                mail_servers::NAMES,
                lab::mta::prefix().display()
            )),
        }
    }

    /// Does it, once its packages are there.
    pub(super) fn meet(self) -> Result<()> {
        match self {
            Self::LabTools | Self::Compiler => Ok(()),
            Self::BpfRust if has_rustup() => run("rustup", &link_toolchain(), &[], Duration::from_secs(60))
                .context("linking Debian's Rust"),
            Self::BpfRust => Ok(()),
            Self::BpfLinker => run("cargo", &install_linker(), &[("LLVM_PREFIX", LLVM)], BUILD_LINKER)
                .context("building bpf-linker"),
            Self::Components if has_rustup() => {
                run("rustup", &ADD_COMPONENTS, &[], ADD_COMPONENT).context("adding rustfmt and clippy")
            }
            Self::Components => Ok(()),
            Self::MailServers => mail_servers::unpack(),
        }
    }

    /// What to look at when it is still not there after [`Need::meet`].
    pub(super) fn why_unmet(self) -> &'static str {
        match self {
            Self::BpfRust => "Is rustup in the path? Without it, the `rustc` in the path must be Debian's.",
            Self::BpfLinker => "Is Cargo's folder of binaries (~/.cargo/bin) in the path?",
            Self::LabTools | Self::Compiler | Self::Components | Self::MailServers => "",
        }
    }

    /// How to get it on a system that is not Debian.
    pub(super) fn elsewhere(self) -> String {
        match self {
            Self::LabTools => "packages iproute2, util-linux, bash, glibc's ldd".to_owned(),
            Self::Compiler => "packages gcc and g++".to_owned(),
            Self::BpfRust => "rustup toolchain install nightly --component rust-src".to_owned(),
            Self::BpfLinker => "cargo install bpf-linker (its README says which LLVM it needs)".to_owned(),
            Self::Components => "rustup component add rustfmt clippy".to_owned(),
            Self::MailServers => {
                "Debian's packages of Postfix, Exim, OpenSMTPD, Sendmail and NSD, unpacked there; without \
                                  them run `cargo xtask test --unprivileged`"
                    .to_owned()
            }
        }
    }
}

const ADD_COMPONENTS: [&str; 4] = ["component", "add", "rustfmt", "clippy"];

fn link_toolchain() -> [&'static str; 4] {
    ["toolchain", "link", TOOLCHAIN, "/usr"]
}

fn install_linker() -> [&'static str; 8] {
    [
        "install",
        "bpf-linker",
        "--version",
        "0.13.0",
        "--locked",
        "--no-default-features",
        "--features",
        "llvm-22",
    ]
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
