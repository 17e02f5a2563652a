//! The open sessions, by source: their limits, and the way to make a source's sessions end before it is banned.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};

use edge_core::source::Source;
use tokio::sync::watch;

use super::locked;
use crate::telemetry::Direction;

/// What a session is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Leave {
    /// Go on.
    Stay,
    /// End at the next command border.
    AtBorder,
    /// End now.
    Now,
}

/// Why there is no place for a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoPlace {
    /// As many sessions as there may be.
    Full,
    /// As many sessions of this source as there may be.
    SourceFull,
}

/// All open sessions.
#[derive(Debug)]
pub struct Registry {
    state: Mutex<State>,
    sessions_max: usize,
    /// Places that no inbound session gets.
    outbound_reserved: usize,
    sessions_per_source_max: usize,
}

#[derive(Debug, Default)]
struct State {
    sessions: usize,
    sources: HashMap<Source, Sessions>,
}

#[derive(Debug)]
struct Sessions {
    count: usize,
    leave: watch::Sender<Leave>,
}

impl Registry {
    /// Nobody is here yet. `outbound_reserved` of all places, at most half, are for outbound sessions only.
    #[must_use]
    pub fn new(sessions_max: usize, outbound_reserved: usize, sessions_per_source_max: usize) -> Arc<Self> {
        let outbound_reserved = outbound_reserved.min(sessions_max / 2);
        Arc::new(Self { state: Mutex::default(), sessions_max, outbound_reserved, sessions_per_source_max })
    }

    /// Open sessions.
    #[must_use]
    pub fn sessions(&self) -> usize {
        locked(&self.state).sessions
    }

    /// A session begins.
    pub(crate) fn enter(self: &Arc<Self>, source: Source, direction: Direction) -> Result<Ticket, NoPlace> {
        let places = match direction {
            Direction::Inbound => self.sessions_max - self.outbound_reserved,
            Direction::Outbound => self.sessions_max,
        };
        let mut state = locked(&self.state);
        if state.sessions >= places {
            return Err(NoPlace::Full);
        }
        let sessions = state
            .sources
            .entry(source)
            .or_insert_with(|| Sessions { count: 0, leave: watch::Sender::new(Leave::Stay) });
        if sessions.count >= self.sessions_per_source_max {
            return Err(NoPlace::SourceFull);
        }
        sessions.count += 1;
        let leave = sessions.leave.subscribe();
        state.sessions += 1;
        Ok(Ticket { registry: Arc::clone(self), source, leave })
    }

    /// Asks all sessions of a source to leave. Whether there are any.
    pub(crate) fn ask(&self, source: Source, leave: Leave) -> bool {
        match locked(&self.state).sources.get(&source) {
            None => false,
            Some(sessions) => {
                sessions.leave.send_replace(leave);
                true
            }
        }
    }

    /// Asks all sessions to leave.
    pub(crate) fn ask_all(&self, leave: Leave) {
        for sessions in locked(&self.state).sources.values() {
            sessions.leave.send_replace(leave);
        }
    }

    /// Waits until a source has no session.
    pub(crate) async fn gone(&self, source: Source) {
        let leave = locked(&self.state).sources.get(&source).map(|sessions| sessions.leave.clone());
        if let Some(leave) = leave {
            // Closed when the last ticket is dropped.
            leave.closed().await;
        }
    }

    fn left(&self, source: Source) {
        let mut state = locked(&self.state);
        state.sessions -= 1;
        if let Entry::Occupied(mut entry) = state.sources.entry(source) {
            entry.get_mut().count -= 1;
            if entry.get().count == 0 {
                entry.remove();
            }
        }
    }
}

/// A session's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    registry: Arc<Registry>,
    source: Source,
    leave: watch::Receiver<Leave>,
}

impl Ticket {
    pub(crate) fn leave(&self) -> Leave {
        *self.leave.borrow()
    }

    /// Waits until the session is asked for something else than before.
    pub(crate) async fn changed(&mut self) {
        if self.leave.changed().await.is_err() {
            // The registry keeps the sender as long as this ticket lives.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.registry.left(self.source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        text.parse().expect("a source")
    }

    #[test]
    fn places_are_bounded_in_all_and_by_source_and_come_back() {
        let registry = Registry::new(3, 0, 2);
        let (one, two) = (source("192.0.2.1"), source("192.0.2.2"));
        let first = registry.enter(one, Direction::Inbound).expect("a place");
        let _second = registry.enter(one, Direction::Inbound).expect("a place");
        assert_eq!(registry.enter(one, Direction::Inbound).err(), Some(NoPlace::SourceFull));
        let _third = registry.enter(two, Direction::Inbound).expect("a place");
        assert_eq!(registry.enter(two, Direction::Inbound).err(), Some(NoPlace::Full));
        drop(first);
        assert!(registry.enter(two, Direction::Inbound).is_ok());
    }

    #[test]
    fn strangers_do_not_get_the_places_of_the_outbound_listener() {
        let registry = Registry::new(4, 1, 9);
        let (stranger, own) = (source("192.0.2.1"), source("192.0.2.2"));
        let _held: Vec<_> =
            (0..3).map(|_| registry.enter(stranger, Direction::Inbound).expect("a place")).collect();
        assert_eq!(registry.enter(stranger, Direction::Inbound).err(), Some(NoPlace::Full));
        let last = registry.enter(own, Direction::Outbound);
        assert!(last.is_ok());
        assert_eq!(registry.enter(own, Direction::Outbound).err(), Some(NoPlace::Full));
        assert!(
            Registry::new(1, 64, 9).enter(stranger, Direction::Inbound).is_ok(),
            "never all are reserved"
        );
    }

    #[test]
    fn a_source_is_asked_to_leave_and_others_are_not() {
        let registry = Registry::new(9, 0, 9);
        let (one, two) = (source("192.0.2.1"), source("2001:2:0:9::/64"));
        let (asked, other) = (
            registry.enter(one, Direction::Inbound).expect("a place"),
            registry.enter(two, Direction::Inbound).expect("a place"),
        );
        assert!(registry.ask(one, Leave::AtBorder));
        assert_eq!((asked.leave(), other.leave()), (Leave::AtBorder, Leave::Stay));
        drop(asked);
        assert!(!registry.ask(one, Leave::Now));
        assert_eq!(registry.enter(one, Direction::Inbound).expect("a place").leave(), Leave::Stay);
    }
}
