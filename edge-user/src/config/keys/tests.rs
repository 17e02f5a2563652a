//! Keys on disk: made, rotated, retired, and refused where others may read or change them.

use std::fs::{Permissions, read_to_string, set_permissions, write};
use std::time::Duration;

use super::*;

const NOW: UnixMillis = UnixMillis::from_secs(1_795_000_000);

fn later(secs: u64) -> UnixMillis {
    NOW.plus(Duration::from_secs(secs))
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_key_reads_back_as_it_was_made() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("deep/keys");
    let made = create(&dir, NOW).unwrap();
    let loaded = load(&dir).unwrap();
    let key = loaded.get(made.id()).unwrap();
    assert_eq!(key.secret(), made.secret());
    assert_eq!((key.id(), key.created(), key.retired()), (1, NOW, None));
    assert_eq!(loaded.signer(NOW).unwrap().id(), 1);
    assert_ne!(made.secret(), &[0; 32]);
    assert_eq!((mode(&dir), mode(&path_of(&dir, 1))), (0o700, 0o600));
}

#[test]
fn a_directory_that_lets_its_group_in_lets_it_read_the_keys_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    set_permissions(dir.path(), Permissions::from_mode(0o750)).unwrap();
    create(dir.path(), NOW).unwrap();
    assert_eq!(mode(&path_of(dir.path(), 1)), 0o640);
    rotate(dir.path(), later(10)).unwrap();
    assert_eq!(mode(&path_of(dir.path(), 1)), 0o640, "also where it is replaced");
    load(dir.path()).unwrap();

    // The group may read only where the directory says so.
    set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(load(dir.path()), Err(KeyDirError::Exposed { .. })));
    set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(load(dir.path()), Err(KeyDirError::Exposed { .. })));
    set_permissions(dir.path(), Permissions::from_mode(0o750)).unwrap();
    for exposed in [0o660, 0o644, 0o604] {
        set_permissions(path_of(dir.path(), 1), Permissions::from_mode(exposed)).unwrap();
        assert!(matches!(load(dir.path()), Err(KeyDirError::Exposed { .. })), "{exposed:o}");
    }
    set_permissions(path_of(dir.path(), 1), Permissions::from_mode(0o640)).unwrap();
    // Another group than the directory's; only root can give a file to one that it is not in.
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(path_of(dir.path(), 1), None, Some(4_000_000)).unwrap();
        assert!(matches!(load(dir.path()), Err(KeyDirError::Exposed { .. })));
    }
}

#[test]
fn a_rotation_makes_a_key_that_signs_and_retires_the_others() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), NOW).unwrap();
    let new = rotate(dir.path(), later(10)).unwrap();
    assert_eq!(new.id(), 2);
    let keys = load(dir.path()).unwrap();
    assert_eq!(keys.signer(later(10)).unwrap().id(), 2);
    assert_eq!(keys.get(1).unwrap().retired(), Some(later(10)));
    rotate(dir.path(), later(20)).unwrap();
    assert_eq!(load(dir.path()).unwrap().get(1).unwrap().retired(), Some(later(10)), "it stays as it was");
}

#[test]
fn a_retired_key_signs_no_more() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), NOW).unwrap();
    assert_eq!(retire(dir.path(), 1, later(5)).unwrap().retired(), Some(later(5)));
    assert_eq!(retire(dir.path(), 1, later(9)).unwrap().retired(), Some(later(5)));
    assert!(load(dir.path()).unwrap().signer(later(5)).is_none());
    assert!(matches!(retire(dir.path(), 9, NOW), Err(KeyDirError::UnknownKey { id: 9, .. })));
}

#[test]
fn ids_go_round_and_end() {
    let dir = tempfile::tempdir().unwrap();
    let key = |id| Key::new(id, [id; 32], NOW);
    file::create(&path_of(dir.path(), 254), &key(254), Readers::of(&dir.path().metadata().unwrap())).unwrap();
    for (made, id) in (1..).zip([255, 0, 1]) {
        assert_eq!(create(dir.path(), later(made)).unwrap().id(), id);
    }
    let lock = Lock::take(dir.path()).unwrap();
    let mut all: Vec<Key> = (2..=253).map(key).chain(read_all(dir.path()).unwrap()).collect();
    assert!(matches!(create_in(&lock, &all, NOW), Err(KeyDirError::Full { .. })));
    all.retain(|key| key.id() != 17);
    assert_eq!(create_in(&lock, &all, later(9)).unwrap().id(), 17);
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_helps() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), NOW).unwrap();
    let path = path_of(dir.path(), 1);
    for exposed in [0o640, 0o604, 0o620, 0o601] {
        set_permissions(&path, Permissions::from_mode(exposed)).unwrap();
        let said = load(dir.path()).unwrap_err().to_string();
        let command = format!("chmod 600 {}", path.display());
        assert!(said.contains(&command) && said.contains(&format!("{exposed:04o}")), "{said}");
    }
    set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    assert!(load(dir.path()).is_ok(), "less than 0600 is fine");
    set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    assert!(load(dir.path()).unwrap_err().to_string().contains("chmod 700"));
}

#[test]
fn a_key_of_another_user_is_refused_with_the_command_that_helps() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), NOW).unwrap();
    let path = path_of(dir.path(), 1);
    // Only root can give a file away; for others, what is given to root already stays theirs.
    let given = std::os::unix::fs::chown(&path, Some(65_534), None).is_ok();
    let read = load(dir.path());
    assert_eq!(read.is_err(), given);
    if let Err(error) = read {
        let said = error.to_string();
        assert!(said.contains("user 65534 owns it; run: chown") && said.contains("001.key"), "{said}");
    }
}

#[test]
fn a_directory_without_keys_is_an_error_that_says_how_to_make_one() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("README"), "no key").unwrap();
    let said = load(dir.path()).unwrap_err().to_string();
    assert!(said.contains("backstop key new --dir"), "{said}");
    let missing = load(&dir.path().join("missing")).unwrap_err().to_string();
    assert!(missing.contains("missing") && missing.contains("No such file"), "{missing}");
}

#[test]
fn a_broken_key_file_is_named_with_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), NOW).unwrap();
    let path = path_of(dir.path(), 1);
    let right = read_to_string(&path).unwrap();
    let secret = right.lines().find(|line| line.starts_with("secret")).unwrap().to_owned();
    for (broken, expected) in [
        (String::new(), "`id` is missing"),
        (right.replace("id = 1", "id = 2"), "the file's name says 1"),
        (right.replace("id = 1", "id = 256"), "`id` must be"),
        (right.replace(&secret, ""), "`secret` is missing"),
        (right.replace(&secret, "secret = \"c2hvcnQ\""), "`secret` must be"),
        (right.replace("created = \"2026", "created = \"yesterday"), "`created` must be"),
        (right.clone() + "colour = \"red\"\n", "line 5: `colour` is unknown"),
        (right.clone() + &secret, "line 5: `secret` stands there twice"),
        (right.clone() + "nonsense\n", "line 5: expected `name = value`"),
        (right.clone() + &"#".repeat(5000), "larger than"),
    ] {
        write(&path, broken).unwrap();
        let said = load(dir.path()).unwrap_err().to_string();
        assert!(said.contains(expected) && said.contains("001.key"), "{expected}: {said}");
        let secret = secret.split('"').nth(1).unwrap();
        assert!(!said.contains(secret), "an error shows the secret: {said}");
    }
}

#[test]
fn who_may_not_read_the_keys_is_told_who_may() {
    let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let said = KeyDirError::io(Path::new("/etc/backstop/keys"), "read")(denied).to_string();
    assert!(said.contains("/etc/backstop/keys") && said.contains("run it as root"), "{said}");
}
