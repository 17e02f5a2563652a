//! The record over days and keys.

use super::*;

const DAY: u64 = 86_400;
const MAX_AGE: Duration = Duration::from_secs(16 * DAY);

fn at(days: f64) -> UnixMillis {
    UnixMillis::from_secs(20_000 * DAY + (days * DAY as f64) as u64)
}

fn key(id: u8, from: f64) -> Key {
    Key::new(id, [id; 32], at(from))
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

/// A record, the keys, and what is asked of them.
struct Edge {
    record: Record,
    keys: Keys,
}

impl Edge {
    fn new(messages_per_day_max: usize) -> Self {
        let keys = Keys::new(vec![key(1, 0.0).retired_at(at(5.0)), key(2, 5.0)]).unwrap();
        Self { record: Record::new(messages_per_day_max, MAX_AGE), keys }
    }

    fn send(&mut self, id: &str, recipients: u32, now: UnixMillis) -> Remembered {
        let key = self.keys.signer(now).unwrap();
        let hash = SentHash::of(key, &mailbox("user@example.jp"), canonical(id.as_bytes()).unwrap());
        self.record.remember(key.id(), hash, recipients, now)
    }

    fn seal(&mut self, name: DayName, parts: &[Vec<u64>]) {
        self.record.seal(name, DaySet::of(parts.concat()));
        for (part, entries) in parts.iter().enumerate() {
            drop(self.record.clear_sealed(name, part, entries.len()));
        }
    }

    fn find(&self, id: &str, now: UnixMillis) -> Option<Sent> {
        self.record.find(&self.keys, &mailbox("user@example.jp"), id.as_bytes(), now)
    }
}

/// The open entries of a day, part by part.
fn parts(record: &Record, name: DayName) -> Vec<Vec<u64>> {
    (0..PARTS).map(|part| record.open_entries(name, part)).collect()
}

/// How many parts have an entry.
fn parts_with_any(record: &Record, name: DayName) -> usize {
    parts(record, name).iter().filter(|part| !part.is_empty()).count()
}

#[test]
fn a_message_is_found_for_its_mailbox_until_it_is_too_old() {
    let mut edge = Edge::new(100);
    assert_eq!(edge.send("<a@x>", 1, at(1.5)), Remembered::Yes);
    assert!(edge.find("<a@x>", at(1.5)).is_some());
    assert!(edge.find("a@x", at(17.4)).is_some(), "a key verifies for max_age after its last signature");
    assert!(edge.find("<a@x>", at(18.1)).is_none(), "16 days later, the rest of its day included");
    assert!(edge.find("<A@x>", at(2.0)).is_none());
    let other = edge.record.find(&edge.keys, &mailbox("other@example.jp"), b"<a@x>", at(2.0));
    assert_eq!(other, None, "another mailbox");
}

#[test]
fn a_message_is_found_after_a_new_key_signs_and_after_its_day_was_sealed() {
    let mut edge = Edge::new(100);
    edge.send("<old@x>", 1, at(4.9));
    edge.send("<of the same day@x>", 1, at(4.95));
    edge.send("<new@x>", 1, at(5.1));
    let over = edge.record.days_over(at(6.0));
    assert_eq!(over, [DayName { day: 20_004, key_id: 1 }, DayName { day: 20_005, key_id: 2 }]);
    for name in over {
        let parts = parts(&edge.record, name);
        edge.seal(name, &parts);
    }
    assert!(edge.record.open_days().is_empty());
    for id in ["<old@x>", "<of the same day@x>", "<new@x>"] {
        assert!(edge.find(id, at(15.0)).is_some(), "{id}");
    }
    assert!(edge.find("<never@x>", at(15.0)).is_none());
}

#[test]
fn what_comes_while_a_day_is_sealed_or_after_it_stays_open() {
    let mut edge = Edge::new(10_000);
    edge.send("<a@x>", 1, at(1.0));
    let name = edge.record.open_days()[0].0;
    let parts = parts(&edge.record, name);
    // One in each part, so that each has to be looked through.
    let mut sent = Vec::new();
    while parts_with_any(&edge.record, name) < PARTS {
        let id = format!("<late {}@x>", sent.len());
        edge.send(&id, 1, at(1.99));
        sent.push(id);
    }
    edge.seal(name, &parts);
    assert_eq!(edge.record.open_days(), [(name, sent.len())], "only what came later is left");
    assert_eq!(edge.record.len(), 1 + sent.len());
    assert_eq!(edge.record.days_over(at(3.0)), [], "a set takes no more");
    assert!(sent.iter().all(|id| edge.find(id, at(3.0)).is_some()) && edge.find("<a@x>", at(3.0)).is_some());
}

#[test]
fn a_full_day_says_so_once_and_the_next_takes_more() {
    let mut edge = Edge::new(3);
    assert_eq!(edge.send("<a@x>", 1, at(1.0)), Remembered::Yes);
    assert_eq!(edge.send("<b@x>", 5, at(1.0)), Remembered::Yes, "two entries");
    assert_eq!(edge.send("<c@x>", 1, at(1.1)), Remembered::Full { first: true });
    assert_eq!(edge.send("<d@x>", 1, at(1.2)), Remembered::Full { first: false });
    assert_eq!(edge.send("<a@x>", 1, at(1.2)), Remembered::Yes, "it is there already");
    assert!(edge.find("<c@x>", at(1.3)).is_none());
    assert_eq!(edge.send("<c@x>", 1, at(2.0)), Remembered::Yes);
    assert_eq!(edge.record.len(), 4);
    assert_eq!(Edge::new(0).send("<a@x>", 1, at(1.0)), Remembered::Full { first: true }, "off");
}

#[test]
fn the_number_of_recipients_says_how_many_bounces_are_proven() {
    let mut edge = Edge::new(100);
    for (recipients, uses) in [(1, 16), (4, 16), (5, 32), (8, 32), (100, 512), (u32::MAX, 4 << 20)] {
        edge.send(&format!("<{recipients}@x>"), recipients, at(1.0));
        let sent = edge.find(&format!("<{recipients}@x>"), at(1.0)).unwrap();
        assert_eq!(sent.uses_max(), uses, "{recipients} recipients");
    }
}

#[test]
fn old_days_are_forgotten() {
    let mut edge = Edge::new(100);
    edge.send("<a@x>", 1, at(1.0));
    edge.send("<b@x>", 1, at(3.0));
    assert!(!edge.record.forget_old(at(17.9)).has_days());
    assert!(edge.record.forget_old(at(18.0)).has_days());
    assert_eq!(edge.record.len(), 1);
}

#[test]
fn what_is_to_be_saved_is_handed_out_once_and_bounded() {
    let mut edge = Edge::new(4);
    edge.send("<a@x>", 1, at(1.0));
    edge.send("<a@x>", 1, at(1.0));
    let unsaved = edge.record.take_unsaved();
    assert_eq!((unsaved.entries.len(), unsaved.incomplete), (1, false));
    assert_eq!(edge.record.take_unsaved(), Unsaved::default());
    for day in 2..5 {
        for id in ["<a@x>", "<b@x>"] {
            edge.send(id, 1, at(f64::from(day)));
        }
    }
    let unsaved = edge.record.take_unsaved();
    assert_eq!((unsaved.entries.len(), unsaved.incomplete), (4, true), "nobody wrote for days");
    edge.record.unsaved_again();
    assert!(edge.record.take_unsaved().incomplete);
}

#[test]
fn what_was_read_from_disk_is_found() {
    let mut edge = Edge::new(100);
    edge.send("<a@x>", 100, at(1.0));
    let (name, _) = edge.record.open_days()[0];
    let mut again = Edge::new(100);
    again.record.restore(name, parts(&edge.record, name).concat());
    assert_eq!(again.find("<a@x>", at(2.0)).unwrap().uses_max(), 512);
    assert_eq!(again.record.take_unsaved(), Unsaved::default(), "it is on disk already");
    let mut small = Edge::new(1);
    small.record.restore(name, parts(&edge.record, name).concat());
    assert_eq!(small.record.len(), 1);
}

#[test]
fn a_message_id_is_compared_by_its_octets_within_the_brackets() {
    let rows: [(&str, Option<&str>); 14] = [
        (" <a@x>\r\n", Some("a@x")),
        ("\r\n <a@x>", Some("a@x")),
        ("a@x", Some("a@x")),
        ("<a@x> (added by postmaster@x)", Some("a@x")),
        ("Your message of today <a@x>", Some("a@x")),
        ("< a@x >", Some("a@x")),
        ("<a b@x>", Some("a b@x")),
        ("<A@X>", Some("A@X")),
        ("&lt;a@x&gt;<br>", Some("a@x")),
        ("me & you <a&b@x>", Some("a&b@x")),
        ("a&b@x", Some("a&b@x")),
        ("<a@x", Some("a@x")),
        ("<>", None),
        (" \r\n", None),
    ];
    for (value, want) in rows {
        assert_eq!(canonical(value.as_bytes()), want.map(str::as_bytes), "{value:?}");
    }
    assert_eq!(canonical(&[b'x'; 999]), None);
    assert!(canonical(&[b'x'; 998]).is_some());
}

#[test]
fn a_hash_is_what_it_always_was() {
    // HMAC-SHA-256 by another implementation (Python's hmac): files of older versions must stay readable.
    let hash = SentHash::of(&key(7, 0.0), &mailbox("user@example.jp"), b"a@x");
    assert_eq!(hash, SentHash(0x7d1a_92e5_67b9_95ad), "{:#x}", hash.0);
}
