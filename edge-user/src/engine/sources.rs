//! What is known of sources, for all workers: [`Reputation`] in stripes by source.
//!
//! A source is in one stripe, so what is decided about it is decided in order, whichever workers its connections came
//! to. The bounds of the tables are shared out: all stripes together hold no more than was configured.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;
use edge_core::reputation::{Answer, Ban, BanRefused, Cause, Event, Explanation, Limits, Reputation, Sizes};
use edge_core::source::Source;
use edge_core::time::UnixMillis;
use ipnet::IpNet;

use super::locked;
use super::stripes::{self, STRIPES, Stripes};

/// All sources.
#[derive(Debug)]
pub struct Sources {
    stripes: Stripes<Reputation>,
    /// Which stripes have orders, a bit for each: who looks for orders locks no others, and nobody is woken for none.
    ordering: CachePadded<AtomicU64>,
}

const _: () = assert!(STRIPES <= u64::BITS as usize, "each stripe has a bit");

impl Sources {
    /// Nobody is known yet.
    #[must_use]
    pub fn new(limits: Limits, never_ban: Vec<IpNet>) -> Self {
        let smallest = limits.newcomers_max.min(limits.credited_max).min(limits.bans_max);
        let count = stripes::for_entries(smallest);
        let share = Limits {
            newcomers_max: limits.newcomers_max / count,
            credited_max: limits.credited_max / count,
            bans_max: limits.bans_max / count,
            ..limits
        };
        let stripes = Stripes::new(count, |_| Reputation::new(share.clone(), never_ban.clone()));
        Self { stripes, ordering: CachePadded::default() }
    }

    /// Has a source's stripe do something that may end in a ban.
    fn judge<T>(&self, source: Source, judge: impl FnOnce(&mut Reputation) -> T) -> T {
        let place = self.stripes.place(source);
        let mut stripe = locked(self.stripes.at(place));
        let judged = judge(&mut stripe);
        if stripe.has_orders() {
            self.ordering.fetch_or(1 << place, Ordering::Release);
        }
        judged
    }

    /// As [`Reputation::connect`].
    pub fn connect(&self, source: Source, now: UnixMillis) -> Answer {
        self.judge(source, |stripe| stripe.connect(source, now))
    }

    /// As [`Reputation::observe`].
    pub fn observe(
        &self,
        source: Source,
        event: Event,
        flood: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Answer {
        self.judge(source, |stripe| stripe.observe(source, event, flood, now))
    }

    /// As [`Reputation::ban`].
    ///
    /// # Errors
    /// It lies in a never-ban prefix.
    pub fn ban(
        &self,
        source: Source,
        until: UnixMillis,
        cause: Cause,
        now: UnixMillis,
    ) -> Result<(), BanRefused> {
        self.judge(source, |stripe| stripe.ban(source, until, cause, now))
    }

    /// As [`Reputation::restore`].
    ///
    /// # Errors
    /// It lies in a never-ban prefix.
    pub fn restore(&self, ban: Ban, now: UnixMillis) -> Result<(), BanRefused> {
        locked(self.stripes.of(ban.source)).restore(ban, now)
    }

    /// As [`Reputation::unban`].
    pub fn unban(&self, source: Source, now: UnixMillis) -> bool {
        locked(self.stripes.of(source)).unban(source, now)
    }

    /// Whether [`Self::orders`] may have any to hand out: no lock is taken.
    pub(super) fn has_orders(&self) -> bool {
        self.ordering.load(Ordering::Relaxed) != 0
    }

    /// As [`Reputation::orders`]: those of one source in their order.
    pub fn orders(&self) -> Vec<Ban> {
        let ordering = self.ordering.swap(0, Ordering::Acquire);
        let places = (0..STRIPES).filter(|place| ordering >> place & 1 == 1);
        places.flat_map(|place| locked(self.stripes.at(place)).orders()).collect()
    }

    /// As [`Reputation::bans`].
    #[must_use]
    pub fn bans(&self, now: UnixMillis) -> Vec<Ban> {
        let mut bans: Vec<Ban> = self.stripes.all().flat_map(|stripe| locked(stripe).bans(now)).collect();
        bans.sort_by_key(|ban| ban.source);
        bans
    }

    /// As [`Reputation::explain`].
    #[must_use]
    pub fn explain(&self, source: Source, now: UnixMillis) -> Explanation {
        locked(self.stripes.of(source)).explain(source, now)
    }

    /// How many entries the tables hold.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.stripes.all().map(|stripe| locked(stripe).sizes()).fold(
            Sizes { newcomers: 0, credited: 0, bans: 0 },
            |sum, of| Sizes {
                newcomers: sum.newcomers + of.newcomers,
                credited: sum.credited + of.credited,
                bans: sum.bans + of.bans,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::engine::tests::{CONFIG, parsed};

    fn limits(most: usize) -> Limits {
        let text = CONFIG.replace("UPSTREAM", "127.0.0.1:9").replace("OTHER", "127.0.0.1:9");
        let limits = parsed(&text).reputation_limits();
        Limits { newcomers_max: most, credited_max: most, bans_max: most, ..limits }
    }

    fn source(number: u32) -> Source {
        Source::V4(Ipv4Addr::from_bits(number))
    }

    #[test]
    fn all_stripes_together_hold_no_more_than_may_be() {
        let now = UnixMillis::from_secs(1_000_000);
        for most in [1, 700, 5000] {
            let sources = Sources::new(limits(most), Vec::new());
            for number in 0..3 * most as u32 {
                let _ = sources.connect(source(number), now);
                let until = now.plus(Duration::from_secs(60));
                sources.ban(source(number), until, Cause::Trap, now).expect("not spared");
            }
            let sizes = sources.sizes();
            assert!(sizes.newcomers <= most && sizes.bans <= most, "{sizes:?} of {most}");
            assert!(sizes.newcomers * 10 >= most * 9, "{sizes:?} of {most}");
        }
    }

    #[test]
    fn what_is_told_of_a_source_is_known_of_it_and_of_no_other() {
        let now = UnixMillis::from_secs(1_000_000);
        let sources = Sources::new(limits(100_000), Vec::new());
        for number in 0..1000 {
            let until = now.plus(Duration::from_secs(60));
            sources.ban(source(number), until, Cause::Operator, now).expect("not spared");
        }
        let bans = sources.bans(now);
        assert_eq!(bans.len(), 1000);
        assert!(bans.is_sorted_by_key(|ban| ban.source));
        assert!(sources.has_orders());
        assert_eq!(sources.orders().len(), 1000);
        assert!(sources.orders().is_empty(), "each is handed out once");
        assert_eq!(sources.connect(source(7), now), Answer::Banned);
        assert!(!sources.has_orders(), "to refuse who is banned orders nothing");
        assert!(sources.unban(source(7), now) && !sources.unban(source(1000), now));
        assert_eq!(sources.connect(source(7), now), Answer::Go);
    }
}
