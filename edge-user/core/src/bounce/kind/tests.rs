//! What a message is told to be, and that no message is too strange to be told.

use proptest::prelude::*;

use super::*;

mod forged;
mod in_words;
mod of_standards;

const BOUNCE: &str = "From: MAILER-DAEMON@far.example\r\n\
    Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"b\"\r\n\
    MIME-Version: 1.0\r\n\r\n\
    --b\r\nContent-Type: text/plain\r\n\r\nStatus: 9.9.9 is only said in passing\r\n\
    --b\r\nContent-Type: message/delivery-status\r\n\r\n\
    Reporting-MTA: dns; mx.far.example\r\n\r\n\
    Final-Recipient: rfc822; a@far.example\r\nAction: failed\r\nstatus: 5.1.1\r\n\r\n\
    Final-Recipient: rfc822; b@far.example\r\nAction: delayed\r\nStatus: 4.4.1\r\n\r\n\
    --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\nReporting-MTA: no\r\n\r\nHello\r\n--b--\r\n";

/// As the receiver of `example.jp` reads it, and of all that lies below.
fn read<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Reading {
    super::read(pieces, &|domain| domain == "example.jp" || domain.ends_with(".example.jp"))
}

fn kind_of(message: &str) -> (Kind, Confidence) {
    let reading = read([message.as_bytes()]);
    (reading.kind, reading.confidence)
}

fn expected() -> Reading {
    Reading {
        kind: Kind::Failure,
        confidence: Confidence::Certain,
        told_by: "Action",
        report: Some(Report {
            kind: Some("delivery-status".into()),
            status: Some("5.1.1".into()),
            reporting_mta: Some("dns; mx.far.example".into()),
        }),
    }
}

#[test]
fn a_bounce_says_its_kind_status_and_reporter_however_it_is_cut_into_pieces() {
    assert_eq!(read([BOUNCE.as_bytes()]), expected());
    for cut in 0..BOUNCE.len() {
        let (head, tail) = BOUNCE.as_bytes().split_at(cut);
        assert_eq!(read([head, tail]), expected(), "cut before {cut}");
    }
    assert_eq!(read(BOUNCE.as_bytes().chunks(1)), expected());
    assert_eq!(read([BOUNCE.replace("\r\n", "\n").as_bytes()]), expected(), "with LF, as files have it");
}

#[test]
fn a_bounce_that_is_cut_off_is_never_anything_else() {
    for end in 0..BOUNCE.len() {
        let kind = read([&BOUNCE.as_bytes()[..end]]).kind;
        assert!([Kind::Failure, Kind::Unknown].contains(&kind), "cut off at {end}: {kind:?}");
    }
}

#[test]
fn a_report_in_base64_is_read_too() {
    use base64::Engine as _;
    let status = base64::engine::general_purpose::STANDARD
        .encode("Reporting-MTA: dns; mx.far.example\n\nAction: failed\nStatus: 5.2.2\n");
    let bounce = format!(
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\nContent-Type: message/delivery-status\r\nContent-Transfer-Encoding: base64\r\n\r\n\
         {status}\r\n--b--\r\n"
    );
    let reading = read([bounce.as_bytes()]);
    assert_eq!((reading.kind, reading.confidence), (Kind::Failure, Confidence::Certain));
    assert_eq!(reading.report.unwrap().status.unwrap(), "5.2.2");
}

#[test]
fn what_says_nothing_is_unknown() {
    for message in [
        "",
        "\r\n",
        "From: ann@example.jp\r\n\r\nStatus: 5.1.1\r\n",
        "no header at all",
        "From: ann@example.jp\r\n\r\nHello\r\n",
    ] {
        assert_eq!(read([message.as_bytes()]), Reading::default(), "{message:?}");
    }
}

#[test]
fn a_value_is_short_and_has_no_control_characters() {
    let long = BOUNCE.replace("mx.far.example", &"m\u{1b}[31m\u{7f}".repeat(1000));
    let value = read([long.as_bytes()]).report.unwrap().reporting_mta.unwrap();
    assert_eq!(value.chars().count(), 128);
    assert!(!value.chars().any(char::is_control), "{value:?}");
}

#[test]
fn no_more_than_the_bound_is_read() {
    let filler = vec![b'x'; START_BYTES_MAX + 10];
    assert_eq!(start_of([&filler[..]]).len(), START_BYTES_MAX);
    assert_eq!(start_of([&filler[..9], &filler, &filler]).len(), START_BYTES_MAX);
    let late = format!("From: ann@example.jp\r\n\r\n{}{BOUNCE}", "y\r\n".repeat(START_BYTES_MAX));
    assert_eq!(read([late.as_bytes()]), Reading::default());
}

#[test]
fn a_message_within_messages_or_of_endless_parts_is_read_to_its_bounds() {
    let nested = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n".repeat(1000);
    let messages = "Content-Type: message/rfc822\r\n\r\n".repeat(2000);
    let many = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", "--b\r\n\r\n".repeat(8000));
    let fields = "X: y\r\n".repeat(10_000);
    for message in [&nested, &messages, &many, &fields] {
        let reading = read([message.as_bytes()]);
        assert!([Kind::Unknown, Kind::Failure].contains(&reading.kind), "{reading:?}");
        assert!(mime::parts(message.as_bytes()).len() <= 32);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read([&bytes[..]]);
    }

    /// What mail is made of, in any order.
    #[test]
    fn no_mail_panics(pieces in proptest::collection::vec(prop_oneof![
        Just("\r\n"), Just("\n"), Just("--b"), Just("--"), Just("=\r\n"), Just("="), Just(" "), Just("\t"), Just(":"),
        Just("Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n"),
        Just("Content-Type: multipart/mixed; boundary=\"b\"\r\n"),
        Just("Content-Type: message/delivery-status\r\n"), Just("Content-Type: text/calendar; method=REPLY\r\n"),
        Just("Content-Type: message/disposition-notification\r\n"), Just("Disposition: a/b; displayed\r\n"),
        Just("Content-Transfer-Encoding: base64\r\n"), Just("Content-Transfer-Encoding: quoted-printable\r\n"),
        Just("Content-Disposition: attachment; filename*=utf-8''a!b!c.xml.gz\r\n"),
        Just("Subject: =?utf-8?b?VW5k"), Just("?="), Just("From: <>\r\n"), Just("Action: failed\r\n"),
        Just("Auto-Submitted: auto-replied\r\n"), Just("Received: from a by b\r\n"), Just("550 5.1.1 "), Just("é"), Just("\0"),
    ], 0..60)) {
        let message = pieces.concat();
        let whole = read([message.as_bytes()]);
        prop_assert_eq!(&read(message.as_bytes().chunks(7)), &whole);
        prop_assert_eq!(whole.confidence == Confidence::None, whole.kind == Kind::Unknown);
        prop_assert_eq!(whole.confidence == Confidence::None, whole.told_by.is_empty());
    }
}
