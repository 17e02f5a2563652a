//! SIGINT (Ctrl-C) and SIGTERM while a guest runs: they do not end this program on the spot, so that it ends the
//! guest, takes its files away, and says so.

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Catches them from its making to its end.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

/// One came.
#[derive(Debug)]
pub(super) struct Interrupted(Signal);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "interrupted by {}: the guest was ended and nothing of it is left; nothing was measured",
            self.0
        )
    }
}

impl std::error::Error for Interrupted {}

impl Signals {
    /// Threads and programs that are started from here on leave them to this one, too.
    pub(super) fn catch() -> Result<Self> {
        all().thread_block().context("cannot hold signals back")?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self(SignalFd::with_flags(&all(), flags).context("cannot wait for signals")?))
    }

    /// # Errors
    /// [`Interrupted`] where one came.
    pub(super) fn ensure_none_came(&self) -> Result<()> {
        let Some(came) = self.0.read_signal().context("cannot read signals")? else { return Ok(()) };
        Err(Interrupted(Signal::try_from(came.ssi_signo.cast_signed())?).into())
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // It cannot fail: the set is a good one.
        let _ = all().thread_unblock();
    }
}

fn all() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn a_signal_that_comes_meanwhile_ends_nothing_and_is_told() {
        let signals = Signals::catch().unwrap();
        signals.ensure_none_came().unwrap();
        // To this thread only.
        raise(Signal::SIGTERM).unwrap();
        let error = signals.ensure_none_came().unwrap_err();
        assert!(error.is::<Interrupted>() && error.to_string().contains("interrupted by SIGTERM"), "{error}");
        signals.ensure_none_came().unwrap();
    }
}
