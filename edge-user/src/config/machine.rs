//! Whether this machine allows what the configuration asks for.

use super::problem::{Level, Problem};
use super::{Config, Xdp};

/// Descriptors besides those of sessions: listeners, the control socket, maps, the log, the runtime's own.
const DESCRIPTORS_BESIDES: u64 = 256;

/// What a session keeps in memory besides what it holds, in octets: its read and write buffers and its state.
const SESSION_BYTES: u64 = 40 << 10;

/// What an entry of the reputation's tables takes, in octets.
const SOURCE_BYTES: u64 = 256;

/// What the machine allows. [`Machine::here`] asks it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Descriptors that a process may have (RLIMIT_NOFILE, the hard limit: `run` raises the soft one to it).
    pub descriptors: u64,
    /// Memory, in octets; `None` where it cannot be known.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// This machine.
    ///
    /// # Errors
    /// The limits cannot be asked.
    pub fn here() -> std::io::Result<Self> {
        let (_, descriptors) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
        Ok(Self { descriptors, memory_bytes: memory_bytes() })
    }

    /// What it does not allow of what `config` asks for.
    #[must_use]
    pub fn problems(&self, config: &Config) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut problem = |level, key: &str, text: String| {
            problems.push(Problem { level, line: 0, column: 0, key: key.into(), text });
        };
        let sessions = config.limits.sessions_max as u64;
        // A session has its client's descriptor and its upstream's.
        let descriptors = sessions.saturating_mul(2).saturating_add(DESCRIPTORS_BESIDES);
        if descriptors > self.descriptors {
            let fitting = self.descriptors.saturating_sub(DESCRIPTORS_BESIDES) / 2;
            problem(
                Level::Error,
                "limits.sessions_max",
                format!(
                    "{sessions} sessions need {descriptors} descriptors, and this machine allows {}; set \
                     LimitNOFILE={descriptors} in the unit (or `ulimit -n`), or sessions_max to {fitting}",
                    self.descriptors,
                ),
            );
        }
        if let Some(memory) = self.memory_bytes {
            let needed = memory_needed(config);
            if needed > memory {
                problem(
                    Level::Error,
                    "limits.hold_total_bytes_max",
                    format!(
                        "held bounces, sessions and tables may grow to {} MiB together, and this machine has {} MiB; \
                         lower hold_total_bytes_max, sessions_max or the table sizes",
                        needed >> 20,
                        memory >> 20,
                    ),
                );
            } else if needed > memory / 2 {
                problem(
                    Level::Warning,
                    "limits.hold_total_bytes_max",
                    format!(
                        "held bounces, sessions and tables may grow to {} MiB together, more than half of this \
                         machine's {} MiB",
                        needed >> 20,
                        memory >> 20,
                    ),
                );
            }
        }
        problems
    }
}

/// The most octets that what the configuration bounds can take.
fn memory_needed(config: &Config) -> u64 {
    let reputation = &config.reputation;
    let sources = reputation.newcomers_max + reputation.credited_max + reputation.bans_max;
    let kernel_entries =
        config.xdp.as_ref().map_or(0, |Xdp { bans_max, sources_max, .. }| bans_max + sources_max);
    (config.limits.hold_total_bytes_max as u64)
        .saturating_add((config.limits.sessions_max as u64).saturating_mul(SESSION_BYTES))
        .saturating_add((sources as u64).saturating_mul(SOURCE_BYTES))
        .saturating_add(u64::from(kernel_entries).saturating_mul(SOURCE_BYTES))
}

fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}
