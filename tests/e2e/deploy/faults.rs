//! Something goes wrong at every step: a command fails, the connection dies, the power is cut. Whatever it is, the host
//! runs the old release or the new one, whole and healthy, and nobody holds its lock.
//!
//! The steps are not listed here: they are the calls of commands that a good run makes, written down as it makes them.
//! A small program stands in for the daemon, so that hundreds of restarts take no time; the other tests have the real
//! one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::ssh::{Fault, SshHost};

use super::broken::passes_for_one;
use super::fleet::{Fleet, Made, NAMES, of, release_of, state};

/// How long the far side may take to tidy up.
const TIDY: Duration = Duration::from_secs(90);

/// A call that a good run makes.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Point {
    /// As it is shown.
    call: String,
    /// What it is matched with.
    pattern: String,
    /// How many calls like it come before.
    before: usize,
    /// Whether it belongs to the switch, and not to what comes before it.
    in_switch: bool,
}

/// A host between two releases, and what it looks like with either.
struct Between<'a> {
    fleet: &'a Fleet,
    host: &'a SshHost,
    new: &'a Made,
    old_id: String,
    new_id: String,
    old_state: String,
    new_state: String,
    points: Vec<Point>,
}

impl<'a> Between<'a> {
    /// The call of this host's good run that looks so.
    fn point(&self, call: &str) -> Option<&Point> {
        self.points.iter().find(|point| point.call == call)
    }

    /// Goes from the old release, which runs, to the new one and back, and writes down what is called.
    fn observe(fleet: &'a Fleet, host: &'a SshHost, new: &'a Made) -> Result<Self> {
        let (old_id, old_state) = (release_of(host)?, state(host)?);
        host.fault(Fault::Fails, 0, "nothing is called so")?;
        let output = fleet.deploy(new, &[host.name()], &[])?.0;
        ensure!(output.status.success(), "a good run: {}", fleet.explain(&output));
        let calls = host.calls()?;
        let (new_id, new_state) = (release_of(host)?, state(host)?);
        ensure!(old_id != new_id, "{old_id} twice");
        let points = points(&calls, &old_id, &new_id);
        let between = Self { fleet, host, new, old_id, new_id, old_state, new_state, points };
        between.reset()?;
        Ok(between)
    }

    /// The old release, as if there had never been a new one.
    fn reset(&self) -> Result<()> {
        self.host.forget_fault()?;
        let Self { old_id, new_id, .. } = self;
        self.host.read(&format!(
            "set -e; cd /usr/local/lib/backstop; rm -f .switching; rm -rf {new_id} .incoming-*
             ln -sfn $PWD/{old_id}/backstop /usr/local/bin/backstop
             while read -r file place; do cp {old_id}/$file $place; rm -f $place.tmp; done <{old_id}/PLACES
             systemctl daemon-reload; systemctl reset-failed; systemctl restart backstop.service"
        ))?;
        let now = state(self.host)?;
        ensure!(now == self.old_state, "the old release is back as\n{now}\ninstead of\n{}", self.old_state);
        Ok(())
    }

    /// Deploys with a fault; says which release the host has then.
    fn with(&self, fault: Fault, point: &Point) -> Result<&'static str> {
        self.host.fault(fault, point.before, &point.pattern)?;
        let (output, said) = self.fleet.deploy(self.new, &[self.host.name()], &[])?;
        let words = self.fleet.explain(&output);
        ensure!(self.host.fault_happened(), "it did not happen: {words}");
        let outcome = said["hosts"][0]["outcome"].as_str().unwrap_or_default();
        let code = output.status.code();
        if fault == Fault::PowerCut {
            // The next deployer finds what is left, and carries on.
            let (output, _) = self.fleet.deploy(self.new, &[self.host.name()], &[])?;
            let words = self.fleet.explain(&output);
            ensure!(output.status.success(), "after a power cut: {words}");
            ensure!(state(self.host)? == self.new_state, "after a power cut: {}\n{words}", state(self.host)?);
            return Ok("the next deploy finishes");
        }
        // What the far side tidies up after a connection that died takes a moment.
        let deadline = Instant::now() + TIDY;
        let mut now = state(self.host)?;
        while now != self.old_state && now != self.new_state && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(100));
            now = state(self.host)?;
        }
        if now == self.old_state {
            ensure!(code != Some(0) && ["as_it_was", "unreachable"].contains(&outcome), "{code:?}: {words}");
            Ok("old, healthy")
        } else if now == self.new_state {
            ensure!(outcome == "deployed" || outcome == "unchanged", "{code:?}: {words}");
            Ok(if code == Some(0) { "new, healthy" } else { "new, healthy; stopped" })
        } else {
            let log = self.host.read("tail -n 20 /var/log/backstop.log")?;
            anyhow::bail!("neither the old nor the new release: {now}\nits log: {log}\n{words}")
        }
    }
}

#[test]
fn whatever_goes_wrong_at_whatever_step_the_host_runs_the_old_release_or_the_new_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = passes_for_one(folder.path())?;
    let (old, new) = (of(folder.path(), "old", &program)?, of(folder.path(), "new", &program)?);
    let fleet = Fleet::with_release("deployfaults", &old, NAMES.len())?;
    let between =
        fleet.hosts.iter().map(|host| Between::observe(&fleet, host, &new)).collect::<Result<Vec<_>>>()?;
    // What depends on the moment (a second look while waiting, say) is not in every host's run.
    let in_all = |point: &&Point| between.iter().all(|other| other.point(&point.call).is_some());
    let points: Vec<&Point> = between[0].points.iter().filter(in_all).collect();
    let switch = points.iter().filter(|point| point.in_switch).count();
    assert!(
        points.len() > 30 && switch > 20,
        "only {} calls, {switch} in the switch: {points:?}",
        points.len()
    );
    let work: VecDeque<(usize, Fault)> = (0..points.len())
        .flat_map(|at| [Fault::Fails, Fault::ConnectionDies, Fault::PowerCut].map(|fault| (at, fault)))
        // What comes before the switch touches nothing; and what only looks cannot be cut in half.
        .filter(|(at, fault)| {
            *fault != Fault::PowerCut || (points[*at].in_switch && changes(&points[*at].call))
        })
        .collect();
    let (work, done) = (Mutex::new(work), Mutex::new(BTreeMap::new()));
    // Every host takes the next piece of work as soon as it is ready for one.
    std::thread::scope(|scope| {
        let hosts: Vec<_> = between
            .iter()
            .map(|between| {
                scope.spawn(|| -> Result<()> {
                    let all = || work.lock().unwrap_or_else(PoisonError::into_inner);
                    loop {
                        let Some((at, fault)) = all().pop_front() else { return Ok(()) };
                        let point = between.point(&points[at].call).context("every host has this call")?;
                        let became = between
                            .with(fault, point)
                            .with_context(|| format!("`{}` {}", point.call, fault.name()))
                            // One failure is enough.
                            .inspect_err(|_| all().clear())?;
                        between.reset()?;
                        done.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .insert((at, fault.name()), became);
                    }
                })
            })
            .collect();
        hosts.into_iter().try_for_each(|host| host.join().expect("no test thread panics"))
    })?;
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("| call | fails | connection dies | power cut |\n| --- | --- | --- | --- |");
    for (at, point) in points.iter().enumerate() {
        let cell = |fault: Fault| done.get(&(at, fault.name())).copied().unwrap_or("-");
        let [fails, dies, cut] = [Fault::Fails, Fault::ConnectionDies, Fault::PowerCut].map(cell);
        println!("| `{}` | {fails} | {dies} | {cut} |", point.call);
    }
    let last = points.iter().rposition(|point| point.call.starts_with("mv -f LIB/.switching LIB/.last"));
    let last = last.context("the rename that makes it done")?;
    for ((at, fault), became) in &done {
        assert!(
            *at < last || *fault != "fails" || *at == last || became.starts_with("new"),
            "after the last step"
        );
        assert!(*at > last || *fault != "fails" || !became.ends_with("stopped"), "{at} {fault} {became}");
    }
    Ok(())
}

/// What a power cut can leave half done.
fn changes(call: &str) -> bool {
    ["mv ", "cp ", "ln ", "rm ", "systemctl daemon-reload", "systemd-tmpfiles"]
        .iter()
        .any(|start| call.starts_with(start))
        || call.contains("systemctl restart")
}

/// The calls of a good run, each that is unlike those before it.
fn points(calls: &[String], old: &str, new: &str) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    let mut in_switch = false;
    for call in calls {
        // The flood of like calls while waiting says nothing new.
        let words: Vec<String> = call.split(' ').map(|word| normal(word, old, new)).collect();
        let shown = words.join(" ");
        in_switch |= shown.starts_with("flock -w 10");
        // Of the unit's files one is as good as the others.
        let others = ["s.conf", "s.d", "PLACES", "/MANIFEST"].iter().any(|name| shown.contains(name));
        let one_of_many = others && !shown.starts_with("systemd-");
        let before = points.iter().filter(|point| point.call == shown).count();
        if !one_of_many && before == 0 {
            let pattern: Vec<String> = call.split(' ').map(pattern).collect();
            // A call is written down as its name, a space and its arguments.
            let pattern = if pattern.len() == 1 { format!("{call} ") } else { pattern.join(" ") };
            points.push(Point { call: shown, pattern, before, in_switch });
        }
    }
    points
}

fn normal(word: &str, old: &str, new: &str) -> String {
    let word = word.replace(old, "OLD").replace(new, "NEW").replace("/usr/local/lib/backstop", "LIB");
    match (word.find(".incoming-"), word.strip_prefix("/proc/")) {
        (Some(at), _) => {
            let rest = word[at..].split_once('/').map(|(_, rest)| format!("/{rest}")).unwrap_or_default();
            format!("{}INCOMING{rest}", &word[..at])
        }
        (None, Some(_)) => "/proc/PID/exe".into(),
        (None, None) => word,
    }
}

/// A word of a call, for a shell's `case`: what differs from run to run is a star.
fn pattern(word: &str) -> String {
    match (word.find(".incoming-"), word.strip_prefix("/proc/")) {
        (Some(at), _) => {
            let rest = word[at..].split_once('/').map(|(_, rest)| format!("/{rest}")).unwrap_or_default();
            format!("{}.incoming-*{rest}", &word[..at])
        }
        (None, Some(_)) => "/proc/*/exe".into(),
        (None, None) => word.replace(['*', '?', '[', '\\'], "?"),
    }
}
