//! What is decided of one token, mailbox or domain at a time, for all workers: the core's tables in stripes.
//!
//! What belongs together is in one stripe, so it is decided in order, whichever workers it came to. The bounds are shared
//! out: all stripes together hold no more than was configured.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use edge_core::reputation::{self, Taken};
use edge_core::signature::record::{Sent, SentHash};
use edge_core::signature::{self, Nonce, Reservation, TagName, Token};
use edge_core::time::UnixMillis;

use super::locked;
use super::stripes::Stripes;

/// Uses of tokens, tags and messages of the record: [`signature::Uses`].
#[derive(Debug)]
pub(super) struct Uses(Stripes<signature::Uses>);

impl Uses {
    /// None was used yet.
    pub(super) fn new(entries_max: usize, max_age: Duration) -> Self {
        Self(Stripes::sharing(entries_max, |share| signature::Uses::new(share, max_age)))
    }

    /// Reserves a use at the proof.
    pub(super) fn reserve(&self, token: &Token, now: UnixMillis) -> Reservation {
        locked(self.0.of(token.nonce)).reserve(token, now)
    }

    /// The same for a valid tag.
    pub(super) fn reserve_tag(&self, tag: TagName, now: UnixMillis) -> Reservation {
        locked(self.0.of(tag)).reserve_tag(tag, now)
    }

    /// The same for a message of the record.
    pub(super) fn reserve_sent(&self, sent: &Sent, now: UnixMillis) -> Reservation {
        locked(self.0.of(sent.hash)).reserve_sent(sent, now)
    }

    /// The upstream said 2xx: the use counts.
    pub(super) fn commit(&self, nonce: &Nonce) {
        locked(self.0.of(nonce)).commit(nonce);
    }

    /// The same for a tag.
    pub(super) fn commit_tag(&self, tag: TagName) {
        locked(self.0.of(tag)).commit_tag(tag);
    }

    /// The same for a message of the record.
    pub(super) fn commit_sent(&self, sent: SentHash) {
        locked(self.0.of(sent)).commit_sent(sent);
    }

    /// The message did not arrive: the use does not count.
    pub(super) fn release(&self, nonce: &Nonce) {
        locked(self.0.of(nonce)).release(nonce);
    }

    /// The same for a tag.
    pub(super) fn release_tag(&self, tag: TagName) {
        locked(self.0.of(tag)).release_tag(tag);
    }

    /// The same for a message of the record.
    pub(super) fn release_sent(&self, sent: SentHash) {
        locked(self.0.of(sent)).release_sent(sent);
    }
}

/// How much unproven mail each mailbox gets within an hour: [`reputation::Allowances`].
#[derive(Debug)]
pub(super) struct Allowances(Stripes<reputation::Allowances>);

/// One message that was taken from a budget, and where that is.
#[derive(Debug)]
pub(super) struct TakenFrom(usize, Taken);

impl Allowances {
    /// At most `budgets_max` budgets at once.
    pub(super) fn new(budgets_max: usize) -> Self {
        Self(Stripes::sharing(budgets_max, reputation::Allowances::new))
    }

    /// Takes one message of those that `whom` may get. `None`: it had them.
    pub(super) fn take(&self, whom: &impl Hash, per_hour: u32, now: UnixMillis) -> Option<TakenFrom> {
        let place = self.0.place(whom);
        let taken = locked(self.0.at(place)).take(whom, per_hour, now)?;
        Some(TakenFrom(place, taken))
    }

    /// The message did not arrive, and comes again.
    pub(super) fn give_back(&self, TakenFrom(place, taken): &TakenFrom) {
        locked(self.0.at(*place)).give_back(taken);
    }
}

/// The domains that our users wrote to: [`reputation::Correspondents`].
#[derive(Debug)]
pub(super) struct Correspondents(Stripes<reputation::Correspondents>);

impl Correspondents {
    /// A set of at most `domains_max` domains.
    pub(super) fn new(domains_max: usize) -> Self {
        Self(Stripes::sharing(domains_max, reputation::Correspondents::new))
    }

    /// One of our users wrote to `domain` (any letter case; an A-label).
    pub(super) fn note(&self, domain: &[u8], now: UnixMillis) {
        locked(self.0.of(AnyCase(domain))).note(domain, now);
    }

    /// Whether our users wrote to `domain` lately.
    pub(super) fn knows(&self, domain: &[u8], now: UnixMillis) -> bool {
        locked(self.0.of(AnyCase(domain))).knows(domain, now)
    }

    /// How many domains are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.all().map(|stripe| locked(stripe).len()).sum()
    }
}

/// Octets that are the same in small and capital letters.
struct AnyCase<'a>(&'a [u8]);

impl Hash for AnyCase<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|octet| state.write_u8(octet.to_ascii_lowercase()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis::from_secs(1_000_000);

    fn token(number: u16) -> Token {
        let [high, low] = number.to_be_bytes();
        Token { key_id: 0, recipients_log2: 0, issued_hours: 0, nonce: [high, low, 0, 0, 0, 1] }
    }

    #[test]
    fn each_token_is_used_as_often_as_it_may_be_whichever_stripe_it_is_in() {
        let uses = Uses::new(100_000, Duration::from_secs(1000));
        for number in 0..300 {
            let token = token(number);
            let reserve = || uses.reserve(&token, NOW) == Reservation::Reserved;
            assert_eq!((0..100).take_while(|_| reserve()).count(), 16);
            (0..10).for_each(|_| uses.commit(&token.nonce));
            (0..6).for_each(|_| uses.release(&token.nonce));
            assert_eq!((0..100).take_while(|_| reserve()).count(), 6, "only committed uses count");
        }
        let sent = Sent { hash: SentHash(7), recipients_log2: 0, day: 0 };
        let reserve = || uses.reserve_sent(&sent, NOW) == Reservation::Reserved;
        assert_eq!((0..100).take_while(|_| reserve()).count(), 16);
        uses.commit_sent(sent.hash);
        uses.release_sent(sent.hash);
        assert_eq!((0..100).take_while(|_| reserve()).count(), 1);
    }

    #[test]
    fn what_a_mailbox_did_not_get_is_given_back_to_it_and_to_no_other() {
        let allowances = Allowances::new(100_000);
        let mailboxes: Vec<String> = (0..300).map(|number| format!("u{number}@example.jp")).collect();
        let taken: Vec<_> =
            mailboxes.iter().map(|mailbox| allowances.take(mailbox, 1, NOW).expect("its first")).collect();
        assert!(mailboxes.iter().all(|mailbox| allowances.take(mailbox, 1, NOW).is_none()));
        taken.iter().step_by(2).for_each(|taken| allowances.give_back(taken));
        for (number, mailbox) in mailboxes.iter().enumerate() {
            assert_eq!(allowances.take(mailbox, 1, NOW).is_some(), number % 2 == 0, "{mailbox}");
        }
    }

    #[test]
    fn a_domain_is_known_in_any_case_of_its_letters_and_no_more_than_there_is_room_for() {
        let correspondents = Correspondents::new(1000);
        for number in 0..5000 {
            correspondents.note(format!("D{number}.Example").as_bytes(), NOW);
        }
        assert!(correspondents.knows(b"d4999.example", NOW) && correspondents.knows(b"D4999.EXAMPLE", NOW));
        assert!(!correspondents.knows(b"d0.example", NOW));
        assert!(correspondents.len() <= 1000, "{}", correspondents.len());
    }
}
