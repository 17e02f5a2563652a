//! Three edges that are reached by ssh, a deployer, and releases to deploy.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use anyhow::{Context, Result, anyhow, ensure};
use lab::program::{Profile, Program};
use lab::ssh::{CONFIG, SshHost};
use lab::{EDGE, Host, Lab, MTA_OUTSIDE};
use serde_json::Value;
use tempfile::TempDir;

/// The hosts' names, in the order in which they are deployed to, and where each is.
pub(crate) const HOSTS: [(&str, Host, Ipv4Addr); 3] = [
    ("mx1", Host::Edge, EDGE),
    ("mx2", Host::Mta, MTA_OUTSIDE),
    // A client's address of the lab's Internet.
    ("mx3", Host::Internet, Ipv4Addr::new(198, 18, 64, 100)),
];
pub(crate) const NAMES: [&str; 3] = ["mx1", "mx2", "mx3"];

/// A release that can be deployed.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) binary: PathBuf,
    pub(crate) units: PathBuf,
}

/// The lab with its hosts, and a folder for what is deployed.
pub(crate) struct Fleet {
    pub(crate) lab: Lab,
    pub(crate) hosts: Vec<SshHost>,
    pub(crate) folder: TempDir,
    xtask: PathBuf,
}

impl Fleet {
    /// Fresh hosts, with nothing of Backstop on them.
    pub(crate) fn up(name: &str) -> Result<Self> {
        let xtask = Program::Xtask.build(Profile::Dev)?;
        let lab = Lab::up(name)?;
        let hosts = lab.ssh_hosts(&HOSTS)?;
        let folder = tempfile::tempdir()?;
        configure(folder.path())?;
        Ok(Self { lab, hosts, folder, xtask })
    }

    /// The same with `release` on the first `count` hosts.
    pub(crate) fn with_release(name: &str, release: &Made, count: usize) -> Result<Self> {
        let fleet = Self::up(name)?;
        let (output, said) = fleet.deploy(release, &NAMES[..count], &[])?;
        ensure!(output.status.success(), "the first release: {said:#}\n{}", fleet.explain(&output));
        Ok(fleet)
    }

    /// `cargo xtask deploy` of a release to hosts; what it says with `--json`.
    pub(crate) fn deploy(&self, release: &Made, hosts: &[&str], more: &[&str]) -> Result<(Output, Value)> {
        let (config, keys) = (self.folder.path().join("edges"), self.folder.path().join("edges/keys"));
        let arguments = [
            &["--binary", shown(&release.binary), "--units", shown(&release.units)][..],
            &["--config", shown(&config), "--keys", shown(&keys), "--wait", "20"],
            hosts,
            more,
        ]
        .concat();
        self.xtask(&arguments)
    }

    /// `cargo xtask deploy ARGUMENTS --json`, run on the deployer's host.
    pub(crate) fn xtask(&self, arguments: &[&str]) -> Result<(Output, Value)> {
        let output = self.command(arguments).arg("--json").output().context("cannot run nsenter")?;
        let said = serde_json::from_slice(&output.stdout).with_context(|| self.explain(&output))?;
        Ok((output, said))
    }

    /// The same, to be started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.lab.command(Host::Internet, shown(&self.xtask));
        command.args(["deploy", "--ssh-config", CONFIG]).args(arguments).stdin(Stdio::null());
        command
    }

    /// What a deployer said, and what the hosts' sshd did, for messages.
    pub(crate) fn explain(&self, output: &Output) -> String {
        let mut text = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        text += &String::from_utf8_lossy(&output.stdout);
        for host in &self.hosts {
            text += &format!("\n--- sshd of {}\n{}", host.name(), host.log());
        }
        text
    }
}

/// Configurations and keys for the hosts, made by the commands of `docs/deploy.md`.
fn configure(folder: &Path) -> Result<()> {
    let page = std::fs::read_to_string(lab::program::root().join("docs/deploy.md"))?;
    let block = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    let block = block.context("docs/deploy.md has a block of commands")?;
    let mut commands = String::new();
    for line in block.lines().filter(|line| !line.starts_with("cargo xtask deploy")) {
        // The page has two hosts, the lab a third.
        if line.contains("mx1") {
            commands +=
                &format!("{}\n", line.replace("mx1", "mx3").replace("192.0.2.25", &HOSTS[2].2.to_string()));
        }
        commands += &format!("{line}\n");
    }
    commands = commands
        .replace("192.0.2.25", &HOSTS[0].2.to_string())
        .replace("192.0.2.26", &HOSTS[1].2.to_string())
        .replace("backstop init", &format!("{} init", shown(program()?)));
    let output = Command::new("sh").args(["-euc", &commands]).current_dir(folder).output()?;
    ensure!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
    for (name, ..) in HOSTS {
        ensure!(
            folder.join(format!("edges/{name}.toml")).exists(),
            "the page makes no configuration of {name}"
        );
    }
    Ok(())
}

/// All that a deployment may change on a host, in text that can be compared.
pub(crate) fn state(host: &SshHost) -> Result<String> {
    host.read(
        "ls -A /usr/local/bin /usr/local/lib/backstop /etc/systemd/system /etc/sysusers.d /etc/tmpfiles.d 2>/dev/null
         readlink /usr/local/bin/backstop
         find /etc/backstop /etc/systemd/system/backstop.service /usr/local/lib/backstop -type f ! -name .last \
             -exec sha256sum {} + 2>/dev/null | sort
         echo unit $(systemctl is-active backstop.service) $(systemctl is-enabled backstop.service && echo enabled)
         pid=$(systemctl show --property MainPID --value backstop.service)
         [ \"$pid\" = 0 ] || sha256sum </proc/$pid/exe
         grep -h ^Description /run/standin/loaded 2>/dev/null
         for lock in lock switch.lock; do
             test ! -e /run/backstop-deploy/$lock || flock -w 60 /run/backstop-deploy/$lock true || echo $lock is held
         done",
    )
}

/// Whether the real daemon runs there and says that it does.
pub(crate) fn is_healthy(host: &SshHost) -> Result<bool> {
    Ok(host.shell("backstop status >/dev/null")?.status.success())
}

/// The release that a host's program is of.
pub(crate) fn release_of(host: &SshHost) -> Result<String> {
    host.read("basename $(dirname $(readlink /usr/local/bin/backstop))")
}

/// The real program, without the symbols that a debugger wants. Made once, however many tests ask at the same time.
pub(crate) fn program() -> Result<&'static Path> {
    static STRIPPED: LazyLock<Result<PathBuf, String>> =
        LazyLock::new(|| strip().map_err(|error| format!("{error:#}")));
    STRIPPED.as_deref().map_err(|error| anyhow!("{error}"))
}

fn strip() -> Result<PathBuf> {
    let built = Program::Backstop.build(Profile::Dev)?;
    let stripped = lab::program::target().join(format!("lab/backstop-stripped-{}", std::process::id()));
    if let Some(folder) = stripped.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let output =
        Command::new("strip").arg("-o").arg(&stripped).arg(&built).output().context("cannot run strip")?;
    ensure!(output.status.success(), "strip: {}", String::from_utf8_lossy(&output.stderr));
    Ok(stripped)
}

/// A release of the real program: an ELF program may have anything at its end, and `mark` makes it another one.
pub(crate) fn good(folder: &Path, mark: &str) -> Result<Made> {
    of(folder, mark, &std::fs::read(program()?)?)
}

/// A release of any program.
pub(crate) fn of(folder: &Path, mark: &str, program: &[u8]) -> Result<Made> {
    let made =
        Made { binary: folder.join(format!("backstop-{mark}")), units: folder.join(format!("units-{mark}")) };
    std::fs::write(&made.binary, [program, mark.as_bytes()].concat())?;
    std::fs::create_dir(&made.units)?;
    // The real unit, told from others by its description.
    for entry in std::fs::read_dir(lab::program::root().join("contrib/systemd"))? {
        let from = entry?.path();
        let text = std::fs::read_to_string(&from)?;
        let text = text.replace("Description=", &format!("Description=in the lab: {mark}; "));
        std::fs::write(made.units.join(from.file_name().context("a file has a name")?), text)?;
    }
    Ok(made)
}

pub(crate) fn shown(path: &Path) -> &str {
    path.to_str().expect("a path that is UTF-8")
}
