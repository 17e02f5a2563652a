//! Lengths of time as people write and read them.

use std::time::Duration;

/// Reads `90s`, `15m`, `1h` or `7d`.
///
/// # Errors
/// It is none of these.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let refuse = || format!("`{text}` is no length of time: write 90s, 15m, 1h or 7d");
    let unit = text.chars().next_back().ok_or_else(refuse)?;
    let secs: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(refuse()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| refuse())?;
    match number.checked_mul(secs) {
        None | Some(0) => Err(refuse()),
        Some(secs) => Ok(Duration::from_secs(secs)),
    }
}

/// Writes the two largest units: `45 s`, `3 min 20 s`, `2 h 5 min`, `12 d 1 h`.
pub(super) fn duration(secs: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let Some(first) = units.iter().position(|(size, _)| secs >= *size) else { return "0 s".into() };
    let (size, name) = units[first];
    let whole = format!("{} {name}", secs / size);
    match units.get(first + 1) {
        Some((below, name)) if secs % size / below > 0 => format!("{whole} {} {name}", secs % size / below),
        Some(_) | None => whole,
    }
}

/// Writes a number with its thousands apart: `1,234,567`.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_read_as_they_are_written() {
        for (text, secs) in [("90s", 90), ("15m", 900), ("1h", 3600), ("7d", 604_800)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(secs)));
        }
        for text in ["", "s", "1", "1w", "-1h", "0s", "1h30m", "1é", "18446744073709551615d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_of_time_show_their_two_largest_units() {
        for (secs, text) in
            [(0, "0 s"), (45, "45 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (86_405, "1 d")]
        {
            assert_eq!(duration(secs), text);
        }
    }

    #[test]
    fn thousands_stand_apart() {
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(value), text);
        }
    }
}
