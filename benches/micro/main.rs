//! What the hot paths cost by themselves: `cargo bench -p backstop-benches --bench micro`.

mod parser;
mod scanner;
mod signature;

criterion::criterion_group!(benches, parser::bench, scanner::bench, signature::bench);
criterion::criterion_main!(benches);
