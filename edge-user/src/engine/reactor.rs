//! A worker's own epoll set, which stands in the runtime's set as one descriptor: the runtime wakes the worker, and the
//! worker wakes the seats whose sockets have news.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mio::{Events, Poll as Set, Registry};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// News that are fetched at once.
const EVENTS_MAX: usize = 1024;

/// The set.
pub(super) struct Reactor {
    set: AsyncFd<Set>,
    registry: Arc<Registry>,
    events: Events,
    /// There may be more than was fetched.
    more: bool,
}

impl Reactor {
    /// An empty one, in the runtime that runs this.
    ///
    /// # Errors
    /// No descriptors are left.
    pub(super) fn new() -> io::Result<Self> {
        let set = Set::new()?;
        let registry = Arc::new(set.registry().try_clone()?);
        Ok(Self { set: registered(set)?, registry, events: Events::with_capacity(EVENTS_MAX), more: false })
    }

    /// Where sockets are put into the set.
    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Waits for news.
    ///
    /// # Errors
    /// The set cannot be asked: nothing works any more.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&Events>> {
        if self.more {
            self.set.get_mut().poll(&mut self.events, Some(Duration::ZERO))?;
        } else {
            let mut news = ready!(self.set.poll_read_ready_mut(context))?;
            // First this, then the question: what comes behind the question is told anew.
            news.clear_ready();
            news.get_inner_mut().poll(&mut self.events, Some(Duration::ZERO))?;
        }
        self.more = self.events.iter().count() == EVENTS_MAX;
        Poll::Ready(Ok(&self.events))
    }
}

#[expect(
    deprecated,
    reason = "what replaces it is unsafe to call, for types whose descriptor may change or close before them: a set's does neither"
)]
fn registered(set: Set) -> io::Result<AsyncFd<Set>> {
    AsyncFd::with_interest(set, Interest::READABLE)
}
