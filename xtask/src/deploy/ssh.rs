//! The system's own ssh: one connection a host, over which every step goes.
//!
//! The connection's first session is the deployer's presence (the script's `attend`): it holds the lock, and when it
//! ends, however that comes about, the far side lets go of the lock and removes what is not in use. The steps are
//! further sessions of the same connection (`ControlMaster`); none ever opens another connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::host::{Facts, HostName};

/// What runs on the far side.
const SCRIPT: &str = include_str!("remote.sh");
/// How often the far side hears that the deployer is still there.
const BEAT_EVERY: Duration = Duration::from_secs(10);
/// How long a host may take until it says something: ssh's own patience, and somebody who types a passphrase.
const FIRST_WORD: Duration = Duration::from_secs(120);
/// How long it may be silent after that; to which the host's own `restart_secs` comes, as a switch that was cut off is
/// taken back first, which restarts the daemon.
const NEXT_WORD: Duration = Duration::from_secs(120);
/// How long it may take to let go.
const GOODBYE: Duration = Duration::from_secs(10);
/// ssh's own exit code, which the script never uses.
const LOST: i32 = 255;
/// What is kept of ssh's complaints, in octets.
const COMPLAINT_BYTES_MAX: u64 = 16_384;

/// How hosts are reached.
#[derive(Debug)]
pub(super) struct Ssh {
    config: Option<PathBuf>,
    sudo: bool,
    sockets: TempDir,
}

/// What the deployer comes for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose<'a> {
    /// To look: nothing is changed.
    Look,
    /// To change something, under the lock.
    Change {
        /// Tells this deployer from others.
        token: &'a str,
        /// Who that is, for others to read.
        who: &'a str,
    },
}

/// A host that is connected.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    ssh: &'a Ssh,
    host: HostName,
    socket: PathBuf,
    master: Child,
    /// Dropped, the beats end, and with them the session.
    beats: Option<Sender<()>>,
}

/// How a step ended.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The script ended by itself.
    Code(i32),
    /// The connection broke.
    Lost(String),
}

/// What a step says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told<'a> {
    /// `fact NAME VALUE`
    Fact(&'a str, &'a str),
    /// Progress, and what goes with an error.
    Words(&'a str),
    /// Why it does not go on.
    Error(&'a str),
}

impl Ssh {
    /// `config` replaces ssh's own configuration files (`-F`).
    pub(super) fn new(config: Option<PathBuf>, sudo: bool) -> Result<Self> {
        // For this user only (0700), and short: a socket's path has 107 octets at most.
        let sockets = tempfile::Builder::new()
            .prefix("backstop-")
            .tempdir()
            .context("cannot make a directory for ssh's sockets")?;
        Ok(Self { config, sudo, sockets })
    }

    fn command(&self, socket: &Path, options: &[&str], host: &HostName, step: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        if let Some(config) = &self.config {
            command.arg("-F").arg(config);
        }
        command.arg("-S").arg(socket).arg("-T");
        for option in options {
            command.args(["-o", option]);
        }
        let mut words = vec!["sh", "-c", SCRIPT, "backstop-deploy"];
        words.extend(step);
        let words: Vec<String> = words.into_iter().map(quoted).collect();
        let sudo = if self.sudo { "sudo -n " } else { "" };
        command.args(["--", host.as_str(), &format!("{sudo}{}", words.join(" "))]);
        command
    }

    /// Connects, and hears what the host says of itself.
    pub(super) fn connect(
        &self,
        host: &HostName,
        purpose: Purpose<'_>,
        told: &mut dyn FnMut(&str),
    ) -> Result<(Connection<'_>, Facts)> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let socket = self.sockets.path().join(number.to_string());
        let step = match purpose {
            Purpose::Look => vec!["attend", "look", "-"],
            Purpose::Change { token, who } => vec!["attend", "lock", token, who],
        };
        let options = [
            "ControlMaster=yes",
            "ControlPersist=no",
            "ConnectTimeout=15",
            "ServerAliveInterval=5",
            "ServerAliveCountMax=4",
        ];
        let mut master = self
            .command(&socket, &options, host, &step)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run ssh (package openssh-client)")?;
        let lines = lines_of(master.stdout.take().expect("stdout is piped"));
        let complaint = complaint_of(master.stderr.take().expect("stderr is piped"));
        let beats = beat(master.stdin.take().expect("stdin is piped"));
        let connection = Connection { ssh: self, host: host.clone(), socket, master, beats: Some(beats) };
        let facts = connection.hear(&lines, &complaint, told)?;
        Ok((connection, facts))
    }
}

impl Connection<'_> {
    /// Up to the line `ready`.
    fn hear(
        &self,
        lines: &Receiver<String>,
        complaint: &Complaint,
        told: &mut dyn FnMut(&str),
    ) -> Result<Facts> {
        let mut facts = Facts::default();
        let mut errors = Vec::new();
        let (mut patience, mut next) = (FIRST_WORD, NEXT_WORD);
        loop {
            match lines.recv_timeout(patience) {
                Ok(line) if line == "ready" => return Ok(facts),
                Ok(line) => match Told::read(&line) {
                    Told::Fact("restart_secs", secs) => {
                        let secs: u32 = secs.parse().unwrap_or_default();
                        next = NEXT_WORD + Duration::from_secs(secs.into());
                    }
                    Told::Fact(name, value) => facts.take(name, value),
                    Told::Words(words) => told(words),
                    Told::Error(error) => errors.push(error.to_owned()),
                },
                Err(RecvTimeoutError::Timeout) => {
                    bail!("it said nothing for {} s", patience.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) if errors.is_empty() => {
                    bail!("{}", complaint.or("the connection broke"))
                }
                Err(RecvTimeoutError::Disconnected) => bail!("{}", errors.join("; ")),
            }
            patience = next;
        }
    }

    /// A step of the script, with what it reads.
    pub(super) fn step(
        &self,
        step: &[&str],
        input: Option<&[u8]>,
        told: &mut dyn FnMut(Told<'_>),
    ) -> Result<End> {
        // Where the connection is gone, ssh would make another: one without the lock. So it must not be able to.
        let options = ["ControlMaster=no", "ProxyCommand=false"];
        let mut child = self
            .ssh
            .command(&self.socket, &options, &self.host, step)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run ssh (package openssh-client)")?;
        let complaint = complaint_of(child.stderr.take().expect("stderr is piped"));
        let stdout = child.stdout.take().expect("stdout is piped");
        std::thread::scope(|scope| {
            if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
                // What does not read to the end says why by its words and its exit code.
                scope.spawn(move || stdin.write_all(input));
            }
            for line in BufReader::new(stdout).split(b'\n') {
                let Ok(line) = line else { break };
                told(Told::read(&String::from_utf8_lossy(&line)));
            }
        });
        let status = child.wait().context("cannot wait for ssh")?;
        Ok(match status.code() {
            Some(LOST) | None => End::Lost(complaint.or("the connection broke")),
            Some(code) => {
                let complaint = complaint.or("");
                if code != 0 && !complaint.is_empty() {
                    told(Told::Words(&complaint));
                }
                End::Code(code)
            }
        })
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        // The far side reads the end of its input, tidies up and ends.
        self.beats = None;
        let began = Instant::now();
        while began.elapsed() < GOODBYE {
            if !matches!(self.master.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

impl<'a> Told<'a> {
    fn read(line: &'a str) -> Self {
        match line.split_once(' ') {
            Some(("fact", rest)) => {
                let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
                Self::Fact(name, value.trim())
            }
            Some(("step" | "say", words)) => Self::Words(words),
            Some(("error", words)) => Self::Error(words),
            Some(_) | None => Self::Words(line),
        }
    }
}

/// What ssh, or the far side's shell, complains of.
struct Complaint(Arc<Mutex<String>>, Mutex<Option<std::thread::JoinHandle<()>>>);

impl Complaint {
    /// The complaint on one line, once it is complete.
    fn or(&self, otherwise: &str) -> String {
        if let Some(thread) = self.1.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let began = Instant::now();
            // It ends with ssh; a child of ssh that keeps the pipe is not waited for.
            while !thread.is_finished() && began.elapsed() < Duration::from_secs(2) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if said.is_empty() { otherwise.to_owned() } else { said.join("; ") }
    }
}

fn complaint_of(stderr: impl Read + Send + 'static) -> Complaint {
    let said = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&said);
    let thread = std::thread::spawn(move || {
        let mut stderr = BufReader::new(stderr);
        let mut line = Vec::new();
        let mut left = COMPLAINT_BYTES_MAX;
        while left > 0 && (&mut stderr).take(left).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            left -= line.len() as u64;
            kept.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
        // The rest is read, so that nobody waits, and dropped.
        let _ = std::io::copy(&mut stderr, &mut std::io::sink());
    });
    Complaint(said, Mutex::new(Some(thread)))
}

fn lines_of(stdout: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n') {
            let Ok(line) = line else { break };
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    lines
}

/// Writes a line now and then, until the sender is dropped.
fn beat(mut stdin: ChildStdin) -> Sender<()> {
    let (sender, ended) = channel();
    std::thread::spawn(move || {
        while ended.recv_timeout(BEAT_EVERY) == Err(RecvTimeoutError::Timeout) {
            if stdin.write_all(b"here\n").is_err() {
                break;
            }
        }
    });
    sender
}

/// A word that a shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_quoted_word_as_it_is() {
        for word in ["", "a b", "it's", "$(exit 3)", "`x`", "a\nb", "\\", "'''", "-n", "*"] {
            let output =
                Command::new("sh").args(["-c", &format!("printf %s {}", quoted(word))]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), word);
        }
    }

    #[test]
    fn the_script_is_one_that_a_shell_can_read() {
        let output = Command::new("sh").args(["-n", "-c", SCRIPT]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn the_script_reads_times_as_systemd_writes_them() {
        for (span, wanted) in [
            ("15min", "900"),
            ("1min 30s", "90"),
            ("2h 5min 1s", "7501"),
            ("1w 1d", "691200"),
            ("1month", "2629800"),
            ("1.500s", "2"),
            ("500ms", "1"),
            ("infinity", "86400"),
        ] {
            let output =
                Command::new("sh").args(["-c", SCRIPT, "backstop-deploy", "seconds", span]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), wanted, "{span}");
        }
    }

    #[test]
    fn lines_are_facts_words_and_errors() {
        assert_eq!(Told::read("fact release 0.1.0-aa"), Told::Fact("release", "0.1.0-aa"));
        assert_eq!(Told::read("fact release "), Told::Fact("release", ""));
        assert_eq!(Told::read("step going on"), Told::Words("going on"));
        assert_eq!(Told::read("error no"), Told::Error("no"));
        assert_eq!(Told::read("whatever else"), Told::Words("whatever else"));
    }
}
