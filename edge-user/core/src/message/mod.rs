//! What becomes of a message: the state machine of its fate, the loop count, the header fields that we add or
//! take off, and its form on disk.

mod fate;
pub mod header;
mod on_disk;
pub mod outgoing;
mod received;
mod received_count;
pub mod secret_field;

pub use fate::{Fate, Happening, JudgeWhen, Order, Refusal, Unkept};
pub use on_disk::{ToDisk, ToWire};
pub use received::Received;
pub use received_count::{RECEIVED_MAX, ReceivedCount};
