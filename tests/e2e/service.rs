//! The service of `contrib/systemd`: installed as README says, run as systemd would run it. systemd itself is not in the
//! lab: `setpriv` gives the daemon the unit's user and its capabilities, `backstop-confine` its system calls,
//! and a mount namespace what it sees and may write. Not tried is what else systemd does with mounts (`PrivateDevices=`,
//! `ProtectHome=`, `PrivateTmp=`), and systemd's own start and stop.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::program::{Profile, Program, root};
use lab::{EDGE, EDGE_INTERFACE, Host, Lab, MTA, Process};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::readme::block_behind;

const PATIENCE: Duration = Duration::from_secs(90);
const BANNED: &str = "198.18.64.77";
const UNIT: &str = "contrib/systemd/backstop.service";

/// `ProtectSystem=strict`, `ProtectKernelTunables=`, `ProcSubset=pid` and `ProtectProc=invisible`: $1 is what may be
/// written, the others are the command.
const SANDBOX: &str = r#"
for place in $1; do mount --bind "${place#-}" "${place#-}"; done
mount -t proc -o hidepid=invisible,subset=pid proc /proc
for place in /sys/fs/bpf /sys /etc /var/lib /run /usr/local/bin /; do mount -o remount,bind,ro "$place"; done
shift
exec "$@""#;

/// What a setting of the unit says, all its lines.
fn setting(name: &str) -> Result<Vec<String>> {
    let path = root().join(UNIT);
    let unit = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let values = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    Ok(values.map(String::from).collect())
}

/// The edge's host, with the service installed.
pub(crate) struct Service {
    pub(crate) lab: Lab,
}

impl Service {
    /// Installs it as README says, and makes a configuration as a new operator does.
    pub(crate) fn install(name: &str) -> Result<Self> {
        let service = Self { lab: Lab::up(name)? };
        let binary = Program::Backstop.build(Profile::Dev)?;
        let commands = block_behind("Install it as a service.")?
            .replace("target/release/backstop", binary.to_str().context("a path is UTF-8")?)
            // There is no systemd to tell.
            .replace("systemctl daemon-reload\n", "");
        // As systemd mounts it; and a place for programs that is not the machine's.
        service.root(&format!(
            "mount -o remount,mode=0700 /sys/fs/bpf
             mount -t tmpfs -o mode=0755 tmpfs /usr/local/bin
             mkdir -p /etc/systemd/system
             cd '{}'
             {commands}
             install -m 755 '{}' /usr/local/bin/",
            root().display(),
            env!("CARGO_BIN_EXE_backstop-confine")
        ))?;
        Ok(service)
    }

    pub(crate) fn configure(&self) -> Result<()> {
        self.root(&format!(
            "backstop init --domain example.jp --upstream {MTA}:25 --listen {EDGE}:25 --hostname edge.example.jp
             sed -i -e 's/^#\\[xdp]/[xdp]/' -e 's/^#interface = .*/interface = \"{EDGE_INTERFACE}\"/' \\
                 -e '/^\\[xdp]/,$ s/^#mode = .*/mode = \"native\"/' -e 's/^#watch = .*/watch = false/' \\
                 -e 's/^#read_group = .*/read_group = \"backstop-status\"/' /etc/backstop/backstop.toml"
        ))
        .map(drop)
    }

    /// A shell's commands as root; each must succeed.
    fn root(&self, script: &str) -> Result<String> {
        let output = self.lab.run(Host::Edge, &["bash", "-euc", script])?;
        ensure!(output.status.success(), "`{script}` ended with {}: {}", output.status, said(&output));
        Ok(said(&output))
    }

    /// A command with the unit's user and capabilities.
    fn command(command: &[&str]) -> Result<Vec<String>> {
        let capabilities = setting("AmbientCapabilities")?.join(" ");
        ensure!(capabilities == setting("CapabilityBoundingSet")?.join(" "), "one set for all");
        let names = capabilities.split(' ').map(|name| name.trim_start_matches("CAP_").to_ascii_lowercase());
        let set = names.fold("-all".to_owned(), |set, name| format!("{set},+{name}"));
        let user = setting("User")?.join(" ");
        let mut words = vec!["setpriv".into(), format!("--reuid={user}"), format!("--regid={user}")];
        words.extend(["--init-groups".into(), "--no-new-privs".into()]);
        // The bounding set last: what is not in it could not be made ambient.
        words.extend(["inh-caps", "ambient-caps", "bounding-set"].map(|kind| format!("--{kind}={set}")));
        words.extend(command.iter().map(ToString::to_string));
        Ok(words)
    }

    /// Runs it to its end.
    fn as_user(&self, command: &[&str]) -> Result<Output> {
        let words = Self::command(command)?;
        self.lab.run(Host::Edge, &words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// `ExecStart`, after what systemd does before it; `environment` in the form NAME=VALUE.
    pub(crate) fn start(&self, environment: &[&str]) -> Result<Process> {
        self.root(
            "install -d -o backstop -g backstop -m 0755 /run/backstop
             install -d -o backstop -g backstop -m 0700 /var/lib/backstop
             systemd-tmpfiles --create backstop.conf",
        )?;
        let start = setting("ExecStart")?.join(" ");
        let calls = self.allowed_calls()?;
        // An error is to be seen in the last lines, not its backtrace.
        let confined = ["env", "RUST_BACKTRACE=0"]
            .iter()
            .chain(environment)
            .copied()
            .chain(["backstop-confine", &calls]);
        let words = Self::command(&confined.chain(start.split(' ')).collect::<Vec<_>>())?;
        let sandbox = ["unshare", "--mount", "--propagation", "slave", "bash", "-euc", SANDBOX, "sandbox"];
        let writes = format!("/var/lib/backstop /run/backstop {}", setting("ReadWritePaths")?.join(" "));
        let words: Vec<String> = sandbox.map(String::from).into_iter().chain([writes]).chain(words).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let process = self.lab.spawn("backstop", Host::Edge, &words)?;
        process.wait_for_line(" started", PATIENCE)?;
        Ok(process)
    }

    /// The unit's `SystemCallFilter` in full, with commas between.
    fn allowed_calls(&self) -> Result<String> {
        // systemd adds these by itself.
        let mut allowed = self.members("@default")?;
        for value in setting("SystemCallFilter")? {
            let (takes, names) = match value.strip_prefix('~') {
                Some(names) => (false, names),
                None => (true, &*value),
            };
            for name in names.split(' ') {
                let named = self.members(name)?;
                match takes {
                    true => allowed.extend(named),
                    false => allowed.retain(|call| !named.contains(call)),
                }
            }
        }
        Ok(allowed.into_iter().collect::<Vec<_>>().join(","))
    }

    /// The calls of a group, those of its groups too; of a call, itself.
    fn members(&self, name: &str) -> Result<BTreeSet<String>> {
        if !name.starts_with('@') {
            return Ok([name.to_owned()].into());
        }
        let listed = self.root(&format!("systemd-analyze syscall-filter --no-pager {name}"))?;
        let words = listed.lines().skip(1).map(str::trim);
        let words = words.filter(|word| !word.is_empty() && !word.starts_with('#'));
        words.map(|word| self.members(word)).try_fold(BTreeSet::new(), |mut all, more| {
            all.extend(more?);
            Ok(all)
        })
    }

    /// Waits until the network card drops a source, or does so no more.
    fn wait_until_heard(&self, source: &str, heard: bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let from = Some(source.parse()?);
            let patience = Duration::from_millis(500);
            let connected = self.lab.connect(Host::Internet, from, (EDGE, 25).into(), patience).is_ok();
            if connected == heard {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{source} is {}heard", if heard { "not " } else { "still " });
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A file of a thread in `/proc`; `None`: the thread is gone.
fn of_thread(file: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error)
            if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// The threads of a process: name and id. Some may end meanwhile.
fn threads(pid: u32) -> Result<Vec<(String, i32)>> {
    let mut threads = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        if let Some(name) = of_thread(&task.path().join("comm"))? {
            threads.push((name.trim().to_owned(), task.file_name().to_string_lossy().parse()?));
        }
    }
    Ok(threads)
}

#[test]
fn the_unit_is_well_formed_and_exposes_at_most_two() -> Result<()> {
    let service = Service::install("unit")?;
    let complaints = service.root("systemd-analyze verify /etc/systemd/system/backstop.service")?;
    assert_eq!(complaints, "");
    let security = service.root(
        "systemd-analyze security --offline=true --no-pager /etc/systemd/system/backstop.service | tail -n 1",
    )?;
    let score: f64 = security
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .with_context(|| format!("no score in {security:?}"))?;
    assert!(score <= 2.0, "{security}");
    // The figure that README names, with the command. Another systemd may weigh some settings otherwise.
    let readme = std::fs::read_to_string(root().join("README.md")).context("cannot read README.md")?;
    let command = format!("`systemd-analyze security --offline=true {UNIT}` gives it ");
    let (_, figure) = readme.split_once(&command).context("README has no figure")?;
    let figure: f64 = figure.split_whitespace().next().unwrap_or_default().parse()?;
    let version = service.root("systemd-analyze --version | head -n 1")?;
    assert!(score == figure || !version.contains("systemd 252 "), "{security}: README says {figure}");
    // One that could not start five times, for want of an address, is tried again all the same.
    let restarts = ["StartLimitIntervalSec", "StartLimitBurst", "Restart", "RestartSec"].map(setting);
    let restarts: Vec<String> =
        restarts.into_iter().map(|values| Ok(values?.join(" "))).collect::<Result<_>>()?;
    assert_eq!(restarts, ["0", "", "on-failure", "5"]);
    Ok(())
}

#[test]
fn a_new_operator_gets_keys_that_the_service_reads_and_cannot_change_in_whatever_order() -> Result<()> {
    let service = Service::install("operator")?;
    // Keys that were made before the service was installed are root's alone until it starts.
    service.root("rmdir /etc/backstop/keys")?;
    service.configure()?;
    let refused = service.as_user(&["backstop", "check"])?;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("/etc/backstop/keys"), "{}", said(&refused));
    service.root("systemd-tmpfiles --create backstop.conf")?;
    let checked = service.as_user(&["backstop", "check"])?;
    assert!(checked.status.success(), "{}", said(&checked));

    // Later keys are let in by the directory.
    service.root("backstop key rotate --dir /etc/backstop/keys && backstop check")?;
    let checked = service.as_user(&["backstop", "check"])?;
    assert!(checked.status.success(), "{}", said(&checked));
    let modes = service.root("stat --format '%a %U %G' /etc/backstop/keys/*.key")?;
    assert_eq!(modes, "640 root backstop\n640 root backstop\n");
    let rotated = service.as_user(&["backstop", "key", "rotate", "--dir", "/etc/backstop/keys"])?;
    assert_eq!(rotated.status.code(), Some(2), "{}", said(&rotated));
    assert!(said(&rotated).contains("run it as root"), "{}", said(&rotated));

    // A disk that is full leaves no half key, and the old ones as they were.
    service.root(
        "mount -t tmpfs -o size=16k,mode=0750,gid=backstop tmpfs /mnt
         backstop key new --dir /mnt && cat /dev/zero >/mnt/full 2>/dev/null || true",
    )?;
    let full = service.lab.run(Host::Edge, &["backstop", "key", "rotate", "--dir", "/mnt"])?;
    assert_eq!(full.status.code(), Some(2), "{}", said(&full));
    assert_eq!(service.root("ls -A /mnt && umount /mnt")?, "001.key\nfull\n", "{}", said(&full));
    let stranger = service.lab.run(
        Host::Edge,
        &[
            "setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "cat",
            "/etc/backstop/keys/001.key",
        ],
    )?;
    assert!(!stranger.status.success(), "a stranger reads a key");
    Ok(())
}

#[test]
fn as_its_own_user_it_protects_the_network_card_and_keeps_no_capability() -> Result<()> {
    let service = Service::install("service")?;
    service.configure()?;
    let mut edge = service.start(&[])?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", edge.pid()))?;
    assert!(!status.contains("Uid:\t0\t"), "{status}");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    for (name, thread) in threads(edge.pid())? {
        let status = of_thread(Path::new(&format!("/proc/{}/task/{thread}/status", edge.pid())))?;
        let Some(status) = status else { continue };
        for kind in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let none = format!("{kind}:\t{:016x}", 0);
            assert!(status.contains(&none), "thread {name}:\n{status}");
        }
    }

    // Bans come and go without any.
    service.wait_until_heard(BANNED, true)?;
    let at_interface = service.root("backstop status --json")?;
    assert!(at_interface.contains("native"), "{at_interface}");
    service.root(&format!("backstop ban add {BANNED} --for 1h"))?;
    service.wait_until_heard(BANNED, false)?;
    assert_eq!(service.root("stat --format '%a %U' /sys/fs/bpf/backstop")?, "700 backstop\n");

    // The next daemon adopts what is pinned; without any, root sees what the kernel enforces.
    edge.kill9()?;
    let alone = service.root(&format!("backstop ban list | grep {BANNED}"))?;
    assert!(alone.contains("operator"), "{alone}");
    let mut edge = service.start(&[])?;
    let status: serde_json::Value = serde_json::from_str(&service.root("backstop status --json")?)?;
    assert_eq!(status["xdp"]["adopted"], true, "{status}");
    service.wait_until_heard(BANNED, false)?;
    service.root(&format!("backstop ban del {BANNED}"))?;
    service.wait_until_heard(BANNED, true)?;

    // A reload takes a rotated key and a changed file.
    service.root("backstop key rotate --dir /etc/backstop/keys")?;
    service.root("backstop filter add --covers sales@example.jp --action discard --memo shop --force")?;
    edge.signal(Signal::SIGHUP)?;
    edge.wait_for_line("2 keys", PATIENCE)?;
    service.root("sed -i 's/^watch = false/watch = true/' /etc/backstop/backstop.toml")?;
    edge.signal(Signal::SIGHUP)?;
    service.root("for i in $(seq 300); do backstop status --json | grep -q '\"watch\": *true' && exit; sleep 0.1; done; exit 1")?;

    // Who may ask: a member of the group, and nobody else.
    service.root("useradd --system --groups backstop-status reader && useradd --system stranger")?;
    let ask = |user: &str, command: &[&str]| {
        let user = [format!("--reuid={user}"), format!("--regid={user}")];
        let words = [&["setpriv", &user[0], &user[1], "--init-groups", "backstop"], command].concat();
        service.lab.run(Host::Edge, &words)
    };
    assert!(ask("reader", &["status"])?.status.success(), "{}", said(&ask("reader", &["status"])?));
    assert_eq!(ask("reader", &["ban", "add", BANNED])?.status.code(), Some(2));
    assert_eq!(ask("stranger", &["status"])?.status.code(), Some(2));
    edge.stop(PATIENCE)?;
    Ok(())
}

#[test]
fn what_the_service_does_not_need_it_may_not() -> Result<()> {
    let service = Service::install("may-not")?;
    service.configure()?;
    for (what, command) in [
        ("read secrets", "cat /etc/shadow"),
        ("change its configuration", "echo >>/etc/backstop/backstop.toml"),
        ("change its keys", "touch /etc/backstop/keys/001.key"),
        ("put a key there", "touch /etc/backstop/keys/002.key"),
        ("pin elsewhere", "mkdir /sys/fs/bpf/other"),
        ("list others' pins", "ls /sys/fs/bpf"),
        ("change its owner", "chown backstop /etc/backstop"),
        ("become another", "setpriv --reuid=nobody true"),
        ("mount", "mount -t tmpfs tmpfs /mnt"),
        ("look into root's processes", "cat /proc/1/environ"),
        ("end root's processes", "kill -0 1"),
    ] {
        let done = service.as_user(&["env", "LC_ALL=C", "sh", "-c", command])?;
        let why = said(&done).to_lowercase();
        let refused = ["denied", "permitted", "superuser"].iter().any(|word| why.contains(word));
        assert!(!done.status.success() && refused, "it may {what}: {command}: {}, {why}", done.status);
    }
    // And what it needs it may.
    let done =
        service.as_user(&["sh", "-c", "mkdir /sys/fs/bpf/backstop/x && rmdir /sys/fs/bpf/backstop/x"])?;
    assert!(done.status.success(), "{}", said(&done));
    Ok(())
}

/// Takes words out of the socket that systemd would read, until one is `wanted`, or none comes in time.
fn hear(systemd: &UnixDatagram, wanted: &str, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    let mut word = [0; 64];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        systemd.set_read_timeout(Some(left))?;
        match systemd.recv(&mut word) {
            Ok(length) if word[..length] == *wanted.as_bytes() => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

#[test]
fn systemd_hears_that_all_is_well_until_one_worker_is_stuck() -> Result<()> {
    const BEAT: &str = "WATCHDOG=1";
    let service = Service::install("watchdog")?;
    service.configure()?;
    let place = service.lab.path("notify");
    let systemd = UnixDatagram::bind(&place)?;
    service.root("chmod 666 /run/lab/notify")?;
    let mut edge = service.start(&["NOTIFY_SOCKET=/run/lab/notify", "WATCHDOG_USEC=400000"])?;
    assert!(hear(&systemd, "READY=1", PATIENCE)?, "{}", edge.tail(20));
    for _ in 0..3 {
        assert!(hear(&systemd, BEAT, PATIENCE)?, "{}", edge.tail(20));
    }

    // One thread is stopped, as if it hung; all others go on.
    let (_, thread) = threads(edge.pid())?
        .into_iter()
        .find(|(name, _)| name == "worker-0")
        .context("there is no thread worker-0")?;
    let thread = Pid::from_raw(thread);
    ptrace::seize(thread, ptrace::Options::empty())?;
    ptrace::interrupt(thread)?;
    edge.wait_for_line("worker-0 answers not", PATIENCE)?;
    while hear(&systemd, BEAT, Duration::from_millis(1))? {}
    assert!(!hear(&systemd, BEAT, Duration::from_secs(2))?, "a beat, though worker-0 is stuck");
    service.root("backstop status >/dev/null")?; // The others do answer.

    nix::sys::wait::waitpid(thread, Some(nix::sys::wait::WaitPidFlag::__WALL))?;
    ptrace::detach(thread, None)?;
    assert!(hear(&systemd, BEAT, PATIENCE)?, "{}", edge.tail(20));
    edge.signal(Signal::SIGTERM)?;
    assert!(hear(&systemd, "STOPPING=1", PATIENCE)?, "{}", edge.tail(20));
    edge.wait(PATIENCE)?;
    Ok(())
}
