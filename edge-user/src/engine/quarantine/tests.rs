//! The quarantine by itself: on a real disk, without sessions.

use std::fs;
use std::sync::atomic::Ordering;

use super::draft::Sealed;
use super::*;

const HEAD_AT: UnixMillis = UnixMillis(1_800_000_000_123);

pub(super) fn head(id: u64, at: UnixMillis) -> Head {
    Head {
        id: Id::of(id).to_string(),
        at,
        source: "192.0.2.7".parse().unwrap(),
        client_name: "mail.far.example".into(),
        sender: String::new(),
        mail_params: "BODY=8BITMIME SMTPUTF8".into(),
        recipient: "\"a b\\\"c\"@例え.jp".into(),
        rcpt_params: "NOTIFY=NEVER ORCPT=rfc822;x+2By".into(),
        reason: "unproven".into(),
        filter: Some(3),
        kind: edge_core::bounce::Kind::Unknown,
        report: None,
    }
}

struct Place {
    _folder: tempfile::TempDir,
    state: StateDir,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    Place { state: StateDir::open(folder.path()).unwrap(), _folder: folder }
}

impl Place {
    fn open(&self) -> Arc<Quarantine> {
        let settings = config::Quarantine { free_bytes_min: 0, ..config::Quarantine::default() };
        Quarantine::open(&self.state, "mx.example.jp", &settings).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let of = |folder: &str| {
            let dir = self.state.path().join(DIR).join(folder);
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap())
        };
        of("tmp").chain(of("new")).chain(of("cur")).collect()
    }
}

impl Place {
    /// Octets of all files.
    fn bytes(&self) -> u64 {
        let dir = self.state.path().join(DIR);
        let files = ["tmp", "new", "cur"].map(|folder| fs::read_dir(dir.join(folder)).unwrap());
        files.into_iter().flatten().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }
}

async fn put(quarantine: &Arc<Quarantine>, id: u64, at: UnixMillis) -> Result<Sealed, NotKept> {
    let mut draft = Draft::begin(quarantine, Id::of(id), &head(id, at))?;
    draft.take(b"Received: x\r\n\r\nbody\r\n").await?;
    draft.seal().await
}

#[tokio::test]
async fn what_is_sealed_and_not_acknowledged_is_taken_back() {
    let place = place();
    let quarantine = place.open();
    let sealed = put(&quarantine, 1, HEAD_AT).await.unwrap();
    assert_eq!(place.files(), ["1800000000.1.mx.example.jp"]);
    drop(sealed);
    assert!(place.files().is_empty());
    assert_eq!((quarantine.load().messages, quarantine.load().bytes), (0, 0));
}

#[tokio::test]
async fn what_the_disk_did_too_late_is_taken_back() {
    let place = place();
    let mut quarantine = Arc::into_inner(place.open()).unwrap();
    quarantine.patience = Duration::from_millis(5);
    let quarantine = Arc::new(quarantine);
    quarantine.stuck.store(true, Ordering::SeqCst);
    let error = put(&quarantine, 1, HEAD_AT).await.unwrap_err();
    assert!(matches!(error, NotKept::TooSlow(_)), "{error}");
    assert_eq!(quarantine.load().messages, 1, "it is still at work");
    quarantine.stuck.store(false, Ordering::SeqCst);
    let begun = tokio::time::Instant::now();
    while quarantine.load().messages > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is never taken back");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(place.files().is_empty());
}

#[tokio::test]
async fn who_gets_no_turn_on_the_disk_in_time_waits_for_it_no_longer() {
    let place = place();
    let quarantine = place.open();
    let mut draft = Draft::begin(&quarantine, Id::of(1), &head(1, HEAD_AT)).unwrap();
    draft.take(&[b'x'; 40_000]).await.unwrap();
    assert_eq!(place.files().len(), 1);
    let all = u32::try_from(DISK_THREADS_MAX).unwrap();
    let turns = Arc::clone(&quarantine.disk).acquire_many_owned(all).await.unwrap();
    // Nobody is at work on the disk: the clock runs ahead to the end of the wait.
    tokio::time::pause();
    let error = draft.seal().await.unwrap_err();
    tokio::time::resume();
    assert!(matches!(error, NotKept::TooSlow(_)), "{error}");
    // Nobody waited to remove it: the sweep does, and until then it counts.
    drop(turns);
    assert_eq!(place.files().len(), 1);
    let load = quarantine.load();
    assert!(load.messages == 1 && load.bytes == place.bytes(), "{load:?}");
    quarantine.recount().unwrap();
    assert!(place.files().is_empty());
    assert_eq!((quarantine.load().messages, quarantine.load().bytes), (0, 0));
}

#[tokio::test]
async fn what_the_disk_does_not_remove_counts_until_it_is_gone() {
    let place = place();
    let quarantine = place.open();
    let mut draft = Draft::begin(&quarantine, Id::of(1), &head(1, HEAD_AT)).unwrap();
    draft.take(&[b'x'; 40_000]).await.unwrap();
    let bytes = place.bytes();
    assert!(bytes > 16_000, "{bytes}");
    // What root cannot remove either: a folder of that name.
    let path = place.state.path().join("quarantine/tmp").join(&place.files()[0]);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    drop(draft);
    let all = u32::try_from(DISK_THREADS_MAX).unwrap();
    drop(quarantine.disk.acquire_many(all).await.unwrap());
    assert_eq!((quarantine.load().messages, quarantine.load().bytes), (1, bytes));
    assert!(quarantine.recount().is_err());
    assert_eq!(quarantine.load().messages, 1);
    // Somebody else does it.
    fs::remove_dir(&path).unwrap();
    quarantine.recount().unwrap();
    assert_eq!((quarantine.load().messages, quarantine.load().bytes), (0, 0));
}

#[tokio::test]
async fn a_message_is_found_where_it_was_put_without_a_list_and_in_cur_by_one() {
    let place = place();
    let quarantine = place.open();
    for id in 1..=20 {
        put(&quarantine, id, HEAD_AT).await.unwrap().keep();
    }
    let listed = || super::shelf::LISTED.get();
    let before = listed();
    let item = quarantine.find(Id::of(7)).unwrap().unwrap();
    assert_eq!((item.path.exists(), listed()), (true, before));
    assert!(quarantine.read(Id::of(7), 0).unwrap().unwrap().octets.ends_with(b"body\n"));
    assert!(quarantine.delete_by_id(Id::of(8)).unwrap());
    assert_eq!(listed(), before);
    // A mail reader showed it.
    let shown = place.state.path().join("quarantine/cur/1800000000.7.mx.example.jp:2,S");
    fs::rename(&item.path, &shown).unwrap();
    assert_eq!(quarantine.find(Id::of(7)).unwrap().unwrap().path, shown);
    assert_eq!(quarantine.find(Id::of(8)).unwrap(), None);
    // After a restart too.
    drop(quarantine);
    let quarantine = place.open();
    let before = listed();
    assert!(quarantine.find(Id::of(9)).unwrap().is_some());
    assert_eq!(listed(), before);
}

#[tokio::test]
async fn a_start_counts_what_is_there_and_removes_what_is_half_written() {
    let place = place();
    let before = place.open();
    put(&before, 1, HEAD_AT).await.unwrap().keep();
    put(&before, 2, HEAD_AT).await.unwrap().keep();
    let load = before.load();
    assert!(load.messages == 2 && load.bytes > 500, "{load:?}");
    drop(before);
    fs::write(place.state.path().join("quarantine/tmp/1800000000.3.mx.example.jp"), "half").unwrap();
    // A mail reader looked at it.
    let new = place.state.path().join("quarantine/new/1800000000.1.mx.example.jp");
    fs::rename(new, place.state.path().join("quarantine/cur/1800000000.1.mx.example.jp:2,S")).unwrap();
    assert_eq!(place.open().load(), load);
    assert_eq!(place.files().len(), 2);
}

#[tokio::test]
async fn an_id_that_is_there_already_is_not_overwritten() {
    let place = place();
    let quarantine = place.open();
    put(&quarantine, 1, HEAD_AT).await.unwrap().keep();
    let error = put(&quarantine, 1, HEAD_AT).await.unwrap_err();
    assert!(error.to_string().contains("cannot make"), "{error}");
    assert_eq!((place.files().len(), quarantine.load().messages), (1, 1));
}

#[tokio::test]
async fn what_is_older_than_it_is_kept_expires_and_what_is_in_hand_stays() {
    let place = place();
    let quarantine = place.open();
    for id in 1..=4 {
        put(&quarantine, id, UnixMillis::from_secs(1000 * id)).await.unwrap().keep();
    }
    let hand = quarantine.take_in_hand(Id::of(1)).unwrap();
    assert!(quarantine.take_in_hand(Id::of(1)).is_none());
    assert_eq!(quarantine.expire(UnixMillis::from_secs(3000)).unwrap(), 1);
    assert_eq!(quarantine.load().messages, 3);
    drop(hand);
    assert_eq!(quarantine.expire(UnixMillis::from_secs(3000)).unwrap(), 1);
    assert_eq!(place.files(), ["3000.3.mx.example.jp", "4000.4.mx.example.jp"]);
    let bytes: u64 =
        quarantine.shelf().items().unwrap().iter().map(|item| item.path.metadata().unwrap().len()).sum();
    assert_eq!(quarantine.load().bytes, bytes);
}

#[tokio::test]
async fn a_mode_keeps_others_out() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = place();
    let quarantine = place.open();
    put(&quarantine, 1, HEAD_AT).await.unwrap().keep();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let item = quarantine.shelf().items().unwrap().remove(0);
    assert_eq!((mode(&item.path), mode(item.path.parent().unwrap())), (0o600, 0o700));
}

#[tokio::test]
async fn a_list_says_the_size_that_is_shown_of_each_message() {
    let place = place();
    let quarantine = place.open();
    put(&quarantine, 1, HEAD_AT).await.unwrap().keep();
    let rows = list(quarantine.shelf(), &Which::default()).unwrap();
    let part = read(quarantine.shelf(), Id::of(1), 0).unwrap().unwrap();
    assert_eq!((rows.len(), rows[0].bytes), (1, part.total));
    assert_eq!(part.total, part.octets.len() as u64);
}

#[tokio::test]
async fn a_message_that_a_mail_reader_moves_meanwhile_is_deleted_all_the_same() {
    let place = place();
    let quarantine = place.open();
    put(&quarantine, 1, HEAD_AT).await.unwrap().keep();
    let item = quarantine.shelf().find(Id::of(1)).unwrap().unwrap();
    let name = item.path.file_name().unwrap().to_str().unwrap();
    fs::rename(&item.path, place.state.path().join(DIR).join("cur").join(format!("{name}:2,S"))).unwrap();
    let hand = quarantine.take_in_hand(item.id).unwrap();
    assert!(quarantine.delete(&item, &hand).unwrap());
    assert!(place.files().is_empty());
    assert_eq!(quarantine.load().messages, 0);
    assert!(!quarantine.delete(&item, &hand).unwrap(), "it is gone");
}
