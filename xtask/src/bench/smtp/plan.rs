//! What is measured in each row: whom, how many sessions, and the goal.

use bench_smtp::row::Row;

use super::subject::Subject;

/// Backstop's cost is to be at most so many times another's.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Goal {
    pub(super) times: f64,
    pub(super) of: Subject,
}

/// How a row is measured.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The floor (where it speaks the row's dialogue) and Backstop first.
    pub(super) subjects: Vec<Subject>,
    /// Sessions each time: about half a second's worth of the floor's time on a machine that is idle.
    pub(super) sessions: u64,
    /// Sessions at once.
    pub(super) at_once: u32,
    pub(super) goal: Goal,
}

impl Plan {
    /// For one server: one that costs ten times as much is measured as well with fewer sessions.
    pub(super) fn of(mut self, subject: Subject) -> Self {
        if subject == Subject::Postfix {
            self.sessions = self.sessions.div_ceil(5);
        }
        self
    }
}

/// The table of the issue, row by row.
pub(super) fn of(row: Row) -> Plan {
    use Subject::{Floor, HaProxy, Nginx, Postfix, SinkAccepts, SinkRefuses};
    let (peers, sessions, at_once, times, reference): (&[Subject], _, _, _, _) = match row {
        Row::RefusedRcpt => (&[SinkRefuses, HaProxy, Postfix], 10_000, 50, 1.2, Floor),
        Row::RefusedData => (&[HaProxy], 10_000, 50, 1.3, Floor),
        Row::ScannedDiscarded => (&[SinkAccepts, HaProxy], 8_000, 50, 1.25, Floor),
        Row::Proxied4k => (&[HaProxy, Nginx, Postfix], 6_000, 50, 0.8, HaProxy),
        Row::Pipelined20 => (&[SinkAccepts, HaProxy], 1_000, 50, 1.25, Floor),
        // Each CPU second is to pass on at least as many octets: the same as at most the CPU time for the same octets.
        Row::Proxied10m => (&[HaProxy], 60, 8, 1.0, HaProxy),
        Row::Tls4k => (&[Nginx], 3_000, 50, 1.0, Nginx),
    };
    let ours: &[Subject] = if row.is_over_tls() { &[Subject::Backstop] } else { &[Floor, Subject::Backstop] };
    let subjects = [ours, peers].concat();
    Plan { subjects, sessions, at_once, goal: Goal { times, of: reference } }
}
