//! `backstop xdp`: the program at the network card, without a running daemon.
//!
//! `attach` does what the daemon does at its start, and leaves: bans in force stay, nobody writes new ones. `detach`
//! takes the program off and forgets everything that was pinned. `status` only looks.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;

use super::{Answer, CONFIG_PATH, print, print_json};
use crate::config::{self, Config, Xdp};
use crate::dataplane::{AttachedMode, Dataplane, DataplaneError};

/// What the command takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Attach the program, or replace the one that is pinned; bans in force stay.
    Attach(Common),
    /// Take the program off and remove its pins; bans in force are lost.
    Detach {
        /// Also under a running daemon, which then protects nothing at the NIC.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show how it is attached, and what it counted. Exit code 1: it is not attached.
    Status(Common),
}

#[derive(clap::Args, Debug)]
struct Common {
    /// The configuration file.
    #[arg(long, default_value = CONFIG_PATH)]
    config: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What `attach` and `status` print.
#[derive(Serialize)]
struct Status<'a> {
    attached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<AttachedMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    watch: Option<bool>,
    map_abi: u32,
    bans: usize,
    counters: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<Answer> {
    match args.action {
        Action::Attach(common) => attach(&common),
        Action::Detach { force, common } => detach(&common, force),
        Action::Status(common) => status(&common),
    }
}

fn attach(common: &Common) -> anyhow::Result<Answer> {
    let config = config::load(&common.config)?;
    let xdp = section(&config, common)?;
    let dataplane = Dataplane::attach_configured(&config)?.context("no [xdp] section")?;
    report(common, &Status::of(xdp, &dataplane)?)?;
    Ok(Answer::Yes)
}

fn detach(common: &Common, force: bool) -> anyhow::Result<Answer> {
    let config = config::load(&common.config)?;
    let xdp = section(&config, common)?;
    match Dataplane::detach(xdp) {
        Err(DataplaneError::Held { .. }) if force => Dataplane::detach_by_force(xdp)?,
        Err(error @ DataplaneError::Held { .. }) => {
            return Err(anyhow::Error::from(error)
                .context("a running backstop would be blind at the NIC; stop it first, or say --force"));
        }
        done => done?,
    }
    report(common, &Status::detached(Some(xdp), None))?;
    Ok(Answer::Yes)
}

fn status(common: &Common) -> anyhow::Result<Answer> {
    let config = config::load(&common.config)?;
    let Some(xdp) = &config.xdp else {
        report(common, &Status::detached(None, Some(no_section(common))))?;
        return Ok(Answer::No);
    };
    match Dataplane::open_pinned(xdp) {
        Ok(dataplane) => {
            report(common, &Status::of(xdp, &dataplane)?)?;
            Ok(Answer::Yes)
        }
        Err(
            error @ (DataplaneError::NotPinned { .. }
            | DataplaneError::NotAttached { .. }
            | DataplaneError::OtherAbi { .. }),
        ) => {
            report(common, &Status::detached(Some(xdp), Some(error.to_string())))?;
            Ok(Answer::No)
        }
        Err(error) => Err(error.into()),
    }
}

fn section<'a>(config: &'a Config, common: &Common) -> anyhow::Result<&'a Xdp> {
    config.xdp.as_ref().with_context(|| no_section(common))
}

fn no_section(common: &Common) -> String {
    format!("{} has no [xdp] section: add one with `interface = \"...\"`", common.config.display())
}

fn report(common: &Common, status: &Status<'_>) -> anyhow::Result<()> {
    if common.json { print_json(status) } else { print(&status.text()) }
}

impl<'a> Status<'a> {
    fn of(xdp: &'a Xdp, dataplane: &Dataplane) -> Result<Self, DataplaneError> {
        let counters = dataplane.counters()?.into_iter();
        Ok(Self {
            attached: true,
            interface: Some(&xdp.interface),
            mode: Some(dataplane.mode()),
            watch: Some(dataplane.watch()?),
            map_abi: edge_ebpf::ABI_VERSION,
            bans: dataplane.bans()?.len(),
            counters: counters.map(|(name, packets)| (name.to_owned(), packets.into())).collect(),
            why_not: None,
        })
    }

    fn detached(xdp: Option<&'a Xdp>, why_not: Option<String>) -> Self {
        Self {
            attached: false,
            interface: xdp.map(|xdp| xdp.interface.as_str()),
            mode: None,
            watch: None,
            map_abi: edge_ebpf::ABI_VERSION,
            bans: 0,
            counters: serde_json::Map::new(),
            why_not,
        }
    }

    fn text(&self) -> String {
        let at = self.interface.map(|interface| format!("{interface}: ")).unwrap_or_default();
        let Some(mode) = self.mode else {
            return match &self.why_not {
                None => format!("{at}not attached"),
                Some(why) => format!("{at}not attached: {why}"),
            };
        };
        let watch = if self.watch == Some(true) { ", watch mode: counts and passes" } else { "" };
        let mut text = format!("{at}attached, {mode}{watch}\n{} bans in force\n", self.bans);
        for (reason, packets) in &self.counters {
            let _ = writeln!(text, "{packets:>14} {reason}"); // a String takes everything
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_section_status_says_no_and_why_to_scripts_too() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "hostname = \"mx.example.jp\"\ninbound.listen = [\"127.0.0.1:25\"]\nsignature.keys = \"/k\"\n\
                    [[domain]]\nname = \"example.jp\"\nupstream = \"127.0.0.1:26\"\n";
        std::fs::write(file.path(), text).unwrap();
        let common = || Common { config: file.path().to_owned(), json: true };
        assert_eq!(run(Args { action: Action::Status(common()) }).unwrap(), Answer::No);
        run(Args { action: Action::Attach(common()) }).unwrap_err();
        let status = Status::detached(None, Some(no_section(&common())));
        let object = serde_json::to_value(&status).unwrap();
        assert_eq!(object["attached"], false, "{object}");
        assert!(object["why_not"].as_str().unwrap().contains("has no [xdp] section"), "{object}");
        assert!(object.get("interface").is_none(), "{object}");
        assert!(status.text().starts_with("not attached: "), "{}", status.text());
    }
}
