//! The kernel: whether it has what the XDP program needs, and takes it.

use std::fs;
use std::io;

use super::Subject;
use super::finding::{Findings, all_of};
use crate::dataplane;

/// The oldest kernel: links of XDP programs came with 5.9 (commit aa8d3a716b59), ring buffers with 5.8 (457f44363a88),
/// atomic operations that return a value with 5.12 (5ca419f2864a).
const OLDEST: (u32, u32) = (5, 12);

/// What was asked.
struct Facts {
    release: String,
    /// Whether there is a network card to protect.
    xdp: bool,
    /// `/proc/sys/net/core/bpf_jit_enable`, where it can be read.
    jit: Option<String>,
    /// Whether the kernel took the program; `None`: not tried.
    tried: Option<Result<(), Refusal>>,
}

struct Refusal {
    /// Whether this process lacks the privilege.
    privilege: bool,
    said: String,
}

pub(super) fn ask(subject: &Subject, findings: &mut Findings) {
    let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let xdp = subject.config.xdp.as_ref();
    let facts = Facts {
        release: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        xdp: xdp.is_some(),
        jit: read("/proc/sys/net/core/bpf_jit_enable"),
        tried: xdp.map(|settings| {
            dataplane::try_kernel(settings).map_err(|error| {
                let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
                let errno = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).last();
                let denied = errno.is_some_and(|errno| errno.kind() == io::ErrorKind::PermissionDenied);
                Refusal { privilege: denied && !super::capabilities::may_load(), said: all_of(&error) }
            })
        }),
    };
    judge(&facts, findings);
}

/// Major and minor number of a release such as `6.1.0-28-cloud-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn judge(facts: &Facts, findings: &mut Findings) {
    let (major, minor) = OLDEST;
    let advice = format!("the network card's protection needs Linux {major}.{minor} or newer");
    match (version(&facts.release), facts.xdp) {
        (Some(version), _) if version >= OLDEST => {
            let found = format!("{}: XDP links, ring buffers and atomics; BTF is not needed", facts.release);
            findings.good("version", found);
        }
        (Some(_), true) => findings.bad(
            "version",
            format!("{} is too old for XDP as it is used here", facts.release),
            format!("{advice}; or take [xdp] out of the configuration"),
        ),
        (Some(_), false) => {
            findings.careful("version", format!("{} is too old for [xdp]", facts.release), advice);
        }
        (None, _) => findings.careful("version", "not to be found in /proc", advice),
    }
    match &facts.tried {
        None => {}
        Some(Ok(())) => findings.good("XDP program", "the kernel's verifier takes it"),
        Some(Err(refusal)) if refusal.privilege => {
            findings.untold("XDP program", "not tried: this process may load none");
        }
        Some(Err(refusal)) => findings.bad(
            "XDP program",
            refusal.said.clone(),
            "report it with the kernel's version; until then run without [xdp], or with `backstop run --no-xdp`",
        ),
    }
    if facts.xdp && facts.jit.as_deref() == Some("0") {
        findings.careful(
            "BPF compiler",
            "off: each packet is judged by an interpreter",
            "sysctl -w net.core.bpf_jit_enable=1, and the same in /etc/sysctl.d",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State::{self, Bad, Careful, Good};
    use super::*;

    #[test]
    fn a_release_is_read_whatever_follows_its_numbers() {
        for (release, expected) in [
            ("6.1.0-28-cloud-amd64", Some((6, 1))),
            ("5.12", Some((5, 12))),
            ("6.18.3+", Some((6, 18))),
            ("", None),
            ("six", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
    }

    #[test]
    fn kernels_are_judged_by_what_is_asked_of_them() {
        let refused = |privilege| Some(Err(Refusal { privilege, said: "invalid argument".into() }));
        type Row<'a> = (&'a str, bool, Option<&'a str>, Option<Result<(), Refusal>>, Vec<(State, &'a str)>);
        let rows: Vec<Row<'_>> = vec![
            ("6.1.0", true, Some("1"), Some(Ok(())), vec![(Good, "version"), (Good, "XDP program")]),
            ("6.1.0", false, Some("0"), None, vec![(Good, "version")]),
            ("5.10.0", true, None, refused(false), vec![(Bad, "version"), (Bad, "XDP program")]),
            ("5.10.0", false, None, None, vec![(Careful, "version")]),
            ("6.1.0", true, None, refused(true), vec![(Good, "version"), (Careful, "XDP program")]),
            (
                "6.1.0",
                true,
                Some("0"),
                Some(Ok(())),
                vec![(Good, "version"), (Good, "XDP program"), (Careful, "BPF compiler")],
            ),
            ("", true, None, None, vec![(Careful, "version")]),
        ];
        for (release, xdp, jit, tried, expected) in rows {
            let mut findings = Findings::of("kernel");
            let facts = Facts { release: release.into(), xdp, jit: jit.map(Into::into), tried };
            judge(&facts, &mut findings);
            assert_eq!(findings.states(), expected, "{release} {}", findings.text());
        }
    }
}
