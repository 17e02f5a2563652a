//! The BPF file system, and what is pinned there.

use std::path::PathBuf;

use super::Subject;
use super::finding::Findings;
use super::{process, unit};
use crate::dataplane::{self, PinDir};

struct Facts {
    dir: PathBuf,
    pins: PinDir,
    /// The user that the edge runs, or is to run, as.
    user: Option<u32>,
}

pub(super) fn ask(subject: &Subject, findings: &mut Findings) {
    let Some(xdp) = &subject.config.xdp else { return };
    match dataplane::look_at_pins(&xdp.pin_dir) {
        Ok(pins) => {
            let user = process::daemon(subject).map(|(_, uid)| uid).or_else(unit::user);
            judge(&Facts { dir: xdp.pin_dir.clone(), pins, user }, findings);
        }
        Err(error) => findings.untold("xdp.pin_dir", format!("{}: {error}", xdp.pin_dir.display())),
    }
}

fn judge(facts: &Facts, findings: &mut Findings) {
    let dir = facts.dir.display();
    if !facts.pins.on_bpf_fs {
        findings.bad(
            "mounted",
            format!("{dir} is on no BPF file system: nothing can be pinned there"),
            "mount -t bpf bpf /sys/fs/bpf, or set xdp.pin_dir to a directory on one",
        );
        return;
    }
    findings.good("mounted", format!("{dir} is on a BPF file system"));
    let Some((uid, mode)) = facts.pins.owner else {
        match facts.pins.versions {
            Some(_) => findings.good("pins", "none yet: the first start makes the directory"),
            None => findings.untold("pins", format!("{dir} cannot be looked into")),
        }
        return;
    };
    match facts.user {
        Some(user) if user != 0 && user != uid => findings.bad(
            "owner",
            format!("user {uid} owns {dir}, and the edge runs as user {user}"),
            format!("chown -R {user} {dir}, or what is pinned cannot be taken over"),
        ),
        _ if mode & 0o022 != 0 => findings.careful(
            "owner",
            format!("mode {mode:04o} lets others change what is pinned in {dir}"),
            format!("chmod 700 {dir}"),
        ),
        _ => findings.good("owner", format!("user {uid}, mode {mode:04o}")),
    }
    let own = edge_ebpf::ABI_VERSION;
    match facts.pins.versions.as_deref() {
        None => findings.untold("pins", format!("{dir} cannot be looked into")),
        Some([]) => findings.good("pins", "none: nothing is attached"),
        Some([version]) if *version == own => {
            findings.good("pins", format!("map ABI {own}, as this program speaks"));
        }
        Some(versions) => {
            let versions = versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            findings.careful(
                "pins",
                format!("map ABI {versions}; this program speaks {own}"),
                "the next start of the edge replaces them; bans in force are not carried over",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State::{self, Bad, Careful, Good};
    use super::*;

    #[test]
    fn pins_are_judged_by_place_owner_and_version() {
        let own = edge_ebpf::ABI_VERSION;
        type Row = (bool, Option<(u32, u32)>, Option<Vec<u32>>, Option<u32>, Vec<State>);
        let rows: Vec<Row> = vec![
            (false, None, Some(vec![]), None, vec![Bad]),
            (true, None, Some(vec![]), None, vec![Good, Good]),
            (true, None, None, None, vec![Good, Careful]),
            (true, Some((0, 0o700)), Some(vec![own]), Some(0), vec![Good, Good, Good]),
            (true, Some((0, 0o700)), None, None, vec![Good, Good, Careful]),
            (true, Some((0, 0o700)), Some(vec![own]), Some(900), vec![Good, Bad, Good]),
            (true, Some((900, 0o700)), Some(vec![own]), Some(900), vec![Good, Good, Good]),
            (true, Some((0, 0o777)), Some(vec![]), None, vec![Good, Careful, Good]),
            (true, Some((0, 0o700)), Some(vec![own, 77]), None, vec![Good, Good, Careful]),
        ];
        for (on_bpf_fs, owner, versions, user, expected) in rows {
            let mut findings = Findings::of("pins");
            let pins = PinDir { on_bpf_fs, owner, versions };
            judge(&Facts { dir: "/sys/fs/bpf/backstop".into(), pins, user }, &mut findings);
            let states: Vec<_> = findings.states().into_iter().map(|(state, _)| state).collect();
            assert_eq!(states, expected, "{}", findings.text());
        }
    }
}
