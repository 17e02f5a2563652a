//! Who is measured, and how each is started: in one host of a lab, with one worker on the first core.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::peers;
use crate::bench::cores;
use anyhow::{Context, Result, bail, ensure};
use bench_smtp::row::{DISCARDED, DOMAIN, Row, tagged_domain};
use bench_smtp::tls::NAME;
use lab::mta::MailServer;
use lab::{Host, Lab, Process};

/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(30);
/// How much of a log is shown where something fails.
const LOG_BYTES: usize = 4000;
/// Where passed-on mail ends.
pub(super) const SINK: SocketAddr = at(2600);
/// Where nginx asks whom to pass a session on to.
const NGINX_ASKS: SocketAddr = at(2601);
/// The sessions' source addresses: as many as a flood has, so that none is over its budget.
pub(super) const SOURCE_FIRST: &str = "10.64.0.0";
pub(super) const SOURCES: u32 = 4096;
/// Those of slow senders, so many that none of them is known when it is sent away.
const SLOW_FIRST: &str = "10.65.0.0";
const SLOW_SOURCES: u32 = 3 << 16;
/// A file of the lab: the slow senders rest as long as it is there.
pub(super) const SLOW_REST: &str = "bench/slow-rest";
/// Priorities on the load's core, where latency is measured: nothing keeps the honest load and the sink waiting, and what
/// else the machine does does not keep the slow senders waiting.
pub(super) const HONEST_PRIORITY: &str = "20";
const SLOW_PRIORITY: &str = "10";
pub(super) const SOURCES_NET: &str = "10.64.0.0/14";

/// Where all that is written lies, a folder each server.
pub(super) const FOLDER: &str = "/run/lab/bench";
/// The certificate that all servers have, and its key.
pub(super) const CHAIN: &str = "/run/lab/bench/chain.pem";
pub(super) const KEY: &str = "/run/lab/bench/key.pem";

const fn at(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// A server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Subject {
    /// Nothing but sockets (`benches/smtp/floor.rs`).
    Floor,
    /// The release's daemon, with its log and all else on, but without XDP.
    Backstop,
    /// The same once more, with nothing beside what is measured.
    Calm,
    /// Another build of it (`--against`).
    Other,
    /// HAProxy in TCP mode before the sink: it reads no SMTP.
    HaProxy,
    /// nginx's mail proxy before the sink.
    Nginx,
    /// Postfix: `smtpd`, with `smtpd_proxy_filter` before the sink.
    Postfix,
    /// Postfix's `smtp-sink`, which refuses every RCPT.
    SinkRefuses,
    /// Postfix's `smtp-sink`, which accepts everything and keeps nothing.
    SinkAccepts,
}

impl Subject {
    /// Its name in the table.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Backstop => "backstop",
            Self::Calm => "calm",
            Self::Other => "other",
            Self::HaProxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Postfix => "postfix",
            Self::SinkRefuses | Self::SinkAccepts => "smtp-sink",
        }
    }

    /// Where it listens.
    pub(super) const fn address(self) -> SocketAddr {
        match self {
            Self::Floor => at(2610),
            Self::Backstop => at(2611),
            Self::HaProxy => at(2612),
            Self::Nginx => at(2613),
            Self::SinkRefuses => at(2614),
            Self::SinkAccepts => at(2615),
            Self::Other => at(2616),
            Self::Postfix => at(2617),
            Self::Calm => at(2618),
        }
    }
}

/// What was built.
pub(super) struct Programs {
    pub(super) backstop: PathBuf,
    /// Floor, load and what stands beside.
    pub(super) bench: PathBuf,
    /// Another build of Backstop.
    pub(super) other: Option<PathBuf>,
}

/// Where all of it runs, with the sink.
pub(super) struct Place {
    pub(super) lab: Lab,
    programs: Programs,
    first_core: usize,
    last_core: usize,
    /// The sink first.
    beside: Vec<Process>,
}

/// A server that runs.
pub(super) enum Running {
    Program(Process),
    Peer(MailServer),
}

impl Running {
    /// Its first process.
    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Program(process) => process.pid(),
            Self::Peer(server) => server.process().pid(),
        }
    }

    /// The process itself, to be ended and waited for.
    pub(super) fn process(&mut self) -> &mut Process {
        match self {
            Self::Program(process) => process,
            Self::Peer(server) => server.process_mut(),
        }
    }
}

impl Place {
    /// A lab with the sink, and with an answer for nginx.
    pub(super) fn up(programs: Programs) -> Result<Self> {
        let (first_core, last_core) = cores::first_and_last()?;
        let lab = Lab::up("bench-smtp")?;
        let sources = lab.run(Host::Edge, &["ip", "route", "add", "local", SOURCES_NET, "dev", "lo"])?;
        ensure!(sources.status.success(), "ip route: {}", String::from_utf8_lossy(&sources.stderr));
        certify(&lab)?;
        let mut place = Self { lab, programs, first_core, last_core, beside: Vec::new() };
        let program = shown(&place.programs.bench)?;
        for (name, arguments) in [
            ("sink", vec!["floor".to_owned(), format!("--listen={SINK}")]),
            (
                "nginx-asks",
                vec!["nginx-asks".to_owned(), format!("--listen={NGINX_ASKS}"), format!("--then={SINK}")],
            ),
        ] {
            let process = place.spawn(name, last_core, &[vec![program.clone()], arguments].concat())?;
            place.beside.push(process);
        }
        place.wait_until_listening("the sink", SINK)?;
        place.wait_until_listening("nginx's answer", NGINX_ASKS)?;
        Ok(place)
    }

    /// The core of what is measured, and that of the load.
    pub(super) const fn cores(&self) -> (usize, usize) {
        (self.first_core, self.last_core)
    }

    /// Starts a server.
    pub(super) fn start(&self, subject: Subject) -> Result<Running> {
        self.start_under(subject, &[], "")
    }

    /// Backstop with more in its configuration, and before what else the machine does.
    pub(super) fn start_with(&self, subject: Subject, more: &str) -> Result<Running> {
        self.start_under(subject, &cores::FIRST, more)
    }

    /// The same under another program, as in `valgrind ...`: programs only, no server of a package.
    pub(super) fn start_under(&self, subject: Subject, outer: &[&str], more: &str) -> Result<Running> {
        let program = |argv: Vec<String>| {
            let argv = [outer.iter().map(ToString::to_string).collect(), argv].concat();
            Ok::<_, anyhow::Error>(Running::Program(self.spawn(subject.name(), self.first_core, &argv)?))
        };
        let address = subject.address();
        let running = match subject {
            Subject::Floor => {
                let floor = shown(&self.programs.bench)?;
                program(vec![floor, "floor".into(), format!("--listen={address}")])?
            }
            Subject::Backstop | Subject::Calm => {
                program(self.backstop(subject, &self.programs.backstop, more)?)?
            }
            Subject::Other => {
                let other = self.programs.other.as_ref().context("no other build is named: --against")?;
                program(self.backstop(subject, other, more)?)?
            }
            Subject::SinkRefuses => {
                program(peers::smtp_sink(address, &["-f", "RCPT", "-B", "550 5.1.1 No such mailbox here"])?)?
            }
            Subject::SinkAccepts => program(peers::smtp_sink(address, &[])?)?,
            Subject::HaProxy => Running::Peer(self.lab.peer(peers::haproxy(address, SINK), self.first_core)?),
            Subject::Postfix => {
                let (main, services, files) = peers::postfix(address, SINK);
                Running::Peer(self.lab.postfix_peer(&main, &services, files, address, self.first_core)?)
            }
            Subject::Nginx => {
                Running::Peer(self.lab.peer(peers::nginx(address, NGINX_ASKS), self.first_core)?)
            }
        };
        self.wait_until_listening(subject.name(), address).with_context(|| self.log(subject, &running))?;
        Ok(running)
    }

    /// Does something in the place, on the load's core; what it starts is there too.
    pub(super) fn on_last_core<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.lab.in_host(Host::Edge, || {
            cores::hold_this_thread_to(self.last_core)?;
            work()
        })
    }

    /// The load's command, on its core.
    pub(super) fn load(
        &self,
        subject: Subject,
        row: Row,
        sessions: u64,
        at_once: u32,
    ) -> Result<Vec<String>> {
        let program = shown(&self.programs.bench)?;
        let mut argv = pinned(self.last_core);
        argv.extend([
            program,
            "load".into(),
            format!("--target={}", subject.address()),
            format!("--row={}", row.name()),
        ]);
        argv.extend([format!("--sessions={sessions}"), format!("--at-once={at_once}")]);
        argv.extend([format!("--source={SOURCE_FIRST}"), format!("--sources={SOURCES}")]);
        if row.is_over_tls() {
            argv.push(format!("--certificate={CHAIN}"));
        }
        Ok(argv)
    }

    /// Slow senders, so many at once, on the load's core; they tell how they are by their output.
    pub(super) fn slow_senders(&self, subject: Subject, senders: usize) -> Result<Process> {
        let mut argv = pinned(self.last_core);
        argv.extend(before_others(SLOW_PRIORITY));
        argv.extend([
            shown(&self.programs.bench)?,
            "slow".into(),
            format!("--target={}", subject.address()),
            format!("--senders={senders}"),
            format!("--source={SLOW_FIRST}"),
            format!("--sources={SLOW_SOURCES}"),
            format!("--rest=/run/lab/{SLOW_REST}"),
        ]);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        self.lab.spawn("slow-senders", Host::Edge, &argv)
    }

    /// The sink comes before all others on its core, but for the load that does, too; or no longer.
    pub(super) fn put_sink_first(&self, is_first: bool) -> Result<()> {
        let sink = self.beside.first().context("there is a sink")?.pid().to_string();
        let policy = if is_first { ["--fifo", "--pid", HONEST_PRIORITY] } else { ["--other", "--pid", "0"] };
        let done = Command::new("chrt").args(policy).arg(&sink).status().context("cannot run chrt")?;
        ensure!(done.success(), "chrt: {done}");
        Ok(())
    }

    /// The last lines that a server wrote.
    pub(super) fn log(&self, subject: Subject, running: &Running) -> String {
        match running {
            Running::Program(_) => self.file_end(subject.name()),
            Running::Peer(server) => server.process().tail(20),
        }
    }

    fn file_end(&self, name: &str) -> String {
        let text = std::fs::read(self.lab.path(format!("bench/{name}.log"))).unwrap_or_default();
        let end = &text[text.len().saturating_sub(LOG_BYTES)..];
        String::from_utf8_lossy(end).into_owned()
    }

    /// A program on a core; what it writes goes into a file, as a service's would, and costs nobody else anything.
    fn spawn(&self, name: &str, core: usize, argv: &[String]) -> Result<Process> {
        self.lab.write(format!("bench/{name}.log"), "")?;
        let shell = format!("exec \"$@\" >>/run/lab/bench/{name}.log 2>&1");
        let pinned = pinned(core);
        let argv: Vec<&str> = ["bash", "-c", &shell, "bash"]
            .into_iter()
            .chain(pinned.iter().chain(argv).map(String::as_str))
            .collect();
        self.lab.spawn(name, Host::Edge, &argv)
    }

    fn wait_until_listening(&self, name: &str, address: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + START;
        while let Err(error) = self.lab.connect(Host::Edge, None, address, Duration::from_secs(1)) {
            if Instant::now() > deadline {
                bail!("{name} does not listen at {address}: {error:#}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Its command; its configuration is that of an operator who enforces, its state and keys are new.
    fn backstop(&self, subject: Subject, program: &Path, more: &str) -> Result<Vec<String>> {
        let (name, program) = (subject.name(), shown(program)?);
        let folder = format!("{FOLDER}/{name}");
        let config = configuration(subject, more);
        self.lab.write(format!("bench/{name}/backstop.toml"), config)?;
        let keys = format!("rm -rf {folder}/keys {folder}/state; exec \"$0\" key new --dir {folder}/keys");
        let made = self.lab.run(Host::Edge, &["bash", "-c", &keys, &program])?;
        ensure!(made.status.success(), "{program} key new: {}", String::from_utf8_lossy(&made.stderr));
        let config = format!("--config={folder}/backstop.toml");
        Ok(vec![program, "run".into(), "--no-xdp".into(), config])
    }
}

/// Backstop's configuration: that of an operator who enforces.
pub(super) fn configuration(subject: Subject, more: &str) -> String {
    let (address, tagged) = (subject.address(), tagged_domain());
    let folder = format!("{FOLDER}/{}", subject.name());
    format!(
        r#"
hostname = "edge.example.jp"
inbound.listen = ["{address}"]
signature.keys = "{folder}/keys"
control.socket = "{folder}/control.sock"
state.dir = "{folder}/state"
tls.certificate = [{{ chain = "{CHAIN}", key = "{KEY}" }}]
# Nothing was sent from here before: no bounce is let through because it may answer that.
policy.grace_days = 0

[[domain]]
name = "{DOMAIN}"
upstream = "{SINK}"

[[domain]]
name = "{tagged}"
upstream = "{SINK}"
require_tag = "always"

[[domain]]
name = "{DISCARDED}"
upstream = "{SINK}"

[[filter]]
covers = ["{DISCARDED}"]
action = "discard"

[[filter]]
covers = ["*"]
action = "reject"
{more}"#
    )
}

/// Makes the certificate.
fn certify(lab: &Lab) -> Result<()> {
    lab.write("bench/chain.pem", "")?;
    let made = lab.run(Host::Edge, &["bash", "-c", &certificate(KEY, CHAIN)])?;
    ensure!(made.status.success(), "no certificate: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// The shell's command that makes a certificate and its key, into these files.
pub(super) fn certificate(key: &str, chain: &str) -> String {
    format!(
        "umask 077; exec openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 2 \
         -subj /CN={NAME} -addext subjectAltName=DNS:{NAME} -addext basicConstraints=critical,CA:FALSE \
         -keyout '{key}' -out '{chain}'"
    )
}

/// Before all on its core that is not real-time, and that has a lower priority (sched(7), SCHED_FIFO).
pub(super) fn before_others(priority: &str) -> Vec<String> {
    vec!["chrt".into(), "--fifo".into(), priority.into()]
}

fn pinned(core: usize) -> Vec<String> {
    vec!["taskset".into(), "-c".into(), core.to_string()]
}

/// A path that a command line can hold.
pub(super) fn shown(path: &Path) -> Result<String> {
    path.to_str().map(String::from).context("the target folder's path is not UTF-8")
}
