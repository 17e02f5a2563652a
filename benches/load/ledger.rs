//! The ledger: what became of each message, as its sender saw it.
//!
//! `sent = delivered + stopped_smtp + dropped_nic`. A message that its server gave up on counts by its last try:
//! where no packet was answered it was dropped at the NIC, where SMTP answered `4xx` it was stopped there; the
//! ledger says besides that it was given up. Retried SYNs are the kernel's doing and a figure of their own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::bots::BotRecord;
use crate::plan::{self, Amounts, Kind, Phase, Planned};
use crate::smtp::{Outcome, Silence};
use crate::summary::{BotSum, HonestLatency, Latency, Sum, Summary};

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
    /// From its first try to its end, in microseconds.
    #[must_use]
    pub fn latency_us(&self) -> Option<u64> {
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
    began: Duration,
    records: Mutex<Vec<Record>>,
    sent_away: Mutex<BTreeMap<IpAddr, u64>>,
}

impl Ledger {
    /// One record for each planned message, in the plan's order. It begins now.
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
        Self {
            began: unix_time(),
            records: Mutex::new(planned.iter().map(record).collect()),
            sent_away: Mutex::default(),
        }
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

    /// A server was told 421 within a session that had begun well.
    pub fn sent_away(&self, source: IpAddr) {
        let mut sent_away = self.sent_away.lock().unwrap_or_else(PoisonError::into_inner);
        *sent_away.entry(source).or_default() += 1;
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
        let sent_away = self.sent_away.into_inner().unwrap_or_else(PoisonError::into_inner);
        let began_unix_us = micros(self.began);
        Report { amounts: amounts.clone(), began_unix_us, summary, messages, sent_away, bots }
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
    /// When it began, in microseconds since 1970, to compare with what others wrote down.
    pub began_unix_us: u64,
    /// The sums.
    pub summary: Summary,
    /// Every message.
    pub messages: Vec<Record>,
    /// How often a reflecting server was told 421 within a session: over its budget of messages. (Over that of
    /// connections it hears 421 instead of a greeting.)
    pub sent_away: BTreeMap<IpAddr, u64>,
    /// Every bot.
    pub bots: Vec<BotRecord>,
}

/// The time since 1970.
#[must_use]
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
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
}
