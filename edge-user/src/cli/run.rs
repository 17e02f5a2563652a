//! `backstop run`: the daemon, from the configuration to its last line of log.
//!
//! The order matters. What can be refused without touching anything comes first (configuration, limits, keys,
//! another daemon on the control socket); then the NIC and the listeners; then what needs no privilege any more: the
//! threads, the log's first, and last the answer to systemd. A start that fails takes back what it attached; a stop leaves the NIC's protection pinned, for the next start to adopt.

mod notify;
mod privileges;
mod reload;
mod signals;
mod stop;

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use edge_core::policy::Policy;
use edge_core::signature::Keys;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::stop::Stop;
use super::{Answer, CONFIG_PATH};
use crate::config::{self, Config, keys};
use crate::control::{EdgeDaemon, Listener, Predecessor};
use crate::dataplane::{Dataplane, DataplaneError};
use crate::engine::{self, Edge, Listeners, clock};
use crate::state::StateDir;
use crate::telemetry::{self, AddressHasher, Direction, Event, EventLog, Level};

/// How long the last lines of the log may take to be written.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// The log that waits for its thread.
type Writer = telemetry::Waiting<io::Stderr>;
const LOG_THREAD: &str = "cannot start the log's thread";

/// What the command takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
    config: PathBuf,
    /// Leave the network card alone, whatever `[xdp]` says.
    #[arg(long)]
    no_xdp: bool,
    /// Take the place of the edge that runs with this control socket, if there is one: its listening sockets go over, and
    /// no connection is refused. (Under systemd a restart does it.)
    #[arg(long)]
    take_over: bool,
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<Answer> {
    let (mut config, mut warnings) = read(&args.config)?;
    if args.no_xdp {
        config.xdp = None;
    }
    warnings.extend(fits_this_machine(&config)?);
    let watch = keys::Watch::new(&config.signature.keys);
    let keys = keys::load_signing(&config.signature.keys, clock::system_now())?;
    // Last: all that may well be wrong was looked at before. Dropped before it is told, that edge goes on.
    let before = Before::find(&args, &config)?;
    let control = Listener::bind(&config.control)?;
    let state = StateDir::open(&config.state.dir)?;
    let (log, writer) = prepare_log(&config, &keys)?;
    let mut writer = Some(writer);
    telemetry::install_diagnostics(&log)?;
    for message in warnings {
        log.event(Event::Diagnostic { level: Level::Warn, target: "backstop::config".into(), message });
    }

    let served = attach(&config, &log).and_then(|dataplane| {
        let took_back = takes_back(&config, dataplane.as_ref());
        let parts = Parts { config, keys, watch, dataplane, state, control, before };
        serve(&args.config, parts, (&log, &mut writer)).inspect_err(|_| took_back())
    });
    if let Some(writer) = writer {
        // It failed before that: what it has said is still to be written.
        writer.start().context(LOG_THREAD)?;
    }
    log.flush(FLUSH_MAX);
    served.map(|()| Answer::Yes)
}

/// What comes from the process before.
#[derive(Debug, Default)]
struct Before {
    /// Waits for this one to serve.
    predecessor: Option<Predecessor>,
    sockets: Vec<TcpListener>,
}

impl Before {
    /// Sockets that systemd kept or opened; and, where it is asked for, those of the edge that runs.
    fn find(args: &Args, config: &Config) -> anyhow::Result<Self> {
        // Only from here on are they this process's: nothing was started before that could inherit them.
        let mut passed = listenfd::ListenFd::from_env();
        let mut sockets: Vec<TcpListener> =
            (0..passed.len()).filter_map(|number| passed.take_tcp_listener(number).ok().flatten()).collect();
        let mut predecessor = None;
        if args.take_over
            && let Some((last, its)) =
                Predecessor::ask(&config.control.socket).context("the edge that runs does not hand over")?
        {
            predecessor = Some(last);
            sockets.extend(its);
        }
        Ok(Self { predecessor, sockets })
    }
}

/// The configuration, and what may not be meant so.
fn read(path: &Path) -> anyhow::Result<(Config, Vec<String>)> {
    // Says what to do where there is none.
    super::configuration(path)?;
    let loaded = config::read(path)?;
    let warnings = loaded.warnings.iter().map(|warning| warning.in_file(path).to_string()).collect();
    Ok((loaded.config, warnings))
}

/// Raises the limit of descriptors to what the machine allows, and refuses what it does not; says what is near to that.
fn fits_this_machine(config: &Config) -> anyhow::Result<Vec<String>> {
    let here = config::Machine::here().context("cannot ask for this machine's limits")?;
    let (errors, warnings): (Vec<_>, Vec<_>) =
        here.problems(config).into_iter().partition(|problem| problem.level == config::Level::Error);
    let [errors, warnings] = [errors, warnings].map(|problems| {
        let words = |problem: &config::Problem| format!("{}: {}", problem.key, problem.text);
        problems.iter().map(words).collect::<Vec<_>>()
    });
    if !errors.is_empty() {
        bail!("{}", errors.join("\nbackstop: "));
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit of descriptors")?;
    }
    Ok(warnings)
}

fn prepare_log(config: &Config, keys: &Keys) -> anyhow::Result<(EventLog, Writer)> {
    let secret = keys.iter().next().map(|key| *key.secret());
    let hasher = match (config.log.hash_addresses, secret) {
        (false, _) => None,
        (true, Some(secret)) => Some(AddressHasher::from_secret(&secret)),
        (true, None) => bail!("[log] hash_addresses needs a key; make one: backstop key new"),
    };
    let settings = telemetry::Settings {
        format: config.log.format,
        hasher,
        queue_lines_max: config.log.queue_lines_max,
        clock: clock::system_now,
    };
    Ok(EventLog::prepare(settings, io::stderr()))
}

/// Puts the program at the NIC, where the configuration asks for it.
fn attach(config: &Config, log: &EventLog) -> anyhow::Result<Option<Dataplane>> {
    let Some(settings) = &config.xdp else { return Ok(None) };
    let attached = Dataplane::attach_configured(config).map_err(|error: DataplaneError| {
        anyhow!(error).context(format!(
            "cannot protect {} (to run without: `backstop run --no-xdp`)",
            settings.interface
        ))
    })?;
    if let Some(dataplane) = &attached {
        log.event(Event::XdpAttached {
            interface: settings.interface.clone(),
            mode: dataplane.mode().name(),
            adopted: dataplane.adopted(),
            watch: settings.watch,
        });
    }
    Ok(attached)
}

/// What undoes this start's own attachment; an adopted one was there before, and stays.
fn takes_back(config: &Config, dataplane: Option<&Dataplane>) -> impl FnOnce() + use<> {
    let fresh = dataplane.is_some_and(|dataplane| !dataplane.adopted());
    let settings = config.xdp.clone().filter(|_| fresh);
    move || {
        if let Some(settings) = settings
            && let Err(error) = Dataplane::detach_by_force(&settings)
        {
            tracing::error!("the program stays at {}: {error}", settings.interface);
        }
    }
}

/// What the daemon consists of.
struct Parts {
    config: Config,
    keys: Keys,
    watch: keys::Watch,
    dataplane: Option<Dataplane>,
    state: StateDir,
    control: Listener,
    before: Before,
}

/// Serves until a signal says stop. Takes the log's writer as soon as it may start threads.
fn serve(path: &Path, parts: Parts, (log, writer): (&EventLog, &mut Option<Writer>)) -> anyhow::Result<()> {
    // In this order: what was locked is let go of before the process before hears that this one failed.
    let Parts {
        before: Before { predecessor, sockets },
        control,
        config,
        keys,
        watch: watch_keys,
        dataplane,
        state,
    } = parts;
    let xdp = dataplane.as_ref().map_or("none", |dataplane| dataplane.mode().name());
    let edge = Edge::new(config, keys, dataplane, log.clone(), Some(state))?;
    let mut listeners =
        Listeners::take_over(&edge.config, engine::workers(), sockets).map_err(explain_bind)?;
    privileges::give_up(edge.dataplane.as_ref())?;
    if let Some(writer) = writer.take() {
        writer.start().context(LOG_THREAD)?;
    }
    let started = Event::Started {
        version: env!("CARGO_PKG_VERSION"),
        inbound: listeners.addresses(Direction::Inbound),
        outbound: listeners.addresses(Direction::Outbound),
        xdp,
    };

    // As whoever asks would name it, wherever he stands.
    let file = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let reload = {
        let (edge, path) = (Arc::clone(&edge), path.to_owned());
        move || reload::reload(&edge, &path)
    };
    let stop = Arc::new(Stop::default());
    let hand_over = {
        let stop = Arc::clone(&stop);
        move |successor| stop.hand_over(successor)
    };
    let daemon = Arc::new(EdgeDaemon::new(Arc::clone(&edge), file, Box::new(reload), Box::new(hand_over)));
    let control = control.serve(Arc::clone(&daemon)).context("cannot start the control socket's thread")?;
    signals::start(Arc::clone(&edge), path.to_owned(), watch_keys, Arc::clone(&stop))
        .context("cannot wait for signals")?;
    log.event(started);
    super::tls::warn(&edge.acceptor.certificates(), edge.now());
    // As if it had only monitored before: a file that was changed while the edge was down has no other witness.
    reload::warn_if_early(&edge, &Policy::default());
    notify::keep(&listeners);
    notify::ready();
    if let Some(predecessor) = predecessor
        && let Err(error) = predecessor.serving()
    {
        tracing::warn!("the edge before this one ended before it heard that this one serves: {error}");
    }
    listeners.leave_others().into_iter().for_each(notify::forget);
    stop::serve_until_stopped(&edge, listeners, &stop, (daemon, control))?;
    log.event(Event::Stopped {});
    Ok(())
}

/// Says who to ask where a port cannot be had.
fn explain_bind(error: anyhow::Error) -> anyhow::Error {
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    match kind {
        Some(io::ErrorKind::AddrInUse) => error.context(
            "another program has the port (`ss -ltnp` names it); a mail server that shall stand behind the edge is \
             to listen at another port, or at 127.0.0.1 only",
        ),
        Some(io::ErrorKind::PermissionDenied) => error.context(
            "ports below 1024 need root or CAP_NET_BIND_SERVICE (in the unit: \
             AmbientCapabilities=CAP_NET_BIND_SERVICE)",
        ),
        Some(io::ErrorKind::AddrNotAvailable) => {
            error.context("the address is none of this host's (`ip address` lists them)")
        }
        Some(_) | None => error,
    }
}
