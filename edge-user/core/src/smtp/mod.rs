//! The protocol of RFC 5321: lines, commands, replies and the order they may come in. Sans-I/O.

mod address;
mod answers;
mod capabilities;
mod command;
mod data;
#[cfg(test)]
mod dialogues;
mod event;
mod line;
mod params;
mod reply;
mod session;

pub use address::Address;
pub(crate) use address::{is_atext, is_domain, is_domain_name};
pub use capabilities::Capabilities;
pub use event::{CloseCause, EndOfData, Event, Limits, Mail, Offer, Rcpt, Step};
pub use reply::{Enhanced, NotAReply, Reply, UpstreamReply, read_reply};
pub use session::Session;
