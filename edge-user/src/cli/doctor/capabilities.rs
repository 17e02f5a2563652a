//! Capabilities: what this process has, what the daemon has, and for what the edge needs which.

use std::fs;

use super::Subject;
use super::finding::Findings;
use super::process::{self, BPF, Capability, NET_ADMIN, NET_BIND_SERVICE, PERFMON};
use crate::config::Config;

/// `CAP_SYS_ADMIN`, which stands for `CAP_BPF` and `CAP_PERFMON` too.
const SYS_ADMIN: u32 = 21;

/// What the configuration needs on this machine.
pub(super) fn needed(config: &Config) -> Vec<Capability> {
    let free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok();
    let free = free.and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    needed_from(config, free)
}

/// The same where ports from `free` on need no privilege.
fn needed_from(config: &Config, free: u16) -> Vec<Capability> {
    let outbound = config.outbound.iter().flat_map(|side| &side.listen);
    let low = config.inbound.listen.iter().chain(outbound).any(|address| (1..free).contains(&address.port()));
    let ports = low.then_some(NET_BIND_SERVICE);
    let xdp = config.xdp.as_ref().map(|_| [NET_ADMIN, BPF, PERFMON]);
    ports.into_iter().chain(xdp.into_iter().flatten()).collect()
}

/// Those of `needed` that are not in `held`.
pub(super) fn missing(needed: &[Capability], held: u64) -> Vec<Capability> {
    let has = |number: u32| held >> number & 1 == 1;
    let of_admin = |capability: Capability| [BPF, PERFMON].contains(&capability) && has(SYS_ADMIN);
    let lacks = |capability: &&Capability| !(has(capability.number) || of_admin(**capability));
    needed.iter().filter(lacks).copied().collect()
}

/// In words: each with what it is for.
pub(super) fn words(capabilities: &[Capability]) -> String {
    let word = |capability: &Capability| format!("{} ({})", capability.name, capability.purpose);
    capabilities.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// Whether this process may load XDP programs.
pub(super) fn may_load() -> bool {
    process::capabilities("self").is_some_and(|held| missing(&[NET_ADMIN, BPF, PERFMON], held).is_empty())
}

pub(super) fn ask(subject: &Subject, findings: &mut Findings) {
    let daemon = process::daemon(subject);
    let facts = Facts {
        needed: needed(&subject.config),
        own: process::capabilities("self").unwrap_or(0),
        daemon: daemon.and_then(|(pid, uid)| Some((pid, uid, process::capabilities(&pid.to_string())?))),
    };
    judge(&facts, findings);
}

struct Facts {
    needed: Vec<Capability>,
    own: u64,
    /// The running daemon: process, user, capabilities.
    daemon: Option<(u32, u32, u64)>,
}

fn judge(facts: &Facts, findings: &mut Findings) {
    let here = missing(&facts.needed, facts.own);
    if here.is_empty() {
        findings.good("of this process", "all that the configuration needs");
    } else {
        findings.careful(
            "of this process",
            format!("without {}", words(&here)),
            "to start the edge by hand be root; the unit in contrib/systemd gives it these alone",
        );
    }
    let Some((pid, uid, held)) = facts.daemon else { return };
    let check = format!("of the daemon (pid {pid})");
    if uid == 0 {
        findings.careful(
            check,
            "it runs as root",
            "give it a user of its own: the unit in contrib/systemd does",
        );
    } else if held == 0 {
        findings.good(check, format!("user {uid}; it gave them all up once it had started"));
    } else {
        findings.good(check, format!("user {uid}, which is not root"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State::{Careful, Good};
    use super::super::sample;
    use super::*;

    const ALL: u64 = (1 << 41) - 1;
    const FOUR: u64 = 1 << 10 | 1 << 12 | 1 << 38 | 1 << 39;

    #[test]
    fn what_is_needed_follows_from_the_configuration() {
        let names = |listen: &str, more: &str, free| {
            needed_from(&sample(listen, more), free).iter().map(|one| one.name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names("127.0.0.1:25", "", 1024), "CAP_NET_BIND_SERVICE");
        assert_eq!(names("127.0.0.1:25", "", 0), "");
        assert_eq!(names("127.0.0.1:2525", "", 1024), "");
        let xdp = "[xdp]\ninterface = \"eth0\"\n";
        assert_eq!(names("127.0.0.1:2525", xdp, 1024), "CAP_NET_ADMIN CAP_BPF CAP_PERFMON");
    }

    #[test]
    fn a_missing_capability_is_named_with_its_purpose() {
        let needed = vec![NET_BIND_SERVICE, NET_ADMIN, BPF, PERFMON];
        assert_eq!(missing(&needed, ALL), []);
        assert_eq!(missing(&needed, FOUR), []);
        assert_eq!(
            missing(&needed, 1 << 10 | 1 << 12 | 1 << 21),
            [],
            "CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON"
        );
        let rows = [
            (ALL, None, vec![Good]),
            (0, None, vec![Careful]),
            (ALL, Some((7, 0, ALL)), vec![Good, Careful]),
            (0, Some((7, 900, FOUR)), vec![Careful, Good]),
            (0, Some((7, 900, 0)), vec![Careful, Good]),
        ];
        for (own, daemon, expected) in rows {
            let mut findings = Findings::of("capabilities");
            judge(&Facts { needed: needed.clone(), own, daemon }, &mut findings);
            let states: Vec<_> = findings.states().into_iter().map(|(state, _)| state).collect();
            assert_eq!(states, expected, "{}", findings.text());
            if own == 0 {
                assert!(findings.text().contains("CAP_NET_BIND_SERVICE (listening at a port below 1024)"));
            }
        }
    }
}
