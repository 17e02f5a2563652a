//! Which cores there are, and who has which: what is measured never shares one with the load where there are two.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// What a program's command begins with that is to have a core before all else: it becomes a session of its own, with the
/// highest weight that nice values give (sched(7), the autogroup feature, where it is on). Only root can do that.
pub(super) const FIRST: [&str; 5] =
    ["setsid", "sh", "-c", "echo -20 2>/dev/null >/proc/self/autogroup; exec nice -n -20 \"$@\"", "sh"];

/// This process, or this thread of it.
const THIS: Pid = Pid::from_raw(0);

/// The cores that this process may use, at least one.
fn allowed() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(THIS).context("the cores of this process")?;
    Ok((0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false)).collect())
}

/// The first and the last core that this process may use: the same one where there is only one.
pub(super) fn first_and_last() -> Result<(usize, usize)> {
    let cores = allowed()?;
    let first = *cores.first().context("no core at all")?;
    Ok((first, *cores.last().unwrap_or(&first)))
}

/// All cores but the last, and the last one. Where there is one only, both are that.
pub(super) fn all_and_last() -> Result<(Vec<usize>, usize)> {
    let mut cores = allowed()?;
    let last = cores.pop().context("no core at all")?;
    Ok(if cores.is_empty() { (vec![last], last) } else { (cores, last) })
}

/// Holds this thread to a core, with all that it starts from here on.
pub(super) fn hold_this_thread_to(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core).context("a core's number")?;
    sched_setaffinity(THIS, &set).with_context(|| format!("cannot hold this thread to core {core}"))
}
