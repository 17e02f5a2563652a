//! The service manager of a restart: by a real notification socket; only the unit's settings are not read here.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::edge::CONFIG;
use lab::store::{Store, receive};
use lab::{Host, Lab, Process};

/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The service manager.
pub(super) struct Systemd {
    heard: UnixDatagram,
    pub(super) kept: Store,
}

impl Systemd {
    pub(super) fn new(lab: &Lab) -> Result<Self> {
        let path = lab.path("edge/notify");
        let heard = UnixDatagram::bind(&path).with_context(|| format!("cannot bind {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        heard.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { heard, kept: Store::default() })
    }

    /// Starts the service with what is kept, and waits until it is ready.
    pub(super) fn start(&mut self, lab: &Lab, binary: &str) -> Result<Process> {
        let (mut script, _passed) = self.kept.passed_on()?;
        script += &format!("export NOTIFY_SOCKET=/run/lab/edge/notify\nexec {binary} run --config {CONFIG}");
        let process = lab.spawn("backstop", Host::Edge, &["bash", "-euc", &script])?;
        self.hear_until("READY=1").with_context(|| format!("it said:\n{}", process.tail(20)))?;
        Ok(process)
    }

    /// `systemctl restart`.
    pub(super) fn restart(&mut self, lab: &Lab, binary: &str, running: &mut Process) -> Result<()> {
        running.stop(PATIENCE)?;
        *running = self.start(lab, binary)?;
        Ok(())
    }

    /// Does what the service asks for, until it says this.
    pub(super) fn hear_until(&mut self, word: &str) -> Result<()> {
        loop {
            let (said, sockets) = receive(&self.heard).with_context(|| format!("waiting for {word}"))?;
            self.kept.hear(&said, sockets)?;
            if said.lines().any(|line| line == word) {
                return Ok(());
            }
        }
    }
}
