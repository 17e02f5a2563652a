//! Backstop's load: what the Internet does to an edge, by seed, with a ledger of each message's fate.
//!
//! - [`reflector`]: servers that return bounces as real ones do, a queue each;
//! - [`honest`]: senders of wanted mail, whose latency is what a flood must not touch;
//! - [`bots`] and [`knock`]: sources that talk garbage, never stop, hold connections, knock past their budget;
//! - [`mass`]: all of it at once, in waves; [`feed`]: forged originals for a real server to bounce.
//!
//! The same seed makes the same messages, sources and times. Every load is bounded in count and time.
//! Nothing here decides whether the edge did well: the [`ledger`] says what the client saw, tests judge it.

pub mod bots;
pub mod bounce;
pub mod feed;
pub mod honest;
pub mod knock;
pub mod ledger;
pub mod mass;
pub mod message;
pub mod plan;
pub mod reflector;
pub mod smtp;
pub mod summary;

#[cfg(test)]
mod scripted;
