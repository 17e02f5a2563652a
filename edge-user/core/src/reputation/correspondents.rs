//! The domains that our users wrote to: mail from them is wanted, and earns its source credit.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::table::Table;
use crate::time::UnixMillis;

/// How long a domain is remembered after our users last wrote to it.
const REMEMBERED: Duration = Duration::from_secs(60 * 86_400);

/// A bounded set of domains, as keyed hashes: the domains not written to for longest make room.
///
/// `outbound` calls [`note`](Self::note) with the domain of each recipient that the next hop accepted; `inbound` asks
/// [`knows`](Self::knows) for the envelope sender's domain when the upstream accepted its message, and reports
/// [`Event::CorrespondentMail`](super::Event::CorrespondentMail) or
/// [`Event::OtherMail`](super::Event::OtherMail) accordingly. Nothing outlives the process.
#[derive(Debug)]
pub struct Correspondents {
    noted: Table<u64, UnixMillis>,
    key: RandomState,
}

impl Correspondents {
    /// A set of at most `domains_max` domains (about 50 octets each).
    #[must_use]
    pub fn new(domains_max: usize) -> Self {
        Self { noted: Table::new(domains_max), key: RandomState::new() }
    }

    /// One of our users wrote to `domain` (any letter case; an A-label).
    pub fn note(&mut self, domain: &[u8], now: UnixMillis) {
        self.noted.insert(self.hash(domain), now);
    }

    /// Whether our users wrote to `domain` lately.
    #[must_use]
    pub fn knows(&self, domain: &[u8], now: UnixMillis) -> bool {
        self.noted.peek(&self.hash(domain)).is_some_and(|noted| now.since(*noted) < REMEMBERED)
    }

    /// How many domains are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.noted.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn hash(&self, domain: &[u8]) -> u64 {
        self.key.hash_one(domain.to_ascii_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_known_for_sixty_days_after_the_last_mail_to_it() {
        let mut correspondents = Correspondents::new(10);
        let day = |days: u64| UnixMillis::from_secs(days * 86_400);
        assert!(!correspondents.knows(b"example.net", day(0)));
        correspondents.note(b"Example.NET", day(0));
        assert!(correspondents.knows(b"example.net", day(59)));
        assert!(!correspondents.knows(b"example.org", day(59)));
        assert!(!correspondents.knows(b"example.net", day(60)));
        correspondents.note(b"example.net", day(60));
        assert!(correspondents.knows(b"EXAMPLE.net", day(119)));
    }

    #[test]
    fn no_more_domains_are_remembered_than_there_is_room_for() {
        let mut correspondents = Correspondents::new(100);
        let now = UnixMillis::from_secs(1);
        for n in 0..1000 {
            correspondents.note(format!("d{n}.example").as_bytes(), now);
        }
        assert_eq!(correspondents.len(), 100);
        assert!(correspondents.knows(b"d999.example", now));
        assert!(!correspondents.knows(b"d0.example", now));
    }
}
