//! What is inside a bounce: the scanner finds the tokens that came back, [`MessageIds`] which messages it
//! answers.

mod candidates;
mod kind;
pub mod message_ids;
mod names;
mod needle;
mod returned;
mod scanner;
mod search;
mod unwrapping;

pub use kind::{Confidence, Kind, Reading, Report, START_BYTES_MAX, prepare, read};
pub use message_ids::MessageIds;
pub use needle::Encoding;
pub use scanner::{CANDIDATES_MAX, Found, Scanner};
