//! Counters for work done, and the event log: one line a verdict, one line for whatever else happens to the edge.
//!
//! The hot path counts and queues; a thread of its own formats and writes. Nothing here ever makes mail wait: a log
//! that cannot keep up loses lines, counts them and says so.

mod diagnostics;
mod event;
mod format;
mod hashing;
mod log;
mod metrics;
mod queue;
pub(crate) mod shard;
mod why;

pub use diagnostics::install as install_diagnostics;
pub use event::{Direction, Event, Level, RECIPIENTS_NAMED_MAX, VerdictLine};
pub use hashing::AddressHasher;
pub use log::{EventLog, Settings, Waiting};
pub use metrics::{Counter, Metrics};
pub use why::Why;
