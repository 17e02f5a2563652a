//! `backstop doctor`: whether this machine, its network and the servers beside it are as the edge needs them.
//!
//! A group of questions is a file: it asks (facts), then judges (facts to findings), the latter as a pure function with
//! rows of tests. All groups ask at once, each in a thread; what has not answered within [`ANSWERS_MAX`] is a finding
//! too. Nothing is changed: no file, no map, no mail (a transaction never gets to DATA). Without root there are fewer
//! answers, and each line says so. Exit code 1: something is bad.

mod capabilities;
mod clock;
mod daemon;
mod dns;
mod finding;
mod kernel;
mod keys;
mod limits;
mod nic;
mod pins;
mod port;
mod process;
mod sandbox;
mod state;
mod tls;
mod unit;
mod upstream;
mod who;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use self::finding::{Finding, Findings, State};
use super::{Answer, CONFIG_PATH, configuration, print, print_json};
use crate::config::Config;
use crate::engine::clock::Deadline;

/// How long all questions together may take.
const ANSWERS_MAX: Duration = Duration::from_secs(14);

/// What the command takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
    config: PathBuf,
    /// Print a JSON array of findings.
    #[arg(long)]
    json: bool,
}

/// What is asked about.
struct Subject {
    config: Config,
    /// The configuration's file.
    file: PathBuf,
}

/// A group of questions: its name, and who asks them.
type Group = (&'static str, fn(&Subject, &mut Findings));

/// In the order in which they are shown.
const GROUPS: [Group; 14] = [
    ("kernel", kernel::ask),
    ("capabilities", capabilities::ask),
    ("bpf file system", pins::ask),
    ("network card", nic::ask),
    ("port", port::ask),
    ("dns", dns::ask),
    ("upstream", upstream::ask),
    ("clock", clock::ask),
    ("keys", keys::ask),
    ("tls", tls::ask),
    ("limits", limits::ask),
    ("state", state::ask),
    ("daemon", daemon::ask),
    ("unit", unit::ask),
];

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<Answer> {
    let config = match configuration(&args.config) {
        Ok(config) => config,
        Err(error) => {
            // A script reads why from stdout too; whoever looks at it, from stderr only.
            if args.json {
                print_json(&unreadable(&args.config, &error))?;
            }
            return Err(error);
        }
    };
    let findings = ask_all(Subject { config, file: args.config });
    if args.json {
        print_json(&findings)?;
    } else {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        print(&finding::table(&findings, colours, nix::unistd::geteuid().is_root()))?;
    }
    let bad = findings.iter().any(|finding| finding.state == State::Bad);
    Ok(if bad { Answer::No } else { Answer::Yes })
}

/// All that is to be said where there is no configuration to ask by.
fn unreadable(file: &Path, error: &anyhow::Error) -> Vec<Finding> {
    let mut findings = Findings::of("configuration");
    let advice = "mend it: `backstop check` names each fault with its line; without a file, `backstop init` writes one";
    findings.bad(file.display().to_string(), format!("{error:#}"), advice);
    findings.into_list()
}

/// Asks every group at once.
fn ask_all(subject: Subject) -> Vec<Finding> {
    let subject = Arc::new(subject);
    let (tell, told) = mpsc::channel();
    for (place, (name, ask)) in GROUPS.into_iter().enumerate() {
        let (subject, tell) = (Arc::clone(&subject), tell.clone());
        let asked = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut findings = Findings::of(name);
            ask(&subject, &mut findings);
            // Nobody listens any more where the time is up.
            let _ = tell.send((place, findings.into_list()));
        });
        // A thread that cannot be had does not answer; that is found below.
        drop(asked);
    }
    drop(tell);
    let deadline = Deadline::after(ANSWERS_MAX);
    let mut answers = BTreeMap::new();
    while let Ok((place, list)) = told.recv_timeout(deadline.left()) {
        answers.insert(place, list);
    }
    let unanswered = |name| {
        let mut findings = Findings::of(name);
        let found = format!("no answer within {} s", ANSWERS_MAX.as_secs());
        findings.careful("all of it", found, "something hangs: try again, and look at what it asks by hand");
        findings.into_list()
    };
    (0..)
        .zip(GROUPS)
        .flat_map(|(place, (name, _))| answers.remove(&place).unwrap_or_else(|| unanswered(name)))
        .collect()
}

/// A configuration for the rows of tests: an edge at `listen`, and further sections.
#[cfg(test)]
fn sample(listen: &str, more: &str) -> Config {
    let text = format!(
        "hostname = \"mx.example.jp\"\ninbound.listen = [{listen:?}]\nsignature.keys = \"/k\"\n[[domain]]\n\
         name = \"example.jp\"\nupstream = \"127.0.0.1:26\"\n{more}"
    );
    crate::config::parse(&text, std::path::Path::new("/x")).expect("it is sound").config
}
