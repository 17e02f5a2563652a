//! Which domains a DMARC or TLS report is about. One that is about none of the receiver's cannot be meant for him.
//!
//! A report names its domain in up to three places, and each that can be read must be the receiver's. What names none is
//! left as it is.

use super::mime::Part;
use super::report::{FEEDBACK_REPORT, all_fields};
use super::signs::Signs;
use crate::mailbox::canonical_domain;

/// Types under which reports are attached (RFC 7489 section 7.2.1.1 asks for `application/gzip` or `text/xml`).
const FILE_TYPES: [&str; 9] = [
    "application/gzip",
    "application/x-gzip",
    "application/zip",
    "application/x-zip",
    "application/x-zip-compressed",
    "application/octet-stream",
    "application/xml",
    "text/xml",
    "application/json",
];

/// Types that only TLS reports have (RFC 8460 section 5.3).
const TLS_TYPES: [&str; 2] = ["application/tlsrpt+gzip", "application/tlsrpt+json"];

/// Before the domain in a report's Subject, in lowercase (RFC 7489 section 7.2.1.1, RFC 8460 section 5.3).
pub(super) const IN_SUBJECT: &str = "report domain:";

/// How a DMARC report's file name ends, and a TLS report's, before what says how it is packed.
const FORMS: [&str; 2] = [".xml", ".json"];

pub(super) fn is_file(part: &Part<'_>) -> bool {
    FILE_TYPES.contains(&part.media_type.as_ref())
}

pub(super) fn is_tls_file(part: &Part<'_>) -> bool {
    TLS_TYPES.contains(&part.media_type.as_ref())
}

/// Whether a file is named as a DMARC report is.
pub(super) fn is_dmarc_name(name: &str) -> bool {
    domain_in_name(name, FORMS[0]).is_some()
}

/// Whether all domains that the report says it is about are the receiver's. `is_ours` is asked with lowercase A-labels.
pub(super) fn are_ours(signs: &Signs<'_, '_>, is_ours: &dyn Fn(&str) -> bool) -> bool {
    let files = signs.parts.iter().filter(|part| is_file(part) || is_tls_file(part));
    let names = files.filter_map(Part::file_name);
    let in_names =
        names.flat_map(|name| FORMS.into_iter().filter_map(move |form| domain_in_name(&name, form)));
    let in_subject =
        signs.subject.split_once(IN_SUBJECT).and_then(|(_, rest)| rest.split_ascii_whitespace().next());
    // RFC 5965 section 3.2, for reports of one failure (RFC 6591).
    let failures = signs.parts.iter().filter(|part| FEEDBACK_REPORT.contains(&part.media_type.as_ref()));
    let in_failures = failures.flat_map(|part| {
        let contents = part.contents();
        let fields = all_fields(&contents).filter(|(name, _)| name.eq_ignore_ascii_case(b"Reported-Domain"));
        fields.map(|(_, value)| String::from_utf8_lossy(value).trim().to_owned()).collect::<Vec<_>>()
    });
    let mut named = in_names
        .chain(in_subject.map(str::to_owned))
        .chain(signs.root.values("TLS-Report-Domain"))
        .chain(in_failures);
    named.all(|name| {
        let name = name.trim_matches(|character: char| !character.is_alphanumeric());
        // What is no domain's name is not about another's.
        canonical_domain(name).filter(|domain| domain.contains('.')).is_none_or(|domain| is_ours(&domain))
    })
}

/// The domain in a report's file name: `receiver!policy-domain!begin!end[!unique-id]`, then `form`, and how it is packed
/// (RFC 7489 section 7.2.1.1, RFC 8460 section 5.1; older ones are packed as `.zip`, and leave the form out).
fn domain_in_name(name: &str, form: &str) -> Option<String> {
    let name = name.trim().to_ascii_lowercase();
    let packed = [".gz", ".zip"].iter().find_map(|end| name.strip_suffix(end));
    let stem = packed.unwrap_or(&name).strip_suffix(form).or(packed)?;
    let is_domain = |text: &str| text.contains('.') && !text.contains(char::is_whitespace);
    let is_time = |text: &str| text.len() >= 9 && text.bytes().all(|octet| octet.is_ascii_digit());
    match stem.split('!').collect::<Vec<_>>()[..] {
        [receiver, domain, begin, end] | [receiver, domain, begin, end, _]
            if is_domain(receiver) && is_domain(domain) && is_time(begin) && is_time(end) =>
        {
            Some(domain.to_owned())
        }
        _ => None,
    }
}
