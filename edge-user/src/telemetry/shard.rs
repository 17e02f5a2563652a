//! Which worker's thread this is, so that what each counts for itself and nobody locks is kept apart by cores.

use std::cell::Cell;

/// How many threads have a shard of their own; further workers share them. Shard 0 is everybody's who is no worker.
pub(crate) const SHARDS: usize = 32;

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(0) };
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// This thread is the worker of that number, one of so many, from now on.
pub(crate) fn is_workers(number: usize, workers: usize) {
    HERE.set(1 + number % (SHARDS - 1));
    ALONE.set(workers < SHARDS);
}

/// This thread's shard.
pub(crate) fn here() -> usize {
    HERE.get()
}

/// Whether no other thread has this shard: what it counts there needs no locked operation.
pub(crate) fn is_alone() -> bool {
    ALONE.get()
}
