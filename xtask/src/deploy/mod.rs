//! `cargo xtask deploy HOST...`: a release on several edges, one after the other.
//!
//! Every host is looked at, and locked, before the first is changed; then the first is worked on, and only when that is
//! healthy the next. One after the other and not several at once: a domain's edges are each other's spare, so never
//! are two of them restarting. The first that fails ends it, and the rest is untouched.
//!
//! What is done on a host, and how it takes itself back, is `remote.sh`.
//!
//! Progress goes to stderr, the table or the JSON object to stdout. Exit codes: 0 done, and all healthy; 1 a host
//! failed (and is as it was, or needs a look), or, with `--status`, is not healthy; 2 could not be done: nothing was
//! changed anywhere.

mod elf;
mod host;
mod patience;
mod release;
mod rollout;
mod ssh;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use clap::Args;

use self::host::HostName;
use self::release::{Fresh, Release};
use self::rollout::{Outcome, Plan, Rollout, Target, megabytes};
use self::ssh::{Purpose, Ssh};
use self::table::Row;

/// `deploy`
#[derive(Args)]
pub(crate) struct Options {
    /// The edges, as ssh knows them; the first is tried first.
    #[arg(value_name = "HOST", required = true)]
    hosts: Vec<HostName>,
    /// Say what would be done on each host; change nothing.
    #[arg(long, conflicts_with_all = ["rollback", "status"])]
    dry_run: bool,
    /// Go back to the version before, on each host.
    #[arg(long, conflicts_with = "status")]
    rollback: bool,
    /// Show versions and health of the hosts; change nothing.
    #[arg(long)]
    status: bool,
    /// For hosts that have no configuration: a file, or a folder with HOST.toml for each.
    #[arg(long, value_name = "FILE|DIR")]
    config: Option<PathBuf>,
    /// For hosts that have no keys: a folder of keys. Edges of the same domains need the same ones.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Deploy this program, and build none.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// The unit and what belongs to it; by default contrib/systemd.
    #[arg(long, value_name = "DIR")]
    units: Option<PathBuf>,
    /// Read this instead of ssh's own configuration files (ssh -F).
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// Become root by `sudo -n` on the hosts.
    #[arg(long)]
    sudo: bool,
    /// How long a host may take until it is healthy, in seconds.
    #[arg(long, value_name = "SECS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    wait: u64,
    /// End with one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// Deploys, goes back, or looks.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    for (place, host) in options.hosts.iter().enumerate() {
        ensure!(!options.hosts[..place].contains(host), "{host} is named twice");
    }
    let ssh = Ssh::new(options.ssh_config.clone(), options.sudo)?;
    if options.status {
        return Ok(status(options, &ssh));
    }
    let release = match options.rollback {
        true => None,
        false => Some(Release::gather(options.binary.as_deref(), options.units.as_deref())?),
    };
    let fresh = Fresh::gather(options.config.as_deref(), options.keys.as_deref())?;
    let (token, who) = (token(), who());
    let purpose = match options.dry_run {
        true => Purpose::Look,
        false => Purpose::Change { token: &token, who: &who },
    };
    let rollout = Rollout {
        ssh: &ssh,
        release: release.as_ref(),
        fresh: &fresh,
        token: &token,
        patience_secs: options.wait,
    };
    let targets = match all(options, &ssh, purpose) {
        Ok(targets) => targets,
        Err(rows) => return Ok(could_not(options, &rows)),
    };
    let plans = match plans(&rollout, &targets) {
        Ok(plans) => plans,
        Err(rows) => return Ok(could_not(options, &rows)),
    };
    if options.dry_run {
        return Ok(say_plans(options, &rollout, &targets, &plans));
    }
    let rows = carry_out(&rollout, targets, &plans);
    let done = rows.iter().all(|row| {
        row.error.is_none()
            && matches!(row.outcome, Outcome::Deployed | Outcome::Unchanged | Outcome::RolledBack)
    });
    print(options, &rows, done);
    Ok(ExitCode::from(u8::from(!done)))
}

/// One host after the other, up to the first that fails.
fn carry_out(rollout: &Rollout<'_>, targets: Vec<Target<'_>>, plans: &[Plan]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut stopped = false;
    for (target, plan) in targets.into_iter().zip(plans) {
        let before = target.facts.release.clone();
        let host = target.host.clone();
        if stopped {
            let facts = Some(target.facts);
            rows.push(Row { host, outcome: Outcome::Untouched, error: None, before: None, facts });
            continue;
        }
        let done = rollout.carry_out(&target, plan, &mut |words| tell(&host, words));
        stopped = done.error.is_some() || matches!(done.outcome, Outcome::AsItWas | Outcome::NeedsALook);
        rows.push(Row { host, outcome: done.outcome, error: done.error, before, facts: done.facts });
    }
    rows
}

/// Connects to every host; where one cannot be reached or is locked, to none.
fn all<'a>(options: &Options, ssh: &'a Ssh, purpose: Purpose<'_>) -> Result<Vec<Target<'a>>, Vec<Row>> {
    let mut targets = Vec::new();
    let mut failed = Vec::new();
    for host in &options.hosts {
        match ssh.connect(host, purpose, &mut |words| tell(host, words)) {
            Ok((connection, facts)) => {
                let now = match &facts.release {
                    Some(release) if facts.is_healthy() => format!("runs {release}, healthy"),
                    Some(release) => format!("has {release}; its unit is {}", facts.unit),
                    None if facts.found => "has a program that was installed by hand".into(),
                    None => "has no Backstop yet".into(),
                };
                tell(host, &now);
                targets.push(Target { host: host.clone(), connection, facts });
            }
            Err(error) => failed.push(unreachable(host, &error)),
        }
    }
    if failed.is_empty() { Ok(targets) } else { Err(failed) }
}

/// What is to be done on each host; where it cannot be on one, on none.
fn plans(rollout: &Rollout<'_>, targets: &[Target<'_>]) -> Result<Vec<Plan>, Vec<Row>> {
    let mut plans = Vec::new();
    let mut failed = Vec::new();
    for target in targets {
        let plan = match rollout.release {
            Some(release) => target.plan(release, rollout.fresh),
            None => target.plan_back(),
        };
        match plan {
            Ok(plan) => plans.push(plan),
            Err(error) => failed.push(Row {
                host: target.host.clone(),
                outcome: Outcome::Untouched,
                error: Some(format!("{error:#}")),
                before: None,
                facts: Some(target.facts.clone()),
            }),
        }
    }
    if failed.is_empty() { Ok(plans) } else { Err(failed) }
}

/// `--dry-run`
fn say_plans(options: &Options, rollout: &Rollout<'_>, targets: &[Target<'_>], plans: &[Plan]) -> ExitCode {
    let mut rows = Vec::new();
    for (target, plan) in targets.iter().zip(plans) {
        let from = target.facts.release.as_deref().unwrap_or("nothing");
        let words = match (plan, rollout.release) {
            (Plan::Back(previous), _) => format!("would go back from {from} to {previous}"),
            (Plan::Nothing, _) | (Plan::Deploy { .. }, None) => "nothing to do".to_owned(),
            (Plan::Deploy { there: Some(there), .. }, _) => {
                format!("would switch from {from} to {there}, which is there")
            }
            (Plan::Deploy { there: None, fresh }, Some(release)) => {
                let more =
                    if fresh.is_empty() { String::new() } else { format!(" and {}", fresh.join(", ")) };
                format!(
                    "would copy {:.1} MB{more}, check the configuration, and switch from {from} to ...-{}",
                    megabytes(release.bytes()),
                    release.hash
                )
            }
        };
        tell(&target.host, &words);
        rows.push(Row {
            host: target.host.clone(),
            outcome: Outcome::Looked,
            error: None,
            before: None,
            facts: Some(target.facts.clone()),
        });
    }
    print(options, &rows, true);
    ExitCode::SUCCESS
}

/// `--status`
fn status(options: &Options, ssh: &Ssh) -> ExitCode {
    let row = |host: &HostName| match ssh.connect(host, Purpose::Look, &mut |words| tell(host, words)) {
        Ok((_, facts)) => Row {
            host: host.clone(),
            outcome: Outcome::Looked,
            error: None,
            before: None,
            facts: Some(facts),
        },
        Err(error) => unreachable(host, &error),
    };
    let rows: Vec<Row> = options.hosts.iter().map(row).collect();
    let healthy = |row: &Row| row.facts.as_ref().is_some_and(host::Facts::is_healthy);
    let code =
        if rows.iter().any(|row| row.facts.is_none()) { 2 } else { u8::from(!rows.iter().all(healthy)) };
    print(options, &rows, code == 0);
    ExitCode::from(code)
}

fn could_not(options: &Options, rows: &[Row]) -> ExitCode {
    print(options, rows, false);
    eprintln!("xtask: nothing was deployed to any host");
    ExitCode::from(2)
}

fn unreachable(host: &HostName, error: &anyhow::Error) -> Row {
    let outcome = Outcome::Unreachable;
    Row { host: host.clone(), outcome, error: Some(format!("{error:#}")), before: None, facts: None }
}

fn print(options: &Options, rows: &[Row], done: bool) {
    if options.json {
        println!("{}", table::object(rows, done));
    } else {
        print!("{}", table::render(rows));
    }
}

fn tell(host: &HostName, words: &str) {
    eprintln!("{host}: {words}");
}

/// Tells this deployer from others.
fn token() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", now.as_nanos(), std::process::id())
}

/// Who deploys, for others to read.
fn who() -> String {
    let user =
        std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "somebody".into());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "somewhere".into());
    let who = format!("{user}@{}", host.trim());
    who.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}
