//! The one notion of time in the core: an argument, never a clock.

use std::fmt;
use std::time::Duration;

/// Milliseconds since the Unix epoch.
///
/// All arithmetic saturates: a wall clock that jumps backwards makes intervals zero, never negative or huge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The time `secs` seconds after the epoch.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Whole seconds since the epoch.
    #[must_use]
    pub const fn secs(self) -> u64 {
        self.0 / 1000
    }

    /// Whole hours since the epoch: the unit of a token's issue time.
    #[must_use]
    pub const fn hours(self) -> u64 {
        self.0 / 3_600_000
    }

    /// Whole days since the epoch: the unit of a BATV tag.
    #[must_use]
    pub const fn days(self) -> u64 {
        self.0 / 86_400_000
    }

    /// This time, `by` later.
    #[must_use]
    pub const fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_millis() as u64))
    }

    /// This time, `by` earlier; never before the epoch.
    #[must_use]
    pub const fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by.as_millis() as u64))
    }

    /// How long after `earlier` this is; zero when it is not after.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1000, self.0 % 1000)
    }
}
