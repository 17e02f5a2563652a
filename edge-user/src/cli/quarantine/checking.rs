//! Whether the quarantine could take messages, for `backstop check`: said before the first bounce is deferred.

use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use crate::config::{Config, Level, Problem};
use crate::engine::quarantine::DIR;

/// What keeps the quarantine from taking messages, where something is to be quarantined. Nothing is made or written.
pub(crate) fn problems(config: &Config) -> Vec<Problem> {
    if !config.policy().quarantines() {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let mut problem = |level, key: &str, text| {
        problems.push(Problem { level, line: 0, column: 0, key: key.into(), text });
    };
    let dir = config.state.dir.join(DIR);
    // What is not there is made at the start, where the nearest folder above allows it.
    let Some(there) = dir.ancestors().find(|path| path.exists()) else { return problems };
    if let Err(errno) = access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        let text = format!(
            "a filter quarantines, but {} cannot be written ({}): bounces for it would be deferred",
            there.display(),
            errno.desc(),
        );
        problem(Level::Error, "state.dir", text);
    }
    match free_bytes(there) {
        Some(free) if free < config.quarantine.free_bytes_min => {
            let text = format!(
                "a filter quarantines, but the file system of {} has {} MiB left, and {} are to stay free: bounces for \
                 it would be deferred",
                there.display(),
                free >> 20,
                config.quarantine.free_bytes_min >> 20,
            );
            problem(Level::Warning, "quarantine.free_bytes_min", text);
        }
        Some(_) | None => {}
    }
    problems
}

fn free_bytes(path: &Path) -> Option<u64> {
    let room = statvfs(path).ok()?;
    Some(room.blocks_available().saturating_mul(room.fragment_size()))
}
