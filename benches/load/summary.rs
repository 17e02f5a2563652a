//! The sums of a ledger: messages by kind and fate, what the bots met, how long honest mail took.

use serde::{Deserialize, Serialize};

use crate::bots::BotRecord;
use crate::ledger::{Fate, Record};

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
    pub(crate) fn of<'a>(records: impl Iterator<Item = &'a Record>) -> Self {
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
    pub(crate) fn of(bots: &[BotRecord]) -> Self {
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
    /// Of times in microseconds.
    #[must_use]
    pub fn of(mut micros: Vec<u64>) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99), percentile(&[], 99)), (50, 99, 0));
        assert_eq!(percentile(&[4], 99), 4);
    }
}
