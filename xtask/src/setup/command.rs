//! Running programs: quietly to ask something, or shown and with a deadline to do something.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// What a program prints, when it succeeds.
pub(super) fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether a program is there and succeeds.
pub(super) fn succeeds(program: &str, arguments: &[&str]) -> bool {
    output(program, arguments).is_some()
}

/// Runs a program, shown as it would be typed; what it prints is seen. Past the deadline it and its children are ended.
pub(super) fn run(
    program: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
    deadline: Duration,
) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).envs(environment.iter().copied());
    run_command(command, &shown(program, arguments, environment), deadline)
}

/// The same in a folder.
pub(super) fn run_in(folder: &Path, program: &str, arguments: &[&str], deadline: Duration) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    run_command(command, &shown(program, arguments, &[]), deadline)
}

/// Lets sudo ask for a password, in the foreground, so that the commands after it need none.
pub(super) fn ask_sudo() -> Result<()> {
    let status = Command::new("sudo").arg("true").status().context("cannot run sudo")?;
    ensure!(status.success(), "sudo does not let you: {status}");
    Ok(())
}

fn run_command(mut command: Command, shown: &str, deadline: Duration) -> Result<()> {
    println!("$ {shown}");
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("cannot wait for `{shown}`"))? {
            ensure!(status.success(), "`{shown}` failed: {status}");
            return Ok(());
        }
        if started.elapsed() > deadline {
            let group = Pid::from_raw(i32::try_from(child.id()).context("a process id beyond 2^31")?);
            let _ = killpg(group, Signal::SIGTERM);
            let _ = child.wait();
            bail!("`{shown}` took longer than {} s: is the network there?", deadline.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A command as it would be typed.
fn shown(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut words: Vec<String> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    words.push(program.to_owned());
    words.extend(arguments.iter().map(ToString::to_string));
    words.join(" ")
}
