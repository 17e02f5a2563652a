//! Developer and operator tasks: `cargo xtask TASK`.
//!
//! xtask itself builds with plain Rust: it depends neither on `edge-user` (whose build script needs a compiler
//! for BPF) nor on anything that `setup` installs.
//!
//! Exit codes are those of `backstop`: 0 done or yes, 1 no (a check failed, a test failed), 2 could not be done.

mod bench;
mod demo;
mod deploy;
mod lab;
mod setup;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// Backstop's tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", version, about)]
enum Task {
    /// Install what building, tests and demo need (Debian, Ubuntu); says what it does before it does it.
    Setup(setup::Options),
    /// The three cases of backscatter, played through in the lab.
    Demo(demo::Options),
    /// What Backstop costs, beside the least that can be and beside others.
    Bench(bench::Options),
    /// Every test, also those that need root, XDP and real mail servers.
    Test(test::Options),
    /// A release on several edges, over ssh, and back by itself where it does not work.
    Deploy(deploy::Options),
    /// A lab to try things in: network namespaces joined by veth pairs.
    Lab(lab::Options),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Setup(options) => setup::run(&options),
        Task::Demo(options) => demo::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Deploy(options) => deploy::run(&options),
        Task::Lab(options) => lab::run(&options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(2)
    })
}
