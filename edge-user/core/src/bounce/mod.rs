//! What is inside a bounce: the scanner finds the tokens that came back.

mod candidates;
mod kind;
mod needle;
mod scanner;
mod unwrapping;

pub use kind::Kind;
pub use needle::Encoding;
pub use scanner::{CANDIDATES_MAX, Found, Scanner};
