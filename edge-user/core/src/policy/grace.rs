//! The time at the start in which unproven bounces are delivered: mail that went out before the first signature can
//! still bounce, and nothing in it could prove its bounce.

use std::time::Duration;

use crate::time::UnixMillis;

/// How long grace lasts, and whether a flood ends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Grace {
    /// How long after the first signature. Zero: there is none.
    pub length: Duration,
    /// Whether it holds during a flood too.
    pub in_flood: bool,
}

impl Grace {
    /// Whether unproven bounces are delivered `now`. `first_signature`: `None`, nothing was signed yet: then all mail
    /// that went out can only bounce unproven, and grace has not begun to run out.
    #[must_use]
    pub fn holds(self, first_signature: Option<UnixMillis>, now: UnixMillis, flood: bool) -> bool {
        let begun = !self.length.is_zero() && (self.in_flood || !flood);
        begun && self.until(first_signature).is_none_or(|until| now < until)
    }

    /// When it ends, or ended. `None`: nothing was signed yet, or it has no end that can be told.
    #[must_use]
    pub fn until(self, first_signature: Option<UnixMillis>) -> Option<UnixMillis> {
        first_signature.map(|first| first.plus(self.length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const FIRST: UnixMillis = UnixMillis::from_secs(1_795_000_000);

    #[test]
    fn grace_lasts_its_days_from_the_first_signature() {
        let grace = Grace { length: 16 * DAY, in_flood: true };
        assert!(grace.holds(Some(FIRST), FIRST, false));
        assert!(grace.holds(Some(FIRST), FIRST.plus(16 * DAY).minus(Duration::from_millis(1)), true));
        assert!(!grace.holds(Some(FIRST), FIRST.plus(16 * DAY), false));
        // A clock that was set back does not end it.
        assert!(grace.holds(Some(FIRST), FIRST.minus(DAY), false));
    }

    #[test]
    fn before_anything_was_signed_it_has_not_begun_to_run_out() {
        let grace = Grace { length: DAY, in_flood: true };
        assert!(grace.holds(None, FIRST.plus(1000 * DAY), false));
        assert!(!Grace { length: Duration::ZERO, ..grace }.holds(None, FIRST, false), "none was wanted");
    }

    #[test]
    fn a_flood_ends_it_only_where_the_operator_says_so() {
        let grace = Grace { length: DAY, in_flood: false };
        assert!(grace.holds(Some(FIRST), FIRST, false));
        assert!(!grace.holds(Some(FIRST), FIRST, true));
        assert!(!grace.holds(None, FIRST, true));
    }
}
