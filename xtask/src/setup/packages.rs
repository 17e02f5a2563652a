//! What things are called, by system: **the tables to extend**. A program that tests call is a row in [`PROGRAMS`]; a
//! server that they unpack and start is a row in `servers.rs`; a system is a row in [`SYSTEMS`].

/// Programs that the lab and its tests call, each with the package that brings it: the same on Debian and Ubuntu.
/// Nothing that starts a service when it is installed: that is unpacked (`servers.rs`).
pub(super) const PROGRAMS: [(&str, &str); 16] = [
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
    ("bash", "bash"),
    ("ldd", "libc-bin"),
    ("openssl", "openssl"),
    ("useradd", "passwd"),
    ("flock", "util-linux"),
    // `cargo xtask bench` pins what it measures to a core, counts its system calls and its instructions.
    ("taskset", "util-linux"),
    ("strace", "strace"),
    ("valgrind", "valgrind"),
    // `cargo xtask deploy` calls it too.
    ("ssh", "openssh-client"),
    // On the hosts that it deploys to, where the user is not root.
    ("sudo", "sudo"),
    // Checks the service in `contrib/systemd`. Without `systemd-sysv` it does not become the machine's init.
    ("systemd-analyze", "systemd"),
];

/// Where a Rust that compiles for BPF comes from, and the LLVM of its linker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BpfToolchain {
    /// From Debian's packages `rustc-web` and `libstd-rust-web-dev-bpf`, built with LLVM 22.
    Packaged,
    /// A nightly by rustup, with its sources. Its LLVM moves: it is asked, and the system must have that one's package.
    Nightly,
}

/// `ID` and `VERSION_ID` of `/etc/os-release`. The newest of both is followed by none: names are looked at first.
pub(super) const SYSTEMS: [(&str, &str, BpfToolchain); 4] = [
    ("debian", "12", BpfToolchain::Packaged),
    ("debian", "13", BpfToolchain::Packaged),
    // Ubuntu has no package with a `core` for BPF.
    ("ubuntu", "24.04", BpfToolchain::Nightly),
    ("ubuntu", "26.04", BpfToolchain::Nightly),
];

/// The LLVM that [`BpfToolchain::Packaged`] is built with.
pub(super) const PACKAGED_LLVM: u32 = 22;

/// The LLVMs that the bpf-linker which is installed can be built on.
pub(super) const LINKER_LLVMS: std::ops::RangeInclusive<u32> = 21..=23;

/// A C and C++ compiler.
pub(super) const COMPILER: [&str; 3] = ["gcc", "g++", "libc6-dev"];

/// Debian's Rust for BPF.
pub(super) const PACKAGED_RUST: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

/// Debian's rustfmt and clippy, which go with its Rust.
pub(super) const PACKAGED_COMPONENTS: [&str; 2] = ["rustfmt-web", "rust-web-clippy"];

/// What bpf-linker is built on.
pub(super) fn linker(llvm: u32) -> Vec<String> {
    let llvm = format!("llvm-{llvm}-dev");
    [llvm.as_str(), "zlib1g-dev", "libzstd-dev", "g++"].map(String::from).to_vec()
}
