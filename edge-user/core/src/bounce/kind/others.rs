//! The kinds that are no bounces, each by what its standard gives it.

use super::mime::Part;
use super::report::{DISPOSITION, FEEDBACK_REPORT, all_fields};
use super::signs::Signs;
use super::{Kind, Told, reported, words};

/// Methods of a calendar object that is sent about (RFC 5546 section 1.4).
const CALENDAR_METHODS: [&str; 8] =
    ["publish", "request", "reply", "add", "cancel", "refresh", "counter", "declinecounter"];

/// Octets of a calendar part that are searched for its beginning and method.
const CALENDAR_BYTES_MAX: usize = 4096;

/// A kind that a part's type and contents tell. Nothing in the message may speak for a bounce: a returned original is
/// allowed only where the kind's standard returns one. A report on a domain for which `is_ours` says no is of no kind.
pub(super) fn by_structure(signs: &Signs<'_, '_>, is_ours: &dyn Fn(&str) -> bool) -> Option<Told> {
    let told = of_structure(signs)?;
    let reports = told.kind == Kind::DmarcReport || told.kind == Kind::TlsReport;
    Some(if reports && !reported::are_ours(signs, is_ours) { Told::default() } else { told })
}

fn of_structure(signs: &Signs<'_, '_>) -> Option<Told> {
    if !signs.root.has_whole_header() || signs.speaks_for_a_bounce() || signs.looks_like_a_bounce() {
        return None;
    }
    let all = signs.parts.iter();
    // RFC 6522: the report's type stands outside, too.
    let is_report = |kind: &str| {
        all.clone().any(|part| {
            let named = part.report_type().is_some_and(|own| own.eq_ignore_ascii_case(kind));
            named && part.media_type == "multipart/report"
        })
    };
    let returning = all.clone().find_map(|part| {
        receipt(part, signs.says_failure())
            .filter(|_| is_report("disposition-notification"))
            .or_else(|| complaint(part).filter(|_| is_report("feedback-report")))
    });
    returning.or_else(|| {
        if signs.returns_an_original() {
            return microsofts_complaint(signs);
        }
        tls_report(signs)
            .or_else(|| dmarc_report(signs))
            .or_else(|| all.clone().find_map(calendar).filter(|_| !signs.is_from_postmaster()))
    })
}

/// RFC 8098 section 3.1: the part with a `Disposition`. What could not be shown (RFC 2298) is no receipt.
fn receipt(part: &Part<'_>, says_failure: bool) -> Option<Told> {
    if !DISPOSITION.contains(&part.media_type.as_ref()) {
        return None;
    }
    let contents = part.contents();
    let (_, value) = all_fields(&contents).find(|(name, _)| name.eq_ignore_ascii_case(b"Disposition"))?;
    let value = String::from_utf8_lossy(value).to_ascii_lowercase();
    let disposition = value.split_once(';')?.1.split(['/', ',']).next()?.trim();
    let known = ["displayed", "deleted", "dispatched", "processed", "denied"].contains(&disposition);
    // RFC 5429 section 2.2: Sieve's `reject` deletes, and says in words that it refused.
    let refused = disposition == "deleted" && says_failure;
    (known && !refused).then_some(Told::certain(Kind::Receipt, "Disposition"))
}

/// RFC 5965 section 3.1: the part with a `Feedback-Type`. RFC 6591: where authentication failed, it is DMARC's.
fn complaint(part: &Part<'_>) -> Option<Told> {
    if !FEEDBACK_REPORT.contains(&part.media_type.as_ref()) {
        return None;
    }
    let contents = part.contents();
    let (_, value) = all_fields(&contents).find(|(name, _)| name.eq_ignore_ascii_case(b"Feedback-Type"))?;
    let kind = match value.trim_ascii() {
        b"" => return None,
        value if value.eq_ignore_ascii_case(b"auth-failure") => Kind::DmarcReport,
        _ => Kind::Complaint,
    };
    Some(Told::certain(kind, "Feedback-Type"))
}

/// Microsoft's complaints (its Junk Mail Reporting Program) have no report: a message, and a field of theirs in it.
fn microsofts_complaint(signs: &Signs<'_, '_>) -> Option<Told> {
    let from = signs.root.value("From");
    let theirs = from.starts_with("staff@hotmail.com") || from.contains("<staff@hotmail.com>");
    let subject = signs.subject.trim_start().starts_with("complaint about message from ");
    (theirs && subject).then_some(Told::likely(Kind::Complaint, "Subject"))
}

/// RFC 8460 section 5.3: the report's own type; or its two fields, with a file of a report's type.
fn tls_report(signs: &Signs<'_, '_>) -> Option<Told> {
    if signs.parts.iter().any(reported::is_tls_file) {
        return Some(Told::certain(Kind::TlsReport, "application/tlsrpt"));
    }
    let fields = signs.root.has("TLS-Report-Domain") && signs.root.has("TLS-Report-Submitter");
    let told = Told::likely(Kind::TlsReport, "TLS-Report-Domain");
    (fields && signs.parts.iter().any(reported::is_file)).then_some(told)
}

/// RFC 7489 section 7.2.1.1: a file named as a report is; or a Subject written as a report's, with a file of its type.
fn dmarc_report(signs: &Signs<'_, '_>) -> Option<Told> {
    let mut files = signs.parts.iter().filter(|part| reported::is_file(part)).peekable();
    files.peek()?;
    if files.any(|part| part.file_name().is_some_and(|name| reported::is_dmarc_name(&name))) {
        return Some(Told::certain(Kind::DmarcReport, "filename"));
    }
    let subject = signs.subject.contains(reported::IN_SUBJECT) && signs.subject.contains("submitter:");
    subject.then_some(Told::likely(Kind::DmarcReport, "Subject"))
}

/// RFC 6047 section 2.4: `text/calendar` with its method, and RFC 5545's first line inside.
fn calendar(part: &Part<'_>) -> Option<Told> {
    if part.media_type != "text/calendar" {
        return None;
    }
    let contents = part.contents();
    let head = &contents[..contents.len().min(CALENDAR_BYTES_MAX)];
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    if !head.trim_start_matches(['\u{feff}', '\r', '\n', ' ']).starts_with("begin:vcalendar") {
        return None;
    }
    let is_method = |method: &str| CALENDAR_METHODS.contains(&method.trim().to_ascii_lowercase().as_str());
    if part.parameter("method").is_some_and(|method| is_method(&method)) {
        return Some(Told::certain(Kind::Calendar, "text/calendar"));
    }
    let inside = head.lines().find_map(|line| line.strip_prefix("method:"));
    inside.is_some_and(is_method).then_some(Told::likely(Kind::Calendar, "text/calendar"))
}

/// A kind that fields of the header section tell. Here words that speak for a bounce, or an original that comes back,
/// are enough to make it uncertain.
pub(super) fn by_fields(signs: &Signs<'_, '_>) -> Option<Told> {
    if !signs.root.has_whole_header() || signs.could_be_a_bounce() {
        return None;
    }
    auto_reply(signs).or_else(|| list(signs))
}

/// RFC 3834's field alone is not enough: mail systems give it to their bounces, too, and not every language's words are
/// known. What makes it a reply is that it answers a message by its fields, or what only such programs write.
fn auto_reply(signs: &Signs<'_, '_>) -> Option<Told> {
    if signs.speaks_of_transport() {
        return None;
    }
    let root = signs.root;
    let likely = |by| Some(Told::likely(Kind::AutoReply, by));
    let answers = root.has("In-Reply-To") || root.has("References");
    let mut subject = signs.subject.trim_start();
    while let Some(rest) = ["re:", "aw:", "sv:"].iter().find_map(|mark| subject.strip_prefix(mark)) {
        subject = rest.trim_start();
    }
    let in_subject = words::SUBJECT_AUTO_REPLY.iter().any(|word| subject.starts_with(word));
    // RFC 3834 section 5; parameters and comments may follow.
    let mut submitted = root.values("Auto-Submitted").filter(|value| value.starts_with("auto-replied"));
    if let Some(value) = submitted.next() {
        if answers {
            return Some(Told::certain(Kind::AutoReply, "Auto-Submitted"));
        }
        // RFC 5230 section 4.7: Sieve's comment. Apple's Mail program leaves a list so. The last is what `vacation` gives
        // since before the standard.
        let is_bulk = root.values("Precedence").any(|value| ["bulk", "junk"].contains(&value.as_str()));
        if value.contains("(vacation")
            || root.value("X-Apple-Unsubscribe") == "true"
            || in_subject
            || signs.says_away()
            || is_bulk && !signs.is_from_robot()
        {
            return likely("Auto-Submitted");
        }
    }
    // Older than the standard, and never agreed upon.
    let is_reply_field = |name: &str| {
        let named = ["x-autoreply", "x-auto-reply", "x-autorespon", "x-auto-respon", "x-vacation"];
        named.iter().any(|begin| name.starts_with(begin)) && name != "x-auto-response-suppress"
    };
    if root
        .names()
        .any(|name| is_reply_field(&name) && !["no", "false"].contains(&root.value(&name).as_str()))
    {
        return likely("X-Autoreply");
    }
    if ["Precedence", "Preference"].iter().any(|name| root.values(name).any(|value| value == "auto_reply")) {
        return likely("Precedence");
    }
    if root.value("X-Apple-Action") == "vacation" {
        return likely("X-Apple-Action");
    }
    if root.has("X-MS-Exchange-Inbox-Rules-Loop") {
        return likely("X-MS-Exchange-Inbox-Rules-Loop");
    }
    if in_subject && root.has("X-Auto-Response-Suppress") {
        return likely("X-Auto-Response-Suppress");
    }
    if in_subject && answers { likely("Subject") } else { None }
}

/// Parts of the addresses from which a list's robots write.
const LIST_ROBOTS: [&str; 8] =
    ["-owner@", "-bounces@", "-request@", "-admin@", "owner-", "majordomo@", "listserv@", "sympa@"];

/// RFC 2919: `List-Id`; RFC 2369: at least two of its fields. A list's own answer to a post is none of its mail.
fn list(signs: &Signs<'_, '_>) -> Option<Told> {
    let root = signs.root;
    if root.values("X-List-Administrivia").any(|value| value == "yes")
        || root.values("Auto-Submitted").any(|value| value.starts_with("auto-replied"))
        || root.has("In-Reply-To") && root.values("Auto-Submitted").any(|value| value != "no")
        || words::any(&LIST_ROBOTS, &root.value("From"))
    {
        return None;
    }
    if root.values("List-Id").any(|value| value.contains('<') && value.ends_with('>')) {
        return Some(Told::certain(Kind::List, "List-Id"));
    }
    let fields =
        ["List-Help", "List-Unsubscribe", "List-Subscribe", "List-Post", "List-Owner", "List-Archive"];
    let has =
        fields.iter().filter(|name| root.values(name).any(|value| value.contains("<") || value == "no"));
    (has.count() >= 2).then_some(Told::likely(Kind::List, "List-Unsubscribe"))
}
