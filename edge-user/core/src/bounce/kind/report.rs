//! What machine-readable reports say: of which kind a bounce is; and for the log, their type, status and who reports
//! (RFC 3464, 5965, 6522, 6533). Each report is read once for both.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::mime::{Fields, Part};
use super::{Kind, Told, VISIBLE};
use crate::bounce::names::is;

/// Characters of each value that are kept.
const VALUE_CHARS_MAX: usize = 128;

/// What a message's machine-readable part says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `report-type` of `multipart/report` (RFC 6522).
    pub kind: Option<String>,
    /// The first `Status` field (RFC 3464 section 2.3.4).
    pub status: Option<String>,
    /// The `Reporting-MTA` field (RFC 3464 section 2.2.2).
    pub reporting_mta: Option<String>,
}

/// What the reports among a message's parts say, gathered part by part.
#[derive(Debug, Default)]
pub(super) struct Reports {
    report: Report,
    by_action: Option<Kind>,
    by_status: Option<Kind>,
}

impl Reports {
    /// Takes the next part.
    pub(super) fn take(&mut self, part: &Part<'_>) {
        if part.media_type == "multipart/report" && self.report.kind.is_none() {
            self.report.kind = part.report_type().and_then(|kind| clean(kind.trim()));
        }
        if !is_report(&part.media_type) {
            return;
        }
        let is_delivery = DELIVERY_STATUS.contains(&part.media_type.as_ref());
        // The first of each: that is the first recipient's status. Of what tells the kind, the worst.
        for (name, value) in all_fields(&part.contents()) {
            if is(name, b"status") {
                let value = trimmed(value);
                first(&mut self.report.status, &value);
                if is_delivery {
                    worst(&mut self.by_status, of_status(&value));
                }
            } else if is_delivery && is(name, b"action") {
                worst(&mut self.by_action, of_action(&trimmed(value)));
            } else if is(name, b"reporting-mta") {
                first(&mut self.report.reporting_mta, &trimmed(value));
            } else {
                continue;
            }
            if self.are_settled() {
                return;
            }
        }
    }

    /// Whether nothing that follows can change anything.
    pub(super) fn are_settled(&self) -> bool {
        let Report { kind, status, reporting_mta } = &self.report;
        self.by_action == Some(WORST) && kind.is_some() && status.is_some() && reporting_mta.is_some()
    }

    /// The worst that delivery reports say of any recipient (RFC 3464 section 2.3.3).
    pub(super) fn told(&self) -> Option<Told> {
        let by_action = self.by_action.map(|kind| Told::certain(kind, "Action"));
        by_action.or_else(|| self.by_status.map(|kind| Told::likely(kind, "Status")))
    }

    /// For the log. `None`: they say nothing.
    pub(super) fn report(self) -> Option<Report> {
        (self.report != Report::default()).then_some(self.report)
    }
}

fn first(place: &mut Option<String>, value: &str) {
    if place.is_none() {
        *place = clean(value);
    }
}

/// The first of the kinds that a delivery report can tell. In their order, a failure is before a delay, and a delay before
/// a success.
const WORST: Kind = Kind::Failure;

fn worst(place: &mut Option<Kind>, kind: Option<Kind>) {
    *place = place.iter().copied().chain(kind).min();
}

/// RFC 3464 section 2.3.3.
fn of_action(value: &str) -> Option<Kind> {
    let action = value.split_ascii_whitespace().next()?;
    let action = action.as_bytes();
    match () {
        () if is(action, b"failed") => Some(Kind::Failure),
        () if is(action, b"delayed") => Some(Kind::Delay),
        () if is(action, b"delivered") || is(action, b"relayed") || is(action, b"expanded") => {
            Some(Kind::Success)
        }
        () => None,
    }
}

/// RFC 3463 section 3.1: the class.
fn of_status(value: &str) -> Option<Kind> {
    match value.as_bytes() {
        [b'5', b'.', ..] => Some(Kind::Failure),
        [b'4', b'.', ..] => Some(Kind::Delay),
        [b'2', b'.', ..] => Some(Kind::Success),
        _ => None,
    }
}

/// Whether a part of this type is machine-readable: `message/delivery-status`, its international form (RFC 6533), ...
fn is_report(media_type: &str) -> bool {
    [DELIVERY_STATUS, FEEDBACK_REPORT, DISPOSITION].iter().any(|types| types.contains(&media_type))
}

/// Types of delivery reports.
pub(super) const DELIVERY_STATUS: &[&str] = &["message/delivery-status", "message/global-delivery-status"];

/// Types of complaints.
pub(super) const FEEDBACK_REPORT: &[&str] = &["message/feedback-report"];

/// Types of receipts.
pub(super) const DISPOSITION: &[&str] =
    &["message/disposition-notification", "message/global-disposition-notification"];

/// Groups of fields in a report that are read: one for the message, one for each recipient (RFC 3464 section 2.1).
const GROUPS_MAX: usize = 64;

/// The fields of all groups of a report.
pub(super) fn all_fields(contents: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut group = Fields::of(contents.trim_ascii_start());
    let (mut groups, mut is_empty) = (1, true);
    std::iter::from_fn(move || {
        loop {
            if let Some(field) = group.next() {
                is_empty = false;
                return Some(field);
            }
            // A line that is no field: the rest is none of a report's.
            if is_empty || groups == GROUPS_MAX {
                return None;
            }
            group = Fields::of(group.behind().unwrap_or_default().trim_ascii_start());
            (groups, is_empty) = (groups + 1, true);
        }
    })
}

/// A value as text, without what is white around it.
fn trimmed(value: &[u8]) -> Cow<'_, str> {
    let inside = value.trim_ascii();
    if let Some(text) = VISIBLE.text(inside) {
        return Cow::Borrowed(text);
    }
    // Only where white space of Unicode may stand around it is it looked for.
    let is_plain =
        inside.first().is_some_and(u8::is_ascii_graphic) && inside.last().is_some_and(u8::is_ascii_graphic);
    match str::from_utf8(inside) {
        Ok(text) if is_plain => Cow::Borrowed(text),
        Ok(_) | Err(_) => Cow::Owned(String::from_utf8_lossy(value).trim().to_owned()),
    }
}

/// A value fit for a line of log: visible, short, and not empty.
fn clean(value: &str) -> Option<String> {
    // Nearly all are of this kind.
    let value = if VISIBLE.len_in(value.as_bytes()) == value.len() {
        value[..value.len().min(VALUE_CHARS_MAX)].to_owned()
    } else {
        value.chars().filter(|character| !character.is_control()).take(VALUE_CHARS_MAX).collect()
    };
    (!value.is_empty()).then_some(value)
}
