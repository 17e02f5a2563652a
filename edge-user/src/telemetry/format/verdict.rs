//! A verdict as one sentence. Each message has one, so it is put together from its pieces, without `write!`, which costs
//! several times as much.

use std::io::Write as _;
use std::net::IpAddr;

use edge_core::bounce::Confidence;
use edge_core::policy::Action;
use edge_core::signature::Proof;
use serde::Serialize;

use super::Plain;
use crate::telemetry::Why;
use crate::telemetry::event::{Direction, VerdictLine};

/// Writes verdicts.
#[derive(Debug, Default)]
pub(super) struct Sentences {
    actions: Names<Action>,
    reasons: Names<Why>,
    proofs: Names<Proof>,
    confidences: Names<Confidence>,
}

impl Sentences {
    /// Appends one.
    pub(super) fn write(&mut self, to: &mut Vec<u8>, line: &VerdictLine) {
        text(
            to,
            match (line.direction, line.sender.is_empty()) {
                (Direction::Inbound, true) => "bounce ",
                (Direction::Inbound, false) => "mail ",
                (Direction::Outbound, _) => "outgoing ",
            },
        );
        number(to, line.reply.into());
        if let Some(action) = line.action {
            text(to, " ");
            self.actions.write(to, action);
        }
        text(to, " ");
        self.reasons.write(to, line.reason);
        if let Some(proof) = line.proof {
            text(to, " by ");
            self.proofs.write(to, proof);
        }
        if let Some(filter) = line.filter {
            text(to, " filter ");
            number(to, filter as u64);
        }
        if let Some(id) = &line.quarantine {
            text(to, " as ");
            text(to, id);
        }
        text(to, " from ");
        address(to, line.source);
        text(to, " <");
        plain(to, &line.sender);
        text(to, "> to <");
        plain(to, &line.recipient);
        text(to, ">");
        // `to` before each: one search finds a recipient in whichever place.
        for recipient in &line.also_to {
            text(to, ", to <");
            plain(to, recipient);
            text(to, ">");
        }
        let unnamed = line.recipients.saturating_sub(1 + line.also_to.len());
        if unnamed > 0 {
            text(to, " and ");
            number(to, unnamed as u64);
            text(to, " more");
        }
        text(to, ", ");
        number(to, line.bytes);
        text(to, " bytes");
        self.reading(to, line);
    }

    fn reading(&mut self, to: &mut Vec<u8>, line: &VerdictLine) {
        let Some(reading) = &line.reading else { return };
        text(to, ", ");
        text(to, reading.kind.name());
        if reading.confidence != Confidence::None {
            text(to, " (");
            self.confidences.write(to, reading.confidence);
            text(to, " by ");
            text(to, reading.told_by);
            text(to, ")");
        }
        let Some(report) = &reading.report else { return };
        for word in [&report.kind, &report.status, &report.reporting_mta].into_iter().flatten() {
            text(to, ", ");
            plain(to, word);
        }
    }
}

/// The names under which serde knows variants without fields, so that words are the same in both formats. Each is asked
/// for once: there are no more than variants.
#[derive(Debug)]
struct Names<T>(Vec<(T, String)>);

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Serialize + Copy + PartialEq> Names<T> {
    fn write(&mut self, to: &mut Vec<u8>, variant: T) {
        let place = self.0.iter().position(|(own, _)| *own == variant).unwrap_or_else(|| {
            self.0.push((variant, super::Name(variant).to_string()));
            self.0.len() - 1
        });
        text(to, &self.0[place].1);
    }
}

fn text(to: &mut Vec<u8>, text: &str) {
    to.extend_from_slice(text.as_bytes());
}

/// What a stranger may have written.
fn plain(to: &mut Vec<u8>, value: &str) {
    if super::is_plain(value) {
        text(to, value);
    } else {
        // Writing to a Vec cannot fail.
        let _ = write!(to, "{}", Plain(value));
    }
}

fn number(to: &mut Vec<u8>, mut value: u64) {
    let mut digits = [b'0'; 20];
    let mut begin = digits.len();
    loop {
        begin -= 1;
        digits[begin] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break to.extend_from_slice(&digits[begin..]);
        }
    }
}

fn address(to: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (place, octet) in v4.octets().into_iter().enumerate() {
                if place > 0 {
                    text(to, ".");
                }
                number(to, octet.into());
            }
        }
        IpAddr::V6(v6) => {
            let _ = write!(to, "{v6}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use edge_core::bounce::{Kind, Reading, Report};
    use edge_core::message::Refusal;
    use edge_core::policy::Reason;
    use edge_core::time::UnixMillis;

    use super::*;
    use crate::telemetry::format::{Name, Plain};

    /// The same sentence by `write!`.
    fn plainly(line: &VerdictLine) -> String {
        let mut all = String::new();
        let way = match (line.direction, line.sender.is_empty()) {
            (Direction::Inbound, true) => "bounce",
            (Direction::Inbound, false) => "mail",
            (Direction::Outbound, _) => "outgoing",
        };
        let mut say = |said: std::fmt::Arguments<'_>| all.write_fmt(said).unwrap();
        say(format_args!("{way} {}", line.reply));
        line.action.iter().for_each(|action| say(format_args!(" {}", Name(action))));
        say(format_args!(" {}", Name(&line.reason)));
        line.proof.iter().for_each(|proof| say(format_args!(" by {}", Name(proof))));
        line.filter.iter().for_each(|filter| say(format_args!(" filter {filter}")));
        line.quarantine.iter().for_each(|id| say(format_args!(" as {id}")));
        say(format_args!(" from {} <{}> to <{}>", line.source, Plain(&line.sender), Plain(&line.recipient)));
        line.also_to.iter().for_each(|also| say(format_args!(", to <{}>", Plain(also))));
        let unnamed = line.recipients.saturating_sub(1 + line.also_to.len());
        if unnamed > 0 {
            say(format_args!(" and {unnamed} more"));
        }
        say(format_args!(", {} bytes", line.bytes));
        if let Some(reading) = &line.reading {
            say(format_args!(", {}", reading.kind.name()));
            if reading.confidence != Confidence::None {
                say(format_args!(" ({} by {})", Name(reading.confidence), reading.told_by));
            }
            if let Some(Report { kind, status, reporting_mta }) = &reading.report {
                let words = [kind, status, reporting_mta].into_iter().flatten();
                words.for_each(|word| say(format_args!(", {}", Plain(word))));
            }
        }
        all
    }

    fn lines() -> Vec<VerdictLine> {
        let strange = "a\\b\n\u{1b}[2J\u{202e}é'\"@example.jp";
        let mut all = Vec::new();
        for place in 0..200_usize {
            let odd = |by: usize| place / by % 2 == 1;
            let recipient = if odd(3) { strange } else { "user@example.jp" };
            let report = Report {
                kind: odd(1).then(|| "delivery-status".into()),
                status: odd(2).then(|| "5.1.1".into()),
                reporting_mta: odd(4).then(|| strange.into()),
            };
            let confidence = [Confidence::None, Confidence::Likely, Confidence::Certain][place % 3];
            all.push(VerdictLine {
                at: UnixMillis(0),
                source: ["192.0.2.7", "10.0.0.255", "2001:db8::1", "::ffff:1.2.3.4"][place % 4]
                    .parse()
                    .unwrap(),
                sender: if odd(5) { String::new() } else { format!("ann{place}@far.example") },
                recipient: recipient.into(),
                also_to: vec![recipient.to_owned(); place % 3],
                recipients: place % 30,
                direction: if odd(7) { Direction::Outbound } else { Direction::Inbound },
                action: [None, Some(Action::Monitor), Some(Action::Discard), Some(Action::Reject)][place % 4],
                reason: [
                    Why::Accepted,
                    Why::Refused(Refusal::ByUpstream),
                    Why::Judged(Reason::Unproven),
                    Why::Judged(Reason::KindRule),
                    Why::Refused(Refusal::TooBig),
                ][place % 5],
                proof: [None, Some(Proof::Tag), Some(Proof::Token), Some(Proof::Record)][place / 2 % 4],
                filter: odd(6).then_some(place * 7),
                quarantine: odd(8).then(|| "4d2c81f0a3".into()),
                reply: [250, 550, 451, 0, u16::MAX][place % 5],
                bytes: [0, 9, 10, 4096, 1_000_000, u64::MAX][place % 6],
                reading: odd(2).then(|| Reading {
                    kind: Kind::ALL[place % Kind::ALL.len()],
                    confidence,
                    told_by: "Action",
                    report: odd(4).then_some(report),
                }),
            });
        }
        all
    }

    #[test]
    fn a_sentence_of_pieces_is_the_one_that_would_be_written() {
        let mut sentences = Sentences::default();
        for line in lines() {
            let mut text = Vec::new();
            sentences.write(&mut text, &line);
            assert_eq!(String::from_utf8(text).unwrap(), plainly(&line));
        }
    }
}
