//! What a machine-readable report says, for the log: its type, its status and who reports (RFC 3464, 5965, 6522, 6533).

use serde::{Deserialize, Serialize};

use super::mime::{Part, section};

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

impl Report {
    /// Of the first report among the parts. `None`: it says nothing.
    pub(super) fn of(parts: &[Part<'_>]) -> Option<Self> {
        let mut report = Self::default();
        for part in parts {
            if part.media_type == "multipart/report" && report.kind.is_none() {
                report.kind = part.parameter("report-type").and_then(|kind| clean(kind.as_bytes()));
            }
            if !is_report(&part.media_type) {
                continue;
            }
            let contents = part.contents();
            // The first of each: that is the first recipient's status.
            for (name, value) in all_fields(&contents) {
                let place = match name {
                    _ if name.eq_ignore_ascii_case(b"Status") => &mut report.status,
                    _ if name.eq_ignore_ascii_case(b"Reporting-MTA") => &mut report.reporting_mta,
                    _ => continue,
                };
                if place.is_none() {
                    *place = clean(value);
                }
            }
        }
        (report != Self::default()).then_some(report)
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
    let mut rest = contents;
    let groups = (0..GROUPS_MAX).map_while(move |_| {
        let (fields, behind) = section(rest.trim_ascii_start());
        // A line that is no field: the rest is none of a report's.
        let behind = behind.unwrap_or_default();
        let goes_on = !fields.is_empty() && behind.len() < rest.len();
        rest = behind;
        goes_on.then_some(fields)
    });
    groups.flatten()
}

/// A value fit for a line of log: visible, short, and not empty.
fn clean(value: &[u8]) -> Option<String> {
    let value: String = String::from_utf8_lossy(value)
        .trim()
        .chars()
        .filter(|character| !character.is_control())
        .take(VALUE_CHARS_MAX)
        .collect();
    (!value.is_empty()).then_some(value)
}
