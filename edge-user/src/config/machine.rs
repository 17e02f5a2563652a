//! Whether this machine allows what the configuration asks for.

use super::problem::{Level, Problem};
use super::{Config, FORWARDED_MAILBOXES_MAX, READ_BUFFER_BYTES, TlsMode};

/// Descriptors besides those of sessions: listeners, the control socket, maps, the log, the runtime's own.
const DESCRIPTORS_BESIDES: u64 = 256;

/// What a session keeps in memory besides what it holds, in octets: its read and write buffers and its state.
const SESSION_BYTES: u64 = 40 << 10;

/// What TLS adds to a connection, in octets: its keys, a record that has not come whole, and one that is not taken.
const TLS_BYTES: u64 = 44 << 10;

/// What a session keeps besides while it looks for a proof in a bounce (the window of the search for tokens, a field and
/// a line of that for Message-IDs), or while it brings one into the quarantine (a piece on its way to the disk).
const UNDECIDED_BYTES: u64 = 20 << 10;
const DRAFT_BYTES: u64 = 16 << 10;

/// Large read buffers, for messages that come fast: all of them.
const LARGE_BUFFERS_BYTES: u64 = 64 * (128 << 10);

/// Copies of bounces that watching looks at, and as much again for the one that is parsed.
const SAMPLES_BYTES: u64 = 2 * (16 << 20);

/// What an entry of a table takes, in octets: a source (or a ban, here or in the kernel), a token's uses, a
/// correspondent's domain, a mailbox, a mailbox's rate.
const SOURCE_BYTES: u64 = 256;
const USES_BYTES: u64 = 64;
const CORRESPONDENT_BYTES: u64 = 64;
const MAILBOX_BYTES: u64 = 256;
const RATE_BYTES: u64 = 64;
/// An entry of the record: a day that is over, and today, whose table may have grown just now.
const RECORDED_BYTES: u64 = 5;
const RECORDED_TODAY_BYTES: u64 = 20;
/// What is known in memory of a quarantined message and of its source; and a row of the list that a caller of the control socket asks for.
const QUARANTINED_BYTES: u64 = 160;
const ROW_BYTES: u64 = 1 << 10;
/// A line that waits in the log's queue, with as many recipients as it names.
const LINE_BYTES: u64 = 4 << 10;
/// Callers at once, as `control` admits them.
const CALLERS_MAX: u64 = 16;

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

    /// How many descriptors `config` may need.
    #[must_use]
    pub fn descriptors_needed(config: &Config) -> u64 {
        // Others than those in use wait for the next transaction.
        let kept = servers(config).saturating_mul(config.limits.upstream_idle_max as u64);
        let sessions = config.limits.sessions_max as u64;
        [Self::second_descriptors(config), kept, DESCRIPTORS_BESIDES]
            .into_iter()
            .fold(sessions, u64::saturating_add)
    }

    /// Sessions that may have a second descriptor, besides their client's: that of an upstream, or of a file.
    fn second_descriptors(config: &Config) -> u64 {
        let sessions = config.limits.sessions_max as u64;
        // A message that goes to the quarantine is a file; no other bound than that of the sessions is on those.
        if config.may_quarantine() {
            return sessions;
        }
        sessions.min(servers(config).saturating_mul(config.limits.upstream_connections_max as u64))
    }

    /// To how many octets held bounces, sessions and tables may grow together.
    #[must_use]
    pub fn memory_needed(config: &Config) -> u64 {
        memory_needed(config)
    }

    /// What it does not allow of what `config` asks for.
    #[must_use]
    pub fn problems(&self, config: &Config) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut problem = |level, key: &str, text: String| {
            problems.push(Problem { level, line: 0, column: 0, key: key.into(), text });
        };
        let sessions = config.limits.sessions_max as u64;
        let descriptors = Self::descriptors_needed(config);
        if descriptors > self.descriptors {
            // Each session with two: that always fits.
            let besides = descriptors - sessions - Self::second_descriptors(config);
            let fitting = self.descriptors.saturating_sub(besides) / 2;
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
            // Every session may be one that hands us outgoing mail, but only to the operator's own servers: no attacker
            // gets there, so it does not keep the edge from starting.
            let with_headers = needed.saturating_add(header_memory(config));
            if needed <= memory && with_headers > memory {
                problem(
                    Level::Warning,
                    "limits.header_bytes_max",
                    format!(
                        "header sections of outgoing mail, held bounces, sessions and tables may grow to {} MiB \
                         together, and this machine has {} MiB; lower header_bytes_max or sessions_max",
                        with_headers >> 20,
                        memory >> 20,
                    ),
                );
            }
        }
        problems
    }
}

/// The most octets that header sections of outgoing mail can take while they are collected: each, and the read's worth
/// of message that came with its end.
fn header_memory(config: &Config) -> u64 {
    let each = (config.limits.header_bytes_max as u64).saturating_add(READ_BUFFER_BYTES as u64);
    config.outbound.as_ref().map_or(0, |_| each.saturating_mul(config.limits.sessions_max as u64))
}

/// The most octets that what the configuration bounds can take, but for [`header_memory`].
fn memory_needed(config: &Config) -> u64 {
    let (limits, reputation) = (&config.limits, &config.reputation);
    let in_kernel = config.xdp.as_ref().map_or([0, 0], |xdp| [xdp.bans_max, xdp.sources_max]);
    let tables = [
        (limits.hold_total_bytes_max as u64, 1),
        (limits.sessions_max as u64, SESSION_BYTES + UNDECIDED_BYTES + DRAFT_BYTES),
        (tls_connections(config), TLS_BYTES),
        (1, SAMPLES_BYTES),
        (1, LARGE_BUFFERS_BYTES),
        (config.kinds.mailboxes_max as u64 + FORWARDED_MAILBOXES_MAX as u64, RATE_BYTES),
        (config.quarantine.messages_max as u64, ROW_BYTES * CALLERS_MAX),
        (reputation.newcomers_max as u64, SOURCE_BYTES),
        (reputation.credited_max as u64, SOURCE_BYTES),
        // The operator's own have as much room again.
        (reputation.bans_max as u64, 2 * SOURCE_BYTES),
        (reputation.correspondents_max as u64, CORRESPONDENT_BYTES),
        (config.signature.uses_max as u64, USES_BYTES),
        (limits.mailbox_cache_max as u64, MAILBOX_BYTES),
        (config.quarantine.messages_max as u64, QUARANTINED_BYTES),
        (config.log.queue_lines_max as u64, LINE_BYTES),
        (
            config.record.messages_per_day_max as u64,
            RECORDED_TODAY_BYTES + RECORDED_BYTES * u64::from(config.signature.max_age_days),
        ),
        (u64::from(in_kernel[0]), SOURCE_BYTES),
        (u64::from(in_kernel[1]), SOURCE_BYTES),
    ];
    tables.iter().fold(0, |sum: u64, (entries, bytes)| sum.saturating_add(entries.saturating_mul(*bytes)))
}

fn servers(config: &Config) -> u64 {
    config.servers().len() as u64
}

/// How many connections with TLS there can be at once: clients', and as many to servers.
fn tls_connections(config: &Config) -> u64 {
    let clients = !config.tls.certificates.is_empty();
    let servers = config.tls.upstreams.iter().any(|upstream| upstream.mode != TlsMode::Off);
    (config.limits.sessions_max as u64).saturating_mul(u64::from(clients) + u64::from(servers))
}

/// The machine's memory, or what its control group may have of it.
fn memory_bytes() -> Option<u64> {
    // Not from /proc/meminfo, which a service with `ProcSubset=pid` does not see.
    let machine = nix::sys::sysinfo::sysinfo().ok()?.ram_total();
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group: Option<u64> = group.and_then(|text| text.trim().parse().ok());
    Some(machine.min(group.unwrap_or(u64::MAX)))
}
