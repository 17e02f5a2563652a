//! What becomes of a message: the state machine of its fate, the loop count, and the header fields that we add.

mod fate;
pub mod header;
pub mod outgoing;
mod received;
mod received_count;

pub use fate::{Fate, Happening, JudgeWhen, Order, Refusal};
pub use received::Received;
pub use received_count::{RECEIVED_MAX, ReceivedCount};
