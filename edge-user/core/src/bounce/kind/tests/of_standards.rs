//! A message of each kind as its standard has it, and what is nearly one.

use super::*;
use Confidence::{Certain, Likely, None as Unsure};

/// A message with a null sender from a person's address, with these fields.
pub(super) fn with(fields: &str, body: &str) -> String {
    format!("From: Bob <bob@far.example>\r\nTo: ann@example.jp\r\n{fields}MIME-Version: 1.0\r\n\r\n{body}")
}

/// `multipart/KIND` with the parts given, each as its header and body.
fn multipart(fields: &str, kind: &str, parts: &[&str]) -> String {
    let parts: String = parts.iter().map(|part| format!("--b\r\n{part}\r\n")).collect();
    let fields = format!("{fields}Content-Type: multipart/{kind}; boundary=\"b\"\r\n");
    with(&fields, &format!("{parts}--b--\r\n"))
}

const TEXT: &str = "Content-Type: text/plain\r\n\r\nGood morning.\r\n";
const ORIGINAL: &str =
    "Content-Type: message/rfc822\r\n\r\nFrom: ann@example.jp\r\nSubject: Hello\r\n\r\nHello\r\n";
const RECEIPT: &str = "Content-Type: message/disposition-notification\r\n\r\n\
    Reporting-UA: far; mail\r\nFinal-Recipient: rfc822;bob@far.example\r\nOriginal-Message-ID: <1@example.jp>\r\n\
    Disposition: manual-action/MDN-sent-manually; displayed\r\n";
const COMPLAINT: &str = "Content-Type: message/feedback-report\r\n\r\n\
    Feedback-Type: abuse\r\nUser-Agent: far/1\r\nVersion: 1\r\n";
const CALENDAR: &str = "Content-Type: text/calendar; charset=utf-8; method=REPLY\r\n\r\n\
    BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REPLY\r\nEND:VCALENDAR\r\n";
const REPORT: &str = "Content-Type: application/gzip\r\nContent-Transfer-Encoding: base64\r\n\
    Content-Disposition: attachment;\r\n filename=\"far.example!example.jp!1795000000!1795086400.xml.gz\"\r\n\r\nH4sIAAA=\r\n";
const TLS: &str =
    "Content-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n\r\nH4sIAAA=\r\n";

fn status(action: &str) -> String {
    format!(
        "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns;mx.far.example\r\n\r\n\
         Final-Recipient: rfc822;bob@far.example\r\nAction: {action}\r\nStatus: 5.0.0\r\n"
    )
}

fn delivery_report(parts: &[&str]) -> String {
    multipart("", "report; report-type=delivery-status", parts)
}

#[test]
fn a_delivery_report_is_what_its_action_says_and_the_worst_of_several() {
    for (actions, kind) in [
        (&["failed"][..], Kind::Failure),
        (&["Failed"], Kind::Failure),
        (&["delayed"], Kind::Delay),
        (&["delivered"], Kind::Success),
        (&["relayed"], Kind::Success),
        (&["expanded (to a list)"], Kind::Success),
        (&["delivered", "failed", "delayed"], Kind::Failure),
        (&["delivered", "delayed"], Kind::Delay),
    ] {
        let reports: Vec<String> = actions.iter().map(|action| status(action)).collect();
        let parts: Vec<&str> =
            [TEXT].into_iter().chain(reports.iter().map(String::as_str)).chain([ORIGINAL]).collect();
        assert_eq!(kind_of(&delivery_report(&parts)), (kind, Certain), "{actions:?}");
        // Some systems put the parts into a multipart of another type, or into one that is within another.
        assert_eq!(kind_of(&multipart("", "mixed", &parts)), (kind, Certain), "{actions:?}, mixed");
    }
    let international = status("failed").replace("message/delivery", "message/global-delivery");
    assert_eq!(kind_of(&delivery_report(&[TEXT, &international])), (Kind::Failure, Certain));
    assert_eq!(
        kind_of(&delivery_report(&[TEXT, &status("unheard-of")])),
        (Kind::Failure, Likely),
        "by its Status"
    );
}

#[test]
fn a_message_is_of_its_kind_by_structure() {
    let mdn = |parts: &[&str]| multipart("", "report; report-type=disposition-notification", parts);
    let arf = |parts: &[&str]| multipart("", "report; report-type=feedback-report", parts);
    let failure = COMPLAINT.replace("abuse", "auth-failure");
    let headers = "Content-Type: text/rfc822-headers\r\n\r\nReceived: from a by b\r\nSubject: x\r\n";
    let xml = REPORT.replace("application/gzip", "text/xml").replace(".xml.gz", "!7.xml");
    let zip = REPORT.replace("gzip", "zip").replace(".xml.gz", ".zip");
    let inside = CALENDAR.replace("; method=REPLY", "");
    let rows = [
        ("receipt", mdn(&[TEXT, RECEIPT]), (Kind::Receipt, Certain)),
        ("receipt with its original", mdn(&[TEXT, RECEIPT, ORIGINAL]), (Kind::Receipt, Certain)),
        ("receipt with a header section", mdn(&[TEXT, RECEIPT, headers]), (Kind::Receipt, Certain)),
        ("deleted", mdn(&[TEXT, &RECEIPT.replace("displayed", "deleted/error")]), (Kind::Receipt, Certain)),
        ("receipt without its report", mdn(&[TEXT]), (Kind::Unknown, Unsure)),
        ("failed", mdn(&[TEXT, &RECEIPT.replace("displayed", "failed")]), (Kind::Unknown, Unsure)),
        (
            "Sieve's reject",
            mdn(&[
                &TEXT.replace("Good morning", "It was automatically rejected"),
                &RECEIPT.replace("displayed", "deleted"),
            ]),
            (Kind::Unknown, Unsure),
        ),
        ("complaint", arf(&[TEXT, COMPLAINT, ORIGINAL]), (Kind::Complaint, Certain)),
        ("failure of DMARC", arf(&[TEXT, &failure, headers]), (Kind::DmarcReport, Certain)),
        (
            "complaint of no type",
            arf(&[TEXT, "Content-Type: message/feedback-report\r\n\r\nVersion: 1\r\n"]),
            (Kind::Unknown, Unsure),
        ),
        (
            "calendar",
            with(
                &CALENDAR
                    .replacen("Content", "X-A: b\r\nContent", 1)
                    .replace("\r\n\r\n", "\r\nX-C: d\r\n\r\n"),
                "",
            ),
            (Kind::Calendar, Certain),
        ),
        (
            "calendar beside a text",
            multipart("", "alternative", &[TEXT, CALENDAR]),
            (Kind::Calendar, Certain),
        ),
        ("calendar, method inside", multipart("", "mixed", &[TEXT, &inside]), (Kind::Calendar, Likely)),
        (
            "calendar without a method",
            multipart("", "mixed", &[TEXT, &inside.replace("METHOD:REPLY\r\n", "")]),
            (Kind::Unknown, Unsure),
        ),
        (
            "calendar in name only",
            multipart("", "mixed", &[TEXT, "Content-Type: text/calendar; method=REPLY\r\n\r\nx\r\n"]),
            (Kind::Unknown, Unsure),
        ),
        (
            "calendar with an original",
            multipart("", "mixed", &[TEXT, CALENDAR, ORIGINAL]),
            (Kind::Unknown, Unsure),
        ),
        ("DMARC", multipart("", "mixed", &[TEXT, REPORT]), (Kind::DmarcReport, Certain)),
        ("DMARC as XML", multipart("", "mixed", &[TEXT, &xml]), (Kind::DmarcReport, Certain)),
        ("DMARC in a zip", multipart("", "mixed", &[TEXT, &zip]), (Kind::DmarcReport, Certain)),
        (
            "DMARC alone",
            with(&REPORT.replace("\r\n\r\nH4sIAAA=\r\n", "\r\n"), "H4sIAAA=\r\n"),
            (Kind::DmarcReport, Certain),
        ),
        (
            "DMARC by Subject",
            multipart(
                "Subject: Report Domain: example.jp Submitter: far.example\r\n Report-ID: <7@far.example>\r\n",
                "mixed",
                &[TEXT, &REPORT.replace("far.example!example.jp!", "")],
            ),
            (Kind::DmarcReport, Likely),
        ),
        (
            "a Subject without a file",
            with("Subject: Report Domain: example.jp Submitter: far.example\r\n", "x"),
            (Kind::Unknown, Unsure),
        ),
        (
            "a file of another name",
            multipart("", "mixed", &[TEXT, &REPORT.replace('!', "-")]),
            (Kind::Unknown, Unsure),
        ),
        ("TLS", multipart("", "report; report-type=tlsrpt", &[TEXT, TLS]), (Kind::TlsReport, Certain)),
        (
            "TLS as it is",
            multipart("", "report; report-type=tlsrpt", &[TEXT, &TLS.replace("gzip", "json")]),
            (Kind::TlsReport, Certain),
        ),
        (
            "TLS by its fields",
            multipart(
                "TLS-Report-Domain: example.jp\r\nTLS-Report-Submitter: far.example\r\n",
                "mixed",
                &[TEXT, &REPORT.replace(".xml", ".json")],
            ),
            (Kind::TlsReport, Likely),
        ),
        (
            "TLS without a file",
            with("TLS-Report-Domain: example.jp\r\nTLS-Report-Submitter: far.example\r\n", "x"),
            (Kind::Unknown, Unsure),
        ),
    ];
    for (name, message, expected) in rows {
        assert_eq!(kind_of(&message), expected, "{name}:\n{message}");
    }
}

#[test]
fn a_report_on_a_domain_that_is_not_ours_is_of_no_kind() {
    let dmarc = |subject: &str, part: &str| multipart(subject, "mixed", &[TEXT, part]);
    let tls = |fields: &str, part: &str| multipart(fields, "report; report-type=tlsrpt", &[TEXT, part]);
    let unnamed = REPORT.replace("far.example!example.jp!", "");
    let json =
        TLS.replace("\r\n\r\n", "; name=\"far.example!example.jp!1795000000!1795086400!1.json.gz\"\r\n\r\n");
    let json = json.replace("\r\nContent-Transfer-Encoding: base64; name", "; name");
    let failure = COMPLAINT.replace("abuse", "auth-failure");
    let failure = format!("{failure}Reported-Domain: example.jp\r\n");
    let on = "Subject: Report domain: example.jp Submitter: far.example Report-ID: <7>\r\n";
    let fields = "TLS-Report-Domain: example.jp\r\nTLS-Report-Submitter: far.example\r\n";
    let reports = [
        ("DMARC by its file", dmarc("", REPORT), Kind::DmarcReport),
        ("DMARC by its Subject", dmarc(on, &unnamed), Kind::DmarcReport),
        (
            "DMARC, one failure",
            multipart("", "report; report-type=feedback-report", &[TEXT, &failure]),
            Kind::DmarcReport,
        ),
        ("TLS by its file", tls("", &json), Kind::TlsReport),
        ("TLS by its Subject", tls(on, TLS), Kind::TlsReport),
        ("TLS by its fields", tls(fields, TLS), Kind::TlsReport),
    ];
    // Other signs that it gives make it nothing else.
    let replies =
        "Auto-Submitted: auto-replied\r\nIn-Reply-To: <1@example.jp>\r\nList-Id: <a.far.example>\r\n";
    for (name, report, kind) in reports {
        for ours in ["example.jp", "Example.JP", "news.example.jp"] {
            let report = report.replace("example.jp", ours).replace("@Example.JP", "@example.jp");
            assert_eq!(kind_of(&report).0, kind, "{name} on {ours}:\n{report}");
        }
        for other in ["other.example", "notexample.jp", "jp.example"] {
            let report = report.replace("example.jp", other);
            for report in [&report, &format!("{replies}{report}")] {
                assert_eq!(kind_of(report), (Kind::Unknown, Unsure), "{name} on {other}:\n{report}");
            }
        }
    }
    let both = dmarc(on, &REPORT.replace("example.jp", "other.example"));
    assert_eq!(kind_of(&both), (Kind::Unknown, Unsure), "each that is named must be ours");
    assert_eq!(
        kind_of(&tls("", TLS)),
        (Kind::TlsReport, Certain),
        "and where none is, nothing speaks against it"
    );
}

#[test]
fn a_message_is_of_its_kind_by_fields() {
    let robot = with("List-Id: <cats.far.example>\r\n", "x\r\n").replace("bob@", "cats-owner@");
    assert_eq!(kind_of(&robot), (Kind::Unknown, Unsure), "a list's robot");
    let answers = "In-Reply-To: <1@example.jp>\r\n";
    let rows = [
        ("Auto-Submitted: auto-replied\r\n", Kind::AutoReply, Likely),
        ("Auto-Submitted: auto-replied\r\nIn-Reply-To: <1@example.jp>\r\n", Kind::AutoReply, Certain),
        (
            "Auto-Submitted: Auto-Replied (vacation)\r\nReferences: <1@example.jp>\r\n",
            Kind::AutoReply,
            Certain,
        ),
        ("Auto-Submitted: auto-replied; owner-email=\"ann@far.example\"\r\n", Kind::AutoReply, Likely),
        ("Auto-Submitted: auto-generated\r\n", Kind::Unknown, Unsure),
        ("Auto-Submitted: auto-generated\r\nX-Autoreply: yes\r\n", Kind::AutoReply, Likely),
        ("Auto-Submitted: auto-notified\r\n", Kind::Unknown, Unsure),
        ("Auto-Submitted: no\r\n", Kind::Unknown, Unsure),
        ("X-Autoreply: yes\r\n", Kind::AutoReply, Likely),
        ("X-Autoreply: no\r\n", Kind::Unknown, Unsure),
        ("X-Autoresponder: far\r\n", Kind::AutoReply, Likely),
        ("Precedence: auto_reply\r\n", Kind::AutoReply, Likely),
        ("Precedence: bulk\r\n", Kind::Unknown, Unsure),
        ("X-Auto-Response-Suppress: All\r\n", Kind::Unknown, Unsure),
        ("X-Auto-Response-Suppress: All\r\nSubject: Automatic reply: Hello\r\n", Kind::AutoReply, Likely),
        (
            "X-Auto-Response-Suppress: All\r\nSubject: =?utf-8?Q?R=C3=A9ponse_automatique=3A?= Hello\r\n",
            Kind::AutoReply,
            Likely,
        ),
        ("X-MS-Exchange-Inbox-Rules-Loop: bob@far.example\r\n", Kind::AutoReply, Likely),
        ("Subject: Out of office\r\n", Kind::Unknown, Unsure),
        ("List-Id: Cats <cats.far.example>\r\n", Kind::List, Certain),
        ("List-Id: cats\r\n", Kind::Unknown, Unsure),
        ("List-Unsubscribe: <mailto:x@far.example>\r\n", Kind::Unknown, Unsure),
        (
            "List-Unsubscribe: <mailto:x@far.example>\r\nList-Help: <mailto:h@far.example>\r\n",
            Kind::List,
            Likely,
        ),
        ("Sender: x\r\nList-Id: <cats.far.example>\r\n", Kind::List, Certain),
        ("List-Id: <cats.far.example>\r\nX-List-Administrivia: yes\r\n", Kind::Unknown, Unsure),
        ("List-Id: <cats.far.example>\r\nAuto-Submitted: auto-replied\r\n", Kind::AutoReply, Likely),
        (
            "Subject: Your email requires verification\r\nAuto-Submitted: auto-replied\r\n",
            Kind::Challenge,
            Likely,
        ),
        ("X-Delivery-Agent: TMDA/1.1.12\r\nAuto-Submitted: auto-replied\r\n", Kind::Challenge, Likely),
    ];
    for (fields, kind, confidence) in rows {
        assert_eq!(kind_of(&with(fields, "I am away until Monday.\r\n")), (kind, confidence), "{fields}");
    }
    let subject = format!("{answers}Subject: Re: Out of office: Hello\r\n");
    assert_eq!(kind_of(&with(&subject, "Until Monday.\r\n")), (Kind::AutoReply, Likely));
}

#[test]
fn a_bounce_without_a_report_is_told_by_what_only_bounces_have() {
    let daemon =
        |fields: &str, body: &str| format!("From: <MAILER-DAEMON@far.example>\r\n{fields}\r\n{body}");
    let original = "\r\n--- The original:\r\nReceived: from a.example by b.example\r\nSubject: Hello\r\n";
    let rows = [
        (
            "qmail's words",
            daemon("Subject: failure notice\r\n", "<bob@far.example>:\r\nSorry, no mailbox here.\r\n"),
            Kind::Failure,
        ),
        ("any words and a code", daemon("Subject: x\r\n", "bob: 550 5.1.1 nope\r\n"), Kind::Failure),
        ("an original", daemon("Subject: x\r\n", original), Kind::Failure),
        ("nothing else", daemon("Subject: x\r\n", "Good morning.\r\n"), Kind::Unknown),
        ("late", daemon("Subject: Delayed mail\r\n", "It goes on.\r\n"), Kind::Delay),
        (
            "late by its text",
            daemon("Subject: Warning\r\n", "It has not yet been delivered.\r\n"),
            Kind::Delay,
        ),
        ("well", daemon("Subject: Successful Mail Delivery Report\r\n", "It arrived.\r\n"), Kind::Success),
        ("a person, no sign", with("Subject: Returned mail\r\n", "Thank you.\r\n"), Kind::Unknown),
        ("a person, two signs", with("Subject: Undelivered mail\r\n", original), Kind::Failure),
        ("Exim's field", with("X-Failed-Recipients: bob@far.example\r\n", "x\r\n"), Kind::Failure),
        (
            "Exchange's field",
            with("X-MS-Exchange-Message-Is-Ndr:\r\nSubject: Unzustellbar: Hello\r\n", "x\r\n"),
            Kind::Failure,
        ),
    ];
    for (name, message, kind) in rows {
        assert_eq!(kind_of(&message).0, kind, "{name}:\n{message}");
    }
}
