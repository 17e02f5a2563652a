//! What a guest needs of this machine, and what it is told to have: said before it boots, where it cannot be had.

use anyhow::{Context, Result, bail, ensure};

use super::files::Task;
use crate::bench::smtp::idle;

/// What a guest needs besides its connections, in octets: kernel, files, two servers.
const BESIDES_BYTES: u64 = 1 << 30;
/// What a connection takes of this machine's memory, in octets: both ends in the guest's kernel, and the server's own.
const CLEAR_BYTES: u64 = 14 << 10;
const TLS_BYTES: u64 = 34 << 10;
/// What the guest must seem to have for each session that the server has room for: Backstop does not start where all of
/// them could not be busy at once. It is never touched.
const BUSY_BYTES: u64 = 122 << 10;
/// The same for all else that its configuration bounds.
const TABLES_BYTES: u64 = 2 << 30;

/// That a guest runs what is built here.
pub(super) fn ensure_processor() -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "--guest boots an x86-64 machine, and what is built here is for {}: run it on an x86-64 machine",
        std::env::consts::ARCH
    );
    Ok(())
}

/// That this machine has the memory that the guest will use.
pub(super) fn ensure_memory(task: &Task) -> Result<()> {
    let text = std::fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let available = available(&text).context("/proc/meminfo names no MemAvailable")?;
    ensure_it_suffices(task, available)
}

fn ensure_it_suffices(task: &Task, available: u64) -> Result<()> {
    let each = if task.is_tls { TLS_BYTES } else { CLEAR_BYTES };
    let needed = BESIDES_BYTES + task.connections as u64 * each;
    if needed <= available {
        return Ok(());
    }
    let fewer = match available.saturating_sub(BESIDES_BYTES) / each / 1000 * 1000 {
        0 => String::new(),
        count => format!(", or hold no more than --connections {count}"),
    };
    bail!(
        "{} connections in a guest take {} MiB of memory, and this machine has {} available: end other programs{fewer}",
        task.connections,
        needed >> 20,
        available >> 20
    )
}

/// The memory that the guest sees, in MiB: far more than it uses.
pub(super) const fn seen_mib(task: &Task) -> u64 {
    (BESIDES_BYTES + TABLES_BYTES + idle::places(task.connections) as u64 * BUSY_BYTES) >> 20
}

/// Octets that can be had, by `/proc/meminfo`.
fn available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_available_memory_is_read() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn too_little_memory_is_told_with_what_would_fit() {
        let task = Task { is_tls: true, connections: 100_000, pairs: 5, sessions: 300 };
        ensure_it_suffices(&task, 5 << 30).unwrap();
        let error = ensure_it_suffices(&task, 2 << 30).unwrap_err().to_string();
        assert!(error.contains("take 4344 MiB") && error.contains("has 2048"), "{error}");
        assert!(error.contains("--connections 30000"), "{error}");
        ensure_it_suffices(&Task { connections: 30_000, ..task }, 2 << 30).unwrap();
        let error = ensure_it_suffices(&task, 1 << 30).unwrap_err().to_string();
        assert!(error.ends_with("end other programs"), "{error}");
    }
}
