//! The state directory: whether it can be written, and has room.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::Subject;
use super::finding::Findings;
use super::{process, unit};

/// Room below which the disk is nearly full, and below which it is full, in octets.
const ROOM_LOW: u64 = 1 << 30;
const ROOM_NONE: u64 = 64 << 20;
/// The same for inodes.
const INODES_LOW: u64 = 10_000;

struct Facts {
    dir: PathBuf,
    /// Its owner, where it is there.
    owner: Option<u32>,
    /// Whether this process may write into it, or into the nearest directory above it that is there.
    writable: bool,
    /// Octets and inodes that are free.
    free: Option<(u64, u64)>,
    /// The user that the edge runs, or is to run, as.
    user: Option<u32>,
    is_root: bool,
}

pub(super) fn ask(subject: &Subject, findings: &mut Findings) {
    let dir = &subject.config.state.dir;
    let nearest = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let free = statvfs(nearest).ok().map(|disk| {
        let inodes = if disk.files() == 0 { u64::MAX } else { disk.files_available() };
        (disk.blocks_available().saturating_mul(disk.fragment_size()), inodes)
    });
    let facts = Facts {
        dir: dir.clone(),
        owner: std::fs::metadata(dir).ok().map(|metadata| metadata.uid()),
        writable: access(nearest, AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
        free,
        user: process::daemon(subject).map(|(_, uid)| uid).or_else(unit::user),
        is_root: nix::unistd::geteuid().is_root(),
    };
    judge(&facts, findings);
}

fn judge(facts: &Facts, findings: &mut Findings) {
    let dir = facts.dir.display();
    match (facts.owner, facts.user) {
        (Some(owner), Some(user)) if owner != user && user != 0 => findings.bad(
            "directory",
            format!("user {owner} owns {dir}, and the edge runs as user {user}"),
            format!("chown -R {user} {dir}"),
        ),
        (Some(_), _) if facts.writable => findings.good("directory", format!("{dir} can be written")),
        (None, _) if facts.writable => findings.good("directory", format!("{dir}: made at the first start")),
        (_, _) if facts.is_root => findings.bad(
            "directory",
            format!("{dir} cannot be written, not even by root: a file system that is mounted read-only?"),
            "set `dir` in [state] to one that can",
        ),
        (_, _) => findings.untold("directory", format!("{dir} cannot be written by this user")),
    }
    let Some((octets, inodes)) = facts.free else {
        return findings.careful("room", "cannot be told", format!("df {dir}"));
    };
    let found = format!("{} MiB and {inodes} files free", octets >> 20)
        .replace(&u64::MAX.to_string(), "any number of");
    let advice =
        "make room: what the edge must keep (a quarantine, say) is answered 4xx when the disk is full";
    if octets < ROOM_NONE || inodes == 0 {
        findings.bad("room", found, advice);
    } else if octets < ROOM_LOW || inodes < INODES_LOW {
        findings.careful("room", found, advice);
    } else {
        findings.good("room", found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State::{self, Bad, Careful, Good};
    use super::*;

    #[test]
    fn a_directory_is_judged_by_owner_rights_and_room() {
        let much = Some((10 << 30, 1_000_000));
        type Row = (Option<u32>, Option<u32>, bool, bool, Option<(u64, u64)>, [State; 2]);
        let rows: Vec<Row> = vec![
            (Some(0), Some(0), true, true, much, [Good, Good]),
            (Some(900), Some(900), true, true, much, [Good, Good]),
            (Some(0), Some(900), true, true, much, [Bad, Good]),
            (None, None, true, true, much, [Good, Good]),
            (Some(0), None, false, true, much, [Bad, Good]),
            (Some(0), None, false, false, much, [Careful, Good]),
            (Some(0), None, true, true, Some((500 << 20, u64::MAX)), [Good, Careful]),
            (Some(0), None, true, true, Some((1 << 20, u64::MAX)), [Good, Bad]),
            (Some(0), None, true, true, Some((10 << 30, 0)), [Good, Bad]),
            (Some(0), None, true, true, None, [Good, Careful]),
        ];
        for (owner, user, writable, is_root, free, expected) in rows {
            let mut findings = Findings::of("state");
            judge(&Facts { dir: "/s".into(), owner, writable, free, user, is_root }, &mut findings);
            let states: Vec<_> = findings.states().into_iter().map(|(state, _)| state).collect();
            assert_eq!(states, expected, "{}", findings.text());
        }
    }
}
