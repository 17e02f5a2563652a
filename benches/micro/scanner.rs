//! The scanner on bounces without and with a token, in pieces as large as the engine's buffers; and the search for the
//! Message-IDs that they answer, which goes over each of them too.

use std::hint::black_box;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use criterion::{Criterion, Throughput};
use edge_core::bounce::{MessageIds, Scanner};

/// Octets of a piece.
const PIECE_BYTES: usize = 16 << 10;

const TOKEN: &str = "Backstop-Token: bs1.ByYHoSAA_xBhYmMrgueTG27ftfM0XdvdRQe-\r\n";

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scanner");
    let rows = [
        ("plain, 4 KB, no token", plain(4 << 10), 0),
        ("plain, 4 KB, a token at the end", plain(4 << 10) + TOKEN, 1),
        ("plain, 64 KB, no token", plain(64 << 10), 0),
        ("one long line, 64 KB, no token", plain(64 << 10).replace("\r\n", " "), 0),
        ("HTML, 64 KB, no token", html(64 << 10), 0),
        ("quoted-printable English, 64 KB, no token", english(64 << 10), 0),
        ("quoted-printable Japanese, 64 KB, no token", japanese(64 << 10), 0),
        ("base64, 64 KB, no token", base64(&plain(48 << 10)), 0),
        ("base64, 64 KB, a token at the end", base64(&(plain(48 << 10) + TOKEN)), 1),
        ("false starts, 64 KB", "YnMxL".repeat(13 << 10), 0),
    ];
    for (name, text, tokens) in rows {
        assert_eq!(scan(text.as_bytes()), tokens, "{name}");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| scan(black_box(text.as_bytes()))));
    }
    group.finish();
}

/// The same for Message-IDs, beside the scanner's rows of the same name.
pub(crate) fn bench_message_ids(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("message_ids");
    let part = "Subject: failed\r\nContent-Transfer-Encoding: base64\r\n\r\n";
    let original = "From: a\r\nDate: b\r\nMessage-ID: <a@b>\r\n\r\n";
    let rows = [
        ("plain, 4 KB, none", plain(4 << 10), 0),
        ("plain, 4 KB, one at the end", plain(4 << 10) + "\r\n" + original, 1),
        ("plain, 64 KB, none", plain(64 << 10), 0),
        ("HTML, 64 KB, none", html(64 << 10), 0),
        ("quoted-printable Japanese, 64 KB, none", japanese(64 << 10), 0),
        ("base64, 64 KB, an attachment", base64(&plain(48 << 10)), 0),
        (
            "base64, 64 KB, one at the end",
            part.to_owned() + &base64(&(plain(48 << 10) + "\r\n" + original)),
            1,
        ),
    ];
    for (name, text, ids) in rows {
        assert_eq!(message_ids(text.as_bytes()), ids, "{name}");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| message_ids(black_box(text.as_bytes()))));
    }
    group.finish();
}

/// How many Message-IDs were found.
fn message_ids(message: &[u8]) -> usize {
    let (mut ids, mut count) = (MessageIds::new(), 0);
    message.chunks(PIECE_BYTES).for_each(|piece| ids.scan(piece, &mut |_, _| count += 1));
    ids.finish(&mut |_, _| count += 1);
    count
}

/// How many candidates were found.
fn scan(message: &[u8]) -> usize {
    let (mut scanner, mut count) = (Scanner::new(), 0);
    message.chunks(PIECE_BYTES).for_each(|piece| scanner.scan(piece, &mut |_| count += 1));
    scanner.finish(&mut |_| count += 1);
    count
}

fn fill(bytes: usize, lines: &str) -> String {
    let mut text = lines.repeat(bytes / lines.len() + 1);
    text.truncate(bytes);
    text + "\r\n"
}

fn plain(bytes: usize) -> String {
    fill(
        bytes,
        "This message was created automatically by mail delivery software.\r\n\r\n\
         A message that you sent could not be delivered to one or more of its\r\n\
         recipients. This is a permanent error. The following address failed:\r\n\r\n\
         \x20 kijitora@example.jp\r\n\
         \x20   SMTP error from remote mail server after RCPT TO:<kijitora@example.jp>:\r\n\
         \x20   550 5.1.1 <kijitora@example.jp>... User Unknown\r\n\
         Received: from mx.example.net (mx.example.net [192.0.2.1]) by far.example\r\n",
    )
}

fn html(bytes: usize) -> String {
    fill(
        bytes,
        "<table class=\"w\" border=\"0\" width=\"100%\" cellspacing=\"0\"><tr><td align=\"left\">\r\n\
         <p style=\"margin:0; color:#333\">Your message could not be delivered.</p></td></tr>\r\n",
    )
}

fn english(bytes: usize) -> String {
    fill(
        bytes,
        "A message that you sent could not be delivered to one or more of its recip=\r\n\
         ients. This is a permanent error, and =E2=80=9Cuser unknown=E2=80=9D is the r=\r\n\
         eason that was given by the server of your recipient.=20\r\n",
    )
}

fn japanese(bytes: usize) -> String {
    fill(bytes, "=E3=83=A1=E3=83=BC=E3=83=AB=E3=82=92=E9=85=8D=E9=80=81=E3=81=A7=E3=81=\r\n=8D=E3=81=BE\r\n")
}

fn base64(text: &str) -> String {
    let encoded = STANDARD.encode(text);
    encoded.as_bytes().chunks(76).map(|line| format!("{}\r\n", String::from_utf8_lossy(line))).collect()
}
