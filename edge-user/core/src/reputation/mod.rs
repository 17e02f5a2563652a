//! What is known of a source: from SMTP events to credit, throttling and bans. Pure: time is passed in.
//!
//! The rule that everything here follows: *a refusal ends a bounce, a delay multiplies it*, and the servers that send
//! forged bounces are honest ones that send wanted mail too. So a source is never judged by one unwanted bounce; it
//! is slowed down first, and banned only when nothing good ever came from it.
//!
//! - Each source has a budget of connections and one of unproven bounces (and of wrong tags). Over one of them it
//!   hears 421; who goes on over budget for `over_budget_strikes` is banned.
//! - Proven bounces and mail from domains that our users wrote to ([`Correspondents`]) earn *credit*, which halves in
//!   `credit_half_life`, widens the budgets, and is spent by what is unwanted.
//! - A source from which anything good came is never banned for a budget or for a flood's bounces, only slowed.
//! - Who speaks no SMTP, writes to a trap or holds connections in silence is banned, unless its credit pays for it.
//! - During a flood, a source that sent nothing but unproven bounces, and too many of them, is banned for a while.
//! - Bans double from `ban_first` to `ban_max`; one step is forgotten for each `ban_max` that passes after the last.
//! - Sources in a never-ban prefix keep their budgets and are never banned.
//!
//! Bounds: `newcomers_max`, `credited_max` and `bans_max` entries (about 250 octets each), and no operation but
//! listing the bans takes longer the more there are. Not here: enforcing (the engine and the NIC do), and what counts
//! as a bounce or as proven.

mod ban;
mod budget;
mod correspondents;
mod event;
mod explain;
mod limits;
mod record;
mod sources;
mod table;
#[cfg(test)]
mod tests;

pub use ban::{Ban, BanRefused, Cause};
pub use correspondents::Correspondents;
pub use event::{Answer, Event};
pub use explain::{Explanation, Sizes};
pub use limits::Limits;
pub use sources::Reputation;
