//! A program running in the lab: its lines, its signals, its end.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Most lines of output kept of one program; older ones are forgotten.
const LINES_MAX: usize = 400_000;
/// How long a program may take to appear after `nsenter` has been started.
const APPEAR: Duration = Duration::from_secs(60);
/// How long one that was killed may take to be gone, and what a program that ended said last may take to be read.
const END: Duration = Duration::from_secs(60);

/// A program in the lab. Dropped, it is killed; it also dies with the lab, and with the test.
#[derive(Debug)]
pub struct Process {
    name: String,
    /// `nsenter`, which waits for the program and ends as it does.
    outer: Child,
    /// The program itself, as the machine numbers it.
    pid: Pid,
    output: Arc<Output>,
    ended: Option<ExitStatus>,
}

#[derive(Debug, Default)]
struct Output {
    said: Mutex<Said>,
    /// A line, or the end of a pipe.
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    lines: VecDeque<String>,
    /// Pipes that are still read.
    open: usize,
}

impl Output {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all is read that a program said that has ended; what it left behind may keep a pipe open.
    fn wait_for_its_end(&self) {
        let is_open = |said: &mut Said| said.open > 0;
        drop(self.arrived.wait_timeout_while(self.said(), END, is_open));
    }
}

impl Process {
    /// Starts `command`, which enters a PID namespace and forks (`nsenter --pid`, `unshare --fork`), `depth` times.
    pub(crate) fn start(name: &str, mut command: Command, depth: usize) -> Result<Self> {
        let mut outer = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        let output = Arc::new(Output::default());
        if let Some(pipe) = outer.stdout.take() {
            read_lines(pipe, Arc::clone(&output));
        }
        if let Some(pipe) = outer.stderr.take() {
            read_lines(pipe, Arc::clone(&output));
        }
        let mut process = Self { name: name.to_owned(), pid: pid_of(outer.id()), outer, output, ended: None };
        for _ in 0..depth {
            process.pid = process.child_of(process.pid)?;
        }
        Ok(process)
    }

    /// The one child that `parent` forks.
    fn child_of(&mut self, parent: Pid) -> Result<Pid> {
        let started = Instant::now();
        loop {
            if let Some(child) = first_child(parent) {
                return Ok(child);
            }
            if let Some(status) = self.poll()? {
                self.output.wait_for_its_end();
                bail!("{} ended at once ({status}); it said:\n{}", self.name, self.tail(20));
            }
            if started.elapsed() > APPEAR {
                bail!("{} did not appear within {APPEAR:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The program's process id, as the machine numbers it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn poll(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.outer.try_wait().with_context(|| format!("cannot wait for {}", self.name))?;
        }
        Ok(self.ended)
    }

    /// Whether it is still there.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.poll(), Ok(None))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.poll()?.is_some() {
            bail!("{} has ended already; it said:\n{}", self.name, self.tail(20));
        }
        kill(self.pid, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// When it had ended before.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait(END).map(drop)
    }

    /// SIGTERM, and SIGKILL to what is still there after `patience`.
    ///
    /// # Errors
    /// When it had ended before, or had to be killed.
    pub fn stop(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(patience).or_else(|late| {
            self.kill9()?;
            Err(late)
        })
    }

    /// Waits for its end, and until its last line is here.
    ///
    /// # Errors
    /// When it is still there after `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.poll()? {
                self.output.wait_for_its_end();
                return Ok(status);
            }
            if started.elapsed() > patience {
                bail!("{} did not end within {patience:?}; its last words:\n{}", self.name, self.tail(20));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The lines it wrote so far, standard output and error as they came.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.output.said().lines.iter().cloned().collect()
    }

    /// The last `n` lines, for messages.
    #[must_use]
    pub fn tail(&self, n: usize) -> String {
        let said = self.output.said();
        let skip = said.lines.len().saturating_sub(n);
        said.lines.iter().skip(skip).map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// How many of its lines contain `text`.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        self.output.said().lines.iter().filter(|line| line.contains(text)).count()
    }

    /// Waits for a line (also one that came already) that contains `text`.
    ///
    /// # Errors
    /// When none came in time.
    pub fn wait_for_line(&self, text: &str, patience: Duration) -> Result<String> {
        let deadline = Instant::now() + patience;
        let mut said = self.output.said();
        loop {
            if let Some(line) = said.lines.iter().find(|line| line.contains(text)) {
                return Ok(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(said);
                bail!(
                    "{} never said {text:?} in {patience:?}; its last words:\n{}",
                    self.name,
                    self.tail(20)
                );
            }
            said = self.output.arrived.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        let _ = self.outer.wait();
    }
}

/// Whether a status is that of a program killed by SIGKILL.
#[must_use]
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::SIGKILL as i32)
}

/// A `u32` process id of the standard library, as `nix` wants it.
pub(crate) fn pid_of(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("Linux process ids are at most 2^22"))
}

/// The first child of a process, if it has forked.
pub(crate) fn first_child(parent: Pid) -> Option<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
}

fn read_lines(pipe: impl Read + Send + 'static, output: Arc<Output>) {
    output.said().open += 1;
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { break };
            let mut said = output.said();
            if said.lines.len() == LINES_MAX {
                said.lines.pop_front();
            }
            said.lines.push_back(String::from_utf8_lossy(&line).into_owned());
            output.arrived.notify_all();
        }
        output.said().open -= 1;
        output.arrived.notify_all();
    });
}
