//! `cargo xtask setup`: what building, tests and demo need.
//!
//! It finds out what is missing, says what it will do, and does that. Everything it needs the network for has a
//! deadline. A second run finds nothing to do. It never installs, removes or starts a server on the machine: the
//! tests' are unpacked below `target/lab/mta`, and what a guest boots, if it is asked for, below `target/lab/guest`.

mod apt;
mod command;
pub(crate) mod guest;
mod need;
mod packages;
mod servers;
mod system;
mod unpack;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;

use self::need::Need;
use self::packages::BpfToolchain;
use self::system::{Privilege, System};

/// `setup`
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Change nothing; list what is missing and exit 1 if anything is.
    #[arg(long)]
    check: bool,
    /// Also what `cargo xtask bench smtp --guest` boots: QEMU, a kernel, a busybox (45 MB).
    #[arg(long)]
    guest: bool,
}

/// Installs what is missing, or lists it.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let wanted: Vec<Need> = Need::ALL.into_iter().chain(options.guest.then_some(Need::Guest)).collect();
    let missing: Vec<Need> = wanted.iter().copied().filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        println!("Nothing is missing: {}.", names(&wanted));
        return Ok(ExitCode::SUCCESS);
    }
    println!("Missing:");
    for need in &missing {
        println!("  {}", need.name());
    }
    if options.check {
        println!("`cargo xtask setup{}` installs it.", if options.guest { " --guest" } else { "" });
        return Ok(ExitCode::from(1));
    }

    let system = System::detect()?;
    let Some(toolchain) = system.toolchain else {
        print_for_other_systems(&system, &missing);
        return Ok(ExitCode::from(2));
    };
    let packages = packages_of(&missing, toolchain);
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    println!("This will, on {}:", system.name);
    let mut step = 0;
    let mut say = |what: &str| {
        step += 1;
        println!("  {step}. {what}");
    };
    let update = needs_lists(&missing, &packages, &system);
    if update {
        say("bring the package lists up to date: apt-get update");
    }
    if !packages.is_empty() {
        say(&format!("install packages: {}", packages.join(" ")));
    }
    for need in &missing {
        if let Some(what) = need.after_packages(toolchain) {
            say(&what);
        }
    }
    if update && system.privilege == Privilege::None {
        println!("That takes root, and there is no sudo. As root:");
        for line in apt::commands(&packages) {
            println!("  {line}");
        }
        println!("Then run `cargo xtask setup` again, as yourself.");
        return Ok(ExitCode::from(2));
    }

    if update {
        if system.privilege == Privilege::Sudo {
            command::ask_sudo()?;
        }
        apt::update(&system)?;
    }
    if !packages.is_empty() {
        apt::install(&system, &packages)?;
    }
    for need in &missing {
        need.meet(&system, toolchain)?;
    }
    let left: Vec<Need> = missing.into_iter().filter(|need| !need.is_met()).collect();
    ensure!(
        left.is_empty(),
        "still missing after all that: {}. {}",
        names(&left),
        left.first().map_or("", |need| need.why_unmet())
    );
    println!("All there.");
    Ok(ExitCode::SUCCESS)
}

/// The packages that the needs name and that are not installed, each once.
fn packages_of(needs: &[Need], toolchain: BpfToolchain) -> Vec<String> {
    let mut packages = Vec::new();
    for package in needs.iter().flat_map(|need| need.packages(toolchain)) {
        if !packages.contains(&package) && !apt::is_installed(&package) {
            packages.push(package);
        }
    }
    packages
}

/// Whether the package lists must be brought up to date, which takes root: before anything is downloaded, unless this
/// is no root's run and the lists that are there will do for what is only unpacked.
fn needs_lists(missing: &[Need], packages: &[&str], system: &System) -> bool {
    let are_in_the_lists = missing.iter().all(|need| match need {
        Need::Servers => servers::are_in_the_lists(),
        Need::Guest => guest::is_in_the_lists(),
        Need::LabTools | Need::Compiler | Need::BpfRust | Need::BpfLinker | Need::Components => true,
    });
    let unpacks = missing.iter().any(|need| matches!(need, Need::Servers | Need::Guest));
    !packages.is_empty() || (unpacks && !(system.privilege == Privilege::None && are_in_the_lists))
}

fn print_for_other_systems(system: &System, missing: &[Need]) {
    println!(
        "\nThis is {}, and setup knows the packages of {} only. Install by hand, whatever they are called here:",
        system.name,
        packages::SYSTEMS.map(|(id, version, _)| format!("{id} {version}")).join(", ")
    );
    for need in missing {
        println!("  {}: {}", need.name(), need.elsewhere());
    }
}

fn names(needs: &[Need]) -> String {
    needs.iter().map(|need| need.name()).collect::<Vec<_>>().join("; ")
}
