//! The plain reader and the parser must say the same wherever the plain one says anything.

use std::path::Path;

use mail_parser::ContentType;
use proptest::prelude::*;

use super::super::{content_type, fields::Fields};
use super::*;

const NAMES: [&str; 5] = ["boundary", "report-type", "charset", "name", "a"];

/// What both say of a value. Whether the plain reader says anything.
fn compare(raw: &[u8]) -> bool {
    let shown = raw.escape_ascii();
    let Some((media_type, parameters)) = plain_type(raw) else { return false };
    let parsed: ContentType<'_> = content_type(raw).unwrap_or_else(|| panic!("{shown}: no type"));
    let type_of = format!("{}/{}", parsed.ctype(), parsed.subtype().unwrap_or_default());
    assert_eq!(media_type, type_of.to_ascii_lowercase(), "{shown}");
    let Some(values) = parameters.plain(NAMES) else { return false };
    assert_eq!(values, NAMES.map(|name| parsed.attribute(name)), "{shown}");
    true
}

#[test]
fn what_is_written_plainly_is_what_the_parser_says() {
    let rows: [&[u8]; 16] = [
        b" text/plain\r\n",
        b"Text/HTML; charset=utf-8\r\n",
        b" multipart/report; report-type=delivery-status;\r\n\tboundary=\"a;b/c\"\r\n",
        b" multipart/report; boundary=\"4D2C81F0A3.1795514400/mail.far.example\"; Report-Type=Delivery-Status\r\n",
        b" message/delivery-status\r\n",
        b" application/vnd.ms-excel;name=x\n",
        b" image/svg+xml;\n",
        b" text/x_y-z.q; \n",
        b"MESSAGE/RFC822\r\n",
        b"a/1;b=c\n",
        b"a/1;\r\n name=x \t ;\n\ta=\"y z\"\t\r\n \r\n",
        b" multipart/mixed; boundary=----=_Part_1_2.3\r\n",
        b" multipart/mixed; boundary=\"----=_Part_1(2)'3,4\"\r\n",
        b" a/b; a=1; a=2; A=3\r\n",
        b" a/b; boundary=\" x \"\r\n",
        b"\r\n text/plain; charset=us-ascii\r\n",
    ];
    for raw in rows {
        assert!(compare(raw), "{}", raw.escape_ascii());
    }
}

#[test]
fn what_is_not_is_left_to_the_parser() {
    for raw in [
        &b" text\r\n"[..],
        b" text/plain (a comment)\r\n",
        b" text/plain",
        b" text/plain charset=x",
        b"a/b/c",
        b"",
        b"/x",
    ] {
        assert_eq!(plain_type(raw).map(|(media_type, _)| media_type), None, "{}", raw.escape_ascii());
    }
    for raw in [
        &b"a/b; boundary=\"x\"; boundary*1=\"y\"\r\n"[..],
        b"a/b; boundary=\"x\\\"y\"\r\n",
        b"a/b; boundary=\"x\r\n y\"\r\n",
        b"a/b; boundary=\"\"\r\n",
        b"a/b; boundary=\"x\r\n",
        b"a/b; boundary=\"\xe9\"\r\n",
        b"a/b; boundary=\"=?utf-8?q?x?=\"\r\n",
        b"a/b; boundary=x y\r\n",
        b"a/b; boundary=x(y)\r\n",
        b"a/b; boundary = x\r\n",
        b"a/b; boundary\r\n",
        b"a/b; boundary=\"x\" y\r\n",
        b"a/b;; boundary=x\r\n",
    ] {
        assert!(!compare(raw), "{}", raw.escape_ascii());
    }
}

/// The header sections of the samples, and whatever else in them looks like such a field.
#[test]
fn nearly_all_that_real_mail_has_is_plain() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/samples");
    let (mut plain, mut all) = (0, 0);
    for entry in std::fs::read_dir(&samples).unwrap() {
        let text = std::fs::read(entry.unwrap().path()).unwrap();
        let begins = memchr::memmem::find_iter(&text, "Content-Type:");
        for (name, value) in begins.filter_map(|at| Fields::of(&text[at..]).next()) {
            assert_eq!(name, b"Content-Type");
            plain += u32::from(compare(value));
            all += 1;
        }
    }
    assert!(all > 20 && plain * 10 >= all * 8, "{plain} of {all} are plain");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_parser_is_never_contradicted(pieces in proptest::collection::vec(prop_oneof![
        Just("boundary"), Just("Report-Type"), Just("a"), Just("="), Just("="), Just("\""), Just("\""), Just(";"), Just("; "),
        Just("x"), Just("Y.1"), Just(" "), Just("\t"), Just("\r\n "), Just("\n\t"), Just("\\"), Just("("), Just(")"), Just("'"),
        Just("*"), Just("*0*="), Just("?"), Just("=?utf-8?q?z?="), Just("/"), Just("\r"), Just("é"), Just(","), Just("\u{c}"),
        Just("; boundary=\"b;c\""), Just("; charset=d"), Just("; name=\"e f\""), Just("\u{b}"), Just("\0"),
    ], 0..12)) {
        compare(format!(" multipart/report{}\r\n", pieces.concat()).as_bytes());
        compare(format!("Text/Plain;{}\n", pieces.concat()).as_bytes());
    }
}
