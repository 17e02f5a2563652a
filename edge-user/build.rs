//! Builds the XDP program with the BPF-capable Rust at hand, into `OUT_DIR/edge-ebpf`.
//!
//! Two providers: Debian's packages, linked as rustup toolchain `debian-bpf` (a precompiled `core` for the BPF
//! target), or a nightly with `rust-src`. Either needs `bpf-linker`.

use std::process::Command;

use anyhow::{Result, bail};
use aya_build::{Package, Toolchain, build_ebpf};

/// What a machine needs, said when it is missing.
const HOW: &str = "run `cargo xtask setup`, which installs it (Debian), or install it by hand: \
    `rustup toolchain install nightly --component rust-src` and `cargo install bpf-linker`";

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let toolchain = toolchain()?;
    if !succeeds("bpf-linker", &["--version"]) {
        bail!("bpf-linker is missing: {HOW}");
    }
    set_environment();
    build_ebpf([Package { name: "edge-ebpf", root_dir: "../edge-ebpf", ..Package::default() }], toolchain)
}

/// The toolchain that can compile for BPF.
fn toolchain() -> Result<Toolchain<'static>> {
    if output("rustup", &["run", DEBIAN, "rustc", "--print", "sysroot"])
        .is_some_and(|root| has_bpf_core(&root))
    {
        return Ok(Toolchain::Custom(DEBIAN));
    }
    let nightly = output("rustup", &["run", "nightly", "rustc", "--print", "sysroot"]);
    if nightly.is_some_and(|root| has_core_source(&root)) {
        return Ok(Toolchain::Nightly);
    }
    // Without rustup, aya-build takes the compiler in the path, whatever it is called.
    if !succeeds("rustup", &["--version"])
        && output("rustc", &["--print", "sysroot"]).is_some_and(|root| has_bpf_core(&root))
    {
        return Ok(Toolchain::Custom(DEBIAN));
    }
    bail!(
        "no Rust here compiles for the BPF target (neither toolchain `{DEBIAN}` nor nightly with rust-src): {HOW}"
    )
}

const DEBIAN: &str = "debian-bpf";

fn has_bpf_core(sysroot: &str) -> bool {
    std::path::Path::new(sysroot).join("lib/rustlib/bpfel-unknown-none/lib").is_dir()
}

fn has_core_source(sysroot: &str) -> bool {
    std::path::Path::new(sysroot).join("lib/rustlib/src/rust/library/core").is_dir()
}

/// aya-ebpf and the program's one atomic add use an unstable feature. On a stable compiler, naming these crates (not
/// `1`) allows it to them alone, and keeps aya-build from adding `-Z build-std`.
///
/// Cargo's progress would come out as warnings of this package, so it is told to be quiet.
#[expect(unsafe_code, reason = "the cargo that aya-build starts inherits this process's environment")]
fn set_environment() {
    // SAFETY: no other thread of this process runs yet.
    unsafe { std::env::set_var("RUSTC_BOOTSTRAP", "aya_ebpf,edge_ebpf") };
    // SAFETY: as above.
    unsafe { std::env::set_var("CARGO_TERM_QUIET", "true") };
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn succeeds(program: &str, args: &[&str]) -> bool {
    output(program, args).is_some()
}
