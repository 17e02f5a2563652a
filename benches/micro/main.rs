//! What the hot paths cost by themselves: `cargo bench -p backstop-benches --bench micro`.

mod parser;
mod scanner;
mod signature;

criterion::criterion_group!(
    benches,
    parser::bench,
    scanner::bench,
    scanner::bench_message_ids,
    signature::bench
);
criterion::criterion_main!(benches);
