//! What an SMTP session costs, in CPU time, beside the least that it can cost: `cargo xtask bench smtp`.
//!
//! - [`floor`]: a server with nothing in it but sockets, which is what all others are compared with; it is also the
//!   sink behind those that pass mail on;
//! - [`load`]: the clients, which check every reply and cost less than what they measure;
//! - [`row`]: what is measured, one dialogue each; [`message`]: the messages in them; [`reply`]: how replies are read;
//! - [`tls`]: how the clients go over to TLS, and resume;
//! - [`nginx`]: whom nginx's mail proxy asks where mail goes;
//! - [`held`]: connections that do nothing; [`slow`]: senders of an octet a second; [`memory`]: what servers keep;
//! - [`guest`]: both inside a guest, where far more connections can be held;
//! - [`cpu`]: CPU time of a process and all below it; [`pairs`]: ratios, their median and spread.
//!
//! Who is measured, how each is started and what the figures are held against stand in `xtask/src/bench/smtp/`.

pub mod cpu;
pub mod floor;
pub mod guest;
pub mod held;
pub mod load;
pub mod memory;
pub mod message;
pub mod nginx;
pub mod pairs;
mod pinned;
pub mod reply;
pub mod row;
pub mod slow;
pub mod tls;
