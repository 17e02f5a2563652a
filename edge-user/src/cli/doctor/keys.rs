//! The signing keys: there, readable by the edge alone, young enough; and a fingerprint to compare two edges by. And
//! whether the edge can read its tenants' secrets.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_core::signature::Key;
use edge_core::time::UnixMillis;
use hmac::{Hmac, Mac as _};
use nix::unistd::{Uid, User, getgrouplist};
use sha2::Sha256;

use super::Subject;
use super::finding::Findings;
use super::{process, unit};
use crate::config::keys::{self, KeyDirError};
use crate::engine::clock::system_now;

/// How old the key that signs may become.
const AGE_MAX: Duration = Duration::from_secs(400 * 86_400);
/// What a fingerprint is the MAC of.
const FINGERPRINT: &[u8] = b"backstop key fingerprint";

struct Facts {
    dir: PathBuf,
    now: UnixMillis,
    /// How long a retired key verifies.
    max_age: Duration,
    loaded: Result<Vec<Row>, Refusal>,
    /// The user that the edge runs, or is to run, as, and what that user cannot read.
    unreadable: Option<(u32, Vec<PathBuf>)>,
    /// The files of tenants' secrets that this user cannot read.
    secrets: Vec<PathBuf>,
}

enum Refusal {
    /// This user may not look.
    Untold(String),
    Wrong(String),
}

struct Row {
    id: u8,
    created: UnixMillis,
    retired: Option<UnixMillis>,
    fingerprint: String,
}

pub(super) fn ask(subject: &Subject, findings: &mut Findings) {
    let dir = &subject.config.signature.keys;
    let loaded = match keys::load(dir) {
        Ok(keys) => Ok(keys.iter().map(row).collect()),
        Err(KeyDirError::Io { cause, path, .. }) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(Refusal::Untold(format!("{} may not be read by this user", path.display())))
        }
        Err(error) => Err(Refusal::Wrong(error.to_string())),
    };
    let user = process::daemon(subject).map(|(_, uid)| uid).or_else(unit::user);
    let user = user.filter(|user| *user != 0);
    let unreadable = user.map(|user| (user, Reader::of(user).cannot_read(dir)));
    let tenants = subject.config.outbound.iter().flat_map(|outbound| &outbound.tenants);
    let secrets = match user.map(Reader::of) {
        Some(reader) => {
            let files = tenants.map(|tenant| tenant.secret_file.clone());
            files.filter(|path| reader.lacks(path, 4)).collect()
        }
        None => vec![],
    };
    let facts = Facts {
        dir: dir.clone(),
        now: system_now(),
        max_age: subject.config.token_age_max(),
        loaded,
        unreadable,
        secrets,
    };
    judge(&facts, findings);
}

/// A user, as the kernel asks who may read a file.
struct Reader {
    uid: u32,
    groups: Vec<u32>,
}

impl Reader {
    fn of(uid: u32) -> Self {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let groups = user.and_then(|user| getgrouplist(&CString::new(user.name).ok()?, user.gid).ok());
        Self { uid, groups: groups.into_iter().flatten().map(|group| group.as_raw()).collect() }
    }

    /// Whether a file of this owner, group and mode gives it the rights (4: to read, 1: to go through a directory).
    fn has(&self, rights: u32, owner: u32, group: u32, mode: u32) -> bool {
        let theirs = match (owner == self.uid, self.groups.contains(&group)) {
            (true, _) => mode >> 6,
            (false, true) => mode >> 3,
            (false, false) => mode,
        };
        theirs & rights == rights
    }

    /// Whether a file is there, and does not give it the rights.
    fn lacks(&self, path: &Path, rights: u32) -> bool {
        fs::metadata(path).is_ok_and(|file| !self.has(rights, file.uid(), file.gid(), file.mode()))
    }

    /// What of a directory of keys it cannot read.
    fn cannot_read(&self, dir: &Path) -> Vec<PathBuf> {
        if self.lacks(dir, 5) {
            return vec![dir.to_owned()];
        }
        let paths = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        paths
            .filter(|path| path.extension().is_some_and(|kind| kind == "key") && self.lacks(path, 4))
            .collect()
    }
}

fn row(key: &Key) -> Row {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.secret()).expect("HMAC takes keys of any length");
    mac.update(FINGERPRINT);
    let octets = mac.finalize().into_bytes();
    let fingerprint = octets.iter().take(8).map(|octet| format!("{octet:02x}")).collect();
    Row { id: key.id(), created: key.created(), retired: key.retired(), fingerprint }
}

fn judge(facts: &Facts, findings: &mut Findings) {
    let dir = facts.dir.display();
    if let Some((user, paths)) = &facts.unreadable
        && let Some(path) = paths.first()
    {
        findings.bad(
            "readable",
            format!("not {}, for user {user}, which the edge runs as", path.display()),
            "its next start fails: systemd-tmpfiles --create backstop.conf lets its group read them",
        );
    }
    for path in &facts.secrets {
        findings.bad(
            "tenant's secret",
            format!("{} cannot be read by the user that the edge runs as", path.display()),
            format!("its next start fails: chgrp backstop {0} && chmod 640 {0}", path.display()),
        );
    }
    let rows = match &facts.loaded {
        Ok(rows) => rows,
        Err(Refusal::Untold(said)) => return findings.untold("directory", said),
        Err(Refusal::Wrong(said)) => {
            // The message says what to do.
            let (found, advice) = said.split_once("; ").unwrap_or((said, "see `backstop key list`"));
            return findings.bad("directory", found, advice);
        }
    };
    findings.good("directory", format!("{dir}, nobody else's"));
    let signer = rows
        .iter()
        .filter(|row| row.retired.is_none() && row.created <= facts.now)
        .max_by_key(|row| (row.created, row.id));
    match signer {
        None => findings.bad("signing key", "none signs now", format!("backstop key new --dir {dir}")),
        Some(row) => {
            let age = facts.now.since(row.created);
            let found =
                format!("{} of {}, {} days old", row.id, keys::rfc3339(row.created), age.as_secs() / 86_400);
            if age > AGE_MAX {
                let advice = format!("backstop key rotate --dir {dir}: old keys go on verifying");
                findings.careful("signing key", found, advice);
            } else {
                findings.good("signing key", found);
            }
        }
    }
    if let Some(row) = rows.iter().find(|row| row.created > facts.now) {
        findings.careful(
            "dates",
            format!("key {} begins at {}, which is yet to come", row.id, keys::rfc3339(row.created)),
            "is the clock right? The key signs from then on",
        );
    }
    let over =
        rows.iter().filter(|row| row.retired.is_some_and(|retired| facts.now.since(retired) > facts.max_age));
    let over: Vec<String> = over.map(|row| row.id.to_string()).collect();
    if !over.is_empty() {
        let found = format!("{} verify nothing any more; their files may be removed", over.join(", "));
        findings.good("retired keys", found);
    }
    let prints = rows.iter().map(|row| format!("{}: {}", row.id, row.fingerprint));
    findings.good(
        "fingerprints",
        format!(
            "{} (no secret; edges for one domain must have the same)",
            prints.collect::<Vec<_>>().join(", ")
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::super::finding::State::{self, Bad, Careful, Good};
    use super::*;

    const DAY: u64 = 86_400;
    const NOW: UnixMillis = UnixMillis::from_secs(1_800_000_000);

    fn made(days_ago: u64, retired_days_ago: Option<u64>) -> Row {
        let ago = |days| NOW.minus(Duration::from_secs(days * DAY));
        Row { id: 1, created: ago(days_ago), retired: retired_days_ago.map(ago), fingerprint: "ab".into() }
    }

    #[test]
    fn keys_are_judged_by_age_owner_and_whether_they_can_be_read() {
        let future = Row { created: UnixMillis::from_secs(1_900_000_000), ..made(0, None) };
        type Case = (Result<Vec<Row>, Refusal>, Option<(u32, Vec<PathBuf>)>, Vec<(State, &'static str)>);
        let rows: Vec<Case> = vec![
            (
                Ok(vec![made(3, None)]),
                None,
                vec![(Good, "directory"), (Good, "signing key"), (Good, "fingerprints")],
            ),
            (
                Ok(vec![made(401, None)]),
                Some((900, vec![])),
                vec![(Good, "directory"), (Careful, "signing key"), (Good, "fingerprints")],
            ),
            (
                Ok(vec![made(401, Some(20)), made(20, None)]),
                None,
                vec![
                    (Good, "directory"),
                    (Good, "signing key"),
                    (Good, "retired keys"),
                    (Good, "fingerprints"),
                ],
            ),
            (
                Ok(vec![future]),
                None,
                vec![(Good, "directory"), (Bad, "signing key"), (Careful, "dates"), (Good, "fingerprints")],
            ),
            (
                Ok(vec![made(3, None)]),
                Some((900, vec!["/k/001.key".into()])),
                vec![(Bad, "readable"), (Good, "directory"), (Good, "signing key"), (Good, "fingerprints")],
            ),
            (Err(Refusal::Untold("no".into())), None, vec![(Careful, "directory")]),
            (Err(Refusal::Wrong("mode 0644 ...; run: chmod 600".into())), None, vec![(Bad, "directory")]),
        ];
        for (loaded, unreadable, expected) in rows {
            let mut findings = Findings::of("keys");
            let max_age = Duration::from_secs(16 * DAY);
            let secrets = vec![];
            judge(&Facts { dir: "/k".into(), now: NOW, max_age, loaded, unreadable, secrets }, &mut findings);
            assert_eq!(findings.states(), expected, "{}", findings.text());
        }
    }

    #[test]
    fn who_may_read_a_key_is_known_by_owner_group_and_mode() {
        let reader = Reader { uid: 900, groups: vec![901, 902] };
        for (rights, owner, group, mode, expected) in [
            (4, 900, 0, 0o400, true),
            (4, 900, 901, 0o040, false),
            (4, 0, 902, 0o640, true),
            (4, 0, 903, 0o640, false),
            (5, 0, 901, 0o750, true),
            (5, 0, 901, 0o740, false),
            (4, 0, 0, 0o604, true),
        ] {
            assert_eq!(reader.has(rights, owner, group, mode), expected, "{rights} {owner} {group} {mode:o}");
        }
        let root = Reader::of(0);
        assert_eq!((root.uid, root.groups.contains(&0)), (0, true));
    }

    #[test]
    fn a_fingerprint_tells_keys_apart_and_shows_nothing_of_them() {
        let print = |secret: [u8; 32]| row(&Key::new(7, secret, NOW)).fingerprint;
        assert_eq!(print([1; 32]), print([1; 32]));
        assert_ne!(print([1; 32]), print([2; 32]));
        assert_eq!(print([0xAB; 32]).len(), 16);
        assert!(!print([0xAB; 32]).contains("abab"));
    }

    #[test]
    fn a_secret_that_the_edge_cannot_read_is_bad_and_one_that_its_group_may_is_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tenant.secret");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let group = fs::metadata(&path).unwrap().gid();
        let stranger = Reader { uid: 4_000_000, groups: vec![] };
        assert!(stranger.lacks(&path, 4));
        assert!(!Reader { groups: vec![group], ..stranger }.lacks(&path, 4));
        assert!(
            !Reader { uid: 4_000_000, groups: vec![] }.lacks(&dir.path().join("missing"), 4),
            "that is said elsewhere"
        );
        let mut findings = Findings::of("keys");
        let loaded = Ok(vec![made(3, None)]);
        let max_age = Duration::from_secs(16 * DAY);
        let facts = Facts {
            dir: "/k".into(),
            now: NOW,
            max_age,
            loaded,
            unreadable: None,
            secrets: vec![path.clone()],
        };
        judge(&facts, &mut findings);
        let first = findings.into_list().remove(0);
        assert_eq!((first.state, first.check.as_str()), (Bad, "tenant's secret"));
        assert!(first.found.contains(path.to_str().unwrap()), "{}", first.found);
    }
}
