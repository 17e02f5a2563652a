//! When something happened, as text. Many lines are of one second: what they share is made once.

use std::fmt::{self, Display};

use edge_core::time::UnixMillis;

/// Writes times; keeps the text of the last second.
#[derive(Debug)]
pub(super) struct Stamp {
    second: u64,
    /// `2026-01-02T03:04:05`; empty: none was written.
    text: String,
}

impl Stamp {
    pub(super) fn new() -> Self {
        Self { second: 0, text: String::new() }
    }

    /// Appends `2026-01-02T03:04:05.678Z`.
    pub(super) fn write(&mut self, to: &mut Vec<u8>, at: UnixMillis) {
        let (second, millis) = (at.0 / 1000, at.0 % 1000);
        if self.text.is_empty() || self.second != second {
            let text = Rfc3339(at).to_string();
            // A time that the calendar does not hold has other milliseconds than its own.
            let Some(whole) = text.strip_suffix(&format!(".{millis:03}Z")) else {
                return to.extend_from_slice(text.as_bytes());
            };
            (self.second, self.text) = (second, whole.to_owned());
        }
        to.extend_from_slice(self.text.as_bytes());
        let digit = |value: u64| b'0' + (value % 10) as u8;
        to.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
    }
}

/// `2026-01-02T03:04:05.678Z`.
struct Rfc3339(UnixMillis);

impl Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0.0).unwrap_or(i64::MAX);
        // A time that the calendar does not hold (after the year 9999) is written as the last one that it does.
        let at = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{at:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_what_the_calendar_says() {
        let mut stamp = Stamp::new();
        let last = u64::try_from(jiff::Timestamp::MAX.as_millisecond()).unwrap();
        let now = 1_767_323_045_678;
        let times =
            [0, 1, 999, 1000, now, now + 1, now + 321, now + 322, now, last - 1, last, last + 1, last + 1999];
        for at in times.into_iter().chain([u64::MAX - 1, u64::MAX, 7, now]) {
            let mut text = Vec::new();
            stamp.write(&mut text, UnixMillis(at));
            assert_eq!(String::from_utf8(text).unwrap(), Rfc3339(UnixMillis(at)).to_string(), "{at}");
        }
    }
}
