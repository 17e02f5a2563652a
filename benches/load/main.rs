//! `backstop-load`: runs inside the lab's `internet` namespace. Progress goes to stderr, the summary to stdout as
//! one JSON object, the whole ledger to a file.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use load::ledger::{Backoff, Report, unix_time};
use load::mass::Settings;
use load::plan::{Amounts, Sources};
use load::smtp::Patience;
use load::{bounce, feed, mass};

#[derive(Parser)]
#[command(name = "backstop-load", about = "What the Internet does to an edge, by seed, with a ledger")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reflectors, bots and honest senders at once, in waves, until every queue is empty.
    Mass(Box<Mass>),
    /// Forged originals for a real mail server to bounce.
    Feed(Box<Feed>),
}

#[derive(Args)]
struct Common {
    /// Where to.
    #[arg(long)]
    target: SocketAddr,
    /// Makes messages, sources and times.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Waves.
    #[arg(long, default_value_t = 3)]
    waves: u32,
    /// Length of a wave, in seconds.
    #[arg(long, default_value_t = 8.0)]
    wave_secs: f64,
    /// From one wave's begin to the next one's, in seconds.
    #[arg(long, default_value_t = 14.0)]
    wave_every_secs: f64,
    /// Quiet before the first wave, in seconds.
    #[arg(long, default_value_t = 12.0)]
    before_secs: f64,
    /// Mailboxes of the target's domains (for `feed`: the victims), separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    recipients: Vec<String>,
    /// First address of the bots; consecutive ones follow.
    #[arg(long, default_value = "198.18.144.1")]
    bots_first: IpAddr,
    /// Waits before the second, third, ... try, in seconds; the last repeats.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    retry_secs: Vec<f64>,
    /// Most tries of a message.
    #[arg(long, default_value_t = 30)]
    tries_max: u32,
    /// How long a server waits for a connection, in seconds.
    #[arg(long, default_value_t = 10.0)]
    connect_secs: f64,
    /// How long a server waits for a reply, in seconds.
    #[arg(long, default_value_t = 30.0)]
    reply_secs: f64,
    /// When everything is given up, in seconds.
    #[arg(long, default_value_t = 240.0)]
    deadline_secs: f64,
    /// When it begins, in milliseconds since 1970, so that several begin together. Without: at once.
    #[arg(long)]
    begin_at: Option<u64>,
    /// File for the whole ledger.
    #[arg(long)]
    ledger: Option<PathBuf>,
}

#[derive(Args)]
struct Mass {
    #[command(flatten)]
    common: Common,
    /// Reflecting servers, an address each.
    #[arg(long, default_value_t = 40)]
    reflectors: u32,
    /// First address of the reflectors.
    #[arg(long, default_value = "198.18.128.1")]
    reflectors_first: IpAddr,
    /// Bots, an address each.
    #[arg(long, default_value_t = 400)]
    bots: u32,
    /// Honest hosts, an address each.
    #[arg(long, default_value_t = 60)]
    hosts: u32,
    /// First address of the honest hosts.
    #[arg(long, default_value = "198.18.136.1")]
    hosts_first: IpAddr,
    /// Forged bounces in all waves.
    #[arg(long, default_value_t = 20_000)]
    forged: u32,
    /// Honest messages during the waves.
    #[arg(long, default_value_t = 200)]
    honest: u32,
    /// Honest messages before the first wave.
    #[arg(long, default_value_t = 100)]
    honest_before: u32,
    /// File of signed originals, a JSON object a line (`recipient`, `header`): one real bounce each.
    #[arg(long)]
    real_bounces: Option<PathBuf>,
    /// SYNs a second of all knocking bots together (needs CAP_NET_RAW).
    #[arg(long, default_value_t = 8000)]
    knocks_per_sec: u32,
    /// How long bots go on after the last wave, in seconds.
    #[arg(long, default_value_t = 3.0)]
    bots_after_secs: f64,
    /// Most connections a bot tries.
    #[arg(long, default_value_t = 2000)]
    bot_attempts_max: u64,
}

#[derive(Args)]
struct Feed {
    #[command(flatten)]
    common: Common,
    /// Forged originals.
    #[arg(long, default_value_t = 500)]
    count: u32,
    /// The real server's domain, none of whose mailboxes exist.
    #[arg(long)]
    far_domain: String,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (report, ledger) = match cli.command {
        Command::Mass(mass) => {
            let settings = mass.settings()?;
            mass.common.wait_for_begin();
            (runtime.block_on(mass::run(settings, |line| eprintln!("{line}")))?, mass.common.ledger)
        }
        Command::Feed(feed) => {
            let settings = feed.common.settings(&Extent::default())?;
            feed.common.wait_for_begin();
            (runtime.block_on(feed::run(settings, feed.count, &feed.far_domain))?, feed.common.ledger)
        }
    };
    if let Some(path) = ledger {
        write(&path, &report)?;
    }
    println!("{}", serde_json::to_string(&report.summary)?);
    Ok(())
}

fn write(path: &Path, report: &Report) -> anyhow::Result<()> {
    let file = std::fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
    serde_json::to_writer(std::io::BufWriter::new(file), report)
        .with_context(|| format!("write {}", path.display()))
}

/// What only `mass` has.
#[derive(Default)]
struct Extent {
    forged: u32,
    honest: u32,
    honest_before: u32,
    originals: Vec<bounce::SignedOriginal>,
    reflectors: Option<Sources>,
    hosts: Option<Sources>,
    bots: u32,
    knocks_per_sec: u32,
    bots_after_secs: f64,
    bot_attempts_max: u64,
}

impl Mass {
    fn settings(&self) -> anyhow::Result<Settings> {
        let originals = match &self.real_bounces {
            None => Vec::new(),
            Some(path) => {
                let lines =
                    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
                bounce::signed_originals(&lines).with_context(|| format!("{}", path.display()))?
            }
        };
        self.common.settings(&Extent {
            forged: self.forged,
            honest: self.honest,
            honest_before: self.honest_before,
            originals,
            reflectors: Some(Sources { first: self.reflectors_first, count: self.reflectors }),
            hosts: Some(Sources { first: self.hosts_first, count: self.hosts }),
            bots: self.bots,
            knocks_per_sec: self.knocks_per_sec,
            bots_after_secs: self.bots_after_secs,
            bot_attempts_max: self.bot_attempts_max,
        })
    }
}

impl Common {
    fn wait_for_begin(&self) {
        let begin = Duration::from_millis(self.begin_at.unwrap_or_default());
        std::thread::sleep(begin.saturating_sub(unix_time()));
    }

    fn settings(&self, extent: &Extent) -> anyhow::Result<Settings> {
        let seconds = |value: f64| Duration::try_from_secs_f64(value).context("a time in seconds");
        let nobody = Sources { first: self.bots_first, count: 0 };
        Ok(Settings {
            target: self.target,
            amounts: Amounts {
                seed: self.seed,
                forged: extent.forged,
                waves: self.waves,
                wave: seconds(self.wave_secs)?,
                wave_every: seconds(self.wave_every_secs)?,
                honest: extent.honest,
                honest_before: extent.honest_before,
                before: seconds(self.before_secs)?,
                real_bounces: u32::try_from(extent.originals.len()).context("too many signed originals")?,
            },
            reflectors: extent.reflectors.unwrap_or(nobody),
            hosts: extent.hosts.unwrap_or(nobody),
            bots: Sources { first: self.bots_first, count: extent.bots },
            recipients: self.recipients.clone(),
            originals: extent.originals.clone(),
            backoff: Backoff {
                waits: self.retry_secs.iter().map(|value| seconds(*value)).collect::<Result<_, _>>()?,
                tries_max: self.tries_max,
            },
            patience: Patience { connect: seconds(self.connect_secs)?, reply: seconds(self.reply_secs)? },
            knocks_per_sec: extent.knocks_per_sec,
            bots_after: seconds(extent.bots_after_secs)?,
            bot_attempts_max: extent.bot_attempts_max,
            deadline: seconds(self.deadline_secs)?,
        })
    }
}

/// A bot may hold three connections: as many descriptors as the hard limit gives.
fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
