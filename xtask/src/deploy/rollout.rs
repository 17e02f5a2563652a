//! One host from one release to another.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::host::{Facts, HostName};
use super::patience::Patience;
use super::release::{Fresh, Item, Release};
use super::ssh::{Connection, End, Purpose, Ssh, Told};

/// How often a host is called again whose connection broke in the middle of the switch.
const CALL_EVERY: Duration = Duration::from_secs(3);
/// The script's exit code for "not done, and the host is as it was".
const AS_IT_WAS: i32 = 1;

/// What became of a host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It runs the release that was to be deployed, and is healthy.
    Deployed,
    /// It did so before.
    Unchanged,
    /// It runs the version before again, as was ordered.
    RolledBack,
    /// It did not work, and the host is as it was.
    AsItWas,
    /// It did not work, and the host needs a look.
    NeedsALook,
    /// It was not touched, as another failed.
    Untouched,
    /// It was only looked at.
    Looked,
    /// It could not be reached.
    Unreachable,
}

/// What is to be done on a host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Plan {
    /// Nothing: it runs the release already.
    Nothing,
    /// Copy what is not there, and switch.
    Deploy {
        /// The release's directory, where it is there already.
        there: Option<String>,
        /// What it has none of yet.
        fresh: Vec<String>,
    },
    /// Switch to the release before.
    Back(String),
}

/// A host with its connection, and what it said at first.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) host: HostName,
    pub(super) connection: Connection<'a>,
    pub(super) facts: Facts,
}

impl Target<'_> {
    /// What a deployment does here, or why it cannot be.
    pub(super) fn plan(&self, release: &Release, fresh: &Fresh) -> Result<Plan> {
        let facts = &self.facts;
        release.needs.met_by(facts)?;
        let there = facts.kept.iter().find(|kept| kept.ends_with(&format!("-{}", release.hash)));
        if there.is_some() && facts.release.as_ref() == there && facts.is_healthy() {
            return Ok(Plan::Nothing);
        }
        let fresh = if facts.has_config { Vec::new() } else { fresh.items(self.host.name())? };
        Ok(Plan::Deploy { there: there.cloned(), fresh: fresh.into_iter().map(|item| item.name).collect() })
    }

    /// What `--rollback` does here, or why it cannot be.
    pub(super) fn plan_back(&self) -> Result<Plan> {
        let Some(previous) = &self.facts.previous else { bail!("there is no version before on this host") };
        if !self.facts.kept.contains(previous) {
            bail!("the version before, {previous}, is no longer on this host");
        }
        Ok(Plan::Back(previous.clone()))
    }
}

/// How a deployment is done: the same for every host.
#[derive(Debug)]
pub(super) struct Rollout<'a> {
    pub(super) ssh: &'a Ssh,
    pub(super) release: Option<&'a Release>,
    pub(super) fresh: &'a Fresh,
    pub(super) token: &'a str,
    /// How long a daemon may take until it is healthy, in seconds.
    pub(super) patience_secs: u64,
}

/// A host that was worked on.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) outcome: Outcome,
    pub(super) error: Option<String>,
    /// What it says of itself afterwards; `None` where it does not answer.
    pub(super) facts: Option<Facts>,
}

impl Rollout<'_> {
    /// Carries a plan out. A host that fails is no error here: its outcome says so.
    pub(super) fn carry_out(&self, target: &Target<'_>, plan: &Plan, tell: &mut dyn FnMut(&str)) -> Done {
        let wanted = match plan {
            Plan::Nothing => {
                tell("runs this release already, and is healthy");
                return Done { outcome: Outcome::Unchanged, error: None, facts: Some(target.facts.clone()) };
            }
            Plan::Back(previous) => Ok(previous.clone()),
            Plan::Deploy { there: Some(there), fresh } => {
                tell(&format!("has {there} already"));
                self.bring(target, &[], fresh, tell).map(|()| there.clone())
            }
            Plan::Deploy { there: None, fresh } => self.copy(target, fresh, tell),
        };
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(error) => {
                return Done {
                    outcome: Outcome::AsItWas,
                    error: Some(format!("{error:#}")),
                    facts: look(target),
                };
            }
        };
        let done = match plan {
            Plan::Back(_) => Outcome::RolledBack,
            Plan::Nothing | Plan::Deploy { .. } => Outcome::Deployed,
        };
        self.switch(target, &wanted, done, tell)
    }

    /// Copies the release; returns the name of its directory.
    fn copy(&self, target: &Target<'_>, fresh: &[String], tell: &mut dyn FnMut(&str)) -> Result<String> {
        let release = self.release.context("nothing to copy")?;
        tell(&format!("copying {:.1} MB", megabytes(release.bytes())));
        self.bring(target, &release.items, fresh, tell)?;
        let mut version = None;
        let mut note = |told: Told<'_>| {
            if let Told::Fact("version", value) = told {
                version = Some(value.to_owned());
            }
        };
        run(&target.connection, &["try", self.token], None, &mut note, tell)?;
        let version = version.context("the new program does not say its version")?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".+-".contains(c);
        if version.is_empty() || version.starts_with(['.', '-']) || !version.chars().all(is_plain) {
            bail!("the new program says that its version is {version:?}");
        }
        Ok(format!("{version}-{}", release.hash))
    }

    /// Copies files, each with its hash seen on the far side.
    fn bring(
        &self,
        target: &Target<'_>,
        items: &[Item],
        fresh: &[String],
        tell: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let mut put = |name: &str, item: &Item| {
            let step = ["put", self.token, name, item.mode, &item.sha256];
            run(&target.connection, &step, Some(&item.content), &mut |_| {}, tell)
                .with_context(|| format!("copying {name}"))
        };
        for item in items {
            put(&format!("release/{}", item.name), item)?;
        }
        if !fresh.is_empty() {
            for item in self.fresh.items(target.host.name())? {
                put(&item.name, &item)?;
            }
        }
        Ok(())
    }

    fn switch(&self, target: &Target<'_>, wanted: &str, done: Outcome, tell: &mut dyn FnMut(&str)) -> Done {
        let patience = self.patience_secs.to_string();
        let mut errors = Vec::new();
        let mut hear = |told: Told<'_>| match told {
            Told::Fact(..) => {}
            Told::Words(words) => tell(words),
            Told::Error(error) => {
                tell(error);
                errors.push(error.to_owned());
            }
        };
        let end = target.connection.step(&["switch", self.token, wanted, &patience], None, &mut hear);
        let error = (!errors.is_empty()).then(|| errors.join("; "));
        match end {
            Ok(End::Code(0)) => Done { outcome: done, error, facts: look(target) },
            Ok(End::Code(AS_IT_WAS)) => Done { outcome: Outcome::AsItWas, error, facts: look(target) },
            Ok(End::Code(code)) => {
                let error = error.or_else(|| Some(format!("the switch ended with code {code}")));
                Done { outcome: Outcome::NeedsALook, error, facts: look(target) }
            }
            Ok(End::Lost(reason)) => self.call_again(target, wanted, done, &reason, tell),
            Err(error) => self.call_again(target, wanted, done, &format!("{error:#}"), tell),
        }
    }

    /// After a connection that broke in the middle of the switch. The host goes on alone; this waits until it is done,
    /// and says what it did.
    fn call_again(
        &self,
        target: &Target<'_>,
        wanted: &str,
        done: Outcome,
        reason: &str,
        tell: &mut dyn FnMut(&str),
    ) -> Done {
        tell(&format!("{reason}: the host goes on by itself; calling it again"));
        let began = Instant::now();
        let mut patience = Patience::new(self.patience_secs);
        let mut facts = None;
        while !patience.is_over(began.elapsed()) {
            if let Ok((_, said)) = self.ssh.connect(&target.host, Purpose::Look, &mut |_| {}) {
                let at_work = said.switching_secs.map(|left_secs| {
                    let doing = said.doing.as_deref().unwrap_or("switching");
                    patience.is_at_work(began.elapsed(), doing, left_secs)
                });
                facts = Some(said);
                match at_work {
                    Some(news) => news.iter().for_each(|news| tell(news)),
                    None => break,
                }
            }
            std::thread::sleep(CALL_EVERY);
        }
        let broke = |what: &str| Some(format!("the connection broke during the switch ({reason}); {what}"));
        let Some(said) = &facts else {
            return Done { outcome: Outcome::NeedsALook, error: broke("the host answers no more"), facts };
        };
        let before = &target.facts;
        let (outcome, error) = if said.switching_secs.is_some() {
            (Outcome::NeedsALook, broke("the host was still at it when it answered last"))
        } else if said.interrupted.is_some() {
            (Outcome::NeedsALook, broke("then the host was cut off in the middle of it"))
        } else if said.release.as_deref() == Some(wanted) && said.is_healthy() {
            (done, broke("the host finished by itself"))
        } else if said.release == before.release && (said.is_healthy() || !before.is_healthy()) {
            (Outcome::AsItWas, broke("the host took everything back"))
        } else {
            (Outcome::NeedsALook, broke("the host is not healthy"))
        };
        Done { outcome, error, facts }
    }
}

/// A step that must succeed.
fn run(
    connection: &Connection<'_>,
    step: &[&str],
    input: Option<&[u8]>,
    note: &mut dyn FnMut(Told<'_>),
    tell: &mut dyn FnMut(&str),
) -> Result<()> {
    let mut errors = Vec::new();
    let mut hear = |told: Told<'_>| match told {
        Told::Fact(..) => note(told),
        Told::Words(words) => tell(words),
        Told::Error(error) => errors.push(error.to_owned()),
    };
    match connection.step(step, input, &mut hear)? {
        End::Code(0) => Ok(()),
        End::Code(code) if errors.is_empty() => bail!("`{}` failed on the host (exit code {code})", step[0]),
        End::Code(_) => bail!("{}", errors.join("; ")),
        End::Lost(reason) => bail!("{reason}"),
    }
}

/// What a host says of itself now.
fn look(target: &Target<'_>) -> Option<Facts> {
    let mut facts = Facts::default();
    let mut hear = |told: Told<'_>| {
        if let Told::Fact(name, value) = told {
            facts.take(name, value);
        }
    };
    let end = target.connection.step(&["facts"], None, &mut hear);
    // The lock is this deployer's own.
    facts.holder = None;
    matches!(end, Ok(End::Code(0))).then_some(facts)
}

/// Octets in words.
pub(super) fn megabytes(octets: usize) -> f64 {
    octets as f64 / 1e6
}
