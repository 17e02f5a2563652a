//! CPU time, user and system, of a process and all below it.
//!
//! A living process is asked by its CPU clock, to the nanosecond, its ended threads included. Its ended children stand in
//! `/proc/PID/stat`, in ticks (10 ms). Interrupts that the kernel handles on a process's time count as that process's,
//! as everywhere on Linux.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Processes below one that are looked at, at most: far more than any server that is measured has.
const PROCESSES_MAX: usize = 4096;

/// What a process and all below it, living or ended, have used so far.
///
/// # Errors
/// The process is gone.
pub fn of_tree(root: u32) -> Result<Duration> {
    let mut all = vec![root];
    let mut used = Duration::ZERO;
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        match of_process(pid) {
            Ok(own) => used += own,
            // A child that ended just now is in its parent's account, now or at the next look.
            Err(_) if pid != root => {}
            Err(error) => return Err(error),
        }
        if all.len() < PROCESSES_MAX {
            all.extend(children(pid));
        }
        next += 1;
    }
    Ok(used)
}

/// What this process has used so far.
///
/// # Errors
/// The kernel does not say.
pub fn of_this_process() -> Result<Duration> {
    let now = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).context("this process's CPU clock")?;
    Ok(now.into())
}

/// How often this process was taken off its core: because it waited, and because another wanted the core.
///
/// # Errors
/// The kernel does not say.
pub fn switches_of_this_process() -> Result<(i64, i64)> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("this process's usage")?;
    Ok((usage.voluntary_context_switches(), usage.involuntary_context_switches()))
}

/// One process, and those of its children that ended.
fn of_process(pid: u32) -> Result<Duration> {
    let id = Pid::from_raw(i32::try_from(pid).context("a process id beyond 2^31")?);
    let clock = clock_getcpuclockid(id).with_context(|| format!("no process {pid}"))?;
    let own = clock_gettime(clock).with_context(|| format!("the CPU clock of process {pid}"))?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("/proc/{pid}/stat: the process is gone"))?;
    let ticks = ticks_of_ended_children(&stat).with_context(|| format!("/proc/{pid}/stat: {stat}"))?;
    let per_sec = sysconf(SysconfVar::CLK_TCK).ok().flatten().context("ticks a second")?;
    let ended = Duration::from_nanos(ticks * 1_000_000_000 / u64::try_from(per_sec)?.max(1));
    Ok(Duration::from(own) + ended)
}

/// `cutime` and `cstime` of a line of `/proc/PID/stat` (proc(5)). The name, in parentheses, may hold anything.
fn ticks_of_ended_children(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(13);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The processes that any thread of a process started and that have not ended.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn ended_children_are_read_whatever_the_name_holds() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 200 0 0 11 12 7 9 20 0 2 0 100 0 0";
        assert_eq!(ticks_of_ended_children(stat), Some(16));
        assert_eq!(ticks_of_ended_children("42 (cut) S 1 42"), None);
        assert_eq!(ticks_of_ended_children(""), None);
    }

    #[test]
    fn work_of_this_process_counts() {
        let own = std::process::id();
        let before = of_tree(own).unwrap();
        let mut sum = 0u64;
        while of_this_process().unwrap() < before + Duration::from_millis(30) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(of_tree(own).unwrap() >= before + Duration::from_millis(20));
    }

    #[test]
    fn work_of_a_living_child_counts_and_of_an_ended_one_too() {
        // Its child works and ends; then it works itself, says so, and waits.
        let work = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done";
        let script = format!("(: ; {work}; :); {work}; echo done; read line");
        let mut shell = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut said)
            .unwrap();
        let own = of_process(shell.id()).unwrap();
        let with_this = of_tree(std::process::id()).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", shell.id())).unwrap();
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(own > Duration::ZERO && with_this >= own, "{own:?} of {with_this:?}");
        assert!(ticks_of_ended_children(&stat).unwrap() > 0, "{stat}");
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(of_tree(child.id()).is_err());
    }
}
