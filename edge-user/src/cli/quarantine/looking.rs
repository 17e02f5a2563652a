//! Listing and showing: nothing is changed.

use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge_core::time::UnixMillis;
use serde_json::{Value, json};

use super::{Place, place};
use crate::cli::{Answer, output, print, print_json, words};
use crate::config::Config;
use crate::control::{QuarantineReply, QuarantineRequest};
use crate::engine::clock::system_now;
use crate::engine::quarantine::{self, Head, Id, Part, Row, Which};

#[derive(clap::Args, Debug)]
pub(super) struct List {
    /// Only messages to this address, or to this domain.
    #[arg(long, value_name = "WHO")]
    recipient: Option<String>,
    /// Only messages since then: 12h or 7d ago, or a time like 2026-01-31T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
}

#[derive(clap::Args, Debug)]
pub(super) struct Show {
    /// As `quarantine list` shows it.
    id: Id,
    /// Print the message alone, whole and as it is: for `backstop verify`, or another program.
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

/// A time, or how long ago it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Since {
    Ago(Duration),
    At(UnixMillis),
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = words::parse_duration(text) {
        return Ok(Since::Ago(ago));
    }
    let at: Option<jiff::Timestamp> = text.parse().ok();
    let at = at.and_then(|at| u64::try_from(at.as_millisecond()).ok());
    at.map(|at| Since::At(UnixMillis(at)))
        .ok_or_else(|| format!("`{text}` is no time: write 12h, 7d, or one like 2026-01-31T08:00:00Z"))
}

pub(super) fn list(list: List, config: &Config, json: bool) -> anyhow::Result<Answer> {
    let since = list.since.map(|since| match since {
        Since::Ago(ago) => system_now().minus(ago),
        Since::At(at) => at,
    });
    let messages = match place(config)? {
        Place::Daemon(mut daemon) => {
            let (recipient, since_ms) = (list.recipient, since.map(|since| since.0));
            let request = QuarantineRequest::List { recipient, since_ms };
            match daemon.ask_quarantine(request)? {
                QuarantineReply::Messages { messages } => messages,
                QuarantineReply::Part { .. }
                | QuarantineReply::Released { .. }
                | QuarantineReply::Deleted { .. }
                | QuarantineReply::NotThere { .. } => return Err(daemon.unexpected().into()),
            }
        }
        Place::Disk(shelf) => {
            let which = Which { recipient: list.recipient, since };
            quarantine::list(&shelf, &which)
                .with_context(|| format!("cannot read {}", shelf.dir().display()))?
        }
    };
    if json {
        let messages: Vec<Value> = messages.iter().map(object).collect();
        print_json(&json!({ "messages": messages }))?;
    } else if messages.is_empty() {
        print("no messages")?;
    } else {
        print(&table(&messages))?;
    }
    Ok(Answer::Yes)
}

fn table(messages: &[Row]) -> String {
    let mut rows = vec![["ID", "CAME", "FROM", "TO", "BYTES", "WHAT IT SAYS"].map(str::to_owned)];
    rows.extend(messages.iter().map(|row| {
        let of = |text: fn(&Head) -> String| row.head.as_ref().map(text).unwrap_or_default();
        let says = match &row.head {
            Some(head) => says(head),
            None => "damaged: its field Backstop-Quarantine cannot be read".into(),
        };
        let (from, to) = (of(|head| head.source.to_string()), of(|head| head.recipient.clone()));
        [row.id.clone(), time(row.at_ms), from, to, words::number(row.bytes), says].map(|cell| visible(&cell))
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 6]| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line += &format!("{cell:width$}  ");
        }
        line + &row[5] + "\n"
    };
    rows.iter().map(line).collect()
}

/// What it is and what its report says, in a few words.
fn says(head: &Head) -> String {
    let report = head.report.iter().flat_map(|report| [&report.status, &report.reporting_mta]);
    let words = std::iter::once(head.kind.name()).chain(report.flatten().map(String::as_str));
    words.collect::<Vec<_>>().join(", ")
}

/// A message for scripts.
fn object(row: &Row) -> Value {
    json!({ "id": row.id, "at": time(row.at_ms), "bytes": row.bytes, "damaged": row.head.is_none(), "head": row.head })
}

pub(super) fn show(show: &Show, config: &Config, json: bool) -> anyhow::Result<Answer> {
    let mut place = place(config)?;
    let Some(mut part) = part(&mut place, show.id, 0)? else {
        return not_there(show.id, json);
    };
    if show.raw {
        let mut offset = 0;
        while !part.octets.is_empty() {
            output::print_octets(&part.octets)?;
            offset += part.octets.len() as u64;
            let next = self::part(&mut place, show.id, offset)?;
            part = next.with_context(|| format!("{} was released or deleted meanwhile", show.id))?;
        }
        return Ok(Answer::Yes);
    }
    let header = header(&part.octets);
    if json {
        print_json(
            &json!({ "id": show.id.to_string(), "head": part.head, "bytes": part.total, "header": header }),
        )?;
    } else {
        print(&format!("{}\n{}", known(&part.head, part.total), visible(&header)))?;
    }
    Ok(Answer::Yes)
}

pub(super) fn not_there(id: Id, json: bool) -> anyhow::Result<Answer> {
    if json {
        print_json(&json!({ "id": id.to_string(), "there": false }))?;
    } else {
        print(&format!("{id} is not in the quarantine; `backstop quarantine list` shows what is"))?;
    }
    Ok(Answer::No)
}

fn part(place: &mut Place, id: Id, offset: u64) -> anyhow::Result<Option<Part>> {
    match place {
        Place::Daemon(daemon) => {
            let request = QuarantineRequest::Read { id: id.to_string(), offset };
            match daemon.ask_quarantine(request)? {
                QuarantineReply::Part { head, total, octets } => {
                    let octets = STANDARD.decode(octets).map_err(|_| daemon.unexpected())?;
                    Ok(Some(Part { head: *head, total, octets }))
                }
                QuarantineReply::NotThere { .. } => Ok(None),
                QuarantineReply::Messages { .. }
                | QuarantineReply::Released { .. }
                | QuarantineReply::Deleted { .. } => Err(daemon.unexpected().into()),
            }
        }
        Place::Disk(shelf) => {
            quarantine::read(shelf, id, offset).with_context(|| format!("cannot read {id}"))
        }
    }
}

/// The header section of a message on disk; of one that is longer than a part, what is in it.
fn header(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets);
    text.split_once("\n\n").map_or(&*text, |(header, _)| header).to_owned()
}

fn known(head: &Head, bytes: u64) -> String {
    let filter = head.filter.map(|place| format!(", by filter {place}")).unwrap_or_default();
    let lines = [
        ("came", time(head.at.0)),
        ("from", format!("{} ({})", head.source, head.client_name)),
        ("to", head.recipient.clone()),
        ("why", format!("{}{filter}", head.reason)),
        ("says", says(head)),
        ("bytes", words::number(bytes)),
    ];
    lines.iter().map(|(name, value)| format!("{name:6}{}\n", visible(value))).collect()
}

/// What a stranger wrote, without what could move a terminal's cursor.
fn visible(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

/// `2026-01-02T03:04:05Z`.
fn time(at_ms: u64) -> String {
    let millis = i64::try_from(at_ms).unwrap_or(i64::MAX);
    format!("{:.0}", jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_so_long_ago_or_a_date() {
        assert_eq!(since("2d"), Ok(Since::Ago(Duration::from_secs(172_800))));
        assert_eq!(since("1970-01-01T00:00:01Z"), Ok(Since::At(UnixMillis(1000))));
        for text in ["", "yesterday", "2026-01-31", "1960-01-01T00:00:00Z"] {
            assert!(since(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_table_has_its_columns_in_line_and_shows_no_control_characters() {
        let head: Head = serde_json::from_value(json!({
            "id": "1", "at_ms": 1000, "source": "192.0.2.7", "client_name": "x", "sender": "", "mail_params": "",
            "recipient": "a\u{1b}[2J@例え.jp", "rcpt_params": "", "reason": "unproven", "filter": 0,
            "report": { "kind": null, "status": "5.1.1", "reporting_mta": "dns; mx.far.example" },
        }))
        .unwrap();
        let rows = [
            Row { id: "ab12".into(), at_ms: 1000, bytes: 1234, head: Some(head) },
            Row { id: "1".into(), at_ms: 2000, bytes: 5, head: None },
        ];
        assert_eq!(
            table(&rows),
            "ID    CAME                  FROM       TO           BYTES  WHAT IT SAYS\n\
             ab12  1970-01-01T00:00:01Z  192.0.2.7  a\u{fffd}[2J@例え.jp  1,234  unknown, 5.1.1, dns; mx.far.example\n\
             1     1970-01-01T00:00:02Z                          5      damaged: its field Backstop-Quarantine \
             cannot be read\n"
        );
    }

    #[test]
    fn the_header_section_ends_at_the_first_empty_line() {
        assert_eq!(header(b"A: b\nC: d\n\nbody\n\nmore"), "A: b\nC: d");
        assert_eq!(header(b"A: b\n"), "A: b\n");
    }
}
