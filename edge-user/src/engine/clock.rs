//! The one place where the daemon reads a clock.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use edge_core::time::UnixMillis;
use nix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, Sleep};

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

/// As of the kernel's last tick, which is some milliseconds past at most: a message asks eight times, and such a look
/// does not read the counter that time is made of.
fn system() -> UnixMillis {
    let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).expect("each Linux since 2.6.32 has this clock");
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    UnixMillis(seconds.saturating_mul(1000) + now.tv_nsec() as u64 / 1_000_000)
}

/// The machine's time, for whoever wants a plain function.
#[must_use]
pub fn system_now() -> UnixMillis {
    system()
}

/// A moment in the future that a wait must not go past.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// `patience` from now.
    pub(crate) fn after(patience: Duration) -> Self {
        Self(Instant::now() + patience)
    }

    /// `patience` from a moment on.
    pub(crate) fn from(since: Since, patience: Duration) -> Self {
        Self(since.0 + patience)
    }

    /// How long it was at a moment until then; zero when it was past.
    pub(crate) fn left_at(self, since: Since) -> Duration {
        self.0.saturating_duration_since(since.0)
    }

    /// How long until then; zero when it is past.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// A moment that others are counted from, where they must fit into a number that several threads see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch(Instant);

impl Epoch {
    /// This one.
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds from then to `deadline`.
    pub(crate) fn millis_to(self, deadline: Deadline) -> u64 {
        u64::try_from(deadline.0.saturating_duration_since(self.0).as_millis()).unwrap_or(u64::MAX)
    }
}

/// The one timer of a task that waits again and again, mostly for less than it would wait.
///
/// It is not set anew for each wait: it fires when the earliest wait that it was set for would have ended, and only then
/// is set for the one that goes on. So a wait that ends well costs no timer at all.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: Pin<Box<Sleep>>,
    /// It will fire, and wake this task.
    set: bool,
}

impl Alarm {
    /// A timer for the task that makes it: no other may poll it.
    pub(crate) fn new() -> Self {
        Self { timer: Box::pin(tokio::time::sleep(Duration::ZERO)), set: false }
    }

    /// Ready when it is later than `by`.
    pub(crate) fn poll(&mut self, by: Deadline, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.set && self.timer.deadline() <= by.0 && !self.timer.is_elapsed() {
                return Poll::Pending;
            }
            if by.left().is_zero() {
                self.set = false;
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(by.0);
            self.set = true;
            ready!(self.timer.as_mut().poll(context));
        }
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

/// The clock of a test's runtime stands as long as this lives, but for what the test lets pass: how long the machine takes
/// counts for nothing.
#[cfg(test)]
pub(crate) struct Still {
    _held: std::sync::mpsc::Sender<()>,
}

#[cfg(test)]
impl Still {
    pub(crate) fn begin() -> Self {
        tokio::time::pause();
        let (held, until) = std::sync::mpsc::channel();
        // While a blocking task is at work, a paused clock does not run ahead.
        tokio::task::spawn_blocking(move || until.recv());
        Self { _held: held }
    }

    pub(crate) async fn pass(&self, secs: u64) {
        tokio::time::advance(Duration::from_secs(secs)).await;
    }
}
