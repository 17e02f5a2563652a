//! Descriptors and memory, against what the configuration may need.

use super::Subject;
use super::finding::Findings;
use super::process;
use crate::config::{Config, Level, Machine, Problem};

pub(super) fn ask(subject: &Subject, findings: &mut Findings) {
    let here = match Machine::here() {
        Ok(here) => here,
        Err(error) => {
            return findings.careful(
                "limits",
                format!("cannot be asked: {error}"),
                "ulimit -n says one of them",
            );
        }
    };
    let daemon = process::daemon(subject).and_then(|(pid, _)| Some((pid, process::descriptors(pid)?)));
    let (machine, whose) = match daemon {
        Some((pid, descriptors)) => (Machine { descriptors, ..here }, format!("the daemon (pid {pid})")),
        None => (here, "a process started from here".to_owned()),
    };
    judge(&subject.config, &machine, &whose, findings);
}

fn judge(config: &Config, machine: &Machine, whose: &str, findings: &mut Findings) {
    let problems = machine.problems(config);
    let of = |key: &str| problems.iter().find(|problem| problem.key == key);
    let descriptors = match machine.descriptors {
        u64::MAX => "any number".to_owned(),
        number => number.to_string(),
    };
    let needed = Machine::descriptors_needed(config);
    match of("limits.sessions_max") {
        Some(problem) => tell("descriptors", problem, findings),
        None => {
            findings.good("descriptors", format!("{whose} may have {descriptors}, {needed} may be needed"))
        }
    }
    let needed = Machine::memory_needed(config) >> 20;
    match (of("limits.hold_total_bytes_max"), machine.memory_bytes) {
        (Some(problem), _) => tell("memory", problem, findings),
        (None, Some(memory)) => findings.good(
            "memory",
            format!("{} MiB, of which all tables and buffers take at most {needed}", memory >> 20),
        ),
        (None, None) => {
            findings.careful("memory", "cannot be told", format!("the edge may take up to {needed} MiB"));
        }
    }
    if let Some(problem) = of("limits.header_bytes_max") {
        tell("memory for outgoing mail", problem, findings);
    }
}

/// A problem as `check` knows it: what was found, and behind the semicolon what to do.
fn tell(check: &str, problem: &Problem, findings: &mut Findings) {
    let (found, advice) =
        problem.text.split_once("; ").unwrap_or((&problem.text, "lower it, or let other programs have less"));
    match problem.level {
        Level::Error => findings.bad(check, found, advice),
        Level::Warning => findings.careful(check, found, advice),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State::{Bad, Careful, Good};
    use super::*;

    #[test]
    fn a_machine_is_judged_by_what_the_configuration_may_need() {
        let config = super::super::sample("127.0.0.1:25", "[limits]\nsessions_max = 1000\n");
        let needed = Machine::memory_needed(&config);
        for (descriptors, memory_bytes, expected) in [
            (100_000, Some(needed * 4), [Good, Good]),
            (u64::MAX, Some(needed * 4), [Good, Good]),
            (1500, Some(needed * 4), [Bad, Good]),
            (100_000, Some(needed + 1), [Good, Careful]),
            (100_000, Some(needed - 1), [Good, Bad]),
            (100_000, None, [Good, Careful]),
        ] {
            let mut findings = Findings::of("limits");
            judge(&config, &Machine { descriptors, memory_bytes }, "it", &mut findings);
            let states: Vec<_> = findings.states().into_iter().map(|(state, _)| state).collect();
            assert_eq!(states, expected, "{}", findings.text());
        }
    }
}
