//! The mass: reflectors, bots and honest senders at once, in waves, until every queue is empty.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep};

use crate::bots::{self, BotRecord, HABITS, Habit, Orders};
use crate::bounce::{self, SignedOriginal};
use crate::ledger::{Backoff, Ledger, Report};
use crate::message::{self, Message};
use crate::plan::{self, Amounts, Kind, Planned, Sources};
use crate::reflector::Reflector;
use crate::smtp::Patience;
use crate::{honest, knock};

/// Everything a run needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to.
    pub target: SocketAddr,
    /// How much.
    pub amounts: Amounts,
    /// The reflectors' addresses.
    pub reflectors: Sources,
    /// The honest hosts' addresses.
    pub hosts: Sources,
    /// The bots' addresses.
    pub bots: Sources,
    /// Mailboxes of the target's domains.
    pub recipients: Vec<String>,
    /// The originals that real bounces return: one bounce each.
    pub originals: Vec<SignedOriginal>,
    /// When servers try again.
    pub backoff: Backoff,
    /// How long servers wait.
    pub patience: Patience,
    /// SYNs a second of all knocking bots together.
    pub knocks_per_sec: u32,
    /// How long bots go on after the last wave.
    pub bots_after: Duration,
    /// Most connections a bot tries.
    pub bot_attempts_max: u64,
    /// When everything is given up, from the begin.
    pub deadline: Duration,
}

/// What sending needs: where to, how patiently, and the messages themselves, made when they are due.
#[derive(Debug)]
pub struct Post {
    /// Where to.
    pub target: SocketAddr,
    /// How long to wait.
    pub patience: Patience,
    /// When to try again.
    pub backoff: Backoff,
    seed: u64,
    planned: Vec<Planned>,
    recipients: Vec<String>,
    originals: Vec<SignedOriginal>,
    far_domain: String,
}

impl Post {
    /// For these messages.
    #[must_use]
    pub fn new(settings: &Settings, planned: Vec<Planned>, far_domain: &str) -> Self {
        Self {
            target: settings.target,
            patience: settings.patience,
            backoff: settings.backoff.clone(),
            seed: settings.amounts.seed,
            planned,
            recipients: settings.recipients.clone(),
            originals: settings.originals.clone(),
            far_domain: far_domain.to_owned(),
        }
    }

    /// Message `index` of the plan. Made anew for each try: 20,000 are never in memory at once.
    #[must_use]
    pub fn message(&self, index: usize) -> Message {
        let Planned { kind, number, .. } = self.planned[index];
        match kind {
            Kind::Forged => bounce::forged(number, self.seed, &self.recipients),
            Kind::RealBounce => bounce::real(number, self.seed, &self.originals[number as usize]),
            Kind::Honest => message::honest(number, self.seed, &self.recipients),
            Kind::Original => message::forged_original(number, self.seed, &self.recipients, &self.far_domain),
        }
    }
}

/// Runs it all and closes the ledger. `progress` gets a line a second.
///
/// # Errors
/// The settings contradict each other, or no raw socket for the knocking bots.
pub async fn run(settings: Settings, mut progress: impl FnMut(&str)) -> anyhow::Result<Report> {
    anyhow::ensure!(!settings.recipients.is_empty(), "no recipients: name at least one mailbox");
    anyhow::ensure!(
        settings.amounts.real_bounces as usize == settings.originals.len(),
        "{} real bounces need as many signed originals, not {}",
        settings.amounts.real_bounces,
        settings.originals.len()
    );
    let Settings { amounts, deadline, .. } = settings.clone();
    let planned = plan::plan(&amounts, settings.reflectors, settings.hosts);
    let post = Rc::new(Post::new(&settings, planned.clone(), "unused.invalid"));
    let syn_retries_before = syn_retries();
    let ledger = Rc::new(Ledger::new(amounts.seed, &planned));
    let begin = Instant::now();
    let local = LocalSet::new();
    let (bots, knocks) = local
        .run_until(async {
            let bots = start_bots(&settings, begin);
            let knocks = tokio::task::spawn_local(start_knocks(settings.clone(), begin));
            let mut senders = JoinSet::new();
            for (source, share) in shares(&planned) {
                let server = Reflector::new(amounts.seed, source, share.into_iter());
                senders.spawn_local(server.run(post.clone(), ledger.clone(), begin, deadline));
            }
            for (index, message) in planned.iter().enumerate().filter(|(_, m)| m.kind == Kind::Honest) {
                let (post, ledger) = (post.clone(), ledger.clone());
                senders.spawn_local(honest::send(index, message.clone(), post, ledger, begin, deadline));
            }
            let mut tick = tokio::time::interval(Duration::from_secs(1));
            loop {
                tokio::select! {
                    done = senders.join_next() => if done.is_none() { break },
                    _ = tick.tick() => progress(&line(&ledger, &bots.records, begin.elapsed())),
                }
            }
            progress(&line(&ledger, &bots.records, begin.elapsed()));
            let knocks = knocks.await??;
            anyhow::Ok((bots.finish().await, knocks))
        })
        .await?;
    drop((local, post));
    let ledger = Rc::into_inner(ledger).ok_or_else(|| anyhow::anyhow!("a sender still holds the ledger"))?;
    let retries = syn_retries_before.zip(syn_retries()).map(|(before, after)| after.saturating_sub(before));
    Ok(ledger.close(&amounts, bots, knocks, retries, begin.elapsed()))
}

/// The reflectors' queues: the share of each source.
fn shares(planned: &[Planned]) -> BTreeMap<IpAddr, Vec<(usize, &Planned)>> {
    let mut shares: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (index, message) in planned.iter().enumerate() {
        match message.kind {
            Kind::Forged | Kind::RealBounce => {
                shares.entry(message.source).or_default().push((index, message))
            }
            Kind::Honest | Kind::Original => {}
        }
    }
    shares
}

struct Bots {
    tasks: JoinSet<()>,
    records: Rc<RefCell<Vec<BotRecord>>>,
}

impl Bots {
    async fn finish(mut self) -> Vec<BotRecord> {
        while self.tasks.join_next().await.is_some() {}
        let mut records = self.records.take();
        records.sort_by_key(|record| record.source);
        records
    }
}

/// Bots come with the first wave and stop by themselves.
fn start_bots(settings: &Settings, begin: Instant) -> Bots {
    let orders = Rc::new(Orders {
        target: settings.target,
        seed: settings.amounts.seed,
        victims: settings.recipients.clone(),
        end: begin + settings.amounts.last_wave_ends() + settings.bots_after,
        attempts_max: settings.bot_attempts_max,
        connect: Duration::from_secs(2),
        hold: Duration::from_secs(30),
    });
    let start = begin + settings.amounts.before;
    let records = Rc::new(RefCell::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for (index, source) in (0..).zip(settings.bots.all()) {
        let (orders, records) = (orders.clone(), records.clone());
        tasks.spawn_local(async move {
            tokio::time::sleep_until(start).await;
            let record = bots::run(index, source, orders).await;
            records.borrow_mut().push(record);
        });
    }
    Bots { tasks, records }
}

/// The raw SYNs of the knocking bots.
async fn start_knocks(settings: Settings, begin: Instant) -> std::io::Result<u64> {
    let SocketAddr::V4(target) = settings.target else { return Ok(0) };
    let knockers = (0..).zip(settings.bots.all()).filter_map(|(index, source): (usize, _)| match source {
        IpAddr::V4(v4) if HABITS[index % HABITS.len()] == Habit::Knock => Some(v4),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    });
    let knockers: Vec<_> = knockers.collect();
    let end = begin + settings.amounts.last_wave_ends() + settings.bots_after;
    sleep(settings.amounts.before).await;
    let rng = plan::rng(settings.amounts.seed, "knock");
    knock::run(knockers, target, settings.knocks_per_sec, end, rng).await
}

fn line(ledger: &Ledger, bots: &RefCell<Vec<BotRecord>>, at: Duration) -> String {
    let [forged, real, honest] = ledger.progress().map(|(_, all, over)| format!("{over}/{all}"));
    format!(
        "{:5.1} s  forged bounces {forged}  real bounces {real}  honest mail {honest}  bots gone {}",
        at.as_secs_f64(),
        bots.borrow().len()
    )
}

/// TCPSynRetrans of this network namespace: the SYNs that the kernel sent again.
fn syn_retries() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split(' ').position(|name| name == "TCPSynRetrans")?;
    values.split(' ').nth(place)?.parse().ok()
}
