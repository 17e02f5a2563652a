//! The demo's result for eyes.

use std::fmt::Write as _;

use lab::cases::Case;
use lab::mass::Outcome;
use load::summary::Latency;

/// The table, and below it what it does not show.
pub(super) fn render(cases: &[Case], outcome: &Outcome, mode: &str) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\n{:26}{:>10}{:>12}{:>18}{:>17}",
        "", "sent", "delivered", "stopped at SMTP", "dropped at NIC"
    );
    for case in cases {
        let _ = writeln!(
            text,
            "{:26}{:>10}{:>12}{:>18}{:>17}",
            case.name,
            number(case.sent),
            number(case.delivered),
            number(case.stopped_smtp),
            number(case.dropped_nic)
        );
    }
    let summary = &outcome.ledger.summary;
    let forged = summary.forged;
    let _ = writeln!(
        text,
        "\nHonest mail, from the first SYN to 250:\n  before the flood {}\n  during the flood {}",
        latency(summary.honest_ms.before),
        latency(summary.honest_ms.during)
    );
    let _ = writeln!(
        text,
        "\nNIC (XDP, {mode}): {} packets dropped, {} passed; half of the bots were shut out within {:.1} s, the last \
         after {:.1} s",
        number(outcome.packets_dropped()),
        number(outcome.packets("pass")),
        seconds(summary.bots.shut_out_p50_ms),
        seconds(summary.bots.shut_out_max_ms)
    );
    let banned = outcome.banned.len();
    let servers = outcome.reflectors.iter().filter(|source| outcome.banned.contains_key(*source)).count();
    let _ = writeln!(
        text,
        "Banned: {} sources, {servers} of them mail servers. Tries of {} forged bounces: {}. SYNs sent again: {}.",
        number(banned as u64),
        number(forged.sent),
        number(forged.tries),
        summary.syn_retries.map_or_else(|| "unknown".into(), number)
    );
    text
}

fn latency(latency: Latency) -> String {
    let Latency { count, p50, p99, max } = latency;
    format!("p50 {p50:7.1} ms   p99 {p99:7.1} ms   longest {max:7.1} ms   ({count} messages)")
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

/// With a comma at each thousand.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_comma_at_each_thousand() {
        let shown = [0, 999, 1000, 20_000, 1_234_567].map(number);
        assert_eq!(shown, ["0", "999", "1,000", "20,000", "1,234,567"]);
    }
}
