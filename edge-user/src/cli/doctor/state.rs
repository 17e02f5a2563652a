//! The state directory: whether the edge can make and write it, as its user and within its unit, and whether it has room.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::Subject;
use super::finding::Findings;
use super::sandbox::{self, Way};
use super::who::{PASS, WRITE, Who};
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
    /// What that user lacks a right to: the directory, or the nearest above it that is there and is in its way.
    in_the_way: Option<PathBuf>,
    /// What the unit lets the edge do there.
    way: Way,
    is_root: bool,
}

pub(super) fn ask(subject: &Subject, findings: &mut Findings) {
    let dir = &subject.config.state.dir;
    let nearest = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let free = statvfs(nearest).ok().map(|disk| {
        let inodes = if disk.files() == 0 { u64::MAX } else { disk.files_available() };
        (disk.blocks_available().saturating_mul(disk.fragment_size()), inodes)
    });
    let unit = unit::installed().map(|(_, settings)| settings);
    let running = process::daemon(subject).map(|(_, uid)| uid);
    let in_unit = unit.as_ref().and_then(unit::user_of);
    let user = running.or(in_unit);
    // One that runs as somebody else was not started by the unit.
    let way = unit.filter(|_| running.is_none() || running == in_unit);
    let way = way.map_or(Way::Open, |settings| sandbox::way(&settings, dir));
    let who = user.map(Who::of);
    let in_the_way = who.and_then(|who| {
        let nearest = who.lacks(WRITE | PASS, nearest).then_some(nearest);
        who.stopped_at(dir).or(nearest).map(Path::to_owned)
    });
    let facts = Facts {
        dir: dir.clone(),
        owner: std::fs::metadata(dir).ok().map(|metadata| metadata.uid()),
        writable: access(nearest, AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
        free,
        user,
        in_the_way,
        way,
        is_root: nix::unistd::geteuid().is_root(),
    };
    judge(&facts, findings);
}

fn judge(facts: &Facts, findings: &mut Findings) {
    directory(facts, findings);
    room(facts, findings);
}

/// Where the unit lets the edge write for good.
const INSTEAD: &str = "or `dir = \"/var/lib/backstop\"` in [state]";

fn directory(facts: &Facts, findings: &mut Findings) {
    let dir = facts.dir.display();
    let owner = facts.user.map_or_else(|| "backstop".to_owned(), |user| user.to_string());
    let drop_in = format!(
        "install -d -m 700 -o {owner} {dir}, and ReadWritePaths={dir} under [Service] (systemctl edit backstop); {INSTEAD}"
    );
    match facts.way {
        Way::ReadOnly(why) => {
            let found = format!("{dir} is read-only for the unit ({why})");
            return findings.bad("directory", found, drop_in);
        }
        Way::Hidden(why) => {
            let found = format!("the unit sees nothing of {dir} ({why})");
            return findings.bad("directory", found, format!("another `dir` in [state], {INSTEAD}"));
        }
        Way::Forgotten(why) => {
            let found = format!("what the unit writes to {dir} is gone when it stops ({why})");
            return findings.bad("directory", found, format!("another `dir` in [state], {INSTEAD}"));
        }
        Way::Made if facts.owner.is_none() => {
            return findings.good("directory", format!("{dir}: the unit makes it at the first start"));
        }
        Way::Made | Way::Open => {}
    }
    match (facts.owner, facts.user) {
        (Some(owner), Some(user)) if owner != user && user != 0 => findings.bad(
            "directory",
            format!("user {owner} owns {dir}, and the edge runs as user {user}"),
            format!("chown -R {user} {dir}"),
        ),
        (there, Some(user)) if let Some(path) = &facts.in_the_way => {
            let path = path.display();
            let advice = match there {
                Some(_) => format!("chmod 700 {dir}, and `chmod o+x` what is above it"),
                None => format!("install -d -m 700 -o {user} {dir}; {INSTEAD}"),
            };
            findings.bad(
                "directory",
                format!(
                    "{dir} cannot be written: user {user}, which the edge runs as, has no right to {path}"
                ),
                advice,
            );
        }
        (Some(_), _) if facts.writable => findings.good("directory", format!("{dir} can be written")),
        (None, _) if facts.writable => findings.good("directory", format!("{dir}: made at the first start")),
        (_, _) if facts.is_root => findings.bad(
            "directory",
            format!("{dir} cannot be written, not even by root: a file system that is mounted read-only?"),
            "set `dir` in [state] to one that can",
        ),
        (_, _) => findings.untold("directory", format!("{dir} cannot be written by this user")),
    }
}

fn room(facts: &Facts, findings: &mut Findings) {
    let dir = facts.dir.display();
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
            let facts = Facts { owner, writable, free, user, is_root, ..sound() };
            judge(&facts, &mut findings);
            let states: Vec<_> = findings.states().into_iter().map(|(state, _)| state).collect();
            assert_eq!(states, expected, "{}", findings.text());
        }
    }

    fn sound() -> Facts {
        Facts {
            dir: "/s".into(),
            owner: None,
            writable: true,
            free: Some((10 << 30, 1_000_000)),
            user: Some(900),
            in_the_way: None,
            way: Way::Open,
            is_root: true,
        }
    }

    #[test]
    fn a_directory_is_judged_by_what_the_unit_and_its_user_can_do_there() {
        let closed = || Some(PathBuf::from("/"));
        for (way, owner, in_the_way, state, says) in [
            (Way::Made, None, closed(), Good, "the unit makes it"),
            (Way::Open, None, None, Good, "made at the first start"),
            (Way::Open, None, closed(), Bad, "has no right to / → install -d -m 700 -o 900 /s"),
            (Way::Open, Some(900), Some("/s".into()), Bad, "chmod 700 /s"),
            (
                Way::ReadOnly("ProtectSystem"),
                Some(900),
                None,
                Bad,
                "(ProtectSystem) → install -d -m 700 -o 900 /s, ",
            ),
            (Way::ReadOnly("ProtectSystem"), None, None, Bad, "ReadWritePaths=/s under [Service]"),
            (Way::Hidden("ProtectHome"), Some(900), None, Bad, "sees nothing of /s (ProtectHome)"),
            (Way::Forgotten("PrivateTmp"), Some(900), None, Bad, "is gone when it stops (PrivateTmp)"),
        ] {
            let mut findings = Findings::of("state");
            judge(&Facts { owner, in_the_way, way, ..sound() }, &mut findings);
            let text = findings.text();
            assert_eq!(findings.states()[0], (state, "directory"), "{text}");
            assert!(text.contains(says), "{says}: {text}");
        }
    }
}
