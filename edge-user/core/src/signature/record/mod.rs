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

/// Into how many parts the open entries of a day are cut, so that who reads or frees them all can do so in steps, and who
/// waits for the record waits for one of them.
pub const PARTS: usize = 64;

/// One part.
type Part = HashSet<u64, BuildHasherDefault<AsItIs>>;

/// The hashes of one day and key.
#[derive(Debug)]
struct Day {
    /// What came since it was sealed, which is all while the day lasts.
    open: Box<[Part; PARTS]>,
    open_len: usize,
    sealed: Option<DaySet>,
}

impl Default for Day {
    fn default() -> Self {
        Self { open: Box::new(std::array::from_fn(|_| Part::default())), open_len: 0, sealed: None }
    }
}

impl Day {
    /// Where a hash belongs. By other bits than those by which a part finds its place.
    fn part(hash: u64) -> usize {
        (hash >> 40) as usize % PARTS
    }

    fn contains(&self, hash: u64) -> bool {
        self.open[Self::part(hash)].contains(&hash)
            || self.sealed.as_ref().is_some_and(|set| set.contains(hash))
    }

    /// Adds a hash, with room in its part for `expected` from the first on.
    fn insert(&mut self, hash: u64, expected: usize) {
        let part = &mut self.open[Self::part(hash)];
        if part.is_empty() {
            part.reserve(expected);
        }
        self.open_len += usize::from(part.insert(hash));
    }

    fn len(&self) -> usize {
        self.open_len + self.sealed.as_ref().map_or(0, DaySet::len)
    }
}

/// What was taken out of the record. It may be large: whoever has the record locked lets go of it first, and then of this.
#[derive(Debug)]
#[must_use = "it is to be dropped where nobody waits for the record"]
pub struct Removed(Removal);

#[derive(Debug)]
enum Removal {
    Days(BTreeMap<DayName, Day>),
    Part { _part: Part },
    Nothing,
}

impl Removed {
    /// Whether days were taken out.
    #[must_use]
    pub fn has_days(&self) -> bool {
        matches!(&self.0, Removal::Days(days) if !days.is_empty())
    }
}

/// A Message-ID that the record is asked for, hashed with the keys that its days may have.
#[derive(Debug)]
pub struct Asked {
    by_key: Vec<(u8, SentHash)>,
}

impl Asked {
    /// For `mailbox`, any spelling, with those of `key_ids` that still verify. `None`: it is none.
    #[must_use]
    pub fn new(
        keys: &Keys,
        key_ids: &[u8],
        mailbox: &Mailbox,
        message_id: &[u8],
        (now, max_age): (UnixMillis, Duration),
    ) -> Option<Self> {
        let message_id = canonical(message_id)?;
        let verifying =
            key_ids.iter().filter_map(|id| keys.get(*id)).filter(|key| key.verifies(now, max_age));
        let by_key = verifying.map(|key| (key.id(), SentHash::of(key, mailbox, message_id))).collect();
        Some(Self { by_key })
    }

    fn by(&self, key_id: u8) -> Option<SentHash> {
        self.by_key.iter().find(|(id, _)| *id == key_id).map(|(_, hash)| *hash)
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
        // A day is much like the one before: with its room from the start, no message waits for a table to grow.
        let before = self.days.range(..name).next_back().map_or(0, |(_, day)| day.len());
        self.days.entry(name).or_default().insert(hash, before / PARTS);
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
        let asked = Asked::new(keys, &self.key_ids(now), mailbox, message_id, (now, self.max_age))?;
        self.find_asked(&asked, now)
    }

    /// The keys of the days that are still believed, each once.
    #[must_use]
    pub fn key_ids(&self, now: UnixMillis) -> Vec<u8> {
        let mut ids = Vec::new();
        for (name, _) in self.believed(now) {
            if !ids.contains(&name.key_id) {
                ids.push(name.key_id);
            }
        }
        ids
    }

    /// As [`Self::find`], in two steps: the hashes are made where nobody waits for the record.
    #[must_use]
    pub fn find_asked(&self, asked: &Asked, now: UnixMillis) -> Option<Sent> {
        for (name, day) in self.believed(now).rev() {
            if let Some(hash) = asked.by(name.key_id).filter(|hash| day.contains(hash.0)) {
                let has = |log2: &u8| day.contains(hash.with_recipients(*log2));
                let recipients_log2 = (3..=RECIPIENTS_LOG2_MAX).rev().find(has).unwrap_or(0);
                return Some(Sent { hash, recipients_log2, day: name.day });
            }
        }
        None
    }

    fn believed(&self, now: UnixMillis) -> std::collections::btree_map::Range<'_, DayName, Day> {
        self.days.range(DayName { day: self.oldest(now), key_id: 0 }..)
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
        let open = self.days.iter().filter(|(_, day)| day.open_len > 0);
        open.map(|(name, day)| (*name, day.open_len)).collect()
    }

    /// The entries of one of a day's [`PARTS`] that are in no sealed set.
    #[must_use]
    pub fn open_entries(&self, name: DayName, part: usize) -> Vec<u64> {
        self.days.get(&name).map(|day| day.open[part].iter().copied().collect()).unwrap_or_default()
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

    /// Puts a sealed set of a day's entries in their place: from now on they are found there, and may be cleared.
    pub fn seal(&mut self, name: DayName, set: DaySet) {
        self.days.entry(name).or_default().sealed = Some(set);
    }

    /// Takes from one of a day's parts what its sealed set has; the set was made of `entries` of that part.
    pub fn clear_sealed(&mut self, name: DayName, part: usize, entries: usize) -> Removed {
        let Some(Day { open, open_len, sealed: Some(set) }) = self.days.get_mut(&name) else {
            return Removed(Removal::Nothing);
        };
        let part = &mut open[part];
        let before = part.len();
        if before == entries {
            // None ever leaves, so these are the same: whoever waits for the record need not wait for a comparison.
            *open_len -= before;
            return Removed(Removal::Part { _part: std::mem::take(part) });
        }
        part.retain(|hash| !set.contains(*hash));
        part.shrink_to_fit();
        *open_len -= before - part.len();
        Removed(Removal::Nothing)
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
                day.insert(entry, 0);
            }
        }
    }

    /// Forgets the days that are too old to be believed.
    pub fn forget_old(&mut self, now: UnixMillis) -> Removed {
        let believed = self.days.split_off(&DayName { day: self.oldest(now), key_id: 0 });
        Removed(Removal::Days(std::mem::replace(&mut self.days, believed)))
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
