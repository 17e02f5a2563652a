//! What is known of a source: from SMTP events to credit, throttling and bans. Pure: time is passed in.
//!
//! The rule that everything here follows: *a refusal ends a bounce, a delay multiplies it*, and the servers that send
//! forged bounces are honest ones that send wanted mail too. So a source is never judged by one unwanted bounce; it
//! is slowed down first, and banned only when nothing good ever came from it.
//!
//! - Each source has a budget of connections, one of unproven bounces and one of wrong tags. Over one of them it hears
//!   421. Who goes on over that of connections or wrong tags for `over_budget_strikes` is banned; over that of bounces
//!   nobody is.
//! - Proven bounces and mail from domains that our users wrote to ([`Correspondents`]) earn *credit*, which halves in
//!   `credit_half_life`, widens the budgets, and is spent by what is unwanted.
//! - A source from which anything good came lately is never banned for a budget or for a flood's bounces, only slowed.
//!   Lately is within `credit_half_life`; for other accepted mail, within a day.
//! - Who speaks no SMTP, writes to a trap or holds connections in silence is banned, unless its credit pays for it. For
//!   the latter two nobody is who sent something proven or wanted lately.
//! - During a flood, a source that sent nothing good lately, and more than `flood_unproven_max` unproven bounces in this
//!   flood, is banned for at most `ban_flood_max`.
//! - Bans double from `ban_first` to `ban_max`; one step is forgotten for each `ban_max` that passes after the last.
//! - Sources in a never-ban prefix keep their budgets and are never banned.
//!
//! Bounds: `newcomers_max`, `credited_max` and `bans_max` entries (about 250 octets each), and no operation but
//! listing the bans takes longer the more there are. Not here: enforcing (the engine and the NIC do), and what counts
//! as a bounce or as proven.

mod allowance;
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

pub use allowance::{Allowances, Taken};
pub use ban::{Ban, BanRefused, Cause};
pub use correspondents::Correspondents;
pub use event::{Answer, Event};
pub use explain::{Explanation, Sizes};
pub use limits::Limits;
pub use sources::Reputation;
