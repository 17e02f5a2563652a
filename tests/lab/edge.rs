//! Backstop in the lab's `edge`: its configuration, its process, its command line.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::program::{Profile, Program};
use crate::{EDGE, EDGE_INSIDE, EDGE_INTERFACE, EDGE_V6, Host, Lab, MTA, Process};

/// How long the edge may take until it listens.
const START: Duration = Duration::from_secs(120);
/// How long it may take to end when it is asked to.
const STOP: Duration = Duration::from_secs(120);

/// A configuration for the lab: a TOML table that tests change by path.
#[derive(Clone, Debug)]
pub struct Settings(toml::Table);

impl Default for Settings {
    /// `example.jp` before the operator's server in `mta`; unproven bounces are rejected; XDP in native mode, not only
    /// watching; bans of 5 s that double up to 20. Its keys are new, and no mail from before them can bounce.
    fn default() -> Self {
        let table = format!(
            r#"
hostname = "edge.example.jp"
inbound.listen = ["{EDGE}:25", "[{EDGE_V6}]:25"]
outbound.listen = ["{EDGE_INSIDE}:10025"]
outbound.networks = ["198.19.0.0/24"]
outbound.next_hop = "{MTA}:10026"
signature.keys = "/run/lab/edge/keys"
control.socket = "/run/lab/edge/control.sock"
state.dir = "/run/lab/edge/state"
log.format = "json"
policy.grace_days = 0
reputation.ban_first_secs = 5
reputation.ban_max_secs = 20
reputation.ban_flood_max_secs = 20

[[domain]]
name = "example.jp"
upstream = "{MTA}:25"

[[filter]]
memo = "all of it"
covers = ["*"]
action = "reject"

[xdp]
interface = "{EDGE_INTERFACE}"
mode = "native"
watch = false
"#
        );
        Self(table.parse().expect("the lab's configuration is TOML"))
    }
}

impl Settings {
    /// Those of a configuration file.
    ///
    /// # Errors
    /// It is no TOML.
    pub fn read(text: &str) -> Result<Self> {
        Ok(Self(text.parse().context("the configuration is no TOML")?))
    }

    /// Sets one field, as in `set("reputation.ban_first_secs", 5)`; tables on the way are made. A number in the path is
    /// a place in an array of tables: `set("domain.0.tag", true)`.
    ///
    /// # Panics
    /// Where the path goes through something that is no table.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<toml::Value>) -> Self {
        let (way, field) = path.rsplit_once('.').unwrap_or(("", path));
        let mut table = &mut self.0;
        let mut steps = way.split('.').filter(|step| !step.is_empty()).peekable();
        while let Some(step) = steps.next() {
            let place = steps.next_if(|next| next.parse::<usize>().is_ok());
            let mut next = table.entry(step).or_insert_with(|| toml::Table::new().into());
            if let Some(place) = place.and_then(|place| place.parse::<usize>().ok()) {
                next = &mut next[place];
            }
            table = next.as_table_mut().unwrap_or_else(|| panic!("{step} of {path} is no table"));
        }
        table.insert(field.to_owned(), value.into());
        self
    }

    /// Appends an empty table to an array of tables at the top, as in `append("trusted_forwarder")`: its fields are set by
    /// their path.
    ///
    /// # Panics
    /// Where another thing has that name.
    #[must_use]
    pub fn append(mut self, array: &str) -> Self {
        let tables = self.0.entry(array).or_insert_with(|| toml::Value::Array(Vec::new()));
        tables.as_array_mut().expect("an array of tables").push(toml::Table::new().into());
        self
    }

    /// Takes over the tables and fields at the top of a text, whole.
    ///
    /// # Panics
    /// Where the text is no TOML.
    #[must_use]
    pub fn merge(mut self, text: &str) -> Self {
        self.0.extend(text.parse::<toml::Table>().expect("what is merged is TOML"));
        self
    }

    /// Takes a field or a table out, as in `without("xdp")`.
    #[must_use]
    pub fn without(mut self, field: &str) -> Self {
        self.0.remove(field);
        self
    }
}

/// A running edge.
#[derive(Debug)]
pub struct Edge {
    binary: PathBuf,
    process: Process,
}

/// Where the configuration lies, as seen inside the lab.
pub const CONFIG: &str = "/run/lab/edge/backstop.toml";

impl Edge {
    /// Writes the configuration, makes a key if there is none yet, starts the edge and waits until it listens.
    ///
    /// # Errors
    /// When it does not build, does not come up, or says no.
    pub fn start(lab: &Lab, settings: &Settings, profile: Profile) -> Result<Self> {
        let binary = Self::prepare(lab, settings, profile)?;
        let process = spawn(lab, &binary)?;
        let mut edge = Self { binary, process };
        edge.wait_until_it_listens(lab)?;
        Ok(edge)
    }

    /// The same, but starts nothing: the program's path, for commands that need no running edge.
    ///
    /// # Errors
    /// When it does not build, or no key can be made.
    pub fn prepare(lab: &Lab, settings: &Settings, profile: Profile) -> Result<PathBuf> {
        let binary = Program::Backstop.build(profile)?;
        lab.write("edge/backstop.toml", toml::to_string(&settings.0).context("the configuration as TOML")?)?;
        if !lab.path("edge/keys").exists() {
            let keys = ["key", "new", "--dir", "/run/lab/edge/keys"];
            let made = lab.run(Host::Edge, &[&[shown(&binary)?], &keys[..]].concat())?;
            ensure!(made.status.success(), "backstop key new: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(binary)
    }

    /// Starts it again, after [`Edge::kill9`] or [`Edge::stop`].
    ///
    /// # Errors
    /// When it still runs, or does not come up.
    pub fn start_again(&mut self, lab: &Lab) -> Result<()> {
        ensure!(!self.process.is_running(), "the edge still runs");
        self.process = spawn(lab, &self.binary)?;
        self.wait_until_it_listens(lab)
    }

    fn wait_until_it_listens(&mut self, lab: &Lab) -> Result<()> {
        let deadline = Instant::now() + START;
        // Asked from its own host: the lab's Internet is not yet to be seen by anything.
        while let Err(error) = lab.connect(Host::Edge, None, (EDGE, 25).into(), Duration::from_secs(1)) {
            if !self.process.is_running() {
                bail!("the edge ended; it said:\n{}", self.process.tail(40));
            }
            if Instant::now() > deadline {
                bail!("the edge does not listen ({error}); it said:\n{}", self.process.tail(40));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The process, with its log.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The log's lines so far that are JSON, one for each event; what is none (a panic's, say) is in
    /// [`Process::lines`].
    ///
    /// # Errors
    /// When the edge panicked: no test may overlook that.
    pub fn events(&self) -> Result<Vec<Value>> {
        let lines = self.process.lines();
        if let Some(panic) = lines.iter().find(|line| line.contains("panicked at")) {
            bail!("the edge panicked: {panic}\n{}", self.process.tail(40));
        }
        Ok(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// The verdicts so far, as they were logged.
    ///
    /// # Errors
    /// As [`Edge::events`].
    pub fn verdicts(&self) -> Result<Vec<Value>> {
        Ok(self.events()?.into_iter().filter(|event| event["event"] == "verdict").collect())
    }

    /// Waits for a verdict (also one that came already) that `wanted` accepts.
    ///
    /// # Errors
    /// When none came in time.
    pub fn wait_for_verdict(&self, wanted: impl Fn(&Value) -> bool, patience: Duration) -> Result<Value> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(verdict) = self.verdicts()?.into_iter().find(|verdict| wanted(verdict)) {
                return Ok(verdict);
            }
            if Instant::now() > deadline {
                bail!("no such verdict within {patience:?}; the edge said:\n{}", self.process.tail(40));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it was gone already.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill9()
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// When it was gone already, or had to be killed.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop(STOP).map(drop)
    }

    /// `backstop COMMAND --config ...`, run in `edge`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn command(&self, lab: &Lab, arguments: &[&str], input: &[u8]) -> Result<Output> {
        let argv = [&[shown(&self.binary)?], arguments, &["--config", CONFIG]].concat();
        lab.run_with_input(Host::Edge, &argv, input)
    }

    /// The JSON that a command prints with `--json`, whatever its exit code.
    ///
    /// # Errors
    /// When it prints none.
    pub fn json(&self, lab: &Lab, arguments: &[&str]) -> Result<Value> {
        let output = self.command(lab, &[arguments, &["--json"]].concat(), b"")?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!("backstop {arguments:?} printed no JSON; {}", String::from_utf8_lossy(&output.stderr))
        })
    }

    /// A message as the edge signs it for `sender`.
    ///
    /// # Errors
    /// When it is not signed.
    pub fn sign(&self, lab: &Lab, sender: &str, message: &str) -> Result<String> {
        let output = self.command(lab, &["sign", "--sender", sender], message.as_bytes())?;
        ensure!(output.status.success(), "backstop sign: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).context("backstop sign printed no text")
    }
}

fn spawn(lab: &Lab, binary: &Path) -> Result<Process> {
    lab.spawn("backstop", Host::Edge, &[shown(binary)?, "run", "--config", CONFIG])
}

fn shown(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reaches_tables_arrays_and_new_tables() {
        let settings = Settings::default()
            .set("domain.0.tag", true)
            .set("reputation.ban_first_secs", 1)
            .set("limits.sessions_max", 7)
            .set("hostname", "other.example.jp")
            .without("xdp");
        let Settings(table) = settings;
        assert_eq!(table["domain"][0]["tag"].as_bool(), Some(true));
        assert_eq!(table["domain"][0]["name"].as_str(), Some("example.jp"));
        assert_eq!(table["reputation"]["ban_first_secs"].as_integer(), Some(1));
        assert_eq!(table["limits"]["sessions_max"].as_integer(), Some(7));
        assert_eq!(table["hostname"].as_str(), Some("other.example.jp"));
        assert!(!table.contains_key("xdp"));
    }
}
