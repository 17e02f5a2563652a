//! Tokens and tags: made and checked.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use edge_core::mailbox::Mailbox;
use edge_core::signature::{Candidate, Key, Keys, Uses, tags, tokens};
use edge_core::smtp::Address;
use edge_core::time::UnixMillis;

const NOW: UnixMillis = UnixMillis::from_secs(1_795_000_000);
const MAX_AGE: Duration = Duration::from_secs(16 * 86_400);

pub(crate) fn bench(criterion: &mut Criterion) {
    let keys = Keys::new((1..=3).map(|id| Key::new(id, [id; 32], NOW)).collect()).expect("each id once");
    let key = keys.get(2).expect("it was made");
    let mailbox = Mailbox::parse("user@example.jp").expect("it is an address");
    let token = tokens::issue(key, &mailbox, 1, NOW, [1; 6]);
    let tagged = tags::issue(key, "user", "example.jp", NOW).expect("it gets one") + "@example.jp";
    let tagged = Address::parse(tagged.as_bytes()).expect("it is an address");

    let mut group = criterion.benchmark_group("signature");
    group.bench_function("issue a token", |bencher| {
        bencher.iter(|| tokens::issue(black_box(key), &mailbox, 1, NOW, [1; 6]));
    });
    let verify = |candidate: &Candidate| tokens::verify(&keys, candidate, &mailbox, NOW, MAX_AGE);
    let right = token.candidate();
    assert!(verify(&right).is_ok());
    group.bench_function("verify a token", |bencher| bencher.iter(|| verify(black_box(&right))));
    let mut forged = right;
    forged.0[30] = if forged.0[30] == b'A' { b'B' } else { b'A' };
    assert!(verify(&forged).is_err());
    group.bench_function("refuse a forged token", |bencher| bencher.iter(|| verify(black_box(&forged))));
    group.bench_function("issue a tag", |bencher| {
        bencher.iter(|| tags::issue(black_box(key), "user", "example.jp", NOW));
    });
    group.bench_function("verify a tag", |bencher| {
        bencher.iter(|| tags::split(black_box(&tagged)).map(|tagged| tags::verify(&keys, &tagged, NOW)));
    });
    let known = tokens::verify(&keys, &right, &mailbox, NOW, MAX_AGE).expect("it was made here");
    let mut uses = Uses::new(1_000_000, MAX_AGE);
    group.bench_function("reserve and release a use", |bencher| {
        bencher.iter(|| {
            let reservation = uses.reserve(black_box(&known), NOW);
            uses.release(&known.nonce);
            reservation
        });
    });
    group.finish();
}
