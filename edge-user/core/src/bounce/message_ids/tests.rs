//! Message-IDs where they may prove, and where not, however the message is cut.

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

fn scan<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<(Place, String)> {
    let (mut ids, mut all) = (MessageIds::new(), Vec::new());
    let mut take = |place, id: &[u8]| all.push((place, String::from_utf8_lossy(id).into_owned()));
    pieces.into_iter().for_each(|piece| ids.scan(piece, &mut take));
    ids.finish(&mut take);
    all
}

/// What is found, the same however the message is cut, and with LF as with CRLF.
fn found(message: &str) -> Vec<(Place, String)> {
    let whole = scan([message.as_bytes()]);
    for wire in [message.to_owned(), message.replace('\n', "\r\n")] {
        let wire = wire.as_bytes();
        assert_eq!(scan(wire.chunks(1)), whole, "octet by octet: {message}");
        for cut in 0..=wire.len() {
            let (head, tail) = wire.split_at(cut);
            assert_eq!(scan([head, tail]), whole, "cut before {cut}: {message}");
        }
    }
    whole
}

fn base64(text: &str, width: usize) -> String {
    let encoded = STANDARD.encode(text);
    let lines: Vec<_> = encoded.as_bytes().chunks(width).map(|line| str::from_utf8(line).unwrap()).collect();
    lines.join("\n") + "\n"
}

const HEAD: &str = "From: MAILER-DAEMON@x\nMessage-ID: <own@x>\nSubject: failed\n\n";
const ORIGINAL: &str = "From: user@example.jp\nSubject: a\nMessage-ID: <a=b@x>\nTo: b@y\n\nHello\n";

#[test]
fn the_message_that_is_returned_is_found_in_each_form() {
    let torn = "From: user@example.jp\nSubject: a\nMessage-ID: <a=3D=\nb=\n@x>\n\n";
    let stuffed = torn.replace("@x>", "@=\n..x>").replace("a=3D=\nb", "a=3Db");
    let part = |encoding: &str, body: &str| {
        format!(
            "{HEAD}--b\nContent-Type: text/rfc822-headers\nContent-Transfer-Encoding: {encoding}\n\n{body}--b--\n"
        )
    };
    let rows = [
        ("a part", part("7bit", ORIGINAL)),
        ("in text", format!("{HEAD}Dear sender,\nit failed.\n\n--- The header:\n{ORIGINAL}")),
        ("quoted", format!("{HEAD}{}", ORIGINAL.replace('\n', "\n> ").replacen("From", "> From", 1))),
        ("indented", format!("{HEAD}{}", ORIGINAL.replace('\n', "\n   ").replacen("From", "   From", 1))),
        ("the last line", format!("{HEAD}From: a\nDate: b\nMESSAGE-id:<a=b@x>")),
        ("the first line", format!("{HEAD}Message-Id: a=b@x\nFrom: a\nTo: b\n")),
        ("folded", format!("{HEAD}From: a\nTo: b\nMessage-ID:\n\t<a=b@x>\nX-A: b\n")),
        ("HTML", format!("{HEAD}From: a<br>\nTo: b<br>\nMessage-ID: &lt;a=b@x&gt;<br>\n")),
        (
            "few fields",
            format!("{HEAD}-----original mail info\nFrom: a\nDate: b\nMessage-ID: <a=b@x>\nBODY:\n"),
        ),
        ("base64", part("base64", &base64(ORIGINAL, 76))),
        ("base64, narrow", part("BASE64", &base64(ORIGINAL, 7))),
        ("base64, no line end", part("base64", &base64(ORIGINAL.split_once("\n\n").unwrap().0, 20))),
        (
            "all of it base64",
            format!(
                "Content-Transfer-Encoding: Base64\nMessage-ID: <own@x>\n\n{}",
                base64(&format!("it failed\n\n{ORIGINAL}"), 60)
            ),
        ),
    ];
    for (name, message) in rows {
        assert_eq!(found(&message), [(Place::Returned, "a=b@x".to_owned())], "{name}");
    }
    let bracket = torn.replace("@x>", "@x=\n>");
    for (name, body) in
        [("quoted-printable", torn), ("its dot stuffed", &stuffed), ("its bracket torn", &bracket)]
    {
        let ids = found(&part("quoted-printable", body));
        assert!(
            ids.contains(&(Place::Returned, "a=b@x".into()))
                || ids.contains(&(Place::Returned, "a=b@.x".into())),
            "{name}: {ids:?}"
        );
    }
}

#[test]
fn what_the_message_itself_answers_is_found() {
    let all = found(
        "In-Reply-To: Your message <a@x>\nReferences: <b@x>\n <c@x>\n\t<d@x>\nX-Original-Message-ID: <e@x>\n\nHello\n",
    );
    let ids = [
        (Place::InReplyTo, "a@x"),
        (Place::References, "b@x"),
        (Place::References, "c@x"),
        (Place::References, "d@x"),
        (Place::OriginalMessageId, "e@x"),
    ];
    assert_eq!(all, ids.map(|(place, id)| (place, id.to_owned())));
    assert_eq!(found("In-reply-to: a@x\n\n"), [(Place::InReplyTo, "a@x".to_owned())]);
}

#[test]
fn a_receipt_and_a_report_name_the_original() {
    let receipt = format!(
        "{HEAD}--b\nContent-Type: message/disposition-notification\n\nReporting-UA: x\nFinal-Recipient: rfc822;b@y\nOriginal-Message-ID: <a@x>\nDisposition: manual-action/MDN-sent-manually; displayed\n\n--b--\n"
    );
    assert_eq!(found(&receipt), [(Place::OriginalMessageId, "a@x".to_owned())]);
    let report = format!("{HEAD}Reporting-MTA: dns; x\nX-Original-Message-ID: <a@x>\n\nAction: failed\n");
    assert_eq!(found(&report), [(Place::OriginalMessageId, "a@x".to_owned())]);
}

#[test]
fn what_proves_nothing_is_not_found() {
    for message in [
        "Message-ID: <own@x>\nFrom: a\nTo: b\nSubject: c\n\nText\n",
        "Subject: a\n\nThe message with\nMessage-ID: <a@x>\nwas refused.\n",
        "Subject: a\n\nFrom: b\n\nMessage-ID: <a@x>\n\nTo: c\n",
        "Subject: a\n\nIn-Reply-To: <a@x>\nReferences: <b@x>\nFrom: c\nTo: d\n",
        "Subject: a\n\nFrom: b\nTo: c\nX-Message-ID: <a@x>\nResent-Message-ID: <a@x>\nMessage-ID-of: <a@x>\n",
        "Subject: a\n\nFrom: b\nTo: c\nSubject: Message-ID: <a@x>\n",
        "Subject: a\n\nFrom: b\nTo: c\nMessage-ID: <>\nMessage-ID:\n",
        "X-Note: <a@x>\n In-Reply-To: <a@x>\n\n",
    ] {
        assert_eq!(found(message), [], "{message}");
    }
}

#[test]
fn an_attachment_in_base64_that_is_no_text_is_not_decoded() {
    let part = |kind: &str| {
        let body = base64(ORIGINAL, 76);
        format!("{HEAD}--b\nContent-Transfer-Encoding: base64\nContent-Type: {kind}\n\n{body}--b--\n")
    };
    assert_eq!(found(&part("image/png")), []);
    assert_eq!(found(&part("Text/Plain; charset=utf-8")).len(), 1);
    assert_eq!(found(&part("message/rfc822")).len(), 1);
}

#[test]
fn no_more_are_handed_out_than_the_bound_and_of_references_the_last() {
    let many = |count: usize| (0..count).map(|n| format!("<{n}@x>\n ")).collect::<String>();
    let all = found(&format!("References: {}\nIn-Reply-To: <last@x>\n\n", many(40)));
    assert_eq!(all.len(), REFERENCES_MAX + 1);
    assert_eq!(all[REFERENCES_MAX - 1], (Place::References, "39@x".to_owned()));
    assert_eq!(all[REFERENCES_MAX], (Place::InReplyTo, "last@x".to_owned()));
    let returned = "From: a\nTo: b\nMessage-ID: <a@x>\n\n".repeat(50);
    assert_eq!(scan([format!("{HEAD}{returned}").as_bytes()]).len(), MESSAGE_IDS_MAX);
}

#[test]
fn a_line_and_a_value_are_read_no_further_than_their_bounds() {
    let long = "x".repeat(LINE_BYTES_MAX);
    let all = scan([format!("References: <{long}@x> <never@x>\nIn-Reply-To: <a@x>\n\n").as_bytes()]);
    assert_eq!(all, [(Place::InReplyTo, "a@x".to_owned())]);
    let folds = format!(" <{}@x>\n", "y".repeat(900)).repeat(100);
    let all = scan([format!("References:\n{folds} <a@x>\n\n").as_bytes()]);
    assert_eq!(all.last(), Some(&(Place::References, "a@x".to_owned())));
}

fn scraps() -> impl Strategy<Value = String> {
    let scraps = [
        "Message-ID: <a@x>",
        "Message-ID:",
        "In-Reply-To: <b@x>",
        "References: <c@x> <d",
        "From: a",
        "To: b",
        "Original-Message-ID: <e@x>",
        "Content-Transfer-Encoding: base64",
        "Content-Type: text/plain",
        "\n",
        "\n",
        "\n",
        "\n\n",
        "\r\n",
        "\r\n\r\n",
        " ",
        "> ",
        "=",
        "=\n",
        "=3D",
        "..",
        "--b\n",
        "TWVzc2FnZS1JRDogPGFAeD4K",
        "RnJvbTogYQpUbzogYgo=",
        "<",
        ">",
        "&lt;",
        "\u{e9}",
    ];
    proptest::collection::vec(proptest::sample::select(scraps.to_vec()), 0..40)
        .prop_map(|scraps| scraps.concat())
}

proptest! {
    #[test]
    fn any_cut_of_any_message_gives_the_same(message in scraps(), cut in any::<proptest::sample::Index>()) {
        let (wire, cut) = (message.as_bytes(), cut.index(message.len() + 1));
        let whole = scan([wire]);
        prop_assert_eq!(&scan(wire.chunks(1)), &whole);
        let (head, tail) = wire.split_at(cut);
        prop_assert_eq!(&scan([head, tail]), &whole);
        prop_assert!(whole.len() <= MESSAGE_IDS_MAX);
        prop_assert!(whole.iter().all(|(_, id)| !id.is_empty()));
    }

    #[test]
    fn any_octets_are_taken_without_panic(wire in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(scan(wire.chunks(7)), scan([wire.as_slice()]));
    }

    /// Octet by octet each line is read, in larger pieces what can be leapt over is.
    #[test]
    fn what_is_leapt_over_would_have_given_nothing(
        lines in proptest::collection::vec(
            proptest::sample::select(
                ["Received: from a\n\tby b\n", "From: a", "To: b", "Subject: of base64", "Content-Type: image/png",
                 "Content-Type: text/plain", "Content-Transfer-Encoding: base64", "Message-ID: <a@x>",
                 "  Message-ID: <b@x>", "> From: a", "References: <c@x>\n <d@x>", "Original-Message-ID: <e@x>",
                 "the Message-ID was lost", "words of a line, which goes on for a while and has a colon: here",
                 "words of a line, which goes on for a while and has no colon at all", "", "", "", "> ", "--b",
                 "RnJvbTogYQpUbzogYgpNZXNzYWdlLUlEOiA8ZkB4Pgo=", "MIME-Version: 1.0", "=20"].to_vec()), 0..40),
        crlf in any::<bool>(),
        cut in any::<proptest::sample::Index>(),
    ) {
        let message = lines.join("\n");
        let message = if crlf { message.replace('\n', "\r\n") } else { message };
        let wire = message.as_bytes();
        let all = scan(wire.chunks(1));
        prop_assert_eq!(&scan([wire]), &all);
        prop_assert_eq!(&scan(wire.chunks(100)), &all);
        let (head, tail) = wire.split_at(cut.index(wire.len() + 1));
        prop_assert_eq!(&scan([head, tail]), &all);
    }
}
