//! How often each token, each tag and each message of the record was used: a bounded table whose entries expire.
//!
//! A token (or a tag, or a message) enters at its first proof, so only what is ours ever takes a place. It leaves `max_age` after
//! that (by then it is dead), or when the table is full and it is the oldest: the worst that comes of it is that a
//! replayed token starts again at zero. Every call takes constant time.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::record::{Sent, SentHash};
use super::tag::Tagged;
use super::{Nonce, Token};
use crate::mailbox::Mailbox;
use crate::time::UnixMillis;

/// How many bounces one tag proves: all that one mailbox sends in a day bears the same tag.
pub const TAG_USES_MAX: u32 = 256;

/// Nonces have 48 bits: with this one a name is a tag's.
const IS_TAG: u64 = 1 << 63;
/// With this one, and not that of tags, it is a message's of the record.
const IS_SENT: u64 = 1 << 62;

/// One tag, as its uses are counted: its mailbox, its day and its key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TagName(u64);

impl TagName {
    /// The name of a valid tag. Only such a tag may be counted: nobody can choose many of them until two names are one.
    #[must_use]
    pub fn of(mailbox: &Mailbox, tagged: &Tagged<'_>) -> Self {
        let mut hasher = DefaultHasher::new();
        (mailbox.as_str(), tagged.day, tagged.key_digit).hash(&mut hasher);
        Self(hasher.finish() | IS_TAG)
    }
}

/// How many expired entries a reservation clears at most: more than it can add, so that they never pile up.
const CLEARED_MAX: usize = 2;

/// The counts of uses.
#[derive(Debug)]
pub struct Uses {
    entries_max: usize,
    max_age: Duration,
    counts: HashMap<u64, Count, BuildHasherDefault<NonceHasher>>,
    /// The names in `counts`, each with its first use, oldest first.
    order: VecDeque<(u64, UnixMillis)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    reserved: u32,
    committed: u32,
}

/// The answer to a reservation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reservation {
    /// One use is reserved: commit or release it.
    Reserved,
    /// The token, tag or message was used as often as it may be. Nothing is reserved.
    Overused,
}

impl Uses {
    /// A table of at most `entries_max` tokens and tags (at least one); the oldest make room. `max_age`: how long the
    /// longest-lived of them is believed.
    #[must_use]
    pub fn new(entries_max: usize, max_age: Duration) -> Self {
        Self { entries_max: entries_max.max(1), max_age, counts: HashMap::default(), order: VecDeque::new() }
    }

    /// Reserves a use at the proof.
    pub fn reserve(&mut self, token: &Token, now: UnixMillis) -> Reservation {
        self.reserve_named(number(&token.nonce), token.uses_max(), now)
    }

    /// Reserves a use of a valid tag, at most [`TAG_USES_MAX`].
    pub fn reserve_tag(&mut self, tag: TagName, now: UnixMillis) -> Reservation {
        self.reserve_named(tag.0, TAG_USES_MAX, now)
    }

    /// Reserves a use of a message of the record.
    pub fn reserve_sent(&mut self, sent: &Sent, now: UnixMillis) -> Reservation {
        self.reserve_named(sent_name(sent.hash), sent.uses_max(), now)
    }

    fn reserve_named(&mut self, name: u64, uses_max: u32, now: UnixMillis) -> Reservation {
        self.clear_expired(now);
        if !self.counts.contains_key(&name) {
            if self.counts.len() >= self.entries_max {
                self.remove_oldest();
            }
            self.order.push_back((name, now));
        }
        let count = self.counts.entry(name).or_default();
        if count.reserved.saturating_add(count.committed) >= uses_max {
            return Reservation::Overused;
        }
        count.reserved += 1;
        Reservation::Reserved
    }

    /// The upstream said 2xx: the use counts.
    pub fn commit(&mut self, nonce: &Nonce) {
        self.commit_named(number(nonce));
    }

    /// The same for a tag.
    pub fn commit_tag(&mut self, tag: TagName) {
        self.commit_named(tag.0);
    }

    /// The same for a message of the record.
    pub fn commit_sent(&mut self, sent: SentHash) {
        self.commit_named(sent_name(sent));
    }

    fn commit_named(&mut self, name: u64) {
        if let Some(count) = self.counts.get_mut(&name) {
            count.reserved = count.reserved.saturating_sub(1);
            count.committed = count.committed.saturating_add(1);
        }
    }

    /// The message did not arrive: the use does not count.
    pub fn release(&mut self, nonce: &Nonce) {
        self.release_named(number(nonce));
    }

    /// The same for a tag.
    pub fn release_tag(&mut self, tag: TagName) {
        self.release_named(tag.0);
    }

    /// The same for a message of the record.
    pub fn release_sent(&mut self, sent: SentHash) {
        self.release_named(sent_name(sent));
    }

    fn release_named(&mut self, name: u64) {
        if let Some(count) = self.counts.get_mut(&name) {
            count.reserved = count.reserved.saturating_sub(1);
        }
    }

    /// How many tokens, tags and messages are counted now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    fn clear_expired(&mut self, now: UnixMillis) {
        for _ in 0..CLEARED_MAX {
            match self.order.front() {
                Some(&(_, first_used)) if now.since(first_used) > self.max_age => self.remove_oldest(),
                Some(_) | None => return,
            }
        }
    }

    fn remove_oldest(&mut self) {
        if let Some((name, _)) = self.order.pop_front() {
            self.counts.remove(&name);
        }
    }
}

fn sent_name(hash: SentHash) -> u64 {
    hash.0 & !IS_TAG | IS_SENT
}

fn number(nonce: &Nonce) -> u64 {
    let [a, b, c, d, e, f] = *nonce;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// Spreads a nonce over 64 bits. Nonces are random and come with a MAC: nobody can choose colliding ones.
#[derive(Default)]
struct NonceHasher(u64);

impl Hasher for NonceHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_AGE: Duration = Duration::from_secs(100);

    fn token(n: u8) -> Token {
        Token { key_id: 0, recipients_log2: 0, issued_hours: 0, nonce: [n, 0, 0, 0, 0, n] }
    }

    fn at(secs: u64) -> UnixMillis {
        UnixMillis::from_secs(secs)
    }

    /// How many more uses are reserved until the table says no.
    fn left(uses: &mut Uses, token: &Token, now: UnixMillis) -> usize {
        (0..1000).take_while(|_| uses.reserve(token, now) == Reservation::Reserved).count()
    }

    #[test]
    fn a_token_is_used_sixteen_times_and_no_more() {
        let mut uses = Uses::new(10, MAX_AGE);
        assert_eq!(left(&mut uses, &token(1), at(0)), 16);
        (0..16).for_each(|_| uses.commit(&token(1).nonce));
        assert_eq!(left(&mut uses, &token(1), at(0)), 0, "committed uses count");
        assert_eq!(left(&mut uses, &token(2), at(0)), 16, "each token counts for itself");
    }

    #[test]
    fn a_released_use_can_be_had_again() {
        let mut uses = Uses::new(10, MAX_AGE);
        assert_eq!(left(&mut uses, &token(1), at(0)), 16);
        (0..5).for_each(|_| uses.release(&token(1).nonce));
        assert_eq!(left(&mut uses, &token(1), at(0)), 5);
    }

    #[test]
    fn a_tag_is_used_256_times_and_no_more_and_counts_by_mailbox_and_day() {
        let tag = |local: &str, day| {
            let mailbox = Mailbox::parse(&format!("{local}@example.jp")).unwrap();
            let address = crate::smtp::Address { local: local.as_bytes(), domain: b"example.jp" };
            TagName::of(&mailbox, &Tagged { key_digit: 1, day, mac: [0; 3], address })
        };
        let mut uses = Uses::new(10, MAX_AGE);
        let left = |uses: &mut Uses, tag| {
            (0..1000).take_while(|_| uses.reserve_tag(tag, at(0)) == Reservation::Reserved).count()
        };
        assert_eq!(left(&mut uses, tag("ann", 7)), 256);
        (0..200).for_each(|_| uses.commit_tag(tag("ann", 7)));
        (0..56).for_each(|_| uses.release_tag(tag("ann", 7)));
        assert_eq!(left(&mut uses, tag("ann", 7)), 56, "only committed uses count");
        assert_eq!(left(&mut uses, tag("ann", 8)), 256);
        assert_eq!(left(&mut uses, tag("bob", 7)), 256);
    }

    #[test]
    fn a_message_of_the_record_counts_for_itself() {
        // The same number as a token's nonce, and as a tag's name.
        let (number, nonce) = (0x0000_0100_0000_0001, token(1));
        let sent = |bits: u64| Sent { hash: SentHash(number | bits), recipients_log2: 3, day: 0 };
        let mut uses = Uses::new(10, MAX_AGE);
        let left = |uses: &mut Uses, sent: Sent| {
            (0..1000).take_while(|_| uses.reserve_sent(&sent, at(0)) == Reservation::Reserved).count()
        };
        assert_eq!(left(&mut uses, sent(0)), 32);
        (0..30).for_each(|_| uses.commit_sent(sent(0).hash));
        (0..2).for_each(|_| uses.release_sent(sent(0).hash));
        assert_eq!(left(&mut uses, sent(0)), 2);
        assert_eq!(left(&mut uses, sent(1 << 40 << 8)), 32);
        assert_eq!(uses.reserve(&nonce, at(0)), Reservation::Reserved);
        assert_eq!(uses.reserve_tag(TagName(number | IS_TAG | IS_SENT), at(0)), Reservation::Reserved);
        assert_eq!(uses.len(), 4);
    }

    #[test]
    fn the_oldest_token_makes_room() {
        let mut uses = Uses::new(3, MAX_AGE);
        for n in 1..=4 {
            assert_eq!(left(&mut uses, &token(n), at(u64::from(n))), 16);
            assert!(uses.len() <= 3);
        }
        assert_eq!(left(&mut uses, &token(3), at(5)), 0, "still known");
        assert_eq!(left(&mut uses, &token(1), at(5)), 16, "had made room");
        uses.commit(&token(2).nonce);
        uses.release(&token(2).nonce);
        assert_eq!(uses.len(), 3, "what is gone does not come back by its end");
    }

    #[test]
    fn entries_expire_with_their_tokens() {
        let mut uses = Uses::new(1000, MAX_AGE);
        for n in 1..=100 {
            let _ = uses.reserve(&token(n), at(u64::from(n)));
        }
        for n in 101..=150 {
            let _ = uses.reserve(&token(n), at(1000));
        }
        assert_eq!(uses.len(), 50, "the first hundred are gone");
    }
}
