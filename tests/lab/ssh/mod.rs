//! Hosts of the lab that are reached by ssh: Debian's real sshd, with host keys, and a user's key that they accept.
//!
//! Each has its own `/usr/local`, `/etc`, `/var`, `/run` and process numbers, so that something can be installed there.
//! No systemd runs in the lab: `systemctl.sh` stands in for its command line, and starts the real daemon.
//! Commands that deploy's script calls can be made to go wrong ([`SshHost::fault`]).

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::mta::Software;
use crate::program::{self, Profile, Program};
use crate::{Host, Lab, Process};

/// Not 22, so that ssh must read its configuration.
const PORT: u16 = 2222;
/// How long sshd may take until it listens.
const START: Duration = Duration::from_secs(120);
/// The commands of deploy's script that can be made to go wrong: all that change something or decide.
const FALLIBLE: [&str; 19] = [
    "cat",
    "chmod",
    "chown",
    "cp",
    "find",
    "flock",
    "id",
    "ln",
    "mkdir",
    "mv",
    "rm",
    "rmdir",
    "sha256sum",
    "sync",
    "systemctl",
    "systemd-sysusers",
    "systemd-tmpfiles",
    "timeout",
    "touch",
];

/// Kills every sshd but the one that listens: the one with privileges, and the user's own.
const CUT: &str = "for process in /proc/[0-9]*; do
    pid=${process#/proc/}
    case $pid:$(cat $process/comm 2>/dev/null) in 1:*) ;; *:sshd*) kill -9 $pid ;; esac
done; true";

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It fails, and does nothing.
    Fails,
    /// The ssh connection dies before it; the call itself goes on.
    ConnectionDies,
    /// What it writes has an octet more.
    Damages,
    /// It waits until [`SshHost::go_on`].
    Hangs,
    /// The connection and all of the script's processes die (`kill -9`).
    PowerCut,
}

impl Fault {
    /// As it is called in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fails => "fails",
            Self::ConnectionDies => "connection-dies",
            Self::Damages => "damages",
            Self::Hangs => "hangs",
            Self::PowerCut => "power-cut",
        }
    }
}

/// A host that is reached by ssh.
#[derive(Debug)]
pub struct SshHost {
    name: String,
    process: Process,
    files: PathBuf,
}

impl SshHost {
    /// Its name, which ssh's configuration knows.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A file of it, as seen from outside. (Not through a symbolic link that begins with `/`.)
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.process.pid())).join(inside.trim_start_matches('/'))
    }

    /// A line of shell, run there as root, not by ssh.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn shell(&self, line: &str) -> Result<Output> {
        let holder = format!("/proc/{}", self.process.pid());
        Command::new("nsenter")
            .args(["--target", &self.process.pid().to_string(), "--net", "--uts", "--pid", "--mount"])
            .args([format!("--root={holder}/root"), format!("--wd={holder}/root")])
            .args(["--", "sh", "-c", line])
            .output()
            .context("cannot run nsenter")
    }

    /// What such a line prints, when it succeeds.
    ///
    /// # Errors
    /// When it fails.
    pub fn read(&self, line: &str) -> Result<String> {
        let output = self.shell(line)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{line}` on {}: {}, {said}", self.name, output.status);
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// From now on the call that `pattern` (of a shell's `case`) matches after `before` others goes wrong, once.
    /// `NAME ARGUMENTS` is what it is matched with.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn fault(&self, fault: Fault, before: usize, pattern: &str) -> Result<()> {
        self.forget_fault()?;
        std::fs::write(self.files.join("calls"), "")?;
        let text = format!("{}\n{before}\n{pattern}\n", fault.name());
        // A look at the same time must not see half of it.
        std::fs::write(self.files.join("fault.new"), text)?;
        std::fs::rename(self.files.join("fault.new"), self.files.join("fault")).context("cannot set a fault")
    }

    /// Whether it has happened.
    #[must_use]
    pub fn fault_happened(&self) -> bool {
        self.files.join("fault.happened").exists()
    }

    /// Nothing goes wrong any more.
    ///
    /// # Errors
    /// When a file stays.
    pub fn forget_fault(&self) -> Result<()> {
        for file in ["fault", "fault.happened", "go-on"] {
            match std::fs::remove_file(self.files.join(file)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {file}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What hangs goes on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn go_on(&self) -> Result<()> {
        std::fs::write(self.files.join("go-on"), "").context("cannot let it go on")
    }

    /// Kills the far end of every connection.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn cut_connections(&self) -> Result<()> {
        self.read(CUT).map(drop)
    }

    /// The calls of fallible commands since the last [`SshHost::fault`], in their order.
    ///
    /// # Errors
    /// When there was none.
    pub fn calls(&self) -> Result<Vec<String>> {
        let calls = std::fs::read_to_string(self.files.join("calls")).context("nothing was called")?;
        Ok(calls.lines().map(|line| line.trim_end().to_owned()).collect())
    }

    /// sshd's own log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.tail(30)
    }
}

/// The hosts of a lab, and how ssh finds them: as seen inside the lab.
pub const CONFIG: &str = "/run/lab/deployer/ssh_config";

impl Lab {
    /// Starts hosts that are reached by ssh, each in a network namespace and at an address of it, and writes ssh's
    /// configuration for them ([`CONFIG`]).
    ///
    /// # Errors
    /// When one does not come up.
    pub fn ssh_hosts(&self, hosts: &[(&str, Host, Ipv4Addr)]) -> Result<Vec<SshHost>> {
        std::fs::create_dir_all(self.path("deployer")).context("cannot make the deployer's folder")?;
        keygen(&self.path("deployer/key"))?;
        program::copy(&Program::Service.build(Profile::Dev)?, &self.path("deployer/backstop-service"))?;
        let mut known = String::new();
        let mut config = format!(
            "Host *\n  User root\n  Port {PORT}\n  IdentityFile /run/lab/deployer/key\n  IdentitiesOnly yes\n  \
             UserKnownHostsFile /run/lab/deployer/known_hosts\n  GlobalKnownHostsFile /dev/null\n  \
             StrictHostKeyChecking yes\n  BatchMode yes\n"
        );
        let mut started = Vec::new();
        for (name, host, address) in hosts {
            let started_host = self.ssh_host(name, *host, *address)?;
            let public = std::fs::read_to_string(self.path(format!("{name}/host_key.pub")))?;
            known += &format!("[{address}]:{PORT} {public}");
            config = format!("Host {name}\n  HostName {address}\n{config}");
            started.push(started_host);
        }
        self.write("deployer/known_hosts", known)?;
        self.write("deployer/ssh_config", config)?;
        Ok(started)
    }

    fn ssh_host(&self, name: &str, host: Host, address: Ipv4Addr) -> Result<SshHost> {
        let package = Software::OpenSsh.package()?;
        let file = |path: &str| format!("{name}/{path}");
        let inside = format!("/run/lab/{name}");
        std::fs::create_dir_all(self.path(file("bin"))).context("cannot make a host's folder")?;
        keygen(&self.path(file("host_key")))?;
        std::fs::copy(self.path("deployer/key.pub"), self.path(file("authorized_keys")))?;
        self.write(
            file("sshd_config"),
            format!(
                "Port {PORT}\nListenAddress {address}\nHostKey {inside}/host_key\nPidFile none\nUsePAM no\n\
                 AuthorizedKeysFile {inside}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n\
                 PermitRootLogin prohibit-password\nSetEnv PATH={inside}/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
            ),
        )?;
        let passwd = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let others = passwd.lines().filter(|line| !line.starts_with("root:") && !line.starts_with("sshd:"));
        let own = ["root:x:0:0:root:/root:/bin/sh", "sshd:x:990:65534::/run/sshd:/usr/sbin/nologin"];
        let passwd: Vec<&str> = own.into_iter().chain(others).collect();
        self.write(file("etc/passwd"), passwd.join("\n") + "\n")?;
        self.write(file("start"), include_str!("start.sh"))?;
        for (path, script) in [
            ("systemctl", include_str!("systemctl.sh")),
            ("journalctl", include_str!("journalctl.sh")),
            ("fault.sh", include_str!("fault.sh")),
        ] {
            self.write(file(path), script)?;
            executable(&self.path(file(path)))?;
        }
        for command in FALLIBLE {
            program::copy(&self.path(file("fault.sh")), &self.path(file(&format!("bin/{command}"))))?;
        }
        let mut command = self.command(host, "unshare");
        command
            .args(["--mount", "--uts", "--pid", "--fork", "--kill-child", "--propagation", "private", "--"])
            .args(["bash", &format!("{inside}/start"), name])
            .arg(package);
        let process = Process::start(name, command, 2)?;
        let mut started = SshHost { name: (*name).to_owned(), process, files: self.path(name) };
        started.wait_until_it_listens(self, host, address)?;
        Ok(started)
    }
}

impl SshHost {
    fn wait_until_it_listens(&mut self, lab: &Lab, host: Host, address: Ipv4Addr) -> Result<()> {
        let deadline = Instant::now() + START;
        while let Err(error) = lab.connect(host, None, (address, PORT).into(), Duration::from_secs(1)) {
            if !self.process.is_running() {
                bail!("sshd of {} ended; it said:\n{}", self.name, self.log());
            }
            if Instant::now() > deadline {
                return Err(error.context(format!("sshd of {} said:\n{}", self.name, self.log())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn keygen(file: &Path) -> Result<()> {
    let output = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"])
        .arg(file)
        .output()
        .context("cannot run ssh-keygen (package openssh-client)")?;
    ensure!(output.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn executable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", file.display()))
}
