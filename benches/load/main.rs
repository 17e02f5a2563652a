//! Makes load.
fn main() {}
