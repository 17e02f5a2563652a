//! What a forger could write to have the bounces of his mail let through. He writes the original; a server that
//! reflects it writes the rest, and puts of the original what it will where it will.

use super::*;

/// Fields that a forger gives his mail: each would make a message something else than a bounce.
const FORGED_FIELDS: &str = "Auto-Submitted: auto-replied\r\nIn-Reply-To: <1@example.jp>\r\nX-Autoreply: yes\r\n\
    Precedence: auto_reply\r\nList-Id: <cats.far.example>\r\nTLS-Report-Domain: example.jp\r\n\
    TLS-Report-Submitter: far.example\r\nX-Auto-Response-Suppress: All\r\n\
    Subject: Report Domain: example.jp Submitter: far.example Report-ID: <7>\r\n";

/// Parts that he gives it.
const FORGED_PARTS: &str = "--b\r\nContent-Type: text/calendar; method=REPLY\r\n\r\nBEGIN:VCALENDAR\r\nMETHOD:REPLY\r\n\
    --b\r\nContent-Type: message/disposition-notification\r\n\r\nDisposition: manual-action/MDN-sent-manually; displayed\r\n\
    --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n\
    --b\r\nContent-Type: application/tlsrpt+gzip\r\n\r\nx\r\n\
    --b\r\nContent-Type: application/gzip; name=\"far.example!example.jp!1795000000!1795086400.xml.gz\"\r\n\r\nx\r\n";

fn forged() -> String {
    format!(
        "Received: from bot.example by mx.far.example\r\nFrom: ann@example.jp\r\nMessage-ID: <2@example.jp>\r\n\
         {FORGED_FIELDS}Content-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n\r\n\
         {FORGED_PARTS}--b--\r\n"
    )
}

fn is_bounce(kind: Kind) -> bool {
    match kind {
        Kind::Unknown | Kind::Failure | Kind::Delay | Kind::Success | Kind::Challenge => true,
        Kind::AutoReply
        | Kind::Receipt
        | Kind::Calendar
        | Kind::List
        | Kind::Complaint
        | Kind::DmarcReport
        | Kind::TlsReport => false,
    }
}

/// Bounces as systems write them, around any original: the sender's field, and how the original comes back.
fn reflections(original: &str) -> Vec<(String, String)> {
    let froms = [
        "MAILER-DAEMON@far.example",
        "<>",
        "Postmaster <postmaster@far.example>",
        "Mail Gate <gate@far.example>",
    ];
    let said = "Your message could not be delivered to bob@far.example.\r\n550 5.1.1 User unknown\r\n";
    let status = "--x\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns;mx.far.example\r\n\r\nAction: failed\r\n";
    let mut all = Vec::new();
    for from in froms {
        let head = format!("From: {from}\r\nTo: ann@example.jp\r\nSubject: Undelivered Mail\r\n");
        let report = "Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n";
        let mixed = "Content-Type: multipart/mixed; boundary=x\r\n";
        let said_in_part = format!("--x\r\n\r\n{said}");
        let returned = format!("--x\r\nContent-Type: message/rfc822\r\n\r\n{original}\r\n--x--\r\n");
        let quoted = original.replace("\r\n", "\r\n> ");
        all.push((format!("{from}, report"), format!("{head}{report}\r\n{said_in_part}{status}{returned}")));
        all.push((
            format!("{from}, report without status"),
            format!("{head}{report}\r\n{said_in_part}{returned}"),
        ));
        all.push((format!("{from}, mixed"), format!("{head}{mixed}\r\n{said_in_part}{returned}")));
        all.push((format!("{from}, in the text"), format!("{head}\r\n{said}\r\n{original}")));
        all.push((format!("{from}, quoted in the text"), format!("{head}\r\n{said}\r\n> {quoted}")));
        all.push((
            format!("{from}, as text parts"),
            format!("{head}{mixed}\r\n{said_in_part}--x\r\n\r\n{original}\r\n--x--\r\n"),
        ));
        // Some copy fields of the original into the header section of the bounce.
        all.push((
            format!("{from}, with the fields copied"),
            format!("{FORGED_FIELDS}{head}\r\n{said}\r\n{original}"),
        ));
        // One that leaves the original's type in the header section, and the original's parts in its own body.
        all.push((
            format!("{from}, with the parts copied"),
            format!("{head}{FORGED_FIELDS}Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n{said}\r\n{original}"),
        ));
    }
    all
}

#[test]
fn no_reflection_of_forged_mail_is_told_to_be_anything_but_a_bounce() {
    for (name, message) in reflections(&forged()) {
        let reading = read([message.as_bytes()]);
        assert!(is_bounce(reading.kind), "{name}: {reading:?}\n{message}");
    }
}

#[test]
fn a_bounce_with_an_auto_replys_field_is_a_bounce() {
    for (name, message) in
        reflections("From: ann@example.jp\r\nMessage-ID: <2@example.jp>\r\nSubject: Hello\r\n\r\nHello\r\n")
    {
        for field in FORGED_FIELDS.split_inclusive("\r\n") {
            let message = format!("{field}{message}");
            let kind = read([message.as_bytes()]).kind;
            assert!(is_bounce(kind), "{name} with {field}: {kind:?}\n{message}");
        }
    }
}

#[test]
fn one_sign_of_a_bounce_makes_an_auto_reply_uncertain() {
    let plain = "From: bob@far.example\r\nAuto-Submitted: auto-replied\r\nIn-Reply-To: <1@example.jp>\r\n\r\nAway.\r\n";
    assert_eq!(read([plain.as_bytes()]).kind, Kind::AutoReply);
    for (what, instead) in [
        ("From: bob@far.example", "From: mailer-daemon@far.example"),
        ("From: bob@far.example", "From: postmaster@far.example"),
        ("From: bob@far.example", "From: Mail Delivery Subsystem <x@far.example>"),
        ("From: bob@far.example", "From: <>"),
        ("From: bob@far.example", "From:"),
        ("From: bob@far.example\r\n", ""),
        ("Away.", "Your mail could not be delivered."),
        ("Away.", "Said: 550 5.1.1 Away."),
        ("Away.", "552-5.2.2 Away."),
        ("Away.", "> Received: from a.example by b.example\r\n"),
        ("Away.", "> From: ann@example.jp\r\n> To: bob@far.example\r\n> Message-ID: <1@example.jp>\r\n"),
        (
            "Away.",
            "> From: ann@example.jp\r\n>  \r\n> Message-ID: <1@example.jp>\r\n \t\r\n> Cc: bob@far.example\r\n",
        ),
        ("Away.", "Your mail could \u{200b} not be delivered."),
        ("Away.", "Your mail could no\u{2060}t be \u{feff} deli\u{ad}vered."),
        ("In-Reply-To", "X-Failed-Recipients: bob@far.example\r\nIn-Reply-To"),
        ("In-Reply-To", "Subject: Undeliverable: Hello\r\nIn-Reply-To"),
        ("In-Reply-To", "Subject: Delivery Status\r\nIn-Reply-To"),
        ("In-Reply-To", "Content-Type: message/rfc822\r\nIn-Reply-To"),
        (
            "In-Reply-To",
            "Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\nIn-Reply-To",
        ),
    ] {
        let message = plain.replacen(what, instead, 1);
        assert_ne!(message, plain);
        let kind = read([message.as_bytes()]).kind;
        assert!(is_bounce(kind), "{instead}: {kind:?}");
    }
}

#[test]
fn a_header_section_that_does_not_end_where_reading_does_tells_nothing_but_a_bounce() {
    let fields = format!("Subject: x\r\n{FORGED_FIELDS}From: bob@far.example\r\n");
    let whole = format!("{fields}\r\nAway.\r\n");
    assert_eq!(read([whole.as_bytes()]).kind, Kind::AutoReply);
    let endless = format!(
        "{fields}{}X-Failed-Recipients: bob@far.example\r\n\r\n",
        "X-Pad: x\r\n".repeat(START_BYTES_MAX / 8)
    );
    assert_eq!(read([endless.as_bytes()]).kind, Kind::Unknown);
}
