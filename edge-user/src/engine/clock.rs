//! The one place where the daemon reads a clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use edge_core::time::UnixMillis;

/// Where the time comes from.
#[derive(Debug)]
pub enum Clock {
    /// The machine's.
    System,
    /// What a test says.
    Set(AtomicU64),
}

impl Clock {
    /// Now. Before 1970 it is 1970.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        match self {
            Self::System => system(),
            Self::Set(millis) => UnixMillis(millis.load(Ordering::Relaxed)),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else asks")]
fn system() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The machine's time, for whoever wants a plain function.
#[must_use]
pub fn system_now() -> UnixMillis {
    system()
}

/// A moment in the future that a wait must not go past.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(tokio::time::Instant);

impl Deadline {
    /// `patience` from now.
    pub(crate) fn after(patience: Duration) -> Self {
        Self(tokio::time::Instant::now() + patience)
    }

    /// How long until then; zero when it is past.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(tokio::time::Instant::now())
    }
}

/// A moment that is past.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since(tokio::time::Instant);

impl Since {
    /// This one.
    pub(crate) fn now() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// How long ago it is.
    pub(crate) fn passed(self) -> Duration {
        self.0.elapsed()
    }
}
