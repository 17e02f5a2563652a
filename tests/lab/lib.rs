//! The lab: three test hosts as network namespaces, joined by veth pairs, and real mail servers in them.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use std::time::Duration;
//!
//! use lab::client::submit;
//! use lab::edge::{Edge, Settings};
//! use lab::mta::{Far, Operator, SUBMISSION, Software};
//! use lab::program::Profile;
//! use lab::{Host, Lab};
//!
//! let lab = Lab::up("example")?;
//! let operator = lab.operator(&Operator::default())?; // a Postfix in `mta`
//! let far = Far { software: Software::Exim };
//! let far_server = lab.far(far, lab::EDGE.into())?; // an Exim in `internet` that bounces everything
//! let mut edge = Edge::start(&lab, &Settings::default().set("domain.0.tag", true), Profile::Dev)?;
//! submit(&lab, Host::Mta, SUBMISSION, "alice@example.jp", "nobody@exim.example", "Subject: hello\n\nHello.\n")?;
//! operator.mailbox("alice@example.jp").wait_for_one("hello", Duration::from_secs(30))?;
//! let addresses = lab.run(Host::Edge, &["ip", "-brief", "addr"])?;
//! edge.stop()
//! # }
//! ```
//!
//! **Nothing stays behind.** A lab is one PID namespace; its first process ends when its owner does, however that
//! died (its standard input is a pipe that the owner holds), and the kernel then ends every process in the lab. The
//! network namespaces have no names in `/run/netns`, they live as long as the lab's processes; the lab's files are a
//! tmpfs that only its own mount namespaces see. So any number of labs run at once, and there is nothing to sweep.
//!
//! Files of the lab: `/run/lab/...` inside, [`Lab::path`] outside. Each host has its own `/sys`, with a BPF file
//! system at `/sys/fs/bpf` that outlives the programs that pin there; `/run` is shared by the three.
//!
//! What it needs: root, and what `cargo xtask setup` installs.

pub mod cases;
pub mod client;
pub mod dns;
pub mod edge;
pub mod mailbox;
pub mod mass;
pub mod mta;
mod network;
mod process;
pub mod program;
pub mod ssh;
pub mod store;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

pub use crate::network::{
    EDGE, EDGE_INSIDE, EDGE_INTERFACE, EDGE_V6, FAR_SERVERS, GATEWAY, Host, MTA, MTA_OUTSIDE, SOURCES_V4,
    SOURCES_V6, client, far_server,
};
pub use crate::process::{Process, was_killed};

/// PID 1 of a lab.
const INIT: &str = include_str!("init.sh");

/// A lab that is up. Dropped, it and everything in it are gone.
#[derive(Debug)]
pub struct Lab {
    name: String,
    place: Place,
    /// `unshare`, the parent of the lab's PID 1; absent where the lab was made by another process.
    owned: Option<Child>,
    /// What starts what is started from here on.
    through: Vec<String>,
}

/// Where a lab is: enough to find it again from another process ([`Lab::attach`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The lab's PID 1, as the machine numbers it.
    pub init: i32,
    /// When PID 1 was started (clock ticks since boot), since numbers are used again.
    pub started: u64,
    /// The processes that hold the hosts' namespaces, as the lab numbers them: internet, edge, mta.
    pub hosts: [u32; 3],
}

impl Lab {
    /// Makes the namespaces and joins them. The lab is gone when the value is dropped or its process ends.
    ///
    /// # Errors
    /// Without root, and where the system refuses.
    pub fn up(name: &str) -> Result<Self> {
        Self::make(name, "owned", Stdio::piped())
    }

    /// Makes a lab that stays when this process ends; [`Lab::attach`] finds it again, [`Lab::down`] removes it.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn up_and_keep(name: &str) -> Result<Place> {
        let mut lab = Self::make(name, "kept", Stdio::null())?;
        lab.owned = None; // not killed when dropped; `unshare` waits on as the parent of PID 1
        Ok(lab.place.clone())
    }

    /// A lab made by [`Lab::up_and_keep`], if it is still there.
    #[must_use]
    pub fn attach(name: &str, place: &Place) -> Option<Self> {
        let there = start_time(Pid::from_raw(place.init)) == Some(place.started);
        there.then(|| Self { name: name.to_owned(), place: place.clone(), owned: None, through: Vec::new() })
    }

    fn make(name: &str, mode: &str, stdin: Stdio) -> Result<Self> {
        ensure_root()?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--propagation", "private"]);
        if mode == "owned" {
            command.arg("--kill-child");
        } else {
            command.args(["--", "setsid"]);
        }
        let mut unshare = command
            .args(["bash", "-c", INIT, "backstop-lab", mode])
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()) // of `unshare` itself: PID 1 writes to standard output
            .spawn()
            .context("cannot run unshare (package util-linux)")?;
        let said = unshare.stdout.take().expect("stdout is piped");
        match read_hosts(said) {
            Ok(hosts) => {
                let init =
                    process::first_child(process::pid_of(unshare.id())).context("the lab's PID 1 is gone")?;
                let started = start_time(init).context("the lab's PID 1 is gone")?;
                let place = Place { init: init.as_raw(), started, hosts };
                let lab = Self { name: name.to_owned(), place, owned: Some(unshare), through: Vec::new() };
                lab.join()?;
                Ok(lab)
            }
            Err(error) => {
                let _ = unshare.kill();
                let said = unshare.wait_with_output().map(|output| output.stderr).unwrap_or_default();
                let said = String::from_utf8_lossy(&said);
                Err(error.context(format!("the lab {name} did not come up {said}")))
            }
        }
    }

    /// The veth pairs, addresses and routes.
    fn join(&self) -> Result<()> {
        let [internet, _, mta] = self.place.hosts;
        self.ip_batch(Host::Edge, &network::edge_batch(internet, mta))?;
        self.ip_batch(Host::Mta, &network::mta_batch(internet))?;
        self.ip_batch(Host::Internet, &network::internet_batch())?;
        self.ip_batch(Host::Edge, &network::edge_routes())
    }

    fn ip_batch(&self, host: Host, batch: &str) -> Result<()> {
        let output = self.run_with_input(host, &["ip", "-batch", "-"], batch.as_bytes())?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ip in {}: {complaint}\nof\n{batch}", host.name());
        Ok(())
    }

    /// Starts everything from here on through a program that becomes it, as `taskset` and `nice` do.
    pub fn start_through(&mut self, argv: &[&str]) {
        self.through = argv.iter().map(ToString::to_string).collect();
    }

    /// The lab's name, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A file of the lab, as seen from outside; inside it is `/run/lab/` and the same.
    #[must_use]
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/run/lab", self.place.init)).join(relative)
    }

    /// Writes a file of the lab, and the folders above it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, relative: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(relative);
        let write = || {
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            std::fs::write(&path, content)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// A command that will run `program` in a host: add arguments, then start it. The program gets its own process
    /// below `nsenter`; use [`Lab::spawn`] for one that is to be signalled.
    #[must_use]
    pub fn command(&self, host: Host, program: &str) -> Command {
        let holder = format!("/proc/{}/root/proc/{}", self.place.init, self.place.hosts[host as usize]);
        let namespace = |kind: &str| format!("--{kind}={holder}/ns/{}", short(kind));
        let mut argv = self.through.iter().map(String::as_str).chain(["nsenter"]);
        let mut command = Command::new(argv.next().unwrap_or("nsenter"));
        command.args(argv);
        command
            .args([namespace("net"), namespace("uts"), namespace("pid"), namespace("mount")])
            // The root as the lab has it: a mount namespace's own is another where all this runs in a chroot.
            .args([format!("--root={holder}/root"), format!("--wd={holder}/root")])
            .args(["--", program]);
        command
    }

    /// Runs a program to its end in a host.
    ///
    /// # Errors
    /// When it cannot be started. What it says by its exit code is for the caller to judge.
    pub fn run(&self, host: Host, argv: &[&str]) -> Result<Output> {
        self.run_with_input(host, argv, b"")
    }

    /// The same, with standard input (at most what a pipe holds before the program reads on).
    ///
    /// # Errors
    /// As [`Lab::run`].
    pub fn run_with_input(&self, host: Host, argv: &[&str], input: &[u8]) -> Result<Output> {
        let (program, arguments) = argv.split_first().context("no program named")?;
        let mut command = self.command(host, program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().with_context(|| format!("cannot start {argv:?} in {}", host.name()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends without reading closes the pipe: its exit code says why.
            let _ = stdin.write_all(input);
        }
        child.wait_with_output().with_context(|| format!("cannot wait for {argv:?} in {}", host.name()))
    }

    /// Starts a program that runs on in a host. It is killed when the [`Process`] is dropped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, name: &str, host: Host, argv: &[&str]) -> Result<Process> {
        let (program, arguments) = argv.split_first().context("no program named")?;
        let mut command = self.command(host, program);
        command.args(arguments);
        Process::start(name, command, 1)
    }

    /// Runs `work` in a thread whose sockets are a host's: what it opens stays in that host wherever it is used later.
    ///
    /// # Errors
    /// When the namespace cannot be entered, and what `work` returns.
    pub fn in_host<T: Send>(&self, host: Host, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let holder = self.place.hosts[host as usize];
        let path = format!("/proc/{}/root/proc/{holder}/ns/net", self.place.init);
        let namespace = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("cannot enter {}", host.name()))?;
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Connects from a host, from the given source address where there is one.
    ///
    /// # Errors
    /// When no connection came about within `patience`.
    pub fn connect(
        &self,
        host: Host,
        from: Option<IpAddr>,
        to: SocketAddr,
        patience: Duration,
    ) -> Result<TcpStream> {
        self.in_host(host, || {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
            if let Some(from) = from {
                let address = SocketAddr::new(from, 0);
                socket.bind(&address.into()).with_context(|| format!("cannot bind {from}"))?;
            }
            socket
                .connect_timeout(&to.into(), patience)
                .with_context(|| format!("cannot connect to {to}"))?;
            Ok(socket.into())
        })
    }

    /// Removes a lab that [`Lab::up_and_keep`] made, with everything that runs in it.
    ///
    /// # Errors
    /// When the kernel refuses the signal.
    pub fn down(self) -> Result<()> {
        nix::sys::signal::kill(Pid::from_raw(self.place.init), nix::sys::signal::Signal::SIGKILL)
            .context("cannot end the lab's PID 1")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(unshare) = &mut self.owned {
            // `--kill-child` passes it on to PID 1, and the kernel from there to all.
            let _ = unshare.kill();
            let _ = unshare.wait();
        }
    }
}

/// A namespace's file in `/proc/PID/ns`, where `nsenter`'s option has another name.
fn short(kind: &str) -> &str {
    if kind == "mount" { "mnt" } else { kind }
}

/// Reads "HOST PID" lines up to "ready".
fn read_hosts(said: impl std::io::Read) -> Result<[u32; 3]> {
    let mut hosts = [0; 3];
    let mut other = Vec::new();
    for line in BufReader::new(said).lines() {
        let line = line.context("cannot read what the lab's PID 1 says")?;
        if line == "ready" {
            ensure!(!hosts.contains(&0), "a host is missing: {hosts:?}");
            return Ok(hosts);
        }
        let named = Host::ALL.into_iter().find_map(|host| {
            let pid = line.strip_prefix(host.name())?.trim().parse().ok()?;
            Some((host, pid))
        });
        match named {
            Some((host, pid)) => hosts[host as usize] = pid,
            None => other.push(line),
        }
    }
    bail!("its PID 1 ended: {}", other.join("\n"))
}

/// When a process was started, in clock ticks since boot (proc(5), field 22 of `stat`).
fn start_time(pid: Pid) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// Refuses to go on without root.
///
/// # Errors
/// Without root.
pub fn ensure_root() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the lab makes network namespaces and needs root: run it as root, or leave these tests out with \
         `cargo xtask test --unprivileged`"
    );
    Ok(())
}
