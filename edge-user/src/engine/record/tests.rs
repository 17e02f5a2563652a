//! The record on disk: what outlives the daemon, and what damage does.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use edge_core::signature::record::{Sent, SentHash};
use edge_core::signature::{Key, Keys};

use super::super::keeper::Disk;
use super::super::{read, written};
use super::*;
use crate::config;
use crate::engine::Edge;
use crate::engine::clock::Clock;
use crate::telemetry::{EventLog, Settings};

const DAY: Duration = Duration::from_secs(86_400);
/// 2026-11-24, 20:00 UTC.
const NOW: UnixMillis = UnixMillis::from_secs(20_781 * 86_400 + 20 * 3600);

fn key(id: u8, from: UnixMillis) -> Key {
    Key::new(id, [id; 32], from)
}

fn mailbox() -> edge_core::mailbox::Mailbox {
    edge_core::mailbox::Mailbox::parse("user@example.jp").unwrap()
}

/// A state directory, and the edges that have it one after the other.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn record(&self) -> PathBuf {
        self.dir.path().join(DIRECTORY)
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.record())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// An edge that starts at `now`.
    fn edge(&self, now: UnixMillis) -> Arc<Edge> {
        let text = format!(
            "hostname = \"e.example\"\n[inbound]\nlisten = [\"127.0.0.1:25\"]\n[signature]\nkeys = \"/nowhere\"\n[state]\ndir = \"{}\"\n[[domain]]\nname = \"example.jp\"\nupstream = \"127.0.0.1:9\"\n",
            self.dir.path().display()
        );
        let config = config::parse(&text, Path::new("test")).unwrap().config;
        let keys =
            Keys::new(vec![key(1, UnixMillis(0)).retired_at(NOW.plus(DAY)), key(2, NOW.plus(DAY))]).unwrap();
        let settings = Settings {
            format: config::LogFormat::Json,
            hasher: None,
            queue_lines_max: 100,
            clock: crate::engine::clock::system_now,
        };
        let log = EventLog::start(settings, std::io::sink()).unwrap();
        let state = StateDir::open(self.dir.path()).unwrap();
        let mut edge = Edge::new(config, keys, None, log, Some(state)).unwrap();
        let only = Arc::get_mut(&mut edge).unwrap();
        only.clock = Clock::Set(AtomicU64::new(now.0));
        // Read once more, by the clock of the test.
        only.record = super::super::open(&only.config, only.state.as_ref(), now);
        edge
    }

    fn disk(&self) -> Disk {
        Disk { failed: false }
    }

    /// What `verify` would see.
    fn look(&self, id: &str, now: UnixMillis) -> Option<Sent> {
        let edge_config = config::parse(
            "hostname = \"e.example\"\n[inbound]\nlisten = [\"127.0.0.1:25\"]\n[signature]\nkeys = \"/nowhere\"\n[[domain]]\nname = \"example.jp\"\nupstream = \"127.0.0.1:9\"\n",
            Path::new("test"),
        );
        let record = super::super::look(&edge_config.unwrap().config, self.dir.path(), now).unwrap();
        record.find(
            &Keys::new(vec![key(1, UnixMillis(0)), key(2, NOW)]).unwrap(),
            &mailbox(),
            id.as_bytes(),
            now,
        )
    }
}

fn send(edge: &Edge, id: &str) {
    let keys = edge.keys();
    let key = keys.signer(edge.now()).unwrap();
    let hash = SentHash::of(key, &mailbox(), id.as_bytes());
    let _ = written(&edge.record).remember(key.id(), hash, 1, edge.now());
}

fn knows(edge: &Edge, id: &str) -> bool {
    edge.find_sent(&mailbox(), id.as_bytes()).is_some()
}

#[test]
fn what_was_written_is_known_after_a_crash_and_seen_by_who_only_looks() {
    let place = Place::new();
    let edge = place.edge(NOW);
    send(&edge, "a@x");
    place.disk().save(&edge).unwrap();
    send(&edge, "b@x");
    place.disk().save(&edge).unwrap();
    assert_eq!(place.files(), ["2026-11-24.key1.log"]);
    assert!(place.look("a@x", NOW).is_some() && place.look("b@x", NOW).is_some());
    assert!(place.look("c@x", NOW).is_none());
    // The last entry is torn, as a power cut may leave it.
    let log = place.record().join("2026-11-24.key1.log");
    let len = fs::metadata(&log).unwrap().len();
    OpenOptions::new().write(true).open(&log).unwrap().set_len(len - 3).unwrap();
    drop(edge);

    let edge = place.edge(NOW);
    assert!(knows(&edge, "a@x") && !knows(&edge, "b@x"));
    send(&edge, "c@x");
    place.disk().save(&edge).unwrap();
    drop(edge);
    let edge = place.edge(NOW);
    assert!(knows(&edge, "a@x") && knows(&edge, "c@x"), "what was appended behind the torn one is whole");
}

#[test]
fn a_log_that_a_crash_left_empty_or_with_half_a_head_is_begun_anew_and_is_no_damage() {
    let place = Place::new();
    let edge = place.edge(NOW);
    send(&edge, "a@x");
    place.disk().save(&edge).unwrap();
    drop(edge);
    let log = place.record().join("2026-11-24.key1.log");
    for left in [0, 1, LOG_HEAD_BYTES as u64 - 1] {
        OpenOptions::new().write(true).open(&log).unwrap().set_len(left).unwrap();
        assert!(place.look("a@x", NOW).is_none());
        let edge = place.edge(NOW);
        assert_eq!(place.files(), ["2026-11-24.key1.log"], "{left} octets: nothing is set aside");
        send(&edge, "a@x");
        place.disk().save(&edge).unwrap();
        drop(edge);
        assert!(knows(&place.edge(NOW), "a@x"), "what was appended to {left} octets is read");
    }
}

#[test]
fn a_day_that_is_over_becomes_half_as_large_and_is_deleted_when_it_is_too_old() {
    let place = Place::new();
    let edge = place.edge(NOW);
    for n in 0..1000 {
        send(&edge, &format!("{n}@x"));
    }
    place.disk().save(&edge).unwrap();
    let log = fs::metadata(place.record().join("2026-11-24.key1.log")).unwrap().len();
    drop(edge);

    // The next day, with the next key.
    let edge = place.edge(NOW.plus(DAY));
    send(&edge, "next@x");
    place.disk().save(&edge).unwrap();
    assert_eq!(place.files(), ["2026-11-24.key1.set", "2026-11-25.key2.log"]);
    let set = fs::metadata(place.record().join("2026-11-24.key1.set")).unwrap().len();
    assert!(set * 100 < log * 60, "{set} octets of {log}");
    assert!(knows(&edge, "7@x") && knows(&edge, "next@x"));
    assert!(place.look("7@x", NOW.plus(DAY)).is_some());
    drop(edge);
    let edge = place.edge(NOW.plus(16 * DAY));
    assert!(knows(&edge, "999@x") && knows(&edge, "next@x"));
    place.disk().save(&edge).unwrap();
    assert_eq!(place.files(), ["2026-11-24.key1.set", "2026-11-25.key2.set"]);
    drop(edge);

    // Both ways to forget: while it runs, and at its start.
    let edge = place.edge(NOW.plus(16 * DAY));
    fs::write(place.record().join("2026-11-24.key9.log.damaged"), "x").unwrap();
    let later = NOW.plus(17 * DAY);
    match &edge.clock {
        Clock::Set(millis) => millis.store(later.0, std::sync::atomic::Ordering::Relaxed),
        Clock::System => unreachable!("the test set it"),
    }
    place.disk().save(&edge).unwrap();
    assert_eq!(place.files(), ["2026-11-25.key2.set"]);
    assert!(!knows(&edge, "7@x") && knows(&edge, "next@x"));
    drop(edge);
    let edge = place.edge(NOW.plus(30 * DAY));
    assert!(read(&edge.record).is_empty());
    assert!(place.files().is_empty());
}

#[test]
fn a_damaged_file_is_set_aside_and_the_others_are_read() {
    let place = Place::new();
    let edge = place.edge(NOW);
    send(&edge, "a@x");
    place.disk().save(&edge).unwrap();
    drop(edge);
    let edge = place.edge(NOW.plus(DAY));
    send(&edge, "b@x");
    place.disk().save(&edge).unwrap();
    drop(edge);
    let set = place.record().join("2026-11-24.key1.set");
    let mut octets = fs::read(&set).unwrap();
    octets[30] ^= 1;
    fs::write(&set, octets).unwrap();
    fs::write(place.record().join("2026-11-23.key1.log"), "no record at all").unwrap();
    fs::write(place.record().join("notes.txt"), "the operator's").unwrap();

    assert!(place.look("b@x", NOW.plus(DAY)).is_some(), "who only looks passes over it, and changes nothing");
    assert!(set.exists());
    let edge = place.edge(NOW.plus(DAY));
    assert!(!knows(&edge, "a@x") && knows(&edge, "b@x"));
    let files =
        ["2026-11-23.key1.log.damaged", "2026-11-24.key1.set.damaged", "2026-11-25.key2.log", "notes.txt"];
    assert_eq!(place.files(), files);
    send(&edge, "c@x");
    place.disk().save(&edge).unwrap();
    assert!(place.look("c@x", NOW.plus(DAY)).is_some());
}

#[test]
fn what_the_disk_did_not_take_is_written_when_it_takes_again() {
    let place = Place::new();
    let edge = place.edge(NOW);
    send(&edge, "a@x");
    place.disk().save(&edge).unwrap();
    // A directory stands where the log of the day was.
    let log = place.record().join("2026-11-24.key1.log");
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    send(&edge, "b@x");
    let error = place.disk().save(&edge).unwrap_err();
    assert!(format!("{error:#}").contains("cannot write in"), "{error:#}");
    written(&edge.record).unsaved_again();
    assert!(knows(&edge, "a@x") && knows(&edge, "b@x"), "it is kept in memory");
    fs::remove_dir(&log).unwrap();
    place.disk().save(&edge).unwrap();
    assert!(place.look("a@x", NOW).is_some() && place.look("b@x", NOW).is_some());
}

#[test]
fn while_the_disk_hangs_messages_are_remembered_and_found() {
    let place = Place::new();
    let edge = place.edge(NOW);
    send(&edge, "a@x");
    // Who opens this for writing waits until somebody reads.
    let log = place.record().join("2026-11-24.key1.log");
    fs::create_dir_all(place.record()).unwrap();
    nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (disk, theirs) = (place.disk(), Arc::clone(&edge));
    let saving = std::thread::Builder::new().name("at-the-disk".into());
    let saving = saving.spawn(move || disk.save(&theirs)).unwrap();
    // Nobody has the record: it is the disk that makes the thread sleep.
    while !is_asleep("at-the-disk") {
        std::thread::yield_now();
    }
    send(&edge, "b@x");
    assert!(knows(&edge, "a@x") && knows(&edge, "b@x") && !knows(&edge, "c@x"));
    assert!(!saving.is_finished(), "it still waits for the disk");
    drop(File::open(&log).unwrap());
    assert!(saving.join().unwrap().is_err(), "such a disk keeps nothing");
    fs::remove_file(&log).unwrap();
    written(&edge.record).unsaved_again();
    place.disk().save(&edge).unwrap();
    assert!(place.look("a@x", NOW).is_some() && place.look("b@x", NOW).is_some());
}

/// Whether the thread of this process with that name sleeps, as the kernel says.
fn is_asleep(name: &str) -> bool {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    stats.into_iter().any(|stat| stat.contains(&format!("({name}) S")))
}

#[test]
fn what_is_too_old_is_forgotten_though_the_disk_fails() {
    let place = Place::new();
    let edge = place.edge(NOW);
    send(&edge, "a@x");
    fs::remove_dir_all(place.record()).unwrap();
    fs::write(place.record(), "no directory").unwrap();
    let later = NOW.plus(40 * DAY);
    let Clock::Set(clock) = &edge.clock else { panic!("a clock of the test") };
    clock.store(later.0, std::sync::atomic::Ordering::Relaxed);
    send(&edge, "b@x");
    assert!(place.disk().save(&edge).is_err());
    assert_eq!(read(&edge.record).len(), 1, "only today's is left");
    // The directory can be had again: all of it is written.
    written(&edge.record).unsaved_again();
    fs::remove_file(place.record()).unwrap();
    place.disk().save(&edge).unwrap();
    assert!(place.look("b@x", later).is_some());
}

#[test]
fn a_name_is_read_as_it_is_written_and_no_other() {
    let day = DayName { day: 20_781, key_id: 3 };
    for name in [Name::log(day), Name::set(day), Name { damaged: true, ..Name::set(day) }] {
        assert_eq!(Name::parse(&name.to_string()), Some(name), "{name}");
    }
    assert_eq!(Name::log(day).to_string(), "2026-11-24.key3.log");
    for other in [
        "",
        "2026-11-24.key3",
        "2026-11-24.key3.txt",
        "2026-11-24.key300.log",
        "1969-12-31.key3.log",
        ".2026-11-24.key3.log.new",
        "2026-11-24.key03.log",
        "2026-13-24.key3.log",
        "20261124.key3.log",
    ] {
        assert_eq!(Name::parse(other), None, "{other}");
    }
}
