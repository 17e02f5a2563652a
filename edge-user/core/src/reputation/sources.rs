//! All sources, and the one place that judges them.

use std::time::Duration;

use ipnet::IpNet;

use super::ban::Bans;
use super::budget::Rate;
use super::record::Record;
use super::table::Table;
use super::{Answer, Ban, BanRefused, Cause, Event, Explanation, Limits, Sizes};
use crate::source::Source;
use crate::time::UnixMillis;

/// What a proven bounce, or mail from a domain that our users wrote to, earns.
const EARNED: f64 = 1.0;

/// What an unproven bounce costs: a hundred of them use up what one wanted message earned.
const UNPROVEN_COSTS: f64 = 0.01;

/// What an offence costs that would otherwise be a ban, and the credit that must be more than this to pay for it: one
/// wanted message pays for one offence within a half-life.
const OFFENCE_COSTS: f64 = 1.0;
const OFFENCE_NEEDS: f64 = 0.5;

/// Within which time strikes for being over a budget are counted.
const OVER_BUDGET_WINDOW: Duration = Duration::from_secs(60);

/// Refusals closer together than this are one strike: a queue manager that opens twenty connections at once hears
/// twenty 421s before it can learn from the first.
const OVER_BUDGET_SPACING: Duration = Duration::from_millis(500);

/// How many connections held in silence, within which time, are an offence.
const HELD_IDLE_MAX: u32 = 3;
const HELD_IDLE_WINDOW: Duration = Duration::from_secs(300);

/// Wrong tags that cost nothing, and how fast that budget fills: senders whose tags are another system's or a lost
/// key's are honest. A guesser has some 10,000 tries a day against 24 bits.
const WRONG_TAGS: Rate = Rate { per_sec: 0.1, burst: 100.0 };

/// How many of the credited sources unseen for longest are compared when one must make room.
const COMPARED: usize = 8;

/// All sources.
#[derive(Debug)]
pub struct Reputation {
    limits: Limits,
    newcomers: Table<Source, Record>,
    credited: Table<Source, Record>,
    bans: Bans,
}

impl Reputation {
    /// Nobody is known yet.
    #[must_use]
    pub fn new(limits: Limits, never_ban: Vec<IpNet>) -> Self {
        Self {
            newcomers: Table::new(limits.newcomers_max),
            credited: Table::new(limits.credited_max),
            bans: Bans::new(limits.bans_max, never_ban),
            limits,
        }
    }

    /// A connection arrives.
    pub fn connect(&mut self, source: Source, now: UnixMillis) -> Answer {
        if self.bans.in_force(source, now).is_some() {
            return Answer::Banned;
        }
        let (rate, half_life) = (self.connection_rate(), self.limits.credit_half_life);
        let record = self.record(source);
        let rate = record.widened(rate, half_life, now);
        if record.connections.take(rate, now) { Answer::Go } else { self.over_budget(source, now) }
    }

    /// Something happened with a source; `flood`: since when one is on.
    pub fn observe(
        &mut self,
        source: Source,
        event: Event,
        flood: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Answer {
        let banned = self.bans.in_force(source, now).is_some();
        let answer = match event {
            Event::ProvenBounce => self.earn(source, |record| &mut record.proven, now),
            Event::CorrespondentMail => self.earn(source, |record| &mut record.wanted, now),
            Event::OtherMail => {
                self.record(source).accept_other(now);
                Answer::Go
            }
            // What a source does while its sessions end is not held against it once more.
            Event::UnprovenBounce | Event::NotSmtp | Event::Trap | Event::HeldIdle | Event::WrongTag
                if banned =>
            {
                Answer::Banned
            }
            Event::UnprovenBounce => self.unproven(source, flood, now),
            Event::NotSmtp => self.offence(source, Cause::NotSmtp, now),
            Event::Trap => self.offence(source, Cause::Trap, now),
            Event::HeldIdle => self.held_idle(source, now),
            Event::WrongTag => self.wrong_tag(source, now),
        };
        if banned { Answer::Banned } else { answer }
    }

    /// Bans a source until a time, on the operator's word. With [`Cause::Adopted`] it is [`restore`](Self::restore).
    ///
    /// # Errors
    /// It lies in a never-ban prefix.
    pub fn ban(
        &mut self,
        source: Source,
        until: UnixMillis,
        cause: Cause,
        now: UnixMillis,
    ) -> Result<(), BanRefused> {
        let ban = Ban { source, until, cause };
        match cause {
            Cause::Adopted => self.bans.restore(ban, &self.limits, now),
            Cause::OverBudget
            | Cause::NotSmtp
            | Cause::Trap
            | Cause::FloodOnly
            | Cause::HeldIdle
            | Cause::Operator => self.bans.set(ban, &self.limits, now),
        }
    }

    /// Takes in a ban that the kernel enforces already: it is not ordered again.
    ///
    /// # Errors
    /// It lies in a never-ban prefix: the kernel's ban should be lifted.
    pub fn restore(&mut self, ban: Ban, now: UnixMillis) -> Result<(), BanRefused> {
        self.bans.restore(ban, &self.limits, now)
    }

    /// The operator lifts a ban; earlier bans are forgotten with it. `false`: there was none.
    pub fn unban(&mut self, source: Source, now: UnixMillis) -> bool {
        self.bans.lift(source, now)
    }

    /// The bans decided since the last call, each once, oldest first: to be written to the kernel. At most `bans_max`
    /// wait here.
    pub fn orders(&mut self) -> Vec<Ban> {
        self.bans.take_orders()
    }

    /// Whether [`Self::orders`] has any to hand out.
    #[must_use]
    pub fn has_orders(&self) -> bool {
        self.bans.has_orders()
    }

    /// All bans in force, by source.
    #[must_use]
    pub fn bans(&self, now: UnixMillis) -> Vec<Ban> {
        self.bans.all_in_force(now)
    }

    /// What is known of a source.
    #[must_use]
    pub fn explain(&self, source: Source, now: UnixMillis) -> Explanation {
        let record = self.credited.peek(&source).or_else(|| self.newcomers.peek(&source));
        let record = record.cloned().unwrap_or_default();
        let half_life = self.limits.credit_half_life;
        let left =
            |bucket: super::budget::Bucket, rate| bucket.left(record.widened(rate, half_life, now), now);
        Explanation {
            source,
            ban: self.bans.in_force(source, now),
            credit: record.credit(half_life, now),
            bans_before: self.bans.steps(source, &self.limits, now),
            proven: record.proven.into(),
            unproven: record.unproven.into(),
            wanted: record.wanted.into(),
            other: record.other.into(),
            connections_left: left(record.connections, self.connection_rate()),
            unproven_left: left(record.unproven_budget, self.unproven_rate()),
            never_ban: self.bans.never_prefix(source).is_some(),
        }
    }

    /// How many entries the tables hold.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes { newcomers: self.newcomers.len(), credited: self.credited.len(), bans: self.bans.len() }
    }

    fn connection_rate(&self) -> Rate {
        Rate { per_sec: self.limits.connections_per_sec, burst: self.limits.connections_burst }
    }

    fn unproven_rate(&self) -> Rate {
        Rate { per_sec: self.limits.unproven_per_sec, burst: self.limits.unproven_burst }
    }

    /// The source's record, wherever it stands; a new one among the newcomers.
    fn record(&mut self, source: Source) -> &mut Record {
        if self.credited.peek(&source).is_some() {
            return self.credited.get_or_default(source);
        }
        self.newcomers.get_or_default(source)
    }

    fn earn(
        &mut self,
        source: Source,
        counter: impl FnOnce(&mut Record) -> &mut u32,
        now: UnixMillis,
    ) -> Answer {
        let half_life = self.limits.credit_half_life;
        let record = self.record(source);
        let counter = counter(record);
        *counter = counter.saturating_add(1);
        record.earn(EARNED, half_life, now);
        let credit = record.credit(half_life, now);
        self.promote(source, credit, now);
        Answer::Go
    }

    /// Moves a newcomer with credit to the credited sources. When these are full, the weakest of those unseen for
    /// longest changes places with it, but none that has more credit: who earns a little at many addresses pushes
    /// nobody out who earned much.
    fn promote(&mut self, source: Source, credit: f64, now: UnixMillis) {
        let half_life = self.limits.credit_half_life;
        let Some(record) = self.newcomers.remove(&source) else { return };
        if self.credited.is_full() {
            match self.credited.make_room(COMPARED, credit, |record| record.credit(half_life, now)) {
                Some((weakest, demoted)) => drop(self.newcomers.insert(weakest, demoted)),
                None => {
                    self.newcomers.insert(source, record);
                    return;
                }
            }
        }
        self.credited.insert(source, record);
    }

    /// Over its budget of bounces a source is slowed and no more: it may be the honest server of a stranger's victim.
    /// Only in a flood are too many of them, and nothing good, a ban.
    fn unproven(&mut self, source: Source, flood: Option<UnixMillis>, now: UnixMillis) -> Answer {
        let (rate, half_life) = (self.unproven_rate(), self.limits.credit_half_life);
        let flood_unproven_max = self.limits.flood_unproven_max;
        let record = self.record(source);
        let rate = record.widened(rate, half_life, now);
        let within = record.unproven_budget.take(rate, now);
        record.unproven = record.unproven.saturating_add(1);
        record.spend(UNPROVEN_COSTS, half_life, now);
        let in_flood = flood.map_or(0, |since| record.unproven_in_flood(since));
        if in_flood > flood_unproven_max && !record.good_came(half_life, now) {
            record.forget_flood();
            if self.escalate(source, Cause::FloodOnly, now) == Answer::Banned {
                return Answer::Banned;
            }
        }
        if within { Answer::Go } else { Answer::OverBudget }
    }

    fn held_idle(&mut self, source: Source, now: UnixMillis) -> Answer {
        let held = self.record(source).held_idle.strike(HELD_IDLE_WINDOW, Duration::ZERO, now);
        if held < HELD_IDLE_MAX { Answer::Go } else { self.offence(source, Cause::HeldIdle, now) }
    }

    fn wrong_tag(&mut self, source: Source, now: UnixMillis) -> Answer {
        if self.record(source).wrong_tags.take(WRONG_TAGS, now) {
            Answer::Go
        } else {
            self.over_budget(source, now)
        }
    }

    /// The budget of connections or of wrong tags is empty: 421; and a ban for who goes on and on, unless anything good
    /// came from it.
    fn over_budget(&mut self, source: Source, now: UnixMillis) -> Answer {
        let (strikes_max, half_life) = (self.limits.over_budget_strikes, self.limits.credit_half_life);
        let record = self.record(source);
        let strikes = record.over_budget.strike(OVER_BUDGET_WINDOW, OVER_BUDGET_SPACING, now);
        if strikes < strikes_max || record.good_came(half_life, now) {
            return Answer::OverBudget;
        }
        self.escalate(source, Cause::OverBudget, now)
    }

    /// What is a ban at once, unless the source's credit pays for it. A server that sent wanted mail lately may have one
    /// bad user or a bad line, so traps and silence are never a ban for it; but what speaks no SMTP is no mail server.
    fn offence(&mut self, source: Source, cause: Cause, now: UnixMillis) -> Answer {
        let half_life = self.limits.credit_half_life;
        let record = self.record(source);
        let forgiven = match cause {
            Cause::Trap | Cause::HeldIdle => record.earned_lately(half_life, now),
            Cause::NotSmtp | Cause::OverBudget | Cause::FloodOnly | Cause::Operator | Cause::Adopted => false,
        };
        if forgiven || record.credit(half_life, now) > OFFENCE_NEEDS {
            record.spend(OFFENCE_COSTS, half_life, now);
            return Answer::OverBudget;
        }
        self.escalate(source, cause, now)
    }

    fn escalate(&mut self, source: Source, cause: Cause, now: UnixMillis) -> Answer {
        let longest = match cause {
            Cause::FloodOnly => self.limits.ban_flood_max.min(self.limits.ban_max),
            Cause::OverBudget
            | Cause::NotSmtp
            | Cause::Trap
            | Cause::HeldIdle
            | Cause::Operator
            | Cause::Adopted => self.limits.ban_max,
        };
        match self.bans.escalate(source, cause, longest, &self.limits, now) {
            Some(_) => {
                let record = self.record(source);
                record.over_budget = Default::default();
                record.held_idle = Default::default();
                Answer::Banned
            }
            None => Answer::OverBudget,
        }
    }
}
