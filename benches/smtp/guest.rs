//! What the load does inside a guest: a machine of its own, where a process may have as many descriptors as it takes to
//! hold 100,000 connections. It holds them, looks at the server's memory at each step, plays active sessions beside
//! them and alone by turns, and tells each figure as one line of JSON.
//!
//! The guest's init starts the servers before it; `cargo xtask bench smtp --guest` reads the lines and judges them.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::held::{self, Held};
use crate::load::Load;
use crate::memory::{self, Memory};
use crate::row::{MAILBOXES, Row};

/// How long the servers may take until they listen: a guest is slow.
const START: Duration = Duration::from_secs(90);
/// How long the server has to come to rest before its memory is looked at.
const REST: Duration = Duration::from_secs(3);
/// Connections that are opened between two lines of progress.
const PROGRESS: usize = 2_500;

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Task {
    /// The server that holds the connections.
    pub target: SocketAddr,
    /// Its process.
    pub pid: u32,
    /// The server that has nothing beside.
    pub calm: SocketAddr,
    /// What else must listen before anything begins.
    pub sink: SocketAddr,
    /// How many connections are held at each step, ascending.
    pub steps: Vec<usize>,
    /// Source addresses: the first of them and how many.
    pub sources: (Ipv4Addr, u32),
    /// With it connections go over to TLS: the certificate (PEM) that the server must show.
    pub certificate: Option<PathBuf>,
    /// How often active sessions are measured, beside the connections and alone.
    pub pairs: u32,
    /// Active sessions each time.
    pub sessions: u64,
}

/// One line of what it tells.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Told {
    /// Connections are being opened: how many there are, and the seconds since the first.
    Opened {
        /// Connections that are held.
        connections: usize,
        /// Seconds since the first of all was opened, the rests included.
        secs: f64,
    },
    /// A step is reached, and the server at rest.
    Step {
        /// Connections that are held.
        connections: usize,
        /// The server's memory with them.
        memory: Memory,
    },
    /// Active sessions at the server that has nothing beside: the median and the 99th percentile, in microseconds.
    Alone([f64; 2]),
    /// The same at the server that holds the connections.
    Beside([f64; 2]),
    /// All connections were still there at the end, and nothing had come on them.
    Done,
    /// It could not be measured, and why.
    Failed(String),
}

impl Told {
    /// Reads a line.
    ///
    /// # Errors
    /// It is none of these.
    pub fn read(line: &str) -> Result<Self> {
        serde_json::from_str(line.trim()).with_context(|| format!("the guest said: {line:?}"))
    }
}

impl Task {
    /// Does it, and tells of it; the last line is [`Told::Done`] or [`Told::Failed`].
    ///
    /// # Errors
    /// Nobody can be told.
    pub fn run(&self, out: &mut impl Write) -> Result<()> {
        let mut tell = |told: &Told| -> Result<()> {
            writeln!(out, "{}", serde_json::to_string(told)?).and_then(|()| out.flush()).context("telling")
        };
        let last = match self.measure(&mut tell) {
            Ok(()) => Told::Done,
            Err(error) => Told::Failed(format!("{error:#}")),
        };
        tell(&last)
    }

    fn measure(&self, tell: &mut impl FnMut(&Told) -> Result<()>) -> Result<()> {
        for address in [self.sink, self.target, self.calm] {
            wait_until_listening(address)?;
        }
        // Each mailbox is asked for once, and every table and pool has its entries.
        for server in [self.calm, self.target] {
            for row in [Row::RefusedRcpt, Row::ScannedDiscarded] {
                self.play(server, row, u64::from(MAILBOXES))?;
            }
            self.play(server, Row::RefusedRcpt, self.sessions)?;
        }
        let tls = self.certificate.as_deref().map(held::clients).transpose()?;
        let mut held = Held::new(self.target, self.sources, tls);
        let begun = Instant::now();
        for step in &self.steps {
            while held.count() < *step {
                held.open_until(step.min(&(held.count() + PROGRESS)).to_owned())?;
                tell(&Told::Opened { connections: held.count(), secs: begun.elapsed().as_secs_f64() })?;
            }
            std::thread::sleep(REST);
            tell(&Told::Step { connections: *step, memory: memory::of(self.pid)? })?;
        }
        for pair in 0..self.pairs {
            // What grows warmer or busier on the way favours nobody.
            for beside in [pair % 2 == 1, pair % 2 == 0] {
                let server = if beside { self.target } else { self.calm };
                let micros = self.play(server, Row::RefusedRcpt, self.sessions)?;
                tell(&if beside { Told::Beside(micros) } else { Told::Alone(micros) })?;
            }
        }
        held.ensure_open()
    }

    /// One active session after another.
    fn play(&self, target: SocketAddr, row: Row, sessions: u64) -> Result<[f64; 2]> {
        let dialogues = row.dialogues();
        let load = Load { target, sources: Some(self.sources), sessions, at_once: 1, dialogues, tls: None };
        Ok(load.run().with_context(|| format!("{} at {target}", row.name()))?.micros)
    }
}

fn wait_until_listening(address: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + START;
    while let Err(error) = TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
        if Instant::now() > deadline {
            bail!("nobody listens at {address}: {error}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::Floor;

    fn told(task: &Task) -> Vec<Told> {
        let mut out = Vec::new();
        task.run(&mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(|line| Told::read(line).unwrap()).collect()
    }

    fn task() -> Task {
        Task {
            target: Floor::in_a_thread(),
            pid: std::process::id(),
            calm: Floor::in_a_thread(),
            sink: Floor::in_a_thread(),
            steps: vec![5, 20],
            sources: (Ipv4Addr::new(127, 0, 4, 1), 7),
            certificate: None,
            pairs: 2,
            sessions: 10,
        }
    }

    #[test]
    fn each_step_and_each_turn_is_told_and_reads_as_it_was_written() {
        let told = told(&task());
        let steps: Vec<usize> = told
            .iter()
            .filter_map(
                |told| if let Told::Step { connections, .. } = told { Some(*connections) } else { None },
            )
            .collect();
        assert_eq!(steps, [5, 20]);
        let turns: String = told
            .iter()
            .map(|told| match told {
                Told::Alone(_) => "a",
                Told::Beside(_) => "b",
                Told::Opened { .. } | Told::Step { .. } | Told::Done | Told::Failed(_) => "",
            })
            .collect();
        assert_eq!(turns, "abba");
        assert_eq!(told.last(), Some(&Told::Done));
    }

    #[test]
    fn what_cannot_be_measured_is_told_too() {
        let told = told(&Task { pid: u32::MAX, ..task() });
        assert!(
            matches!(told.last(), Some(Told::Failed(why)) if why.contains("process is gone")),
            "{told:?}"
        );
    }

    #[test]
    fn what_is_no_line_of_it_is_shown() {
        let error = format!("{:#}", Told::read("Kernel panic - not syncing\r\n").unwrap_err());
        assert!(error.contains("Kernel panic"), "{error}");
    }
}
