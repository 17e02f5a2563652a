//! Developer and operator tasks.
fn main() {}
