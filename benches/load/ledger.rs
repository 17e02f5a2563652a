//! The ledger: what became of each message, as its sender saw it.
//!
//! `sent = delivered + stopped_smtp + dropped_nic`. A message that its server gave up on counts by its last try:
//! where no packet was answered it was dropped at the NIC, where SMTP answered `4xx` it was stopped there; the
//! ledger says besides that it was given up. Retried SYNs are the kernel's doing and a figure of their own.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bots::BotRecord;
use crate::plan::{self, Amounts, Kind, Phase, Planned};
use crate::smtp::{Outcome, Silence};

/// How a message ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// `250` to the final dot.
    Delivered,
    /// Refused in the session.
    StoppedSmtp,
    /// No packet was answered.
    DroppedNic,
}

/// What is known of one message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its id, as it stands in its header.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// Before or during the flood.
    pub phase: Phase,
    /// Where it came from.
    pub source: IpAddr,
    /// How often it was tried.
    pub tries: u32,
    /// How it ended; none: not tried, or still waiting.
    pub fate: Option<Fate>,
    /// Its server gave up: tries or time ran out.
    pub given_up: bool,
    /// A connection died between its final dot and the reply, so it may arrive once more (RFC 1047).
    pub in_doubt: bool,
    /// The last reply's code, if there was one.
    pub code: Option<u16>,
    /// When it was first tried, microseconds from the begin.
    pub first_try_us: Option<u64>,
    /// When it ended.
    pub done_us: Option<u64>,
}

impl Record {
    fn latency_us(&self) -> Option<u64> {
        Some(self.done_us?.saturating_sub(self.first_try_us?))
    }
}

/// How long a message's server keeps trying.
#[derive(Clone, PartialEq, Debug)]
pub struct Backoff {
    /// The waits after the first, second, ... try; the last one repeats.
    pub waits: Vec<Duration>,
    /// Most tries.
    pub tries_max: u32,
}

impl Backoff {
    /// The wait after `tries` tries; none: given up.
    #[must_use]
    pub fn wait(&self, tries: u32) -> Option<Duration> {
        if tries >= self.tries_max {
            return None;
        }
        let place = (tries.saturating_sub(1) as usize).min(self.waits.len().saturating_sub(1));
        self.waits.get(place).copied()
    }
}

/// All messages of one run.
#[derive(Debug)]
pub struct Ledger {
    records: Mutex<Vec<Record>>,
}

impl Ledger {
    /// One record for each planned message, in the plan's order.
    #[must_use]
    pub fn new(seed: u64, planned: &[Planned]) -> Self {
        let record = |message: &Planned| Record {
            id: plan::id(message.kind, message.number, seed),
            kind: message.kind,
            phase: message.phase,
            source: message.source,
            tries: 0,
            fate: None,
            given_up: false,
            in_doubt: false,
            code: None,
            first_try_us: None,
            done_us: None,
        };
        Self { records: Mutex::new(planned.iter().map(record).collect()) }
    }

    /// Enters a try of message `index` that began and ended at these times. Some: try again after so long.
    pub fn tried(
        &self,
        index: usize,
        outcome: Outcome,
        began: Duration,
        ended: Duration,
        backoff: &Backoff,
    ) -> Option<Duration> {
        let mut records = self.lock();
        let record = &mut records[index];
        record.tries += 1;
        record.first_try_us.get_or_insert(micros(began));
        record.in_doubt |= outcome == Outcome::NoAnswer(Silence::AfterDot);
        record.code = match outcome {
            Outcome::Delivered => Some(250),
            Outcome::Refused(code) | Outcome::Deferred(code) => Some(code),
            Outcome::NoAnswer(_) => None,
        };
        let (fate, wait) = match outcome {
            Outcome::Delivered => (Fate::Delivered, None),
            Outcome::Refused(_) => (Fate::StoppedSmtp, None),
            Outcome::Deferred(_)
            | Outcome::NoAnswer(Silence::Closed | Silence::ConnectRefused | Silence::AfterDot) => {
                (Fate::StoppedSmtp, backoff.wait(record.tries))
            }
            Outcome::NoAnswer(Silence::Connect | Silence::Reply) => {
                (Fate::DroppedNic, backoff.wait(record.tries))
            }
        };
        record.fate = Some(fate);
        match outcome {
            Outcome::Delivered | Outcome::Refused(_) => record.done_us = Some(micros(ended)),
            Outcome::Deferred(_) | Outcome::NoAnswer(_) => record.given_up = wait.is_none(),
        }
        wait
    }

    /// Time is over: message `index` is given up where it stands.
    pub fn give_up(&self, index: usize) {
        self.lock()[index].given_up = true;
    }

    /// How far each kind is: `(kind, planned, over)`.
    #[must_use]
    pub fn progress(&self) -> [(Kind, usize, usize); 3] {
        let records = self.lock();
        [Kind::Forged, Kind::RealBounce, Kind::Honest].map(|kind| {
            let all = records.iter().filter(|record| record.kind == kind);
            let over = all.clone().filter(|record| record.done_us.is_some() || record.given_up).count();
            (kind, all.count(), over)
        })
    }

    /// Closes the ledger.
    #[must_use]
    pub fn close(
        self,
        amounts: &Amounts,
        bots: Vec<BotRecord>,
        knocks: u64,
        syn_retries: Option<u64>,
        took: Duration,
    ) -> Report {
        let messages = self.records.into_inner().unwrap_or_else(PoisonError::into_inner);
        let of = |kind| Sum::of(messages.iter().filter(|record| record.kind == kind));
        let honest_ms = |phase| {
            let honest = messages
                .iter()
                .filter(|r| r.kind == Kind::Honest && r.phase == phase && r.fate == Some(Fate::Delivered));
            Latency::of(honest.filter_map(Record::latency_us).collect())
        };
        let summary = Summary {
            forged: of(Kind::Forged),
            real_bounces: of(Kind::RealBounce),
            honest: of(Kind::Honest),
            originals: of(Kind::Original),
            bots: BotSum::of(&bots),
            knocks,
            syn_retries,
            honest_ms: HonestLatency { before: honest_ms(Phase::Before), during: honest_ms(Phase::During) },
            took_ms: millis(took),
        };
        Report { amounts: amounts.clone(), summary, messages, bots }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The closed ledger, as it is written to its file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// What was asked for.
    pub amounts: Amounts,
    /// The sums.
    pub summary: Summary,
    /// Every message.
    pub messages: Vec<Record>,
    /// Every bot.
    pub bots: Vec<BotRecord>,
}

/// The sums of one kind of message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sum {
    /// Messages that were tried at least once: `delivered + stopped_smtp + dropped_nic`.
    pub sent: u64,
    /// `250`.
    pub delivered: u64,
    /// Refused in the session.
    pub stopped_smtp: u64,
    /// Never answered.
    pub dropped_nic: u64,
    /// Tries in all.
    pub tries: u64,
    /// Given up on, by any fate.
    pub given_up: u64,
    /// Perhaps taken although no reply came.
    pub in_doubt: u64,
    /// Planned but not tried before time ran out.
    pub unsent: u64,
}

impl Sum {
    fn of<'a>(records: impl Iterator<Item = &'a Record>) -> Self {
        let mut sum = Self::default();
        for record in records {
            match record.fate {
                None => sum.unsent += 1,
                Some(Fate::Delivered) => sum.delivered += 1,
                Some(Fate::StoppedSmtp) => sum.stopped_smtp += 1,
                Some(Fate::DroppedNic) => sum.dropped_nic += 1,
            }
            sum.sent += u64::from(record.fate.is_some());
            sum.tries += u64::from(record.tries);
            sum.given_up += u64::from(record.given_up);
            sum.in_doubt += u64::from(record.in_doubt);
        }
        sum
    }
}

/// What became of the bots' connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BotSum {
    /// Bots.
    pub bots: u64,
    /// Connections tried.
    pub attempts: u64,
    /// Those that a TCP handshake answered.
    pub answered: u64,
    /// Those that nothing answered.
    pub unanswered: u64,
    /// Bots that met silence at least once.
    pub shut_out: u64,
    /// Half of the bots that were shut out met it within so many milliseconds of their first attempt.
    pub shut_out_p50_ms: u64,
    /// And all of them within so many.
    pub shut_out_max_ms: u64,
    /// Forged bounces that bots got a `250` for.
    pub delivered: u64,
}

impl BotSum {
    fn of(bots: &[BotRecord]) -> Self {
        let mut after: Vec<u64> = bots.iter().filter_map(|bot| bot.shut_out_after_ms).collect();
        after.sort_unstable();
        Self {
            bots: bots.len() as u64,
            attempts: bots.iter().map(|bot| bot.attempts).sum(),
            answered: bots.iter().map(|bot| bot.attempts - bot.unanswered).sum(),
            unanswered: bots.iter().map(|bot| bot.unanswered).sum(),
            shut_out: after.len() as u64,
            shut_out_p50_ms: percentile(&after, 50),
            shut_out_max_ms: percentile(&after, 100),
            delivered: bots.iter().map(|bot| bot.delivered).sum(),
        }
    }
}

/// All sums.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Forged bounces from reflectors.
    pub forged: Sum,
    /// Real bounces.
    pub real_bounces: Sum,
    /// Honest messages, before and during.
    pub honest: Sum,
    /// Forged originals given to a real server.
    pub originals: Sum,
    /// Bots.
    pub bots: BotSum,
    /// SYNs sent without a connection behind them.
    pub knocks: u64,
    /// SYNs that the kernel of this network namespace sent again; none: it could not be read.
    pub syn_retries: Option<u64>,
    /// How long honest messages took, from the first SYN to `250`.
    pub honest_ms: HonestLatency,
    /// The whole run.
    pub took_ms: u64,
}

/// Latency of honest mail.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct HonestLatency {
    /// Before the first wave.
    pub before: Latency,
    /// During the waves.
    pub during: Latency,
}

/// Percentiles in milliseconds, nearest rank.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 99 of 100 are no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Latency {
    fn of(mut micros: Vec<u64>) -> Self {
        micros.sort_unstable();
        let millis = |percent| percentile(&micros, percent) as f64 / 1000.0;
        Self { count: micros.len() as u64, p50: millis(50), p99: millis(99), max: millis(100) }
    }
}

/// Nearest rank; 0 of nothing.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: fn() -> Backoff =
        || Backoff { waits: vec![Duration::from_secs(1), Duration::from_secs(2)], tries_max: 4 };

    fn one() -> Ledger {
        let source = IpAddr::from([127, 0, 0, 1]);
        let due = Duration::ZERO;
        Ledger::new(7, &[Planned { kind: Kind::Forged, number: 0, phase: Phase::During, source, due }])
    }

    fn after(outcomes: &[Outcome]) -> Record {
        let ledger = one();
        for outcome in outcomes {
            let _ = ledger.tried(0, *outcome, Duration::ZERO, Duration::from_millis(5), &BACKOFF());
        }
        ledger.lock()[0].clone()
    }

    #[test]
    fn the_last_try_decides_the_fate() {
        use Outcome::{Deferred, Delivered, NoAnswer, Refused};
        for (outcomes, fate, done) in [
            (&[Delivered][..], Fate::Delivered, true),
            (&[Deferred(451), Delivered], Fate::Delivered, true),
            (&[Refused(550)], Fate::StoppedSmtp, true),
            (&[NoAnswer(Silence::Connect), Refused(550)], Fate::StoppedSmtp, true),
            (&[Refused(550), NoAnswer(Silence::Connect)], Fate::DroppedNic, true),
            (&[NoAnswer(Silence::Reply)], Fate::DroppedNic, false),
            (&[NoAnswer(Silence::Closed)], Fate::StoppedSmtp, false),
        ] {
            let record = after(outcomes);
            assert_eq!((record.fate, record.done_us.is_some()), (Some(fate), done), "{outcomes:?}");
            assert_eq!(record.tries as usize, outcomes.len());
        }
    }

    #[test]
    fn waits_follow_the_schedule_and_end_at_the_last_try() {
        let waits: Vec<_> = (1..=4).map(|tries| BACKOFF().wait(tries)).collect();
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(waits, [seconds(1), seconds(2), seconds(2), None]);
        assert!(after(&[Outcome::Deferred(451); 4]).given_up);
        assert!(!after(&[Outcome::Deferred(451); 3]).given_up);
    }

    #[test]
    fn a_lost_reply_to_the_final_dot_is_in_doubt_for_good() {
        assert!(after(&[Outcome::NoAnswer(Silence::AfterDot), Outcome::Delivered]).in_doubt);
        assert!(!after(&[Outcome::NoAnswer(Silence::Closed), Outcome::Delivered]).in_doubt);
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99), percentile(&[], 99)), (50, 99, 0));
        assert_eq!(percentile(&[4], 99), 4);
    }
}
