//! `backstop-confine NAMES PROGRAM ARGUMENTS...`: runs a program under the seccomp filters that systemd would put on a
//! service with `SystemCallFilter=NAMES`, `RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK`,
//! `MemoryDenyWriteExecute=yes` and `RestrictNamespaces=yes`. The tests have no systemd to do it.
//!
//! NAMES are the system calls that are allowed, with commas between; numbers come from the kernel's header. Any other
//! call fails with EPERM, as the unit says; `clone3`, whose flags no filter can read, with ENOSYS, as systemd has it.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// The numbers of x86_64 (package linux-libc-dev, which a C compiler needs).
const HEADER: &str = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";

const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_NETLINK: u64 = 16;
const PROT_WRITE: u64 = 2;
const PROT_EXEC: u64 = 4;
const SHM_EXEC: u64 = 0o100_000;
/// The bits of `CLONE_NEW...` of sched.h.
const CLONE_NEW: u64 = 0x7e02_0080;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let names = arguments.next().context("no system calls named")?;
    let program = arguments.next().context("no program named")?;
    let header = std::fs::read_to_string(HEADER).with_context(|| format!("cannot read {HEADER}"))?;
    let clone3 = BTreeMap::from([(number("clone3", &header).context("no clone3")?, Vec::new())]);
    apply(clone3, SeccompAction::Allow, SeccompAction::Errno(38))?;
    // Last: it does not allow to put on another.
    apply(allow_list(&names, &header)?, SeccompAction::Errno(1), SeccompAction::Allow)?;
    let error = Command::new(&program).args(arguments).exec();
    bail!("cannot start {program}: {error}")
}

/// The calls, each with the conditions under which it is allowed. Names that this architecture does not have are left out.
fn allow_list(names: &str, header: &str) -> Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut allowed = BTreeMap::new();
    for name in names.split(',') {
        if let Some(number) = number(name, header) {
            allowed.insert(number, conditions(name)?);
        }
    }
    Ok(allowed)
}

fn conditions(name: &str) -> Result<Vec<SeccompRule>> {
    use SeccompCmpOp::{Eq, MaskedEq};
    let rules = match name {
        "socket" => [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK].map(|family| (0, Eq, family)).to_vec(),
        // Writable or executable, not both.
        "mmap" => vec![(2, MaskedEq(PROT_WRITE), 0), (2, MaskedEq(PROT_EXEC), 0)],
        "mprotect" | "pkey_mprotect" => vec![(2, MaskedEq(PROT_EXEC), 0)],
        "shmat" => vec![(2, MaskedEq(SHM_EXEC), 0)],
        "clone" | "unshare" => vec![(0, MaskedEq(CLONE_NEW), 0)],
        _ => Vec::new(),
    };
    let rule = |(argument, compare, value)| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value)?;
        Ok(SeccompRule::new(vec![condition])?)
    };
    rules.into_iter().map(rule).collect()
}

fn number(name: &str, header: &str) -> Option<i64> {
    header
        .lines()
        .find_map(|line| line.strip_prefix("#define __NR_")?.strip_prefix(name)?.trim().parse().ok())
}

fn apply(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    others: SeccompAction,
    matching: SeccompAction,
) -> Result<()> {
    let filter = SeccompFilter::new(rules, others, matching, TargetArch::x86_64)?;
    let program: BpfProgram = filter.try_into()?;
    apply_filter(&program).context("the kernel takes no filter")
}
