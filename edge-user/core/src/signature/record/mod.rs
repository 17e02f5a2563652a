//! The record: what was sent, as a keyed hash of Message-ID and mailbox, in one set a day ([`DaySet`]).
//!
//! A bounce that brings neither tag nor token back may still name the message that it answers. Its Message-ID is looked
//! for in the days of `max_age`; found for the bounce's recipient, it is a proof. The weakest: whoever got the message
//! knows its Message-ID, and so does who reads a mailing list's archive. So its uses are counted ([`Sent::uses_max`]).
//!
//! The hash is keyed, so that the files say nothing to who reads them, and nobody can make two messages share one. The key
//! is the one that signs that day, and each set bears its id. Not chosen: a secret of the record's own. Edges that share
//! their keys could not share such a record, and one more secret must be kept; a signing key verifies as long after its
//! last signature as a record is believed, so rotation forgets nothing.

mod day_set;
pub mod file;

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use hmac::Mac;

use super::{Key, Keys};
use crate::mailbox::Mailbox;
use crate::time::UnixMillis;
pub use day_set::DaySet;

/// Longest Message-ID that is remembered and looked for, in octets: a line's length (RFC 5322 section 2.1.1).
pub const MESSAGE_ID_BYTES_MAX: usize = 998;

/// A message to more recipients than this is remembered with their number.
const RECIPIENTS_FREE: u32 = 4;
/// Numbers of recipients are remembered as powers of two, up to this one.
const RECIPIENTS_LOG2_MAX: u8 = 20;

/// A Message-ID as it is compared: without what stands around its angle brackets, or without white space where it has
/// none; else exactly its octets. `&lt;` is a bracket where the header came back as HTML. `None`: there is none.
#[must_use]
pub fn canonical(value: &[u8]) -> Option<&[u8]> {
    let opens = value.iter().position(|octet| matches!(octet, b'<' | b'&')).map(|at| &value[at..]);
    let id = match opens {
        Some([b'<', id @ ..]) => until(id, b">"),
        Some(escaped) if let Some(id) = escaped.strip_prefix(b"&lt;") => until(id, b"&gt;"),
        Some(_) | None => match memchr::memchr(b'<', value) {
            Some(opens) => until(&value[opens + 1..], b">"),
            None => value,
        },
    };
    let id = id.trim_ascii();
    (!id.is_empty() && id.len() <= MESSAGE_ID_BYTES_MAX).then_some(id)
}

fn until<'v>(text: &'v [u8], end: &[u8]) -> &'v [u8] {
    let at = match end {
        [end] => memchr::memchr(*end, text),
        end => memchr::memmem::find(text, end),
    };
    at.map_or(text, |at| &text[..at])
}

/// The keyed hash of one message that was sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SentHash(pub u64);

impl SentHash {
    /// The first 8 octets of `HMAC-SHA-256(key, "backstop-record-1" | length of the mailbox (2, big endian) | mailbox |
    /// Message-ID)`. `message_id` is [`canonical`].
    #[must_use]
    pub fn of(key: &Key, mailbox: &Mailbox, message_id: &[u8]) -> Self {
        let mailbox = mailbox.as_str().as_bytes();
        let mut mac = key.token_mac();
        mac.update(b"backstop-record-1");
        mac.update(&(mailbox.len() as u16).to_be_bytes());
        mac.update(mailbox);
        mac.update(message_id);
        let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = mac.finalize().into_bytes().into();
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// What stands in the set beside it when the message had 2^`log2` recipients (splitmix64).
    fn with_recipients(self, log2: u8) -> u64 {
        let mut mixed = self.0.wrapping_add(u64::from(log2).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A message that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Names it among all.
    pub hash: SentHash,
    /// Its recipients, as ceil(log2(n)); 0 for few.
    pub recipients_log2: u8,
    /// The day it was sent, in days since 1970 (UTC).
    pub day: u32,
}

impl Sent {
    /// How many bounces it proves: max(16, 4n), as a token.
    #[must_use]
    pub fn uses_max(&self) -> u32 {
        (4 << self.recipients_log2).max(16)
    }
}

/// Which set: its day, and the key of its hashes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DayName {
    /// Days since 1970 (UTC).
    pub day: u32,
    /// The key's id.
    pub key_id: u8,
}

/// What became of a message that was to be remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remembered {
    /// It is in the record.
    Yes,
    /// The day is full: it is not.
    Full {
        /// It is the day's first that is not.
        first: bool,
    },
}

/// What has to go to disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unsaved {
    /// New since the last time.
    pub entries: Vec<(DayName, u64)>,
    /// More than these: what is on disk of the days that are still open is to be written anew.
    pub incomplete: bool,
}

/// The record of all days that are believed.
#[derive(Debug)]
pub struct Record {
    messages_per_day_max: usize,
    max_age: Duration,
    days: BTreeMap<DayName, Day>,
    unsaved: Unsaved,
    /// The day that was full last.
    full_day: Option<u32>,
}

/// The hashes of one day and key.
#[derive(Debug, Default)]
struct Day {
    /// What came since it was sealed, which is all while the day lasts.
    open: HashSet<u64, BuildHasherDefault<AsItIs>>,
    sealed: Option<DaySet>,
}

impl Day {
    fn contains(&self, hash: u64) -> bool {
        self.open.contains(&hash) || self.sealed.as_ref().is_some_and(|set| set.contains(hash))
    }

    fn len(&self) -> usize {
        self.open.len() + self.sealed.as_ref().map_or(0, DaySet::len)
    }
}

impl Record {
    /// An empty record. A day takes at most `messages_per_day_max` entries: one for each message and mailbox, and one more
    /// where the message has more than four recipients. 0: it remembers nothing.
    #[must_use]
    pub fn new(messages_per_day_max: usize, max_age: Duration) -> Self {
        let unsaved = Unsaved::default();
        Self { messages_per_day_max, max_age, days: BTreeMap::new(), unsaved, full_day: None }
    }

    /// Remembers a message of `recipients` recipients, hashed with the key `key_id`. Twice is as good as once.
    pub fn remember(&mut self, key_id: u8, hash: SentHash, recipients: u32, now: UnixMillis) -> Remembered {
        let name = DayName { day: day(now), key_id };
        let mut outcome = self.insert(name, hash.0);
        if recipients > RECIPIENTS_FREE && outcome == Remembered::Yes {
            let log2 = super::token::ceil_log2(recipients).min(RECIPIENTS_LOG2_MAX);
            outcome = self.insert(name, hash.with_recipients(log2));
        }
        outcome
    }

    fn insert(&mut self, name: DayName, hash: u64) -> Remembered {
        if self.days.get(&name).is_some_and(|day| day.contains(hash)) {
            return Remembered::Yes;
        }
        let same_day = DayName { key_id: 0, ..name }..=DayName { key_id: u8::MAX, ..name };
        if self.days.range(same_day).map(|(_, day)| day.len()).sum::<usize>() >= self.messages_per_day_max {
            return Remembered::Full { first: self.full_day.replace(name.day) != Some(name.day) };
        }
        if !self.days.contains_key(&name) {
            // A day is much like the one before: with its room from the start, no message waits for a large table to grow.
            let before = self.days.values().next_back().map_or(0, Day::len);
            self.days.entry(name).or_default().open.reserve(before);
        }
        self.days.entry(name).or_default().open.insert(hash);
        match self.unsaved.entries.len() < self.messages_per_day_max {
            true => self.unsaved.entries.push((name, hash)),
            false => self.unsaved.incomplete = true,
        }
        Remembered::Yes
    }

    /// The message that has this Message-ID (any spelling) and was sent for `mailbox`, if the record has one that is still
    /// believed.
    #[must_use]
    pub fn find(&self, keys: &Keys, mailbox: &Mailbox, message_id: &[u8], now: UnixMillis) -> Option<Sent> {
        let message_id = canonical(message_id)?;
        let mut hashed: Option<(u8, Option<SentHash>)> = None;
        for (name, day) in self.days.range(DayName { day: self.oldest(now), key_id: 0 }..).rev() {
            let hash = match hashed {
                Some((key_id, hash)) if key_id == name.key_id => hash,
                Some(_) | None => {
                    let key = keys.get(name.key_id).filter(|key| key.verifies(now, self.max_age));
                    let hash = key.map(|key| SentHash::of(key, mailbox, message_id));
                    hashed = Some((name.key_id, hash));
                    hash
                }
            };
            if let Some(hash) = hash.filter(|hash| day.contains(hash.0)) {
                let has = |log2: &u8| day.contains(hash.with_recipients(*log2));
                let recipients_log2 = (3..=RECIPIENTS_LOG2_MAX).rev().find(has).unwrap_or(0);
                return Some(Sent { hash, recipients_log2, day: name.day });
            }
        }
        None
    }

    /// The first day that is searched, in days since 1970: whole days, so that no message is forgotten before `max_age`.
    #[must_use]
    pub fn oldest(&self, now: UnixMillis) -> u32 {
        day(now.minus(self.max_age))
    }

    /// What is to be written to disk; from now on it counts as written.
    pub fn take_unsaved(&mut self) -> Unsaved {
        std::mem::take(&mut self.unsaved)
    }

    /// It could not be written: next time all of the open days is.
    pub fn unsaved_again(&mut self) {
        self.unsaved.incomplete = true;
    }

    /// The days that have entries in no sealed set, and those entries' number.
    #[must_use]
    pub fn open_days(&self) -> Vec<(DayName, usize)> {
        let open = self.days.iter().filter(|(_, day)| !day.open.is_empty());
        open.map(|(name, day)| (*name, day.open.len())).collect()
    }

    /// The entries of a day that are in no sealed set.
    #[must_use]
    pub fn open_entries(&self, name: DayName) -> Vec<u64> {
        self.days.get(&name).map(|day| day.open.iter().copied().collect()).unwrap_or_default()
    }

    /// The days that are over and can be sealed. One that was sealed before and got more since (the clock was set back)
    /// is not: a set takes no more.
    #[must_use]
    pub fn days_over(&self, now: UnixMillis) -> Vec<DayName> {
        let over = |(name, open): &(DayName, usize)| {
            name.day < day(now) && *open > 0 && self.days[name].sealed.is_none()
        };
        self.open_days().into_iter().filter(over).map(|(name, _)| name).collect()
    }

    /// Puts a sealed set, made of `entries` of its entries, in their place. Returns whether it holds all of them.
    pub fn seal(&mut self, name: DayName, set: DaySet, entries: usize) -> bool {
        let day = self.days.entry(name).or_default();
        if day.open.len() == entries {
            // None ever leaves, so these are the same: whoever waits for the record need not wait for a comparison.
            day.open = HashSet::default();
        } else {
            day.open.retain(|hash| !set.contains(*hash));
            day.open.shrink_to_fit();
        }
        day.sealed = Some(set);
        day.open.is_empty()
    }

    /// Adds entries that were read from disk. What is more than fits is left out: at most `messages_per_day_max` a day.
    pub fn restore(&mut self, name: DayName, entries: impl IntoIterator<Item = u64>) {
        let max = self.messages_per_day_max;
        let day = self.days.entry(name).or_default();
        for entry in entries {
            if day.len() >= max {
                break;
            }
            if !day.contains(entry) {
                day.open.insert(entry);
            }
        }
    }

    /// Forgets the days that are too old to be believed. Returns whether there were any.
    pub fn forget_old(&mut self, now: UnixMillis) -> bool {
        let believed = self.days.split_off(&DayName { day: self.oldest(now), key_id: 0 });
        !std::mem::replace(&mut self.days, believed).is_empty()
    }

    /// Entries in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.days.values().map(Day::len).sum()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The day of `now`.
fn day(now: UnixMillis) -> u32 {
    u32::try_from(now.days()).unwrap_or(u32::MAX)
}

/// Entries are hashes already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        debug_assert!(false, "entries are whole numbers");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
