//! What is inside a bounce: the scanner finds the tokens that came back.

mod scanner;

pub use scanner::{Encoding, Found, Scanner};
