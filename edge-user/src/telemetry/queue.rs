//! The log's queue: each worker adds to a list of its own, and the log's thread takes all lists at once.
//!
//! Nobody wakes that thread for a line while it is at work anyway: it comes again every [`BATCH`] for as long as lines
//! come. Only the first line after a silence rings for it, and that one is written at once. A list is locked by the
//! thread for as long as it takes to change it for an empty one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};
use crossbeam::utils::CachePadded;
use edge_core::time::UnixMillis;

use super::event::Event;
use super::shard::{self, SHARDS};

/// How long a line waits for others at most.
const BATCH: Duration = Duration::from_millis(20);

/// One line, and when it was said.
pub(super) type Line = (UnixMillis, Event);

/// Where lines are added. Clones add to the same queue.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    lists: Arc<Lists>,
    bell: Sender<()>,
}

/// Where they are taken; it hears when every [`Queue`] is gone.
#[derive(Debug)]
pub(super) struct Taker {
    lists: Arc<Lists>,
    bell: Receiver<()>,
    /// What was taken last, by shards: empty lists, to be changed for full ones.
    taken: Vec<Vec<Line>>,
    merged: Vec<Line>,
    /// Lines came the last time: there may be more soon.
    busy: bool,
}

#[derive(Debug)]
struct Lists {
    by_shard: [CachePadded<Mutex<Vec<Line>>>; SHARDS],
    /// Lines in all lists, and those that the thread has taken and not written yet.
    waiting: CachePadded<AtomicUsize>,
    /// The thread will come only when somebody rings.
    asleep: CachePadded<AtomicBool>,
    /// Who wants to know that all that was added is written.
    flushes: Mutex<Vec<Sender<()>>>,
}

/// An empty queue.
pub(super) fn new() -> (Queue, Taker) {
    let lists = Arc::new(Lists {
        by_shard: std::array::from_fn(|_| CachePadded::default()),
        waiting: CachePadded::default(),
        asleep: CachePadded::new(AtomicBool::new(true)),
        flushes: Mutex::default(),
    });
    let (bell, rung) = channel::bounded(1);
    let taken = (0..SHARDS).map(|_| Vec::new()).collect();
    (
        Queue { lists: Arc::clone(&lists), bell },
        Taker { lists, bell: rung, taken, merged: Vec::new(), busy: false },
    )
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// Adds a line, unless so many wait already. Whether it was added.
    pub(super) fn add(&self, line: Line, waiting_max: usize) -> bool {
        // Two threads may both see the last place and take one too many: the kept ones are plenty.
        if self.lists.waiting.load(Ordering::Relaxed) >= waiting_max {
            return false;
        }
        locked(&self.lists.by_shard[shard::here()]).push(line);
        self.lists.waiting.fetch_add(1, Ordering::SeqCst);
        // The thread says that it sleeps before it looks a last time: one of both sees the other.
        if self.lists.asleep.load(Ordering::SeqCst) && self.lists.asleep.swap(false, Ordering::SeqCst) {
            self.ring();
        }
        true
    }

    /// Waits until all that was added before is written, `deadline` at most. `false`: it was not in time.
    pub(super) fn flush(&self, deadline: Duration) -> bool {
        let (done, told) = channel::bounded(1);
        locked(&self.lists.flushes).push(done);
        self.ring();
        told.recv_timeout(deadline).is_ok()
    }

    fn ring(&self) {
        // A full bell has been rung and not been heard yet: once is enough.
        let _ = self.bell.try_send(());
    }
}

/// What to do after the lines were taken.
pub(super) enum Next {
    /// Come again.
    More,
    /// Every [`Queue`] is gone, and what was left is taken.
    End,
}

impl Taker {
    /// Waits for lines and hands them to `write`, those of one thread in their order, all together by their time; then
    /// says that they are written to who wants to know.
    pub(super) fn take(&mut self, mut write: impl FnMut(std::vec::Drain<'_, Line>)) -> Next {
        let next = self.wait();
        let flushes = std::mem::take(&mut *locked(&self.lists.flushes));
        for (list, taken) in self.lists.by_shard.iter().zip(&mut self.taken) {
            std::mem::swap(&mut *locked(list), taken);
        }
        let count: usize = self.taken.iter().map(Vec::len).sum();
        self.busy = count > 0;
        if let Some(only) = self.taken.iter_mut().find(|lines| self.busy && lines.len() == count) {
            write(only.drain(..));
        } else {
            self.merge();
        }
        if !self.merged.is_empty() || !flushes.is_empty() {
            write(self.merged.drain(..));
        }
        self.lists.waiting.fetch_sub(count, Ordering::Relaxed);
        for done in flushes {
            // Who asked may have given up waiting.
            let _ = done.send(());
        }
        next
    }

    /// Brings the lines of all threads together by their time.
    fn merge(&mut self) {
        for lines in &mut self.taken {
            // A clock that went backwards must not turn the lines of one thread around.
            let mut latest = UnixMillis(0);
            self.merged.extend(lines.drain(..).map(|(at, event)| {
                latest = latest.max(at);
                (latest, event)
            }));
        }
        self.merged.sort_by_key(|(at, _)| *at);
    }

    fn wait(&self) -> Next {
        let Lists { waiting, asleep, flushes, .. } = &*self.lists;
        if !self.busy {
            asleep.store(true, Ordering::SeqCst);
            let rung = if waiting.load(Ordering::SeqCst) == 0 && locked(flushes).is_empty() {
                self.bell.recv()
            } else {
                Ok(())
            };
            asleep.store(false, Ordering::SeqCst);
            return rung.map_or(Next::End, |()| Next::More);
        }
        match self.bell.recv_timeout(BATCH) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => Next::More,
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }
}
