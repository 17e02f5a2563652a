//! How an event looks: a line for eyes, or a JSON object.

mod stamp;
mod verdict;

use std::fmt::{self, Display, Write as _};
use std::io::Write as _;

use edge_core::time::UnixMillis;
use serde::Serialize;

use super::event::{Event, Level};
use crate::config::LogFormat;
use stamp::Stamp;
use verdict::Sentences;

/// Writes lines, and remembers what is the same in many.
#[derive(Debug)]
pub(super) struct Lines {
    format: LogFormat,
    stamp: Stamp,
    sentences: Sentences,
    /// A time, before it is written into a line.
    at: Vec<u8>,
}

impl Lines {
    pub(super) fn new(format: LogFormat) -> Self {
        Self { format, stamp: Stamp::new(), sentences: Sentences::default(), at: Vec::new() }
    }

    /// Appends one line, newline included.
    pub(super) fn add(&mut self, to: &mut Vec<u8>, at: UnixMillis, event: &Event) {
        match self.format {
            LogFormat::Human => self.human(to, at, event),
            LogFormat::Json => self.json(to, at, event),
        }
        to.push(b'\n');
    }

    fn json(&mut self, to: &mut Vec<u8>, at: UnixMillis, event: &Event) {
        #[derive(Serialize)]
        struct Line<'a> {
            at: &'a str,
            level: Level,
            #[serde(flatten)]
            event: &'a Event,
        }
        self.at.clear();
        self.stamp.write(&mut self.at, at);
        let at = str::from_utf8(&self.at).expect("a time is ASCII");
        let line = Line { at, level: event.level(), event };
        serde_json::to_writer(to, &line)
            .expect("an event has only string keys and no failing serializer, and a Vec takes all");
    }

    fn human(&mut self, to: &mut Vec<u8>, at: UnixMillis, event: &Event) {
        self.stamp.write(to, at);
        to.extend_from_slice(match event.level() {
            Level::Error => b" ERROR ",
            Level::Warn => b" WARN ",
            Level::Info | Level::Debug => b" ",
        });
        match event {
            Event::Verdict(line) => self.sentences.write(to, line),
            // Writing to a Vec cannot fail.
            event => drop(write!(to, "{}", Human(event))),
        }
    }
}

/// An event in words.
struct Human<'a>(&'a Event);

impl Display for Human<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Event::Verdict(line) => {
                let mut sentence = Vec::new();
                Sentences::default().write(&mut sentence, line);
                f.write_str(&String::from_utf8_lossy(&sentence))
            }
            Event::Started { version, inbound, outbound, xdp } => {
                write!(
                    f,
                    "started backstop {version}: inbound {}, outbound {}, xdp {xdp}",
                    List(inbound),
                    List(outbound)
                )
            }
            Event::Stopping { signal } => write!(f, "stopping on {signal}: open transactions may end"),
            Event::Stopped {} => write!(f, "stopped"),
            Event::XdpAttached { interface, mode, adopted, watch } => {
                let how = if *adopted { "adopted" } else { "attached" };
                let watch =
                    if *watch { ", watch mode: it drops nothing and counts what it would" } else { "" };
                write!(f, "xdp {how} at {interface}, {mode}{watch}")
            }
            Event::BansAdopted { bans } => write!(f, "bans adopted from the kernel: {bans}"),
            Event::Ban { source, cause, secs, at_nic } => {
                let place = if *at_nic { "at the NIC" } else { "at SMTP only" };
                write!(f, "ban {source} for {secs} s, {}, {place}", Name(cause))
            }
            Event::BanFailed { source, error } => {
                write!(f, "ban {source} failed at the NIC: {}", Plain(error))
            }
            Event::NicDrop { source, reason } => write!(f, "nic {reason} {source} (sampled)"),
            Event::BanLifted { source } => write!(f, "ban lifted {source}"),
            Event::FloodBegin { unproven } => write!(f, "flood begins: {unproven} unproven bounces so far"),
            Event::FloodEnd { secs, unproven } => {
                write!(f, "flood over after {secs} s: {unproven} unproven bounces")
            }
            Event::InDoubt { upstream, recipient } => write!(
                f,
                "in doubt: {upstream} died after the final dot, a message to {} may arrive twice",
                Plain(recipient)
            ),
            Event::UpstreamDown { upstream, error } => {
                write!(
                    f,
                    "upstream {upstream} down, its mail goes to another one or gets 4xx: {}",
                    Plain(error)
                )
            }
            Event::UpstreamUp { upstream } => write!(f, "upstream {upstream} up"),
            Event::TlsFailed { source, error } => {
                write!(f, "tls handshake with {source} failed: {}", Plain(error))
            }
            Event::UpstreamInClear { upstream, error, secs } => write!(
                f,
                "upstream {upstream} gets mail in clear for {secs} s, its TLS handshake failed: {}",
                Plain(error)
            ),
            Event::QuarantineFailed { error } => {
                write!(f, "quarantine takes nothing, bounces for it get 4xx: {}", Plain(error))
            }
            Event::QuarantineRecovered {} => write!(f, "quarantine takes messages again"),
            Event::QuarantineExpired { messages } => {
                write!(f, "quarantine: {messages} messages deleted, their time was over")
            }
            Event::EarlyToEnforce { newly_stopped, clean_days, clean_days_wanted, ours } => {
                write!(
                    f,
                    "EARLY TO ENFORCE: this stops {newly_stopped}, after {clean_days} of {clean_days_wanted} clean days \
                     (`backstop status --watch` says why)"
                )?;
                ours.iter().try_for_each(|ours| write!(f, "; looks like ours: {}", Plain(ours)))
            }
            Event::Reloaded { filters, keys } => write!(f, "reloaded: {filters} filters, {keys} keys"),
            Event::ReloadFailed { error } => {
                write!(f, "reload failed, all stays as it was: {}", Plain(error))
            }
            Event::Control { uid, request, outcome } => {
                write!(f, "control by uid {uid}: {}: {}", Plain(request), Plain(outcome))
            }
            Event::LinesLost { lines } => write!(f, "log: {lines} lines lost, its queue was full"),
            Event::Diagnostic { level: _, target, message } => write!(f, "{target}: {}", Plain(message)),
        }
    }
}

/// The name under which serde knows a variant without fields, so that words are the same in both formats.
struct Name<T>(T);

impl<T: Serialize> Display for Name<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.serialize(f)
    }
}

/// Text that a stranger may have written: what could move a terminal's cursor or begin a new line is escaped.
struct Plain<'a>(&'a str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nearly all text is of this kind, and is written in one piece.
        if is_plain(self.0) {
            return f.write_str(self.0);
        }
        for character in self.0.chars() {
            if character == '\'' || character == '"' {
                f.write_char(character)?;
            } else {
                // Escapes controls and what has no picture of its own, bidirectional marks among them.
                write!(f, "{}", character.escape_debug())?;
            }
        }
        Ok(())
    }
}

/// Whether nothing in it need be escaped.
fn is_plain(text: &str) -> bool {
    // Without a way out of the loop it takes many octets at once.
    text.bytes().fold(true, |all, octet| all & matches!(octet, b' '..=b'~') & (octet != b'\\'))
}

/// A list, or `none`.
struct List<'a, T>(&'a [T]);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (place, item) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { " " };
            write!(f, "{comma}{item}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use edge_core::bounce::{Confidence, Kind, Reading, Report};
    use edge_core::policy::{Action, Reason};

    use super::*;
    use crate::telemetry::Why;
    use crate::telemetry::event::{Direction, VerdictLine};

    fn bounce() -> VerdictLine {
        VerdictLine {
            at: UnixMillis(0),
            source: "198.18.0.7".parse().unwrap(),
            sender: String::new(),
            recipient: "user@example.jp".into(),
            also_to: Vec::new(),
            recipients: 1,
            direction: Direction::Inbound,
            action: Some(Action::Reject),
            reason: Why::Judged(Reason::Unproven),
            proof: None,
            filter: Some(0),
            quarantine: None,
            reply: 550,
            bytes: 4096,
            reading: Some(Reading {
                kind: Kind::Failure,
                confidence: Confidence::Certain,
                told_by: "Action",
                report: Some(Report {
                    kind: Some("delivery-status".into()),
                    status: Some("5.1.1".into()),
                    reporting_mta: None,
                }),
            }),
        }
    }

    fn rendered(format: LogFormat, event: Event) -> String {
        let mut to = Vec::new();
        Lines::new(format).add(&mut to, UnixMillis(1_767_323_045_678), &event);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn a_verdict_reads_as_one_sentence() {
        assert_eq!(
            rendered(LogFormat::Human, Event::Verdict(bounce())),
            "2026-01-02T03:04:05.678Z bounce 550 reject unproven filter 0 from 198.18.0.7 <> to <user@example.jp>, \
             4096 bytes, failure (certain by Action), delivery-status, 5.1.1\n"
        );
    }

    #[test]
    fn a_line_names_the_further_recipients_and_counts_those_that_it_does_not_name() {
        let also_to = vec!["ann@example.jp".to_owned(), "bob@example.jp".to_owned()];
        let mail = VerdictLine { also_to, recipients: 3, ..bounce() };
        let text = rendered(LogFormat::Human, Event::Verdict(mail.clone()));
        assert!(
            text.contains("to <user@example.jp>, to <ann@example.jp>, to <bob@example.jp>, 4096 bytes"),
            "{text}"
        );
        let text = rendered(LogFormat::Json, Event::Verdict(mail.clone()));
        assert!(text.contains(r#""also_to":["ann@example.jp","bob@example.jp"],"recipients":3"#), "{text}");
        let many = VerdictLine { recipients: 25, ..mail };
        let text = rendered(LogFormat::Human, Event::Verdict(many));
        assert!(text.contains("to <bob@example.jp> and 22 more, 4096 bytes"), "{text}");
        let text = rendered(LogFormat::Json, Event::Verdict(bounce()));
        assert!(!text.contains("also_to"), "{text}");
    }

    #[test]
    fn a_json_line_has_time_level_and_event_beside_the_fields() {
        let text = rendered(LogFormat::Json, Event::Verdict(bounce()));
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (key, value) in [
            ("at", "2026-01-02T03:04:05.678Z"),
            ("level", "info"),
            ("event", "verdict"),
            ("action", "reject"),
            ("reason", "unproven"),
            ("recipient", "user@example.jp"),
            ("kind", "failure"),
            ("confidence", "certain"),
            ("told_by", "Action"),
        ] {
            assert_eq!(object[key], value, "{key} in {text}");
        }
    }

    #[test]
    fn a_json_line_says_nothing_twice() {
        let event = Event::Diagnostic { level: Level::Warn, target: "edge".into(), message: "odd".into() };
        let text = rendered(LogFormat::Json, event);
        assert_eq!(text.matches("\"level\":\"warn\"").count(), 1, "{text}");
    }

    #[test]
    fn a_stranger_cannot_write_a_line_of_his_own() {
        let mut forged = bounce();
        forged.recipient = "a\n2026 started\u{1b}[2J\u{202e}@example.jp".into();
        forged.also_to = vec![forged.recipient.clone()];
        for format in [LogFormat::Human, LogFormat::Json] {
            let text = rendered(format, Event::Verdict(forged.clone()));
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(!text.contains('\u{1b}'), "{text:?}");
        }
        assert!(!rendered(LogFormat::Human, Event::Verdict(forged)).contains('\u{202e}'));
    }
}
