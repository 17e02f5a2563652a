//! The client's side of a connection: one read buffer, one write a burst of replies, and every wait bounded.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use edge_core::source::Source;
use rustls::CommonState;
use tokio::sync::watch;
use tokio::time::timeout;

use super::pool::{Buffer, Held, Pool};
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
    ticket: Ticket,
    stop: watch::Receiver<bool>,
    bytes_in: u64,
}

impl Client {
    pub(crate) fn new(
        stream: Stream<Accepted>,
        peer: SocketAddr,
        pool: Arc<Pool>,
        ticket: Ticket,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let source = Source::from(peer.ip());
        Self {
            stream,
            peer,
            source,
            pool,
            input: Input::default(),
            out: Vec::new(),
            ticket,
            stop,
            bytes_in: 0,
        }
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
            None => {
                buffer.compact();
                self.input.0 = Some(buffer);
            }
            Some(_) if !buffer.room().is_empty() => self.input.0 = Some(buffer),
            Some(held) => {
                let mut next = self.pool.take();
                let unread = buffer.unread();
                next.room()[..unread.len()].copy_from_slice(unread);
                next.filled(unread.len());
                held.seal(buffer);
                self.input.0 = Some(next);
            }
        }
    }

    /// Waits for more octets, at most for `patience`. At a command border it also ends when the session is to leave;
    /// in a body only when it is to abort. `held` is what the message being read holds in the buffer.
    pub(crate) async fn read(
        &mut self,
        patience: Duration,
        at_border: bool,
        held: Option<&mut Held>,
    ) -> Read {
        self.make_room(held);
        let wait = async {
            loop {
                if self.ticket.leave() == Leave::Now {
                    return Read::Abort;
                }
                if at_border && (self.ticket.leave() != Leave::Stay || *self.stop.borrow()) {
                    return Read::Leave;
                }
                tokio::select! {
                    ready = self.stream.readable() => match ready {
                        Ok(()) => {
                            let none = self.input.0.is_none();
                            let buffer = self.input.0.get_or_insert_with(|| self.pool.take());
                            match self.stream.try_read(buffer.room()) {
                                Ok(0) => return Read::Closed,
                                Ok(count) => {
                                    buffer.filled(count);
                                    self.bytes_in += count as u64;
                                    return Read::More;
                                }
                                // It is said to be readable after each read, until it is asked once more.
                                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                                    if let Some(buffer) = self.input.0.take_if(|_| none) {
                                        self.pool.give_back(buffer);
                                    }
                                }
                                Err(_) => return Read::Closed,
                            }
                        }
                        Err(_) => return Read::Closed,
                    },
                    () = self.ticket.changed() => {}
                    changed = self.stop.changed(), if at_border => if changed.is_err() {
                        return Read::Leave;
                    },
                }
            }
        };
        timeout(patience, wait).await.unwrap_or(Read::TimedOut)
    }

    /// Goes over to TLS. What was read in clear is thrown away, and so is what waited to be written.
    ///
    /// # Errors
    /// The handshake failed, took longer than `patience`, or the session is to end now: nothing more can be said.
    pub(crate) async fn secure(&mut self, handshake: Handshake, patience: Duration) -> io::Result<()> {
        let Handshake { side, place } = handshake;
        self.out.clear();
        if let Some(buffer) = self.input.0.take() {
            self.pool.give_back(buffer);
        }
        let (stream, ticket) = (&mut self.stream, &mut self.ticket);
        let told = async {
            while ticket.leave() != Leave::Now {
                ticket.changed().await;
            }
        };
        let done = tokio::select! {
            done = timeout(patience, stream.secure(side, &self.pool)) => done?,
            () = told => Err(io::ErrorKind::Interrupted.into()),
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
        if self.out.is_empty() {
            return Ok(());
        }
        timeout(patience, self.stream.write_all(&self.out)).await??;
        self.out.clear();
        if self.out.capacity() > REPLIES_BYTES_MAX {
            self.out = Vec::new();
        }
        Ok(())
    }

    /// Writes the waiting replies and ends the connection.
    ///
    /// What the client has sent and nobody will read makes the kernel reset the connection, and a reset may overtake
    /// the last replies: so what comes is read and thrown away, for at most [`LINGER`] and [`LINGER_BYTES_MAX`].
    pub(crate) async fn close(mut self, patience: Duration) {
        if self.flush(patience).await.is_err() {
            return;
        }
        let linger = async {
            self.stream.shutdown().await?;
            let mut left = LINGER_BYTES_MAX;
            while left > 0 {
                match self.stream.throw_away().await? {
                    0 => break,
                    count => left = left.saturating_sub(count),
                }
            }
            io::Result::Ok(())
        };
        // The client may be gone already: there is nobody left to tell.
        let _ = timeout(LINGER, linger).await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(buffer) = self.input.0.take() {
            self.pool.give_back(buffer);
        }
    }
}
