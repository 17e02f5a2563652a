//! How each upstream is doing: what sessions go by, and what `backstop status` shows.

use std::net::SocketAddr;
use std::time::Duration;

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
    /// What was logged last.
    logged: Option<LastFault>,
}

/// Another cause than the one that was logged is news after so long: two that take turns do not fill the log.
const NEWS_AFTER: Duration = Duration::from_secs(60);

/// What went wrong last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LastFault {
    /// When.
    pub(crate) at: UnixMillis,
    /// What, in words.
    pub(crate) text: String,
}

impl Health {
    pub(super) const UNASKED: Self =
        Self { state: State::Unasked, since: None, last_fault: None, logged: None };

    /// It is so from `now` on; the state before.
    pub(super) fn is_now(&mut self, state: State, now: UnixMillis) -> State {
        let before = std::mem::replace(&mut self.state, state);
        if before.is_up() != state.is_up() {
            self.since = Some(now);
        }
        before
    }

    /// Something went wrong. Whether that is news: it was well before, or is down for another cause.
    pub(super) fn failed(&mut self, text: String, now: UnixMillis) -> bool {
        let before = self.is_now(State::Down(self.state.capabilities()), now);
        let is_known = |logged: &LastFault| logged.text == text || now.since(logged.at) < NEWS_AFTER;
        let is_news = before.is_up() != Some(false) || !self.logged.as_ref().is_some_and(is_known);
        let fault = LastFault { at: now, text };
        if is_news {
            self.logged = Some(fault.clone());
        }
        self.last_fault = Some(fault);
        is_news
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_news_once_and_another_one_after_a_minute() {
        let (mut health, at) = (Health::UNASKED, UnixMillis::from_secs);
        let mut failed = |secs, text: &str| health.failed(text.to_owned(), at(secs));
        assert!(failed(0, "refused"), "it was not known to be down");
        assert!(!failed(1, "refused") && !failed(100, "refused"), "nothing is new");
        assert!(failed(101, "tls"), "another cause");
        assert!(!failed(103, "refused") && !failed(160, "refused"), "they take turns");
        assert!(failed(161, "refused"));
        assert_eq!(health.is_now(State::Up(Capabilities::default()), at(162)), State::Down(None));
        assert!(health.failed("refused".to_owned(), at(163)), "it was up in between");
        assert_eq!((health.state, health.since), (State::Down(Some(Capabilities::default())), Some(at(163))));
    }
}
