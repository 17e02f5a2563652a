//! The mass, as test and demo play it: one lab, a real Postfix as upstream, another as one of the reflectors, the
//! load generator for the rest. It is over when every queue is empty. What must hold is the test's to say.

mod flood;
mod logs;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use load::ledger::Report;
use load::message::arrivals;

pub use self::flood::Flood;
pub use self::logs::{RealReflector, banned};
use crate::edge::{Edge, Settings};
use crate::mta::{Far, MailServer, Operator, Software};
use crate::program::{Profile, Program};
use crate::{EDGE, Host, Lab};

/// Where the forged bounces of the load come from: consecutive addresses of the lab's Internet.
pub const REFLECTORS_FIRST: u32 = 1;
/// Where honest mail comes from.
pub const HOSTS_FIRST: u32 = 0x0801;
/// Where the bots are.
pub const BOTS_FIRST: u32 = 0x1001;
/// The real server among the reflectors.
const REAL_REFLECTOR: Far = Far { software: Software::Postfix };
/// How long the last bounces of the real server and the last deliveries of the upstream may take.
const SETTLE: Duration = Duration::from_secs(90);
/// For how long nothing more may arrive before the mailboxes are counted.
const QUIET: Duration = Duration::from_millis(1500);

/// How much of everything.
#[derive(Clone, Debug)]
pub struct Amounts {
    /// Makes everything.
    pub seed: u64,
    /// Forged bounces of the reflecting servers.
    pub forged: u32,
    /// Forged originals that the real server will bounce.
    pub forged_real_server: u32,
    /// Reflecting servers.
    pub reflectors: u32,
    /// Bots.
    pub bots: u32,
    /// SYNs a second of all knocking bots.
    pub knocks_per_sec: u32,
    /// Honest messages during the waves.
    pub honest: u32,
    /// Honest messages before them.
    pub honest_before: u32,
    /// Bounces that return a signed original.
    pub real_bounces: u32,
    /// Quiet before the waves, in seconds.
    pub before_secs: u32,
    /// Waves.
    pub waves: u32,
    /// Length of a wave, in seconds.
    pub wave_secs: u32,
    /// From wave to wave, in seconds.
    pub wave_every_secs: u32,
    /// When every server gives up, in seconds from the begin.
    pub deadline_secs: u32,
}

impl Default for Amounts {
    /// 20,000 forged bounces in three waves, 40 reflectors, 400 bots, 200 honest messages, 50 real bounces.
    fn default() -> Self {
        Self {
            seed: 7,
            forged: 19_500,
            forged_real_server: 500,
            reflectors: 40,
            bots: 400,
            knocks_per_sec: 16_000,
            honest: 200,
            honest_before: 100,
            real_bounces: 50,
            before_secs: 10,
            waves: 3,
            wave_secs: 8,
            wave_every_secs: 14,
            deadline_secs: 180,
        }
    }
}

impl Amounts {
    /// The load generator's arguments for when and to whom.
    #[must_use]
    pub fn schedule(&self) -> Vec<String> {
        let Self { seed, waves, wave_every_secs, before_secs, deadline_secs, .. } = self;
        vec![
            format!("--seed={seed}"),
            format!("--waves={waves}"),
            format!("--wave-every-secs={wave_every_secs}"),
            format!("--before-secs={before_secs}"),
            format!("--deadline-secs={deadline_secs}"),
            format!("--recipients={}", recipients().join(",")),
            format!("--bots-first={}", crate::client(BOTS_FIRST)),
        ]
    }

    /// Its further arguments for `mass`: what comes from where.
    #[must_use]
    pub fn load(&self, target: SocketAddr) -> Vec<String> {
        vec![
            format!("--target={target}"),
            format!("--wave-secs={}", self.wave_secs),
            format!("--reflectors={}", self.reflectors),
            format!("--reflectors-first={}", crate::client(REFLECTORS_FIRST)),
            format!("--hosts-first={}", crate::client(HOSTS_FIRST)),
            format!("--bots={}", self.bots),
            format!("--knocks-per-sec={}", self.knocks_per_sec),
            format!("--forged={}", self.forged),
            format!("--honest={}", self.honest),
            format!("--honest-before={}", self.honest_before),
        ]
    }
}

/// Unproven bounces that a server may send in the whole mass: only the largest reflectors send some more.
pub const UNPROVEN_BURST: u32 = 640;
/// Those in the flood after which who sent nothing good is banned: the largest reflectors send more, each of them
/// wanted mail too.
pub const FLOOD_UNPROVEN_MAX: u32 = 655;

/// The edge's configuration for the mass: budgets in the measure of a flood that takes a minute instead of a day.
#[must_use]
pub fn settings() -> Settings {
    Settings::default()
        .set("reputation.connections_per_sec", 5.0)
        .set("reputation.over_budget_strikes", 3)
        .set("reputation.unproven_burst", f64::from(UNPROVEN_BURST))
        // Next to nothing: who is over it must not depend on how long the mass takes.
        .set("reputation.unproven_per_sec", 0.01)
        .set("reputation.flood_unproven_max", i64::from(FLOOD_UNPROVEN_MAX))
        .set("flood.calm_after_secs", 10)
        .set("limits.client_greet_secs", 3)
        .set("xdp.syn_per_sec", 10)
        .set("xdp.syn_burst", 60)
}

/// What everybody saw.
#[derive(Debug)]
pub struct Outcome {
    /// The load generator's ledger.
    pub ledger: Report,
    /// The real server among the reflectors.
    pub real_reflector: RealReflector,
    /// How often each message's id stands in the operator's mailboxes.
    pub arrived: BTreeMap<String, u32>,
    /// `backstop status --json` when all was over.
    pub status: serde_json::Value,
    /// Every source that was banned, with the causes, by the edge's log.
    pub banned: BTreeMap<String, BTreeSet<String>>,
    /// Where the reflectors are, the real one too.
    pub reflectors: BTreeSet<String>,
    /// Where the bots are.
    pub bots: BTreeSet<String>,
}

impl Outcome {
    /// Packets that the NIC counted for a reason.
    #[must_use]
    pub fn packets(&self, reason: &str) -> u64 {
        self.status["xdp"]["packets"][reason].as_u64().unwrap_or(0)
    }

    /// Packets that the NIC dropped.
    #[must_use]
    pub fn packets_dropped(&self) -> u64 {
        ["ban", "block", "syn_budget", "tiny_fragment"].map(|reason| self.packets(reason)).iter().sum()
    }
}

/// The lab of the mass, up and running.
#[derive(Debug)]
pub struct Mass {
    /// The lab.
    pub lab: Lab,
    /// The upstream.
    pub operator: MailServer,
    /// The edge.
    pub edge: Edge,
    reflector: MailServer,
    amounts: Amounts,
    profile: Profile,
}

impl Mass {
    /// Brings up the lab, the upstream, the real reflector and the edge.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub fn up(name: &str, amounts: Amounts, settings: &Settings, profile: Profile) -> Result<Self> {
        let lab = Lab::up(name)?;
        let operator = lab.operator(&Operator::default())?;
        let reflector = lab.far(REAL_REFLECTOR, EDGE.into())?;
        let edge = Edge::start(&lab, settings, profile)?;
        Ok(Self { lab, operator, edge, reflector, amounts, profile })
    }

    /// Plays it to its end. `tell` gets lines of progress.
    ///
    /// # Errors
    /// When something could not be run or did not end; not when messages were lost: that is for the test to say.
    pub fn play(&mut self, tell: &mut dyn FnMut(&str)) -> Result<Outcome> {
        tell("signing the originals of the real bounces");
        let mut flood = self.start()?;
        while flood.is_running(tell) {
            std::thread::sleep(Duration::from_millis(200));
        }
        self.finish(flood, tell)
    }

    /// Starts the load.
    ///
    /// # Errors
    /// When the originals of the real bounces cannot be signed, or the load does not start.
    pub fn start(&mut self) -> Result<Flood> {
        let binary = Program::Load.build(self.profile)?;
        let binary = binary.to_str().context("the target folder's path is not UTF-8")?;
        self.sign_originals()?;
        let common = self.amounts.schedule();
        let mut mass = self.amounts.load((EDGE, 25).into());
        mass.extend([
            "--real-bounces=/run/lab/load/originals".to_owned(),
            "--ledger=/run/lab/load/mass.json".to_owned(),
        ]);
        let start = |name: &str, command: &str, own: &[String]| {
            let arguments = common.iter().chain(own).map(String::as_str);
            let argv: Vec<_> = [binary, command].into_iter().chain(arguments).collect();
            self.lab.spawn(name, Host::Internet, &argv)
        };
        let before = RealReflector::read(&self.reflector.process().lines());
        let feed = if self.amounts.forged_real_server == 0 {
            None
        } else {
            let own = [
                format!("--target={}", REAL_REFLECTOR.socket()),
                // All of a wave at once, so that it has a queue and uses its connections again as a busy server does.
                "--wave-secs=1".to_owned(),
                format!("--count={}", self.amounts.forged_real_server),
                format!("--far-domain={}", REAL_REFLECTOR.domain()),
            ];
            Some(start("feed", "feed", &own)?)
        };
        Ok(Flood { mass: start("mass", "mass", &mass)?, feed, told: 0, before })
    }

    /// The file of originals that real bounces return, signed by the edge's own command.
    fn sign_originals(&self) -> Result<()> {
        let lines = originals(self.amounts.real_bounces, |sender, original| {
            let signed = self.edge.sign(&self.lab, sender, original)?;
            ensure!(signed.contains("Backstop-Token: bs1."), "no token in what was signed:\n{signed}");
            Ok(signed)
        })?;
        self.lab.write("load/originals", lines)
    }

    /// Waits until the last queues are empty, and gathers what everybody saw.
    ///
    /// # Errors
    /// When the load failed, or a queue did not get empty.
    pub fn finish(&mut self, mut flood: Flood, tell: &mut dyn FnMut(&str)) -> Result<Outcome> {
        flood.end(tell)?;
        let file = self.lab.path("load/mass.json");
        let written = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        let ledger: Report = serde_json::from_slice(&written).context("the load's ledger")?;
        tell("waiting for the real servers' queues");
        let real_reflector = self.reflector_is_done(flood.before)?;
        tell("waiting for the upstream's last deliveries");
        let arrived = self.all_delivered(&ledger)?;
        let status = self.edge.json(&self.lab, &["status"])?;
        let text = |n: u32| crate::client(n).to_string();
        let mut reflectors: BTreeSet<_> =
            (0..self.amounts.reflectors).map(|n| text(REFLECTORS_FIRST + n)).collect();
        reflectors.insert(REAL_REFLECTOR.address().to_string());
        let bots = (0..self.amounts.bots).map(|n| text(BOTS_FIRST + n)).collect();
        let banned = banned(&self.edge.process().lines());
        Ok(Outcome { ledger, real_reflector, arrived, status, banned, reflectors, bots })
    }

    /// Until the real server has a final answer for every bounce it made.
    fn reflector_is_done(&self, before: RealReflector) -> Result<RealReflector> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let seen = RealReflector::read(&self.reflector.process().lines()).since(before);
            if seen.refused + seen.taken >= self.amounts.forged_real_server.into() {
                return Ok(seen);
            }
            if Instant::now() > deadline {
                bail!(
                    "the real reflector's queue does not get empty: {seen:?}; its log:\n{}",
                    self.reflector.log()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Until the upstream has put into mailboxes what it took, and for a while nothing more came.
    fn all_delivered(&self, ledger: &Report) -> Result<BTreeMap<String, u32>> {
        let taken = ledger.summary.honest.delivered
            + ledger.summary.real_bounces.delivered
            + ledger.summary.forged.delivered;
        let deadline = Instant::now() + SETTLE;
        let (mut last, mut since) = (BTreeMap::new(), Instant::now());
        loop {
            let now = self.arrived()?;
            if now != last {
                (last, since) = (now, Instant::now());
            } else if last.len() as u64 >= taken && since.elapsed() > QUIET {
                return Ok(last);
            } else if Instant::now() > deadline {
                // What is missing is the test's to judge.
                return Ok(last);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// For each id in the operator's mailboxes: the queue ids that the upstream gave it, one for each time it took the
    /// message. (A server that is killed may put what it took into a mailbox twice: that is its own doing.)
    ///
    /// # Errors
    /// When a mailbox cannot be read.
    pub fn taken_by_upstream(&self) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let mut taken: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for recipient in recipients() {
            for message in self.operator.mailbox(&recipient).messages()? {
                // The topmost Received field is the upstream's own.
                let queue_id = message.split("(Postfix) with ESMTP id ").nth(1).unwrap_or_default();
                let queue_id: String = queue_id.chars().take_while(char::is_ascii_alphanumeric).collect();
                for id in arrivals(message.as_bytes()).into_keys() {
                    taken.entry(id).or_default().insert(queue_id.clone());
                }
            }
        }
        Ok(taken)
    }

    /// The ids in the operator's mailboxes.
    ///
    /// # Errors
    /// When a mailbox cannot be read.
    pub fn arrived(&self) -> Result<BTreeMap<String, u32>> {
        let mut all = String::new();
        for recipient in recipients() {
            for message in self.operator.mailbox(&recipient).messages()? {
                all.push_str(&message);
                all.push('\n');
            }
        }
        Ok(arrivals(all.as_bytes()))
    }
}

/// Whom all of it is for: two mailboxes at the operator's server.
#[must_use]
pub fn recipients() -> Vec<String> {
    vec!["alice@example.jp".to_owned(), "bob@example.jp".to_owned()]
}

/// The originals that so many real bounces return, as the load reads them; `sign` is what the operator's server makes of
/// each on its way out.
///
/// # Errors
/// When one cannot be signed.
pub fn originals(count: u32, sign: impl Fn(&str, &str) -> Result<String>) -> Result<String> {
    let mut lines = String::new();
    let recipients = recipients();
    for number in 0..count {
        let sender = &recipients[number as usize % recipients.len()];
        let original = format!(
            "From: <{sender}>\r\nTo: <nobody-{number}@far.example>\r\nSubject: our letter {number}\r\n\
             Message-ID: <our-{number}@example.jp>\r\nDate: Tue, 24 Nov 2026 20:31:00 +0000\r\n\r\nHello.\r\n"
        );
        let signed = sign(sender, &original)?.replace("\r\n", "\n");
        let header = signed.split("\n\n").next().unwrap_or_default();
        let line = serde_json::json!({ "recipient": sender, "header": header });
        let _ = writeln!(lines, "{line}");
    }
    Ok(lines)
}
