//! `cargo xtask bench smtp --guest` with a few connections: the guest boots, holds them, and goes without a trace, also
//! where it is interrupted. No speed is asked for: these are debug builds, in an emulated machine.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use lab::program::{Profile, Program, target};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long what ends with something else may take for it.
const END: Duration = Duration::from_secs(20);

/// The tasks' program, once what it boots is unpacked: `setup` does that where it is missing.
static XTASK: LazyLock<PathBuf> = LazyLock::new(|| {
    let xtask = Program::Xtask.build(Profile::Dev).unwrap();
    let setup = Command::new(&xtask).args(["setup", "--guest"]).output().unwrap();
    let said = [setup.stdout, setup.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(setup.status.success(), "setup --guest: {}\n{}", setup.status, said.concat());
    xtask
});

/// The command, with arguments of its own besides.
fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(&*XTASK);
    command.args(["bench", "smtp", "--guest", "--dev", "--json"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// By TLS: those say in clear all that others do, before they go over.
#[test]
fn a_guest_holds_idle_connections_beside_active_sessions() {
    let few = ["--only", "idle_tls", "--connections", "300", "--sessions", "10", "--pairs", "1"];
    let output = bench(&few).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // 1 says that a goal was missed, which a debug build may.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {said}", output.status);
    let object: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let [row] = &object["rows"].as_array().unwrap()[..] else { panic!("{object}") };
    assert_eq!((&row["row"], &row["connections"]), (&"idle_tls".into(), &300.into()), "{row}");
    // So few may fit into what the server has anyway: how much more it has is no matter here.
    assert!(row["value"].is_number() && row["met"].is_boolean(), "{row}");
    let times = [&row["median"]["alone_us"], &row["median"]["beside_us"]].map(Value::as_f64);
    assert!(times.iter().all(|time| time.is_some_and(|time| time > 0.0)), "{row}");
    for step in [75, 150, 300] {
        let line = format!("idle_tls: {step} at rest: ");
        let after = said.split_once(&line).unwrap_or_else(|| panic!("no {line:?}: {said}")).1;
        let kib: u64 = after.split(' ').next().unwrap().parse().unwrap();
        assert!(kib > 1024, "the server's own memory, as if it were nothing: {said}");
    }
}

/// A run whose guest has begun to boot.
struct Running {
    xtask: Child,
    /// Its folder.
    files: PathBuf,
    /// QEMU's process.
    qemu: Pid,
}

impl Running {
    fn begin() -> Self {
        let mut xtask = bench(&["--only", "idle_tls", "--connections", "5000"]).spawn().unwrap();
        let files = target().join(format!("lab/guest-run.{}", xtask.id()));
        let mut lines = BufReader::new(xtask.stderr.as_mut().unwrap());
        let mut said = String::new();
        while !said.contains("booting a guest") {
            let before = said.len();
            lines.read_line(&mut said).unwrap();
            assert!(said.len() > before, "it ended before its guest booted: {said}");
        }
        let deadline = Instant::now() + END;
        let qemu = loop {
            if let Some(qemu) = qemu_of(&files) {
                break qemu;
            }
            assert!(Instant::now() < deadline, "no QEMU boots from {}", files.display());
            std::thread::sleep(Duration::from_millis(50));
        };
        Self { xtask, files, qemu }
    }

    /// Its exit code and its last words, once it has been sent this.
    fn ended_by(&mut self, signal: Signal) -> (Option<i32>, String) {
        kill(Pid::from_raw(self.xtask.id().cast_signed()), signal).unwrap();
        let mut said = String::new();
        self.xtask.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
        (self.xtask.wait().unwrap().code(), said)
    }

    fn qemu_runs(&self) -> bool {
        Path::new("/proc").join(self.qemu.to_string()).exists()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Where the test ended well, nothing of it is there any more.
        let _ = self.xtask.kill();
        let _ = self.xtask.wait();
    }
}

/// The process of a QEMU that boots from this folder.
fn qemu_of(files: &Path) -> Option<Pid> {
    let wanted = files.display().to_string();
    let of = |entry: std::fs::DirEntry| -> Option<Pid> {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let is_qemu = std::fs::read_link(entry.path().join("exe")).ok()?.ends_with("qemu-system-x86_64");
        let command = std::fs::read(entry.path().join("cmdline")).ok()?;
        (is_qemu && String::from_utf8_lossy(&command).contains(&wanted)).then(|| Pid::from_raw(number))
    };
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| of(entry.ok()?)).next()
}

#[test]
fn an_interrupted_guest_leaves_nothing_and_says_so() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut running = Running::begin();
        let (code, said) = running.ended_by(signal);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(&format!("idle_tls: interrupted by {signal}: the guest was ended")), "{said}");
        assert!(!running.qemu_runs(), "QEMU runs after {signal}");
        assert!(!running.files.exists(), "{} is left after {signal}", running.files.display());
    }
}

#[test]
fn a_guest_ends_with_a_run_that_is_killed_and_the_next_run_takes_its_files_away() {
    let mut killed = Running::begin();
    killed.ended_by(Signal::SIGKILL);
    let deadline = Instant::now() + END;
    while killed.qemu_runs() {
        assert!(Instant::now() < deadline, "QEMU runs on without its run");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut next = Running::begin();
    assert!(!killed.files.exists(), "{} is left", killed.files.display());
    next.ended_by(Signal::SIGTERM);
}
