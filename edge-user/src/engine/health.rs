//! How each upstream is doing: what sessions go by, and what `backstop status` shows.

use std::net::SocketAddr;

use edge_core::smtp::Capabilities;
use edge_core::time::UnixMillis;

/// Whether an upstream answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Not asked yet.
    Unasked,
    /// It answered EHLO so.
    Up(Capabilities),
    /// It did not answer; what it offered before, if it ever did.
    Down(Option<Capabilities>),
}

impl State {
    pub(super) fn capabilities(self) -> Option<Capabilities> {
        match self {
            Self::Unasked => None,
            Self::Up(capabilities) => Some(capabilities),
            Self::Down(before) => before,
        }
    }

    /// Whether it answers; `None`: it was not asked.
    pub(super) fn is_up(self) -> Option<bool> {
        match self {
            Self::Unasked => None,
            Self::Up(_) => Some(true),
            Self::Down(_) => Some(false),
        }
    }
}

/// What is known of one.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) state: State,
    /// When it was first found to be up, or down, as it is now.
    since: Option<UnixMillis>,
    last_fault: Option<LastFault>,
}

/// What went wrong last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LastFault {
    /// When.
    pub(crate) at: UnixMillis,
    /// What, in words.
    pub(crate) text: String,
}

impl Health {
    pub(super) const UNASKED: Self = Self { state: State::Unasked, since: None, last_fault: None };

    /// It is so from `now` on; the state before.
    pub(super) fn is_now(&mut self, state: State, now: UnixMillis) -> State {
        let before = std::mem::replace(&mut self.state, state);
        if before.is_up() != state.is_up() {
            self.since = Some(now);
        }
        before
    }

    /// Something went wrong.
    pub(super) fn failed(&mut self, text: String, now: UnixMillis) {
        self.last_fault = Some(LastFault { at: now, text });
    }

    /// For who asks.
    pub(super) fn report(&self, address: SocketAddr) -> Report {
        Report {
            address,
            inbound: false,
            outbound: false,
            up: self.state.is_up(),
            since: self.since,
            last_fault: self.last_fault.clone(),
            connections: 0,
            connections_max: 0,
            kept: 0,
            waiting: 0,
        }
    }
}

/// How an upstream, or a next hop, is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Report {
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// Mail from the Internet goes there.
    pub(crate) inbound: bool,
    /// Mail to the Internet goes there.
    pub(crate) outbound: bool,
    /// Whether it answers; `None`: it was not asked yet.
    pub(crate) up: Option<bool>,
    /// Since when it does, or does not.
    pub(crate) since: Option<UnixMillis>,
    /// What went wrong last, also where all is well again.
    pub(crate) last_fault: Option<LastFault>,
    /// Connections for mail that are open, kept ones included, and how many may be.
    pub(crate) connections: usize,
    /// See there.
    pub(crate) connections_max: usize,
    /// Connections that wait for their next transaction.
    pub(crate) kept: usize,
    /// Sessions that wait for a connection, because as many are open as may be.
    pub(crate) waiting: usize,
}
