//! Everything in Backstop that decides.
//!
//! Bytes, time and seeds go in; events and decisions come out. There is no I/O, no clock, no randomness, no
//! tokio and no `unsafe` here, so that every part can be fuzzed, property-tested and benchmarked by itself.
#![forbid(unsafe_code)]

pub mod bounce;
pub mod incident;
pub mod mailbox;
pub mod message;
pub mod policy;
pub mod reputation;
pub mod signature;
pub mod smtp;
pub mod source;
pub mod time;
pub mod watch;
