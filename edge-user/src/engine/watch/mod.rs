//! Watching, beside the sessions: the ledger of what was let through, and the thread that keeps it on disk.
//!
//! - [`book`]: the ledger's file in the state directory;
//! - `samples`: copies of unproven messages, on their way to be looked at;
//! - `keeper`: the thread that beats, looks at samples and writes the file;
//! - `look`: whether a sample looks like ours, by `original`, `dkim` (as far as `questions` allow) and `hosts`.
//!
//! A session only counts, in a list of its worker (`told`).

pub mod book;
mod dkim;
mod hosts;
mod keeper;
mod look;
mod original;
mod questions;
mod samples;
mod told;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use edge_core::mailbox::Mailbox;
use edge_core::policy::{Action, Policy, Reason, Verdict};
use edge_core::signature::{Key, Keys};
use edge_core::source::Source;
use edge_core::time::UnixMillis;
use edge_core::watch::{Decider, FirstSignature, Ledger, LetThrough, Summary};

use self::hosts::OwnHosts;
pub(super) use self::keeper::Keeper;
pub(super) use self::samples::Sample;
use self::samples::Samples;
use self::told::Told;
use super::{Edge, locked};
use crate::config::Config;
use crate::state::StateDir;
use crate::telemetry::AddressHasher;

/// A rotated key that is older than this when there is no ledger has signed before: the ledger was lost.
const NEW_KEY_MAX: Duration = Duration::from_secs(86_400);

/// Watching.
#[derive(Debug)]
pub struct Watch {
    ledger: Mutex<Ledger>,
    /// What is to be added to it.
    told: Told,
    /// In milliseconds since 1970; 0: nothing was signed yet.
    first_signature: AtomicU64,
    /// Something is in the ledger that is not on disk.
    changed: AtomicBool,
    samples: Samples,
    hosts: ArcSwap<OwnHosts>,
    /// Where the log's addresses are hashed, those in findings are too.
    hasher: Option<AddressHasher>,
}

impl Watch {
    /// Goes on with the ledger of the state directory, or begins one.
    pub(super) fn open(config: &Config, state: Option<&StateDir>, keys: &Keys, now: UnixMillis) -> Self {
        let secret = keys.iter().next().map(Key::secret).filter(|_| config.log.hash_addresses);
        let ledger = state.and_then(book::open).unwrap_or_else(|| Ledger::begin(now, by_keys(keys, now)));
        Self {
            first_signature: AtomicU64::new(ledger.first_signature().map_or(0, |first| first.0.max(1))),
            ledger: Mutex::new(ledger),
            told: Told::new(),
            changed: AtomicBool::new(true),
            samples: Samples::new(),
            hosts: ArcSwap::from_pointee(OwnHosts::of(config)),
            hasher: secret.map(|secret| AddressHasher::from_secret(secret)),
        }
    }

    /// The first signature of this installation; `None`: nothing was signed yet.
    pub(super) fn first_signature(&self) -> Option<UnixMillis> {
        Some(self.first_signature.load(Ordering::Relaxed)).filter(|first| *first != 0).map(UnixMillis)
    }

    fn hosts(&self) -> Guard<Arc<OwnHosts>> {
        self.hosts.load()
    }

    /// Takes over the operator's hosts as `config` names them. What was learnt of mail servers stays.
    pub(crate) fn set_hosts(&self, config: &Config) {
        self.hosts.rcu(|known| OwnHosts::of(config).knowing(known));
    }

    /// A mail server answered, and called itself so.
    pub(super) fn met(&self, address: SocketAddr, names: &[String]) {
        let hosts = self.hosts();
        for name in names.iter().filter_map(|name| hosts.to_learn(address, name)) {
            self.hosts.rcu(|known| {
                let mut known = OwnHosts::clone(known);
                known.learn(name.clone());
                known
            });
        }
    }

    /// Holds the ledger, as its keeper does while it copies it.
    #[cfg(test)]
    pub(super) fn hold(&self) -> MutexGuard<'_, Ledger> {
        locked(&self.ledger)
    }

    #[cfg(test)]
    pub(crate) fn knows_host(&self, name: &str) -> bool {
        self.hosts().is_known(name)
    }

    /// Samples that wait to be looked at.
    #[cfg(test)]
    pub(super) fn samples_waiting(&self) -> usize {
        self.samples.waiting.len()
    }

    /// As if nothing was signed before, or first then.
    #[cfg(test)]
    pub(super) fn begin_anew(&self, first_signature: Option<UnixMillis>, now: UnixMillis) {
        let first = first_signature.map(|at| FirstSignature { at, by_oldest_key: false });
        *locked(&self.ledger) = Ledger::begin(now, first);
        self.first_signature.store(first_signature.map_or(0, |first| first.0), Ordering::Relaxed);
    }

    /// A message of ours was signed and accepted.
    pub(super) fn signed(&self, now: UnixMillis) {
        if self.first_signature.load(Ordering::Relaxed) == 0 {
            // The first of two stays; the ledger hears of it when somebody next asks for it.
            let first = &self.first_signature;
            let _ = first.compare_exchange(0, now.0.max(1), Ordering::Relaxed, Ordering::Relaxed);
            self.change();
        }
    }

    /// The ledger, with all that sessions told up to now. They do not wait for it.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        let mut ledger = locked(&self.ledger);
        if let Some(first) = self.first_signature() {
            ledger.signed(first);
        }
        self.told.put_into(&mut ledger);
        ledger
    }

    /// Something is to go to disk.
    fn change(&self) {
        // Said with every bounce, and most often said already: a look leaves the others' copy of it alone.
        if !self.changed.load(Ordering::Relaxed) {
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    /// A copy of an unproven message, if it is to be looked at and there is room.
    pub(super) fn sample<'p>(
        &self,
        source: IpAddr,
        recipient: &Mailbox,
        verdict: Verdict,
        pieces: impl Iterator<Item = &'p [u8]> + Clone,
    ) -> Option<Sample> {
        is_looked_at(verdict).then(|| self.samples.take(source, recipient, pieces))?
    }

    /// The message was answered for good: it is looked at, whatever became of it.
    pub(super) fn look_at(&self, sample: Option<Sample>, verdict: Verdict) {
        if is_looked_at(verdict) {
            self.samples.send(sample);
        }
    }

    /// A null-sender message that nothing proved was delivered; it is counted where only watching, or grace, let it
    /// through.
    pub(super) fn delivered(&self, bounce: Delivered<'_>, now: UnixMillis) {
        if let Some(let_through) = bounce.let_through() {
            self.told.add(let_through, now);
            self.change();
        }
    }
}

/// Whether a message with this verdict is looked at: nothing proved it, and nobody said that he wants it so.
fn is_looked_at(verdict: Verdict) -> bool {
    match verdict.reason {
        Reason::Unproven | Reason::TooBigToProve | Reason::Grace | Reason::NoFilter | Reason::TagRequired => {
            true
        }
        Reason::KindRule => !verdict.by_kind_lets_through(),
        Reason::Proven | Reason::Overused | Reason::ExemptRecipient | Reason::TrustedForwarder => false,
    }
}

/// An unproven bounce that was delivered.
pub(super) struct Delivered<'a> {
    pub(super) source: Source,
    pub(super) kind: edge_core::bounce::Kind,
    pub(super) verdict: Verdict,
    pub(super) policy: &'a Policy,
}

impl Delivered<'_> {
    fn let_through(&self) -> Option<LetThrough> {
        let filter = self.verdict.filter.and_then(|place| self.policy.filters.get(place));
        let would = match self.verdict.reason {
            Reason::Unproven | Reason::TooBigToProve | Reason::KindRule | Reason::NoFilter => None,
            Reason::Grace => match filter {
                Some(filter) => Some(filter.action),
                None => self.policy.kinds.of(self.kind).action(),
            },
            Reason::Proven
            | Reason::Overused
            | Reason::ExemptRecipient
            | Reason::TrustedForwarder
            | Reason::TagRequired => return None,
        };
        match self.verdict.action {
            Action::Monitor => {}
            Action::Deliver | Action::Mark | Action::Reject | Action::Quarantine | Action::Discard => {
                return None;
            }
        }
        let memo = filter.map(|filter| filter.memo.clone()).unwrap_or_default();
        let decider = Decider { filter: self.verdict.filter, memo, would };
        Some(LetThrough { source: self.source, kind: self.kind, decider })
    }
}

/// Where there is no ledger: keys that were rotated say that mail was signed before, and roughly since when. One key
/// alone says nothing: it may have been made weeks before the edge runs first, and grace must not be over by then.
fn by_keys(keys: &Keys, now: UnixMillis) -> Option<FirstSignature> {
    let oldest = keys.iter().map(Key::created).min().filter(|_| keys.iter().nth(1).is_some())?;
    (now.since(oldest) > NEW_KEY_MAX).then_some(FirstSignature { at: oldest, by_oldest_key: true })
}

impl Edge {
    /// What watching found, with at most `sources_max` sources.
    #[must_use]
    pub fn watched(&self, sources_max: usize) -> Summary {
        let (now, grace, flood) = (self.now(), self.policy().grace, self.flood_on());
        self.watch.ledger().summary(now, grace, flood, sources_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis::from_secs(1_795_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    pub(super) fn config() -> Config {
        let text = r#"
            hostname = "mx.example.jp"
            inbound.listen = ["192.0.2.25:25"]
            signature.keys = "/nowhere"
            [[domain]]
            name = "example.jp"
            upstream = "127.0.0.1:25"
        "#;
        crate::config::parse(text, std::path::Path::new("test")).expect("it is right").config
    }

    fn keys(ages: &[u32]) -> Keys {
        let keys = (1..).zip(ages).map(|(id, age)| Key::new(id, [id; 32], NOW.minus(DAY * *age)));
        Keys::new(keys.collect()).expect("ids differ")
    }

    #[test]
    fn the_first_signature_is_remembered_and_never_moves() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let watch = Watch::open(&config(), Some(&state), &keys(&[0]), NOW);
        assert_eq!(watch.first_signature(), None, "a new key has signed nothing yet");
        watch.signed(NOW.plus(DAY));
        watch.signed(NOW.plus(2 * DAY));
        assert_eq!(watch.first_signature(), Some(NOW.plus(DAY)));
        book::save(&state, &watch.ledger()).unwrap();
        let again = Watch::open(&config(), Some(&state), &keys(&[0, 300]), NOW.plus(40 * DAY));
        again.signed(NOW.plus(40 * DAY));
        assert_eq!(again.first_signature(), Some(NOW.plus(DAY)), "neither by a restart nor by other keys");
    }

    #[test]
    fn where_the_state_was_lost_rotated_keys_say_when_it_began() {
        let first = |ages: &[u32]| Watch::open(&config(), None, &keys(ages), NOW).first_signature();
        assert_eq!(first(&[3, 400]), Some(NOW.minus(400 * DAY)));
        assert_eq!(first(&[1, 2]), Some(NOW.minus(2 * DAY)));
        assert_eq!(first(&[0, 1]), None, "made and rotated yesterday, and started today");
        assert_eq!(
            first(&[400]),
            None,
            "made by `init` long ago, and never signed with: grace is still to come"
        );
    }
}
