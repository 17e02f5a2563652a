//! Real mail servers in the lab, several side by side, each with the standard paths it expects.
//!
//! Debian's mail servers exclude each other as packages, and nothing here may install, start or remove one on the
//! machine. So `cargo xtask setup` unpacks them below `target/lab/mta`, and each instance gets overlays over `/usr`,
//! `/etc` and `/var` in a mount namespace of its own (`start.sh`); its spool lies on the lab's tmpfs.
//! No server looks anything up in the DNS: routes name addresses. ([`crate::dns`] is for the edge.)

mod dovecot;
mod exim;
mod forwarder;
mod opensmtpd;
mod peer;
mod postfix;
mod sendmail;
mod software;
mod stunnel;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

pub use self::forwarder::{FORWARD_DOMAIN, Forwarder, LIST};
pub use self::peer::Peer;
pub use self::postfix::{CONTENT_FILTER, Operator, REINJECTION, SUBMISSION};
pub use self::software::{Software, prefix};
use crate::mailbox::Maildir;
use crate::{Host, Lab, MTA, Process};

/// How long a mail server may take until it listens.
const START: Duration = Duration::from_secs(120);
/// A local part that every far server has, with a mailbox that is full. Any other is unknown to it.
pub const FULL: &str = "full";

/// A local part that the far Exim does not know, behind what drops the fields that it does not know.
pub const GATEWAY: &str = "gateway";
/// A local part at the far Exim that answers by itself.
pub const AWAY: &str = "away";
/// A local part at the far Exim whose mail goes on to a server that is down.
pub const LATE: &str = "late";

/// A mail server that bounces: it takes every message for its domain, finds then that the user is unknown (or the
/// mailbox of [`FULL`] over quota), and returns a bounce to the edge, from its own address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Far {
    /// What it runs: Postfix, Exim or OpenSMTPD.
    pub software: Software,
}

impl Far {
    /// The three that tests use as far side.
    pub const ALL: [Self; 3] = [
        Self { software: Software::Postfix },
        Self { software: Software::Exim },
        Self { software: Software::OpenSmtpd },
    ];

    /// Its domain.
    #[must_use]
    pub fn domain(self) -> String {
        format!("{}.example", self.software.name())
    }

    /// Its own address, from which its bounces come.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        crate::far_server(match self.software {
            Software::Postfix => 1,
            Software::Exim => 2,
            Software::OpenSmtpd => 3,
            Software::Sendmail => 4,
            Software::Dovecot
            | Software::Postsrsd
            | Software::Mlmmj
            | Software::OpenDkim
            | Software::Stunnel
            | Software::Nsd
            | Software::OpenSsh
            | Software::HaProxy
            | Software::Nginx => 5,
        })
    }

    /// Where it takes mail.
    #[must_use]
    pub fn socket(self) -> SocketAddr {
        (self.address(), 25).into()
    }
}

/// What an instance consists of.
struct Instance {
    /// Its name, and its folder in the lab.
    name: String,
    software: Software,
    /// What is unpacked beside it.
    beside: Vec<Software>,
    host: Host,
    /// Where it listens when it is ready.
    listens: SocketAddr,
    /// Files below its `/etc`.
    etc: Vec<(&'static str, String)>,
    /// Lines of `/etc/passwd` and `/etc/group` that it needs besides the machine's.
    users: Vec<&'static str>,
    groups: Vec<&'static str>,
    /// Shell: what the package's scripts would do, and at last `exec` of the server in the foreground.
    prepare: String,
}

/// A mail server that runs.
#[derive(Debug)]
pub struct MailServer {
    name: String,
    host: Host,
    listens: SocketAddr,
    /// Unpacked: its own, and what stands beside it.
    packages: Vec<PathBuf>,
    process: Process,
    files: PathBuf,
}

impl MailServer {
    fn start(lab: &Lab, instance: Instance) -> Result<Self> {
        let mut packages = Vec::new();
        for software in std::iter::once(&instance.software).chain(&instance.beside) {
            let package = software.package()?;
            let shown = package.to_str().context("the target folder's path is not UTF-8")?;
            ensure!(
                !shown.contains([':', ',', '\\']),
                "overlays cannot name {shown}: it has a colon, comma or backslash"
            );
            packages.push(package);
        }
        let Instance { name, host, listens, .. } = instance;
        let file = |path: &str| format!("{name}/{path}");
        for (path, content) in &instance.etc {
            lab.write(file(&format!("etc/{path}")), content)?;
        }
        lab.write(file("etc/passwd"), with_lines("/etc/passwd", &instance.users)?)?;
        lab.write(file("etc/group"), with_lines("/etc/group", &instance.groups)?)?;
        lab.write(file("etc/resolv.conf"), "# The lab has no DNS.\n")?;
        lab.write(file("etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files\n")?;
        lab.write(file("prepare"), &instance.prepare)?;
        lab.write(file("start"), include_str!("start.sh"))?;
        let process = start(lab, &name, host, &packages)?;
        let files = lab.path(&name);
        let mut server = Self { name, host, listens, packages, process, files };
        server.wait_until_ready(lab)?;
        Ok(server)
    }

    fn wait_until_ready(&mut self, lab: &Lab) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            if let Some(status) = self.process.poll()? {
                bail!("{} ended ({status}) before it listened; it said:\n{}", self.name, self.log());
            }
            match lab.connect(self.host, None, self.listens, Duration::from_secs(1)) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!(
                        "{} does not listen; it said:\n{}",
                        self.name,
                        self.log()
                    )));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Where it takes mail.
    #[must_use]
    pub fn listens(&self) -> SocketAddr {
        self.listens
    }

    /// Its process, with the log that it writes.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its process, to be signalled.
    pub fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.tail(200)
    }

    /// A user's mailbox at an operator's server: `local@domain`.
    #[must_use]
    pub fn mailbox(&self, address: &str) -> Maildir {
        Maildir::new(self.files.join("mail").join(address))
    }

    /// A file that it wrote, by its path from `/`.
    #[must_use]
    pub fn file(&self, path: &str) -> PathBuf {
        self.files.join(path)
    }

    /// Runs a shell's commands where the running server's own files and processes are.
    ///
    /// # Errors
    /// When one fails, with what it said.
    pub fn run(&self, commands: &str) -> Result<()> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.process.pid()));
        command
            .args(["--mount", "--net", "--uts", "--pid", "--root", "--wd", "--", "bash", "-euc", commands]);
        let output = command.output().context("cannot start nsenter")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{commands}` ended with {}: {said}", output.status);
        Ok(())
    }

    /// How many messages a Postfix has in its queue, however they came there.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub fn queued(&self) -> Result<usize> {
        let spool = self.files.join("var/spool/postfix");
        let mut count = 0;
        for queue in ["maildrop", "incoming", "active", "deferred"] {
            count += files_below(&spool.join(queue))?;
        }
        Ok(count)
    }

    /// Kills it and all its processes at once (`kill -9`), as a crash would; its spool stays.
    ///
    /// # Errors
    /// When it was gone already.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill9()
    }

    /// Starts it again, on the spool it left.
    ///
    /// # Errors
    /// When it still runs, or does not come up.
    pub fn start_again(&mut self, lab: &Lab) -> Result<()> {
        ensure!(!self.process.is_running(), "{} still runs", self.name);
        self.process = start(lab, &self.name, self.host, &self.packages)?;
        self.wait_until_ready(lab)
    }
}

/// Files in a folder and those in it. What goes away meanwhile is none.
fn files_below(folder: &Path) -> Result<usize> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        entries => entries.with_context(|| format!("cannot list {}", folder.display()))?,
    };
    let mut count = 0;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        count += if is_folder { files_below(&entry.path())? } else { 1 };
    }
    Ok(count)
}

/// `unshare --kill-child`: PID 1 of the instance dies with it, and every process of the instance with PID 1.
fn start(lab: &Lab, name: &str, host: Host, packages: &[PathBuf]) -> Result<Process> {
    let mut command = lab.command(host, "unshare");
    command
        .args(["--mount", "--uts", "--pid", "--fork", "--kill-child", "--propagation", "private", "--"])
        .args(["bash", &format!("/run/lab/{name}/start"), name])
        .args(packages);
    Process::start(name, command, 2)
}

/// A file of the machine with further lines, those of names that it has already left out.
fn with_lines(path: &str, more: &[&str]) -> Result<String> {
    let mut content = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    for line in more {
        let name = line.split_inclusive(':').next().unwrap_or(line);
        if !content.lines().any(|there| there.starts_with(name)) {
            content.push_str(line);
            content.push('\n');
        }
    }
    Ok(content)
}

/// The lab's mail servers.
impl Lab {
    /// The operator's Postfix in `mta`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn operator(&self, operator: &Operator) -> Result<MailServer> {
        MailServer::start(self, operator.instance())
    }

    /// A far provider in `internet` that passes its users' mail on.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn forwarder(&self, forwarder: &Forwarder) -> Result<MailServer> {
        MailServer::start(self, forwarder.instance())
    }

    /// A far server in `internet`, which sends its bounces to `edge`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn far(&self, far: Far, edge: IpAddr) -> Result<MailServer> {
        let instance = match far.software {
            Software::Postfix => postfix::far(far, edge),
            Software::Exim => exim::far(far, edge),
            Software::OpenSmtpd => opensmtpd::far(far, edge),
            Software::Sendmail
            | Software::Dovecot
            | Software::Postsrsd
            | Software::Mlmmj
            | Software::OpenDkim
            | Software::Stunnel
            | Software::Nsd
            | Software::OpenSsh
            | Software::HaProxy
            | Software::Nginx => bail!("no test needs {} as far side", far.software.name()),
        };
        MailServer::start(self, instance)
    }

    /// A server as its Debian package configures it, beside the edge on the same host, at 127.0.0.1 port 25.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn with_defaults(&self, software: Software) -> Result<MailServer> {
        self.with_changes(software, "")
    }

    /// The same, changed by its administrator before it starts: `changes` are a shell's, run where the server's own
    /// files and commands are.
    ///
    /// # Errors
    /// When a change fails, or the server does not come up.
    pub fn with_changes(&self, software: Software, changes: &str) -> Result<MailServer> {
        self.with_beside(software, &[], changes)
    }

    /// The same, with what else is installed on its host; `changes` start it.
    ///
    /// # Errors
    /// When a change fails, or the server does not come up.
    pub fn with_beside(&self, software: Software, beside: &[Software], changes: &str) -> Result<MailServer> {
        MailServer::start(self, Self::defaults(software, beside, changes)?)
    }

    /// The same on a host of its own, beside which the edge does not stand: `mta`. It is to listen at port 25 of that host.
    ///
    /// # Errors
    /// When a change fails, or the server does not come up.
    pub fn elsewhere(&self, software: Software, changes: &str) -> Result<MailServer> {
        let instance = Self::defaults(software, &[], changes)?;
        MailServer::start(self, Instance { host: Host::Mta, listens: (MTA, 25).into(), ..instance })
    }

    fn defaults(software: Software, beside: &[Software], changes: &str) -> Result<Instance> {
        let mut instance = match software {
            Software::Postfix => postfix::with_defaults(),
            Software::Exim => exim::with_defaults(),
            Software::Sendmail => sendmail::with_defaults(),
            Software::OpenSmtpd
            | Software::Dovecot
            | Software::Postsrsd
            | Software::Mlmmj
            | Software::OpenDkim
            | Software::Stunnel
            | Software::Nsd
            | Software::OpenSsh
            | Software::HaProxy
            | Software::Nginx => bail!("no test needs {} with its defaults", software.name()),
        };
        instance.beside.extend(beside);
        instance.prepare.insert_str(0, changes);
        Ok(instance)
    }
}
