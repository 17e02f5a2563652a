//! What is in the guest: the servers and the load as they were built, the libraries that they need, a busybox, and an
//! init that brings up the loopback, starts the servers, and lets the load do the rest.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::archive::Archive;
use crate::bench::smtp::idle::{self, places};
use crate::bench::smtp::subject::{
    CHAIN, FOLDER, KEY, SINK, SOURCE_FIRST, SOURCES, SOURCES_NET, Subject, certificate, configuration,
};
use crate::setup::guest::Parts;

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) is_tls: bool,
    /// At the last step.
    pub(super) connections: usize,
    pub(super) pairs: u32,
    /// Active sessions each time.
    pub(super) sessions: u64,
}

/// All of it, as an archive. `work` is a folder for what is made on the way.
pub(super) fn archive(
    task: &Task,
    parts: &Parts,
    backstop: &Path,
    bench: &Path,
    work: &Path,
) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["/dev", "/proc", "/sys", "/tmp"] {
        archive.folder(folder)?;
    }
    archive.device("/dev/console", [5, 1])?;
    archive.copy("/bin/busybox", 0o755, &parts.busybox)?;
    archive.link("/bin/sh", "busybox")?;
    archive.copy("/bin/backstop", 0o755, backstop)?;
    archive.copy("/bin/backstop-bench-smtp", 0o755, bench)?;
    let mut libraries = Vec::new();
    for library in [libraries_of(backstop)?, libraries_of(bench)?].concat() {
        if !libraries.contains(&library) {
            archive.copy(&library, 0o755, Path::new(&library))?;
            libraries.push(library);
        }
    }
    let (key, chain) = (work.join("key.pem"), work.join("chain.pem"));
    certify(&key, &chain)?;
    archive.copy(CHAIN, 0o644, &chain)?;
    archive.copy(KEY, 0o600, &key)?;
    for subject in [Subject::Backstop, Subject::Calm] {
        let path = format!("{FOLDER}/{}/backstop.toml", subject.name());
        let more = idle::limits(task.connections);
        archive.file(&path, 0o644, configuration(subject, &more).as_bytes())?;
    }
    archive.file("/init", 0o755, init(task).as_bytes())?;
    archive.finish()
}

/// The paths of the libraries that a program is loaded with, and of the loader.
fn libraries_of(program: &Path) -> Result<Vec<String>> {
    let said = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    ensure!(said.status.success(), "ldd {}: {}", program.display(), String::from_utf8_lossy(&said.stderr));
    Ok(paths(&String::from_utf8_lossy(&said.stdout)))
}

/// `name => /path (address)`, or `/path (address)`; the kernel's own has no path.
fn paths(said: &str) -> Vec<String> {
    said.split_whitespace().filter(|word| word.starts_with('/')).map(String::from).collect()
}

fn certify(key: &Path, chain: &Path) -> Result<()> {
    let shell = certificate(&key.display().to_string(), &chain.display().to_string());
    let made = Command::new("bash").args(["-c", &shell]).output().context("cannot run bash")?;
    ensure!(made.status.success(), "no certificate: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// The init. The servers that are measured have the first core, load and sink the second. What is said on the second
/// serial port is the load's lines and nothing else; all other words go to the console.
fn init(task: &Task) -> String {
    let steps = idle::steps_of(task.connections).map(|step| step.to_string()).join(",");
    let certificate = if task.is_tls { format!("--certificate={CHAIN}") } else { String::new() };
    // A descriptor each, as many again for servers, and the rest.
    let descriptors = 2 * places(task.connections) + 10_000;
    let (backstop, calm) = (Subject::Backstop, Subject::Calm);
    let Task { pairs, sessions, .. } = task;
    format!(
        r#"#!/bin/sh
busybox=/bin/busybox
$busybox mount -t devtmpfs dev /dev
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
exec </dev/null >/dev/console 2>&1
export PATH=/bin
$busybox ip link set lo up
$busybox ip route add local {SOURCES_NET} dev lo
$busybox stty -F /dev/ttyS1 raw -echo
ulimit -n {descriptors}
$busybox taskset 2 backstop-bench-smtp floor --listen={sink} >/dev/null &
server() {{
    backstop key new --dir {FOLDER}/$1/keys
    exec $busybox taskset 1 backstop run --no-xdp --config={FOLDER}/$1/backstop.toml >>/tmp/$1.log 2>&1
}}
server {calm_name} &
server {backstop_name} &
$busybox taskset 2 backstop-bench-smtp guest --pid=$! --target={target} --calm={calm_at} --sink={sink} \
    --steps={steps} --source={SOURCE_FIRST} --sources={SOURCES} --pairs={pairs} --sessions={sessions} {certificate} \
    >/dev/ttyS1
for log in {calm_name} {backstop_name}; do
    echo "$log:"
    $busybox tail -n 12 /tmp/$log.log
done
$busybox poweroff -f
"#,
        sink = SINK,
        target = backstop.address(),
        calm_at = calm.address(),
        backstop_name = backstop.name(),
        calm_name = calm.name(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_what_ldd_says() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f01)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f02)\n";
        assert_eq!(paths(said), ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }

    #[test]
    fn the_init_says_what_was_asked_for() {
        let task = Task { is_tls: false, connections: 100_000, pairs: 5, sessions: 300 };
        let clear = init(&task);
        assert!(clear.contains("--steps=25000,50000,100000 "), "{clear}");
        assert!(clear.contains("--pairs=5 --sessions=300") && !clear.contains("--certificate"), "{clear}");
        assert!(init(&Task { is_tls: true, ..task }).contains(&format!("--certificate={CHAIN}")));
    }
}
