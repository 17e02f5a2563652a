//! The client's side of a connection: one read buffer, one write a burst of replies, and every wait bounded.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use edge_core::source::Source;
use rustls::CommonState;
use tokio::time::timeout;

use super::clock::{Alarm, Deadline};
use super::pool::{BUFFER_BYTES, Buffer, Held, Pool};
use super::registry::{Leave, Ticket};
use super::stream::Stream;
use super::tls::{Accepted, Handshake, Side};

/// Replies are written out in the middle of a burst past this many octets.
const REPLIES_BYTES_MAX: usize = 8 << 10;

/// How long a closed connection is still read from.
const LINGER: Duration = Duration::from_millis(500);
/// And how much.
const LINGER_BYTES_MAX: usize = 64 << 10;

/// How a wait for the client's next octets ended.
#[derive(Debug)]
pub(crate) enum Read {
    /// More octets are there.
    More,
    /// The client closed its side, or the connection broke.
    Closed,
    /// Nothing came in time.
    TimedOut,
    /// The session is to end at its next command border: its source is being banned, or the edge stops.
    Leave,
    /// The session is to end now.
    Abort,
    /// The session is to end now, for others to have room.
    MakeRoom,
}

/// The read buffer, where there is one: a silent session has none.
#[derive(Debug, Default)]
pub(crate) struct Input(Option<Buffer>);

impl Input {
    /// What was read and not yet consumed.
    pub(crate) fn unread(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], Buffer::unread)
    }

    /// Where `piece`, a part of [`Self::unread`], stands in the buffer: what [`Held`] remembers.
    pub(crate) fn place(&self, piece: &[u8]) -> Range<usize> {
        let start = self.0.as_ref().map_or(0, Buffer::start)
            + (piece.as_ptr().addr() - self.unread().as_ptr().addr());
        start..start + piece.len()
    }

    /// Octets of the buffer, by their place in it.
    pub(crate) fn octets(&self, range: Range<usize>) -> &[u8] {
        self.0.as_ref().map_or(&[], |buffer| buffer.octets(range))
    }

    /// The buffer itself, for the pieces that [`Held`] has in it.
    pub(crate) fn buffer(&self) -> Option<&Buffer> {
        self.0.as_ref()
    }
}

/// What a seat has for its sessions, one after the other.
#[derive(Debug)]
pub(crate) struct Kit {
    pool: Arc<Pool>,
    out: Vec<u8>,
    spare: Spare,
    alarm: Alarm,
}

/// Memory of what was refused: most recipients are, and the next one needs as much.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    /// Of a mailbox.
    pub(crate) mailbox: String,
    /// Of a path.
    pub(crate) path: Vec<u8>,
}

impl Kit {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, out: Vec::new(), spare: Spare::default(), alarm: Alarm::new() }
    }
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    stream: Stream<Accepted>,
    /// Who it is.
    pub(crate) peer: SocketAddr,
    /// Who it is, as budgets and bans count it.
    pub(crate) source: Source,
    pool: Arc<Pool>,
    /// What came from it.
    pub(crate) input: Input,
    /// Replies not yet written.
    pub(crate) out: Vec<u8>,
    pub(crate) ticket: Ticket,
    /// For the next recipient.
    pub(crate) spare: Spare,
    alarm: Alarm,
    bytes_in: u64,
    /// The last read filled its buffer: more is there than fits.
    overflows: bool,
}

impl Client {
    pub(crate) fn new(stream: Stream<Accepted>, peer: SocketAddr, ticket: Ticket, kit: Kit) -> Self {
        let Kit { pool, out, spare, alarm } = kit;
        let source = Source::from(peer.ip());
        let (input, bytes_in, overflows) = (Input::default(), 0, false);
        Self { stream, peer, source, pool, input, out, ticket, spare, alarm, bytes_in, overflows }
    }

    /// Done with the first `count` unread octets.
    pub(crate) fn consume(&mut self, count: usize) {
        if let Some(buffer) = &mut self.input.0 {
            buffer.consume(count);
        }
    }

    /// Octets read since the last call.
    pub(crate) fn take_bytes_in(&mut self) -> u64 {
        std::mem::take(&mut self.bytes_in)
    }

    /// Makes room, keeping what is unread and what `held` has in the buffer.
    fn make_room(&mut self, held: Option<&mut Held>) {
        let Some(mut buffer) = self.input.0.take() else { return };
        match held.filter(|held| held.is_open()) {
            None if buffer.unread().is_empty() => self.pool.give_back(buffer),
            None if buffer.is_large() && !self.overflows && buffer.unread().len() < BUFFER_BYTES => {
                // Others may need it more.
                let mut next = self.pool.take();
                move_unread(&buffer, &mut next);
                self.pool.give_back(buffer);
                self.input.0 = Some(next);
            }
            None => {
                buffer.compact();
                self.input.0 = Some(buffer);
            }
            Some(_) if buffer.is_tight() || !buffer.room().is_empty() => self.input.0 = Some(buffer),
            Some(held) => {
                let mut next = self.pool.take();
                move_unread(&buffer, &mut next);
                held.seal(buffer);
                self.input.0 = Some(next);
            }
        }
    }

    /// What is unread goes on in a large buffer, where one is left: a message streams, and more of it is there than fits.
    fn grow(&mut self) {
        let Some(buffer) = self.input.0.take_if(|buffer| !buffer.is_large()) else { return };
        let buffer = match self.pool.take_large() {
            Some(mut large) => {
                move_unread(&buffer, &mut large);
                self.pool.give_back(buffer);
                large
            }
            None => buffer,
        };
        self.input.0 = Some(buffer);
    }

    /// Waits for more octets, at most until `by`. At a command border it also ends when the session is to leave;
    /// in a body only when it is to abort. Octets that came in the moment of such a word are read first. `held` is what the
    /// message being read holds in the buffer.
    pub(crate) async fn read(&mut self, by: Deadline, at_border: bool, held: Option<&mut Held>) -> Read {
        let streams = held.as_ref().is_some_and(|held| held.bytes() == 0);
        self.make_room(held);
        let large = streams && self.overflows;
        if large {
            self.grow();
        }
        loop {
            if let Some(read) = self.is_to_leave(at_border) {
                return read;
            }
            if !self.stream.is_readable() {
                self.input.0 = self.input.0.take().map(|buffer| self.pool.tighten(buffer));
            }
            match self.news(by).await {
                News::Octets(Ok(())) => {}
                News::Octets(Err(_)) => return Read::Closed,
                News::Asked => continue,
                News::TooLate => return Read::TimedOut,
            }
            if let Some(read) = self.take_in(large) {
                return read;
            }
        }
    }

    /// Waits for octets or for a word to leave: both wake the seat's task.
    async fn news(&mut self, by: Deadline) -> News {
        let Self { stream, ticket, alarm, .. } = self;
        let asked = ticket.leave();
        let mut readable = pin!(stream.readable());
        poll_fn(|context: &mut Context<'_>| {
            if let Poll::Ready(ready) = readable.as_mut().poll(context) {
                return Poll::Ready(News::Octets(ready));
            }
            if ticket.leave() != asked {
                return Poll::Ready(News::Asked);
            }
            alarm.poll(by, context).map(|()| News::TooLate)
        })
        .await
    }

    /// Whether the session is to end here.
    fn is_to_leave(&self, at_border: bool) -> Option<Read> {
        match self.ticket.leave() {
            Leave::Now => Some(Read::Abort),
            Leave::MakeRoom => Some(Read::MakeRoom),
            Leave::AtBorder if at_border => Some(Read::Leave),
            Leave::AtBorder | Leave::Stay => None,
        }
    }

    /// Reads what is there. `None`: it was nothing after all.
    fn take_in(&mut self, large: bool) -> Option<Read> {
        let (none, pool) = (self.input.0.is_none(), &self.pool);
        let take = || large.then(|| pool.take_large()).flatten().unwrap_or_else(|| pool.take());
        if let Some(rest) = self.input.0.take_if(|buffer| buffer.is_tight()) {
            self.input.0 = Some(pool.widen(rest, take()));
        }
        let buffer = self.input.0.get_or_insert_with(take);
        let most = buffer.room().len();
        match self.stream.try_read(buffer.room()) {
            Ok(0) => Some(Read::Closed),
            Ok(count) => {
                buffer.filled(count);
                self.overflows = count == most;
                self.bytes_in += count as u64;
                Some(Read::More)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                if let Some(buffer) = self.input.0.take_if(|_| none) {
                    self.pool.give_back(buffer);
                }
                None
            }
            Err(_) => Some(Read::Closed),
        }
    }

    /// Goes over to TLS. What was read in clear is thrown away, and so is what waited to be written.
    ///
    /// # Errors
    /// The handshake failed, took longer than `patience`, or the session is to end: nothing more can be said.
    pub(crate) async fn secure(&mut self, handshake: Handshake, patience: Duration) -> io::Result<()> {
        let Handshake { side, place } = handshake;
        self.out.clear();
        if let Some(buffer) = self.input.0.take() {
            self.pool.give_back(buffer);
        }
        let Self { stream, ticket, pool, .. } = self;
        let done = {
            let mut secured = pin!(timeout(patience, stream.secure(side, pool)));
            // Waiting for the peer and for this word is one: both wake the seat's task.
            poll_fn(|context: &mut Context<'_>| match secured.as_mut().poll(context) {
                // Nothing is at stake here, and nothing more can be said: this is a border.
                Poll::Pending if matches!(ticket.leave(), Leave::AtBorder | Leave::Now) => {
                    Poll::Ready(Err(io::ErrorKind::Interrupted.into()))
                }
                secured => secured.map(|secured| secured.unwrap_or_else(|late| Err(late.into()))),
            })
            .await
        };
        drop(place);
        done
    }

    /// What is known of its TLS, where it has it.
    pub(crate) fn tls(&self) -> Option<&CommonState> {
        self.stream.side().map(Side::state)
    }

    /// Whether so many replies wait that they should be written before more input is looked at.
    pub(crate) fn must_flush(&self) -> bool {
        self.out.len() > REPLIES_BYTES_MAX
    }

    /// Writes the waiting replies.
    ///
    /// # Errors
    /// The client is gone, or takes nothing for `patience`.
    pub(crate) async fn flush(&mut self, patience: Duration) -> io::Result<()> {
        if !self.try_flush()? {
            // Rare, but for TLS: so it has its memory only while it lasts.
            Box::pin(timeout(patience, self.stream.write_all(&self.out))).await??;
            self.out.clear();
        }
        if self.out.capacity() > REPLIES_BYTES_MAX {
            self.out = Vec::new();
        }
        Ok(())
    }

    /// The same for as much as there is room for now: a client that waits for its replies has it, and no clock is asked.
    /// Whether nothing waits any more.
    ///
    /// # Errors
    /// The client is gone.
    pub(crate) fn try_flush(&mut self) -> io::Result<bool> {
        if self.out.is_empty() {
            return Ok(true);
        }
        let written = self.stream.try_write(&self.out);
        self.wrote(written)
    }

    /// Writes the replies of a client that said QUIT: where its connection is closed at once, what is left of them goes out
    /// with its end, in one packet.
    ///
    /// # Errors
    /// The client is gone, or takes nothing for `patience`.
    pub(crate) async fn flush_last(&mut self, patience: Duration) -> io::Result<()> {
        if !self.out.is_empty() && !self.has_more() {
            let written = self.stream.try_write_last(&self.out);
            self.wrote(written)?;
        }
        self.flush(patience).await
    }

    /// So much of the replies is written, or nothing. Whether nothing waits any more.
    fn wrote(&mut self, written: io::Result<usize>) -> io::Result<bool> {
        let written = match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            written => written?,
        };
        self.out.drain(..written);
        Ok(self.out.is_empty())
    }

    /// Whether something may lie there unread.
    fn has_more(&self) -> bool {
        !self.input.unread().is_empty() || self.stream.may_have_more()
    }

    /// Writes the waiting replies and ends the connection.
    ///
    /// What the client has sent and nobody will read makes the kernel reset the connection, and a reset may overtake
    /// the last replies: so what comes is read and thrown away, for at most [`LINGER`] and [`LINGER_BYTES_MAX`].
    pub(crate) async fn close(&mut self, patience: Duration) {
        if self.flush(patience).await.is_ok() {
            // The client may be gone already: there is nobody left to tell.
            let _ = Box::pin(timeout(LINGER, self.linger())).await;
        }
    }

    /// The same for a client that said QUIT: it has nothing more to say, and where nothing lies unread nothing can be
    /// reset.
    pub(crate) async fn close_after_quit(&mut self, patience: Duration) {
        let has_more = self.has_more();
        if self.flush(patience).await.is_ok() && has_more {
            let _ = Box::pin(timeout(LINGER, self.linger())).await;
        }
    }

    async fn linger(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            match self.stream.throw_away().await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        Ok(())
    }

    /// The connection ends here; what is left is the next session's.
    pub(crate) fn into_kit(mut self) -> Kit {
        if let Some(buffer) = self.input.0.take() {
            self.pool.give_back(buffer);
        }
        self.out.clear();
        let Self { pool, out, spare, alarm, .. } = self;
        Kit { pool, out, spare, alarm }
    }
}

/// Copies what is unread into an empty buffer with as much room.
fn move_unread(from: &Buffer, to: &mut Buffer) {
    let unread = from.unread();
    to.room()[..unread.len()].copy_from_slice(unread);
    to.filled(unread.len());
}

/// What a wait ended with.
enum News {
    /// Something can be read, or the connection broke.
    Octets(io::Result<()>),
    /// The session is asked for something else than before.
    Asked,
    /// Nothing came in time.
    TooLate,
}
