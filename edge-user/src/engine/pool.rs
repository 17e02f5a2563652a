//! Read buffers: taken from a bounded pool, given back when they are empty.
//!
//! A session has a buffer only while there are bytes in it: thousands of silent sessions cost none, and who waits with a
//! part of a line has it in a copy as long as that part. A held bounce keeps the very buffers it was read into ([`Held`]),
//! until it goes to the upstream or is let go.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::queue::ArrayQueue;

use crate::config::READ_BUFFER_BYTES;

/// Size of each buffer, in octets: no command line is longer, and it is a read's worth of a message.
pub(crate) const BUFFER_BYTES: usize = READ_BUFFER_BYTES;

/// Size of each record buffer, in octets: the longest record of TLS (RFC 8446 section 5.2; RFC 5246 section 6.2.3 allows
/// more).
const RECORD_BYTES: usize = 5 + (16 << 10) + 2048;

/// Size of each large buffer, in octets, and how many there are at most: for messages that come faster than ordinary
/// buffers are emptied. The more a read brings, the fewer wake-ups and calls of the kernel a message costs.
pub(crate) const LARGE_BYTES: usize = 128 << 10;
pub(crate) const LARGE_MAX: usize = 64;

/// Octets that a session which waits for more has in a copy of their length, and not in a buffer: at most so many. Those of
/// whoever trickles are few; who sends as others do rarely waits with any.
const REST_BYTES_MAX: usize = 512;

/// Most idle record buffers that are kept. A worker needs one for a moment; only a record that has not come whole, or
/// that a client does not take, keeps one longer.
const IDLE_RECORDS_MAX: usize = 256;

/// The share of all that may be held, in percent, that is there for every source; the rest is for those with credit.
const FOR_EVERYONE_PERCENT: usize = 80;

thread_local! {
    /// The buffer that this thread gave back last: it is warm, and the next session that reads here takes it. One a thread.
    static AT_HAND: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Idle buffers, at most as many as it was made for; and the count of what all sessions hold.
#[derive(Debug)]
pub struct Pool {
    idle: ArrayQueue<Box<[u8]>>,
    idle_records: ArrayQueue<Box<[u8]>>,
    idle_large: ArrayQueue<Box<[u8]>>,
    /// Large ones, idle or not.
    large: AtomicUsize,
    held_bytes: AtomicUsize,
    held_bytes_max: usize,
    #[cfg(test)]
    out: std::sync::atomic::AtomicIsize,
}

impl Pool {
    /// A pool that keeps at most `idle_max` idle buffers, and lets at most `held_bytes_max` octets be held.
    #[must_use]
    pub fn new(idle_max: usize, held_bytes_max: usize) -> Arc<Self> {
        let idle = ArrayQueue::new(idle_max.max(1));
        let idle_records = ArrayQueue::new(IDLE_RECORDS_MAX);
        Arc::new(Self {
            idle,
            idle_records,
            idle_large: ArrayQueue::new(LARGE_MAX),
            large: AtomicUsize::new(0),
            held_bytes: AtomicUsize::new(0),
            held_bytes_max,
            #[cfg(test)]
            out: Default::default(),
        })
    }

    /// Buffers that were taken and not given back.
    #[cfg(test)]
    pub(crate) fn out(&self) -> isize {
        self.out.load(Ordering::Relaxed)
    }

    /// Whether a large one was ever needed.
    #[cfg(test)]
    pub(crate) fn has_large(&self) -> bool {
        self.large.load(Ordering::Relaxed) > 0
    }

    /// Ordinary buffers that wait to be taken, with the one at this thread's hand.
    #[cfg(test)]
    pub(crate) fn idle(&self) -> usize {
        let at_hand = AT_HAND.take();
        let count = self.idle.len() + usize::from(at_hand.is_some());
        AT_HAND.set(at_hand);
        count
    }

    fn note_out(&self, _change: isize) {
        #[cfg(test)]
        self.out.fetch_add(_change, Ordering::Relaxed);
    }

    pub(crate) fn take(&self) -> Buffer {
        self.note_out(1);
        let octets = AT_HAND.take().or_else(|| self.idle.pop());
        let octets = octets.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
        Buffer { octets, start: 0, end: 0 }
    }

    /// A buffer that a record of TLS fits into.
    pub(crate) fn take_record(&self) -> Buffer {
        self.note_out(1);
        let octets = self.idle_records.pop().unwrap_or_else(|| vec![0; RECORD_BYTES].into_boxed_slice());
        Buffer { octets, start: 0, end: 0 }
    }

    /// A large buffer, if there is one left.
    pub(crate) fn take_large(&self) -> Option<Buffer> {
        let make = || {
            let one_more = |large: usize| (large < LARGE_MAX).then_some(large + 1);
            self.large.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
            Some(vec![0; LARGE_BYTES].into_boxed_slice())
        };
        let octets = self.idle_large.pop().or_else(make)?;
        self.note_out(1);
        Some(Buffer { octets, start: 0, end: 0 })
    }

    /// For a wait: where there are few octets in it, a copy as long as they are takes its place, and it serves others
    /// meanwhile. Each octet stays at its place.
    pub(crate) fn tighten(&self, buffer: Buffer) -> Buffer {
        if buffer.end > REST_BYTES_MAX || buffer.is_tight() {
            return buffer;
        }
        let rest =
            Buffer { octets: buffer.octets[..buffer.end].into(), start: buffer.start, end: buffer.end };
        self.note_out(1);
        self.give_back(buffer);
        rest
    }

    /// Behind the wait: the octets of such a copy, at their places in `buffer`, which is empty.
    pub(crate) fn widen(&self, rest: Buffer, mut buffer: Buffer) -> Buffer {
        buffer.octets[..rest.end].copy_from_slice(&rest.octets[..rest.end]);
        (buffer.start, buffer.end) = (rest.start, rest.end);
        self.give_back(rest);
        buffer
    }

    pub(crate) fn give_back(&self, buffer: Buffer) {
        self.note_out(-1);
        // A full pool drops it, and what grew, or is but a copy of a rest, is of no use to others.
        let _ = match buffer.octets.len() {
            BUFFER_BYTES => {
                AT_HAND.replace(Some(buffer.octets)).map_or(Ok(()), |other| self.idle.push(other))
            }
            RECORD_BYTES => self.idle_records.push(buffer.octets),
            // Has room for all there are.
            LARGE_BYTES => self.idle_large.push(buffer.octets),
            _ => Ok(()),
        };
    }

    /// Octets held by all sessions.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    fn for_everyone(&self) -> usize {
        self.held_bytes_max / 100 * FOR_EVERYONE_PERCENT
    }

    /// Whether so much is held that only sources with credit may hold more.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.held_bytes().saturating_add(BUFFER_BYTES) > self.for_everyone()
    }

    fn reserve(&self, bytes: usize, has_credit: bool) -> bool {
        let most = if has_credit { self.held_bytes_max } else { self.for_everyone() };
        let room = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= most);
        self.held_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    fn release(&self, bytes: usize) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// One buffer; what is unread lies in `start..end`.
#[derive(Debug)]
pub(crate) struct Buffer {
    octets: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(crate) fn unread(&self) -> &[u8] {
        &self.octets[self.start..self.end]
    }

    pub(crate) fn unread_mut(&mut self) -> &mut [u8] {
        &mut self.octets[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.start, "only what is there can be consumed");
        self.start = self.end.min(self.start + count);
    }

    /// The room behind what is unread.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.octets[self.end..]
    }

    pub(crate) fn filled(&mut self, count: usize) {
        self.end = self.octets.len().min(self.end + count);
    }

    /// Makes it so long, where it is shorter.
    pub(crate) fn grow(&mut self, bytes: usize) {
        let mut octets = std::mem::take(&mut self.octets).into_vec();
        octets.resize(bytes.max(octets.len()), 0);
        self.octets = octets.into_boxed_slice();
    }

    /// Where the unread octets begin.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Octets by their place; empty where there are none.
    pub(crate) fn octets(&self, range: Range<usize>) -> &[u8] {
        self.octets.get(range).unwrap_or_default()
    }

    /// Whether it is one of the large ones.
    pub(crate) fn is_large(&self) -> bool {
        self.octets.len() == LARGE_BYTES
    }

    /// Whether it is only as long as what is in it ([`Pool::tighten`]).
    pub(crate) fn is_tight(&self) -> bool {
        self.octets.len() < BUFFER_BYTES
    }

    /// Moves what is unread to the front, over what is consumed.
    pub(crate) fn compact(&mut self) {
        self.octets.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }
}

/// What is held of one message: the pieces in the buffers they were read into.
///
/// The last buffer may still be the connection's read buffer: its pieces are kept as ranges, and move in here with
/// it when it is full ([`Held::seal`]).
#[derive(Debug)]
pub(crate) struct Held {
    pool: Arc<Pool>,
    sealed: Vec<(Buffer, Vec<Range<usize>>)>,
    open: Vec<Range<usize>>,
    bytes: usize,
}

impl Held {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, sealed: Vec::new(), open: Vec::new(), bytes: 0 }
    }

    /// Begins anew, with buffers of `pool`: nothing is held.
    pub(crate) fn begin(&mut self, pool: &Arc<Pool>) {
        debug_assert!(self.bytes == 0 && self.open.is_empty() && self.sealed.is_empty(), "it was let go");
        if !Arc::ptr_eq(&self.pool, pool) {
            self.pool = Arc::clone(pool);
        }
    }

    /// Octets held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds the octets `range` of the read buffer. `false`: all sessions together hold as much as they may, or as
    /// much as is there for a source without credit.
    #[must_use]
    pub(crate) fn hold(&mut self, range: Range<usize>, has_credit: bool) -> bool {
        if !self.pool.reserve(range.len(), has_credit) {
            return false;
        }
        self.bytes += range.len();
        match self.open.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            Some(_) | None => self.open.push(range),
        }
        true
    }

    /// Whether pieces lie in the read buffer: then it must not be compacted, but sealed when it is full.
    pub(crate) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Takes over the read buffer that the latest pieces lie in.
    pub(crate) fn seal(&mut self, buffer: Buffer) {
        self.sealed.push((buffer, std::mem::take(&mut self.open)));
    }

    /// All pieces in order; `read_buffer` is the one that the open ones lie in.
    pub(crate) fn pieces<'h>(
        &'h self,
        read_buffer: Option<&'h Buffer>,
    ) -> impl Iterator<Item = &'h [u8]> + Clone {
        let sealed =
            self.sealed.iter().flat_map(|(buffer, ranges)| ranges.iter().map(|r| &buffer.octets[r.clone()]));
        let open = read_buffer
            .into_iter()
            .flat_map(|buffer| self.open.iter().map(|range| &buffer.octets[range.clone()]));
        sealed.chain(open)
    }

    /// Frees all that is held.
    pub(crate) fn let_go(&mut self) {
        self.pool.release(std::mem::take(&mut self.bytes));
        for (buffer, _) in self.sealed.drain(..) {
            self.pool.give_back(buffer);
        }
        self.open.clear();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pool: &Pool, text: &[u8]) -> Buffer {
        let mut buffer = pool.take();
        buffer.room()[..text.len()].copy_from_slice(text);
        buffer.filled(text.len());
        buffer
    }

    #[test]
    fn what_is_held_comes_back_in_order_from_all_buffers() {
        let pool = Pool::new(4, 100);
        let mut held = Held::new(Arc::clone(&pool));
        assert!(held.hold(0..2, true) && held.hold(2..4, true));
        held.seal(filled(&pool, b"abcd"));
        assert!(held.hold(1..3, true));
        let read_buffer = filled(&pool, b"xefx");
        assert!(held.pieces(Some(&read_buffer)).eq([b"abcd".as_slice(), b"ef"]));
        assert_eq!(pool.held_bytes(), 6);
    }

    #[test]
    fn there_are_so_many_large_buffers_and_they_come_back() {
        let pool = Pool::new(4, 100);
        let all: Vec<_> = std::iter::from_fn(|| pool.take_large()).collect();
        assert!(all.len() == LARGE_MAX && all.iter().all(Buffer::is_large));
        all.into_iter().for_each(|buffer| pool.give_back(buffer));
        assert!(std::iter::from_fn(|| pool.take_large()).count() == LARGE_MAX);
        assert!(!pool.take().is_large());
    }

    #[test]
    fn who_waits_with_few_octets_keeps_them_at_their_places_and_no_buffer() {
        let pool = Pool::new(4, 100);
        for (count, is_few) in [(1, true), (REST_BYTES_MAX, true), (REST_BYTES_MAX + 1, false)] {
            let text: Vec<u8> = (0..count).map(|at| at as u8).collect();
            let mut buffer = filled(&pool, &text);
            buffer.consume(count / 2);
            let rest = pool.tighten(buffer);
            assert_eq!(
                (rest.is_tight(), rest.octets.len()),
                (is_few, if is_few { count } else { BUFFER_BYTES })
            );
            assert_eq!((rest.octets(0..count), rest.unread()), (&text[..], &text[count / 2..]));
            let again = pool.tighten(rest);
            assert_eq!((again.is_tight(), pool.out()), (is_few, 1));
            let mut buffer = if is_few { pool.widen(again, pool.take()) } else { again };
            assert_eq!((buffer.octets(0..count), buffer.unread()), (&text[..], &text[count / 2..]));
            assert_eq!((buffer.room().len(), buffer.is_tight()), (BUFFER_BYTES - count, false));
            pool.give_back(buffer);
            assert_eq!((pool.out(), pool.idle()), (0, 1), "the one buffer serves all");
        }
    }

    #[test]
    fn all_sessions_together_hold_no_more_than_they_may() {
        let pool = Pool::new(4, 10);
        let (mut one, mut two) = (Held::new(Arc::clone(&pool)), Held::new(Arc::clone(&pool)));
        assert!(one.hold(0..6, true));
        assert!(!two.hold(0..5, true));
        assert!(two.hold(0..4, true));
        drop(one);
        assert_eq!(pool.held_bytes(), 4);
        assert!(two.hold(4..10, true));
    }

    #[test]
    fn a_part_of_the_room_is_kept_for_sources_with_credit() {
        let pool = Pool::new(4, 100_000);
        let (mut stranger, mut known) = (Held::new(Arc::clone(&pool)), Held::new(Arc::clone(&pool)));
        assert!(!pool.is_nearly_full());
        assert!(stranger.hold(0..80_000, false) && pool.is_nearly_full());
        assert!(!stranger.hold(80_000..80_001, false));
        assert!(known.hold(0..20_000, true));
        assert!(!known.hold(20_000..20_001, true));
    }
}
