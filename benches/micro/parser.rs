//! The SMTP session: a client's whole dialogue, pipelined as real servers do it, and the body of its message.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use edge_core::smtp::{Event, Limits, Offer, Session};

const LIMITS: Limits =
    Limits { line_bytes_max: 2048, recipients_max: 100, errors_max: 10, message_bytes_max: 50 << 20 };

const ENVELOPE: &str = "EHLO mx.example.net\r\n\
    MAIL FROM:<> SIZE=4096\r\n\
    RCPT TO:<prvs=3788b9ac3e=user@example.jp>\r\n\
    DATA\r\n";

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parser");
    let refused = format!("{ENVELOPE}QUIT\r\n");
    group.throughput(Throughput::Bytes(refused.len() as u64));
    group.bench_function("a dialogue that ends before its message", |bencher| {
        bencher.iter(|| dialogue(black_box(refused.as_bytes()), Answers::RefuseData));
    });
    for (name, kilobytes) in [("4 KB", 4), ("64 KB", 64)] {
        let body = "Diagnostic-Code: smtp; 550 5.1.1 user unknown, and more words on the line\r\n";
        let body = body.repeat(kilobytes * 1024 / body.len());
        let whole = format!("{ENVELOPE}{body}.\r\nQUIT\r\n");
        group.throughput(Throughput::Bytes(whole.len() as u64));
        group.bench_function(format!("a dialogue with a message of {name}"), |bencher| {
            bencher.iter(|| dialogue(black_box(whole.as_bytes()), Answers::AcceptAll));
        });
    }
    group.finish();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    AcceptAll,
    RefuseData,
}

/// The octets of body that the session handed out.
fn dialogue(mut input: &[u8], answers: Answers) -> usize {
    let mut session = Session::new("edge.example".into(), LIMITS, Offer::default());
    let mut out = Vec::with_capacity(1024);
    session.greet(&mut out);
    let mut body = 0;
    loop {
        let step = session.next(input, &mut out);
        input = &input[step.consumed..];
        match step.event {
            Event::Data if answers == Answers::RefuseData => {
                session.refuse(
                    &edge_core::smtp::Reply::new(550, edge_core::smtp::Enhanced(5, 7, 1), "No"),
                    &mut out,
                );
            }
            Event::Mail(_) | Event::Rcpt(_) | Event::Data | Event::End(_) => session.accept(&mut out),
            Event::Body(piece) => body += piece.len(),
            Event::Answered | Event::Reset | Event::StartTls => {}
            Event::Close(_) => return body,
            Event::NeedMore => panic!("the dialogue ends with QUIT"),
        }
    }
}
