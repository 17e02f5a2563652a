//! What a process has in memory, as the kernel counts it in `/proc/PID/smaps_rollup` (proc(5)).

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Octets of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// That nobody else has: what would be free without this process.
    pub private: u64,
    /// The same and its share of what several have.
    pub proportional: u64,
}

/// What a process has now.
///
/// # Errors
/// The process is gone.
pub fn of(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{path}: the process is gone"))?;
    read(&text).with_context(|| format!("{path}: {text}"))
}

fn read(text: &str) -> Option<Memory> {
    let kib = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    let private = kib("Private_Clean")? + kib("Private_Dirty")?;
    Some(Memory { private: private << 10, proportional: kib("Pss")? << 10 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let text = "5581-7ffc ---p 00000000 00:00 0    [rollup]\nRss:    1200 kB\nPss:     700 kB\nPss_Dirty:  3 kB\n\
                    Private_Clean:    100 kB\nPrivate_Dirty:    500 kB\n";
        assert_eq!(read(text), Some(Memory { private: 600 << 10, proportional: 700 << 10 }));
        assert_eq!(read("Pss: 700 kB\n"), None);
    }

    #[test]
    fn memory_that_is_used_counts() {
        let own = std::process::id();
        let before = of(own).unwrap().private;
        // So much that what other tests of this process let go meanwhile, some 20 MiB each, does not hide it.
        let used = vec![1_u8; 128 << 20];
        let with = of(own).unwrap();
        assert!(with.private >= before + (64 << 20) && with.proportional > 64 << 20, "{before}, {with:?}");
        drop(used);
    }
}
