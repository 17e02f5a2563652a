//! The kernel's monotonic clock, by which bans end. Not the engine's clock: this one is compared inside the kernel only.

use std::time::Duration;

use edge_ebpf::NEVER;
use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock now.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has CLOCK_MONOTONIC");
    u64::try_from(Duration::from(now).as_nanos()).expect("500 years of uptime fit")
}

/// The time `length` after `now_ns`; what lies past the clock's end never comes.
pub(super) fn until_ns(now_ns: u64, length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).map_or(NEVER, |length| now_ns.saturating_add(length))
}

/// What is left until then; `None` when it is over.
pub(super) fn left(now_ns: u64, until_ns: u64) -> Option<Duration> {
    match until_ns {
        NEVER => Some(Duration::MAX),
        _ => until_ns.checked_sub(now_ns).filter(|left| *left > 0).map(Duration::from_nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_comes_back_as_what_is_left() {
        let length = Duration::from_secs(60);
        assert_eq!(left(5, until_ns(5, length)), Some(length));
        assert_eq!(left(5 + 59_000_000_000, until_ns(5, length)), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_ban_is_over_at_its_end_and_not_before() {
        assert_eq!(left(9, 10), Some(Duration::from_nanos(1)));
        assert_eq!(left(10, 10), None);
        assert_eq!(left(11, 10), None);
    }

    #[test]
    fn what_lasts_for_ever_is_never_over() {
        assert_eq!(until_ns(7, Duration::MAX), NEVER);
        assert_eq!(left(NEVER, NEVER), Some(Duration::MAX));
    }
}
