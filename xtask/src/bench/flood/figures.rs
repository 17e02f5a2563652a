//! From what everybody saw to the figures: what was delivered, how often, and how long it took.

use load::ledger::{Fate, Record};
use load::plan::Kind;
use load::summary::Latency;
use serde::{Deserialize, Serialize};

use super::Schedule;
use super::play::{Played, Used};
use super::subject::Subject;

/// The flood's 99th percentile may be so many times the calm's.
const RATIO_MAX: f64 = 1.5;

/// One subject.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) row: String,
    pub(super) subject: String,
    pub(super) what: String,
    /// The 99th percentile in the waves, as a multiple of the calm's.
    pub(super) value: f64,
    pub(super) unit: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) goal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) met: Option<bool>,
    /// Mail with a sender.
    pub(super) honest: Delivery,
    /// Bounces of what the operator's users sent.
    pub(super) real_bounces: Delivery,
    /// From the first SYN to 250, further tries and their waits included.
    pub(super) latency_ms: Phases,
    /// From the first SYN until it is in the mailbox.
    pub(super) mailbox_ms: Phases,
    pub(super) forged: Forged,
    pub(super) bots: Bots,
    /// Packets that XDP dropped, where it is on.
    pub(super) xdp_dropped: Option<u64>,
    /// Sources that were banned.
    pub(super) banned: usize,
    pub(super) cpu_cores: CpuPhases,
    /// Each honest message.
    pub(super) messages: Vec<Point>,
}

/// What became of wanted messages, by the mailboxes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Delivery {
    pub(super) sent: u64,
    /// In its mailbox, once.
    pub(super) once: u64,
    /// In its mailbox more often.
    pub(super) more_than_once: u64,
    /// In no mailbox.
    pub(super) missing: u64,
    /// Tried more than once.
    pub(super) retried: u64,
}

/// Latency in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Phases {
    pub(super) calm: Latency,
    /// Of messages that began in a wave.
    pub(super) waves: Latency,
}

/// Forged bounces.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Forged {
    pub(super) planned: u64,
    /// Tries that began for the first time in a wave, each second of the waves.
    pub(super) tried_per_sec: f64,
    pub(super) stopped_smtp: u64,
    pub(super) taken: u64,
    /// Still in their servers' queues at the end.
    pub(super) left: u64,
    /// In mailboxes, those of the bots included.
    pub(super) in_mailboxes: u64,
}

/// What the bots met.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Bots {
    pub(super) bots: u64,
    pub(super) connections: u64,
    pub(super) unanswered: u64,
    pub(super) knocks: u64,
}

/// CPU time a second: cores.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct CpuPhases {
    pub(super) calm: Cpu,
    pub(super) waves: Cpu,
}

#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Cpu {
    /// The edge, where there is one, and Postfix.
    pub(super) servers: f64,
    pub(super) load: f64,
}

/// One honest message.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Point {
    /// When it began, from the calm's begin, in seconds.
    pub(super) at: f64,
    /// What it took to 250; where none came, how long that was waited for.
    pub(super) ms: f64,
    pub(super) delivered: bool,
    /// What it took to the mailbox.
    pub(super) mailbox_ms: Option<f64>,
}

impl Figures {
    pub(super) fn of(subject: Subject, schedule: &Schedule, played: &Played) -> Self {
        let messages = points(schedule, played);
        let calm = f64::from(schedule.calm_secs);
        let in_calm = |at: f64| (0.0..calm).contains(&at);
        let in_wave = |at: f64| schedule.waves().any(|(begin, end)| (begin..end).contains(&at));
        let latency = |of: &dyn Fn(&Point) -> f64| Phases {
            calm: latency(messages.iter().filter(|point| in_calm(point.at)).map(of)),
            waves: latency(messages.iter().filter(|point| in_wave(point.at)).map(of)),
        };
        let latency_ms = latency(&|point| point.ms);
        // What never came there took at least as long as the server kept it waiting.
        let mailbox_ms = latency(&|point| point.mailbox_ms.unwrap_or(point.ms));
        let value = latency_ms.waves.p99 / latency_ms.calm.p99;
        let (honest, real_bounces) = (delivery(Kind::Honest, played), delivery(Kind::RealBounce, played));
        let met = [honest, real_bounces].iter().all(|kind| kind.sent > 0 && kind.once == kind.sent)
            && value <= RATIO_MAX;
        Self {
            row: "flood".to_owned(),
            subject: subject.name().to_owned(),
            what: subject.what().to_owned(),
            value,
            unit: "p99 in the waves / p99 in the calm".to_owned(),
            goal: subject.has_goals().then(|| format!("<= {RATIO_MAX}, all delivered, each once")),
            met: subject.has_goals().then_some(met),
            honest,
            real_bounces,
            latency_ms,
            mailbox_ms,
            forged: forged(schedule, played),
            bots: Bots {
                bots: played.flood.summary.bots.bots,
                connections: played.flood.summary.bots.attempts,
                unanswered: played.flood.summary.bots.unanswered,
                knocks: played.flood.summary.knocks,
            },
            xdp_dropped: played.status.as_ref().and_then(dropped),
            banned: played.banned,
            cpu_cores: cpu(schedule, &played.cpu),
            messages,
        }
    }
}

fn latency(millis: impl Iterator<Item = f64>) -> Latency {
    Latency::of(millis.map(|ms| (ms * 1000.0).round() as u64).collect())
}

/// From the begin of the load to that of the calm, in microseconds.
fn calm_begins_us(schedule: &Schedule) -> u64 {
    u64::from(schedule.warm_up_secs) * 1_000_000
}

fn points(schedule: &Schedule, played: &Played) -> Vec<Point> {
    let report = &played.honest;
    let point = |record: &Record| {
        // What came in the warm-up does not count.
        let began = record.first_try_us?;
        let at = began.checked_sub(calm_begins_us(schedule))?;
        let waited = (report.summary.took_ms * 1000).saturating_sub(began);
        let mailbox = played.arrived.get(&record.id).and_then(|times| times.first());
        let mailbox_us = mailbox.map(|at| at.saturating_sub(report.began_unix_us + began));
        Some(Point {
            at: at as f64 / 1e6,
            ms: record.latency_us().unwrap_or(waited) as f64 / 1e3,
            delivered: record.fate == Some(Fate::Delivered) && record.done_us.is_some(),
            mailbox_ms: mailbox_us.map(|us| us as f64 / 1e3),
        })
    };
    report.messages.iter().filter(|record| record.kind == Kind::Honest).filter_map(point).collect()
}

/// By the mailboxes, the warm-up's messages included: nothing may be lost then either.
fn delivery(kind: Kind, played: &Played) -> Delivery {
    let mut delivery = Delivery::default();
    for record in played.honest.messages.iter().filter(|record| record.kind == kind) {
        delivery.sent += 1;
        delivery.retried += u64::from(record.tries > 1);
        match played.arrived.get(&record.id).map_or(0, Vec::len) {
            0 => delivery.missing += 1,
            1 => delivery.once += 1,
            _ => delivery.more_than_once += 1,
        }
    }
    delivery
}

fn forged(schedule: &Schedule, played: &Played) -> Forged {
    let of = played.flood.summary.forged;
    let in_wave = |at: f64| schedule.waves().any(|(begin, end)| (begin..end).contains(&at));
    let begun = |record: &Record| {
        let at = record.first_try_us.and_then(|us| us.checked_sub(calm_begins_us(schedule)));
        record.kind == Kind::Forged && at.is_some_and(|us| in_wave(us as f64 / 1e6))
    };
    let begun = played.flood.messages.iter().filter(|record| begun(record)).count();
    let over = played.flood.messages.iter().filter(|record| record.done_us.is_some()).count() as u64;
    let planned = of.sent + of.unsent;
    Forged {
        planned,
        tried_per_sec: begun as f64 / f64::from(schedule.wave_secs * schedule.waves),
        stopped_smtp: of.stopped_smtp,
        taken: of.delivered,
        left: planned.saturating_sub(over),
        in_mailboxes: played.arrived.keys().filter(|id| id.starts_with('f')).count() as u64,
    }
}

/// By the edge's own counters.
fn dropped(status: &serde_json::Value) -> Option<u64> {
    let packets = status["xdp"]["packets"].as_object()?;
    let reasons = ["ban", "block", "syn_budget", "tiny_fragment"];
    Some(reasons.iter().filter_map(|reason| packets.get(*reason)?.as_u64()).sum())
}

fn cpu(schedule: &Schedule, used: &[Used]) -> CpuPhases {
    let warm_up = f64::from(schedule.warm_up_secs);
    let waves: Vec<_> =
        schedule.waves().map(|(begin, end)| cores(used, begin + warm_up, end + warm_up)).collect();
    let mean = |of: fn(&Cpu) -> f64| waves.iter().map(of).sum::<f64>() / waves.len().max(1) as f64;
    CpuPhases {
        calm: cores(used, warm_up, warm_up + f64::from(schedule.calm_secs)),
        waves: Cpu { servers: mean(|cpu| cpu.servers), load: mean(|cpu| cpu.load) },
    }
}

/// CPU time a second between the first and the last look within a time.
fn cores(used: &[Used], begin: f64, end: f64) -> Cpu {
    let mut within = used.iter().filter(|look| (begin..end).contains(&look.at));
    let (Some(first), Some(last)) = (within.next(), within.next_back()) else { return Cpu::default() };
    let share = |of: fn(&Used) -> std::time::Duration| {
        of(last).saturating_sub(of(first)).as_secs_f64() / (last.at - first.at)
    };
    Cpu { servers: share(|look| look.servers), load: share(|look| look.load) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use lab::mass::Amounts;
    use load::ledger::{Backoff, Ledger, Report};
    use load::plan::{self, Phase, Planned};
    use load::smtp::Outcome;

    use super::*;

    const SCHEDULE: Schedule = Schedule {
        warm_up_secs: 10,
        calm_secs: 20,
        waves: 1,
        wave_secs: 20,
        gap_secs: 5,
        honest_per_sec: 1,
        forged_per_sec: 30,
        reflectors: 1,
        bots: 0,
        knocks_per_sec: 0,
    };
    const BACKOFF: Backoff = Backoff { waits: Vec::new(), tries_max: 1 };

    /// A message that began at a second and took so many milliseconds to its outcome.
    type Told = (Kind, u64, u64, Outcome);

    fn report(told: &[Told]) -> Report {
        let planned: Vec<_> = (0..)
            .zip(told)
            .map(|(number, (kind, at, ..))| Planned {
                kind: *kind,
                number,
                phase: Phase::During,
                source: [198, 18, 128, 1].into(),
                due: Duration::from_secs(*at),
            })
            .collect();
        let ledger = Ledger::new(7, &planned);
        for (index, (_, at, ms, outcome)) in told.iter().enumerate() {
            let began = Duration::from_secs(*at);
            ledger.tried(index, *outcome, began, began + Duration::from_millis(*ms), &BACKOFF);
        }
        let amounts = plan::Amounts {
            seed: 7,
            forged: 0,
            waves: 1,
            wave: Duration::ZERO,
            wave_every: Duration::ZERO,
            honest: 0,
            honest_before: 0,
            before: Duration::ZERO,
            real_bounces: 0,
        };
        ledger.close(&amounts, Vec::new(), 0, None, Duration::from_secs(60))
    }

    /// Two calm messages of 10 ms, then those; the mailbox has each that was taken, so many times.
    fn figures(told: &[Told], times: usize) -> Figures {
        let calm = [12, 14].map(|at| (Kind::Honest, at, 10, Outcome::Delivered));
        let real = [(Kind::RealBounce, 15, 10, Outcome::Delivered)];
        let honest = report(&[&calm[..], &real, told].concat());
        let mut arrived = BTreeMap::new();
        for (place, record) in honest.messages.iter().enumerate() {
            if record.fate == Some(Fate::Delivered) {
                let at = honest.began_unix_us + record.done_us.unwrap() + 5000;
                arrived.insert(record.id.clone(), vec![at; if place == 3 { times } else { 1 }]);
            }
        }
        let flood = report(&[(Kind::Forged, 31, 1, Outcome::Refused(550))]);
        let played = Played { honest, flood, arrived, cpu: Vec::new(), status: None, banned: 0 };
        Figures::of(Subject::Backstop, &SCHEDULE, &played)
    }

    fn honest(at: u64, ms: u64) -> Told {
        (Kind::Honest, at, ms, Outcome::Delivered)
    }

    #[test]
    fn a_goal_is_met_where_all_arrive_once_and_almost_as_soon_as_in_the_calm() {
        let good = figures(&[honest(32, 15), honest(33, 12)], 1);
        assert_eq!((good.met, good.honest.once, good.real_bounces.once), (Some(true), 4, 1));
        assert!((good.value - 1.5).abs() < 1e-9 && (good.mailbox_ms.calm.p99 - 15.0).abs() < 1e-9);
        assert!((good.forged.tried_per_sec - 0.05).abs() < 1e-9 && good.forged.left == 0);
        assert_eq!(figures(&[honest(32, 16)], 1).met, Some(false), "slower");
        assert_eq!(figures(&[honest(32, 10)], 2).met, Some(false), "twice");
        assert_eq!(figures(&[honest(32, 10)], 0).met, Some(false), "lost on its way to the mailbox");
    }

    #[test]
    fn what_is_never_taken_counts_as_long_as_it_was_waited_for() {
        let figures = figures(&[(Kind::Honest, 32, 10, Outcome::Deferred(451))], 1);
        assert_eq!((figures.met, figures.honest.missing), (Some(false), 1));
        // The load ended after 60 s.
        assert!((figures.latency_ms.waves.p99 - 28_000.0).abs() < 1e-9, "{:?}", figures.latency_ms);
    }

    #[test]
    fn what_began_in_the_warm_up_or_between_waves_is_of_neither_phase() {
        let figures = figures(&[honest(2, 999), honest(51, 999), honest(32, 10)], 1);
        assert_eq!((figures.latency_ms.calm.count, figures.latency_ms.waves.count), (2, 1));
        assert_eq!(figures.honest.once, 5);
    }

    #[test]
    fn cores_are_cpu_time_by_time_within_a_phase() {
        let look = |at: f64, ms: u64| Used {
            at,
            servers: Duration::from_millis(ms),
            load: Duration::from_millis(2 * ms),
        };
        let used = [look(1.0, 0), look(10.0, 1000), look(20.0, 6000), look(31.0, 9000)];
        let calm = cores(&used, 10.0, 30.0);
        assert!((calm.servers - 0.5).abs() < 1e-9 && (calm.load - 1.0).abs() < 1e-9);
        assert_eq!(cores(&used, 40.0, 50.0), Cpu::default());
    }

    #[test]
    fn the_same_messages_are_sent_to_everybody() {
        let (honest, flood) = SCHEDULE.amounts();
        let Amounts { honest: during, honest_before, forged, .. } = honest;
        assert_eq!((during, honest_before, forged, flood.forged, flood.honest), (20, 30, 0, 600, 0));
        assert_eq!(SCHEDULE.waves().collect::<Vec<_>>(), [(20.0, 40.0)]);
    }
}
