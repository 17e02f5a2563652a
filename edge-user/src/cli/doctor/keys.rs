//! The signing keys: there, readable by the edge alone, young enough; and a fingerprint to compare two edges by. And
//! whether the edge can read its tenants' secrets.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_core::signature::Key;
use edge_core::time::UnixMillis;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::Subject;
use super::finding::Findings;
use super::who::{PASS, READ, Who};
use super::{process, unit};
use crate::config::keys::{self, KeyDirError};
use crate::engine::clock::system_now;

/// How old the key that signs may become.
const AGE_MAX: Duration = Duration::from_secs(400 * 86_400);
/// The keys' own place, which backstop.tmpfiles.conf of contrib/systemd knows.
const KEYS: &str = "/etc/backstop/keys";
/// What a fingerprint is the MAC of.
const FINGERPRINT: &[u8] = b"backstop key fingerprint";

struct Facts {
    dir: PathBuf,
    now: UnixMillis,
    /// How long a retired key verifies.
    max_age: Duration,
    loaded: Result<Vec<Row>, Refusal>,
    /// Where the edge runs, or is to run, as another user than root: who that is.
    user: Option<EdgeUser>,
}

/// The user that the edge runs as.
struct EdgeUser {
    uid: u32,
    group: String,
    /// What of the keys it cannot read.
    unreadable: Vec<PathBuf>,
    /// The files of tenants' secrets that it cannot read.
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
    let user = user.filter(|user| *user != 0).map(|uid| {
        let who = Who::of(uid);
        let tenants = subject.config.outbound.iter().flat_map(|outbound| &outbound.tenants);
        let secrets = tenants.map(|tenant| &tenant.secret_file).filter(|path| who.lacks(READ, path));
        let (secrets, unreadable) = (secrets.cloned().collect(), cannot_read(&who, dir));
        EdgeUser { uid, group: who.group(), unreadable, secrets }
    });
    let facts =
        Facts { dir: dir.clone(), now: system_now(), max_age: subject.config.token_age_max(), loaded, user };
    judge(&facts, findings);
}

/// What of a directory of keys a user cannot read.
fn cannot_read(who: &Who, dir: &Path) -> Vec<PathBuf> {
    if let Some(above) = who.stopped_at(dir) {
        return vec![above.to_owned()];
    }
    if who.lacks(READ | PASS, dir) {
        return vec![dir.to_owned()];
    }
    let paths = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|kind| kind == "key") && who.lacks(READ, path)).collect()
}

/// What gives an edge of this group its keys, and nobody else: for the keys' own place systemd-tmpfiles does it at each
/// start; for another the same by hand.
fn let_in(dir: &Path, group: &str) -> String {
    if dir == Path::new(KEYS) {
        return "systemd-tmpfiles --create backstop.conf".into();
    }
    let dir = dir.display();
    format!("chown root:{group} {dir} {dir}/*.key && chmod 750 {dir} && chmod 640 {dir}/*.key")
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
    if let Some(user) = &facts.user
        && let Some(path) = user.unreadable.first()
    {
        let found = format!("not {}, for user {}, which the edge runs as", path.display(), user.uid);
        let advice = if path.starts_with(&facts.dir) {
            format!("its next start fails: {}", let_in(&facts.dir, &user.group))
        } else {
            let above = path.display();
            format!("its next start fails: chmod o+x {above}, or keep the keys in {KEYS}")
        };
        findings.bad("readable", found, advice);
    }
    if let Some(user) = &facts.user {
        for path in &user.secrets {
            let (path, group) = (path.display(), &user.group);
            findings.bad(
                "tenant's secret",
                format!("{path} cannot be read by the user that the edge runs as"),
                format!("its next start fails: chgrp {group} {path} && chmod 640 {path}"),
            );
        }
    }
    let rows = match &facts.loaded {
        Ok(rows) => rows,
        Err(Refusal::Untold(said)) => return findings.untold("directory", said),
        Err(Refusal::Wrong(said)) => {
            // The message says what to do; but what shuts out the others may shut out the edge's user too.
            let (found, advice) = said.split_once("; ").unwrap_or((said, "see `backstop key list`"));
            let advice = match &facts.user {
                Some(user) if advice.starts_with("run: ch") => {
                    format!("run: {}", let_in(&facts.dir, &user.group))
                }
                Some(_) | None => advice.to_owned(),
            };
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

    fn edge_user(unreadable: &[&str]) -> EdgeUser {
        let unreadable = unreadable.iter().map(PathBuf::from).collect();
        EdgeUser { uid: 900, group: "edge".into(), unreadable, secrets: Vec::new() }
    }

    fn judged(dir: &str, loaded: Result<Vec<Row>, Refusal>, user: Option<EdgeUser>) -> Findings {
        let mut findings = Findings::of("keys");
        let max_age = Duration::from_secs(16 * DAY);
        judge(&Facts { dir: dir.into(), now: NOW, max_age, loaded, user }, &mut findings);
        findings
    }

    #[test]
    fn keys_are_judged_by_age_owner_and_whether_they_can_be_read() {
        let future = Row { created: UnixMillis::from_secs(1_900_000_000), ..made(0, None) };
        type Case = (Result<Vec<Row>, Refusal>, Option<EdgeUser>, Vec<(State, &'static str)>);
        let rows: Vec<Case> = vec![
            (
                Ok(vec![made(3, None)]),
                None,
                vec![(Good, "directory"), (Good, "signing key"), (Good, "fingerprints")],
            ),
            (
                Ok(vec![made(401, None)]),
                Some(edge_user(&[])),
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
                Some(edge_user(&["/k/001.key"])),
                vec![(Bad, "readable"), (Good, "directory"), (Good, "signing key"), (Good, "fingerprints")],
            ),
            (Err(Refusal::Untold("no".into())), None, vec![(Careful, "directory")]),
            (Err(Refusal::Wrong("mode 0644 ...; run: chmod 600".into())), None, vec![(Bad, "directory")]),
        ];
        for (loaded, user, expected) in rows {
            let findings = judged("/k", loaded, user);
            assert_eq!(findings.states(), expected, "{}", findings.text());
        }
    }

    #[test]
    fn what_is_advised_for_keys_elsewhere_does_not_go_in_a_circle() {
        let refusal = "/srv/k/001.key: mode 0640 lets others at the keys; run: chmod 600 /srv/k/001.key";
        let by_hand = "chown root:edge /srv/k /srv/k/*.key && chmod 750 /srv/k && chmod 640 /srv/k/*.key";
        let says = |dir, loaded, paths: &[&str]| judged(dir, loaded, Some(edge_user(paths))).text();
        let text = says("/srv/k", Err(Refusal::Wrong(refusal.into())), &[]);
        assert!(text.contains(by_hand) && !text.contains("chmod 600"), "{text}");
        let text = says("/srv/k", Ok(vec![made(3, None)]), &["/srv/k/001.key"]);
        assert!(text.contains(by_hand) && !text.contains("tmpfiles"), "{text}");
        let text = says(KEYS, Ok(vec![made(3, None)]), &["/etc/backstop/keys/001.key"]);
        assert!(text.contains("systemd-tmpfiles --create backstop.conf"), "{text}");
        let text = says("/root/k", Ok(vec![made(3, None)]), &["/root"]);
        assert!(text.contains("chmod o+x /root, or"), "{text}");
    }

    #[test]
    fn what_is_advised_for_keys_elsewhere_lets_their_group_in_and_nobody_else() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("keys");
        keys::create(&dir, NOW).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        let key = keys::path_of(&dir, keys::load(&dir).unwrap().iter().next().unwrap().id());
        // As they were when somebody had put them there.
        for (path, mode) in [(&dir, 0o755), (&key, 0o640)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        assert!(keys::load(&dir).is_err());
        let owner = fs::metadata(&dir).unwrap();
        let command = let_in(&dir, &owner.gid().to_string()).replace("root:", &format!("{}:", owner.uid()));
        assert!(std::process::Command::new("sh").args(["-c", &command]).status().unwrap().success());
        assert_eq!((mode(&dir), mode(&key)), (0o750, 0o640));
        keys::load(&dir).unwrap();
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
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tenant.secret");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let group = fs::metadata(&path).unwrap().gid();
        assert!(Who { uid: 4_000_000, groups: vec![] }.lacks(READ, &path));
        let member = Who { uid: 4_000_000, groups: vec![group] };
        assert!(!member.lacks(READ, &path));
        assert!(!member.lacks(READ, &dir.path().join("missing")), "that is said elsewhere");
        let user = EdgeUser { secrets: vec![path.clone()], ..edge_user(&[]) };
        let findings = judged("/k", Ok(vec![made(3, None)]), Some(user));
        let first = findings.into_list().remove(0);
        assert_eq!((first.state, first.check.as_str()), (Bad, "tenant's secret"));
        assert!(first.found.contains(path.to_str().unwrap()), "{}", first.found);
    }
}
