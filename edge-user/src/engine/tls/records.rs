//! TLS over a socket, by rustls' interface without buffers: octets are lent to it, and it keeps none.
//!
//! ```text
//! socket ─► input ─► rustls ─► the reader's room, and what finds no room there: plain
//! socket ◄─ output ◄─ rustls ◄─ the writer's octets; handshake, alerts
//! ```
//! `input` and `output` are record buffers of the pool, and only there while something is in them: a record that is not
//! whole, or what the socket did not take. `plain` is at most what one input buffer held.
//!
//! Waiting may be cancelled anywhere: what was encrypted stays in `output`, and goes first with the next write.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use super::Side;
use super::output::{Short, invalid, put};
use crate::engine::pool::{Buffer, Pool};
use crate::engine::socket::Socket;

/// Most octets that a peer's handshake may have, and most that a message of it may have later.
pub(super) const HANDSHAKE_BYTES_MAX: usize = 64 << 10;

/// Most octets of the writer's in a record (RFC 8446 section 5.1).
const FRAGMENT_BYTES_MAX: usize = 16 << 10;

/// What a record has at most besides, in octets: its header, an explicit nonce (TLS 1.2), its type (1.3), the tag.
const OVERHEAD_BYTES: usize = 5 + 8 + 1 + 16;

/// A record with fewer of the writer's octets than this is made only where there are no more.
const FRAGMENT_BYTES_MIN: usize = 512;

/// TLS on one connection.
pub(in crate::engine) struct Records<S> {
    side: S,
    pool: Arc<Pool>,
    /// Octets from the peer that rustls is not done with.
    input: Option<Buffer>,
    /// They are no whole record.
    starved: bool,
    /// The reader's octets that found no room; those before `plain_at` are read.
    plain: Vec<u8>,
    plain_at: usize,
    /// Octets for the peer.
    output: Option<Buffer>,
    /// The peer said that nothing more comes.
    ended: bool,
    /// Nothing can be read or written any more.
    broken: bool,
}

/// What rustls is to do when it waits for nothing.
enum Wish<'w> {
    Nothing,
    /// Encrypt octets from the front of these.
    Encrypt(&'w [u8]),
    /// Say that nothing more will be written.
    Close,
}

/// What became of one look at the input.
enum Look {
    /// So many octets are in the reader's room.
    Read(usize),
    /// There is something to be looked at again.
    Again,
    /// Something stands in the output that the peer waits for.
    Output,
    /// The wish is done, with so many octets.
    Done(usize),
    /// More input is needed.
    Starved,
}

impl<S> fmt::Debug for Records<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither keys nor what was said.
        let Self { ended, broken, .. } = self;
        f.debug_struct("Records").field("ended", ended).field("broken", broken).finish_non_exhaustive()
    }
}

impl<S: Side> Records<S> {
    pub(in crate::engine) fn new(side: S, pool: Arc<Pool>) -> Self {
        Self {
            side,
            pool,
            input: None,
            starved: false,
            plain: Vec::new(),
            plain_at: 0,
            output: None,
            ended: false,
            broken: false,
        }
    }

    pub(in crate::engine) fn side(&self) -> &S {
        &self.side
    }

    /// Whether there may be something to read that the socket does not know of.
    pub(in crate::engine) fn has_more(&self) -> bool {
        self.plain_at < self.plain.len() || self.input.is_some() && !self.starved
    }

    /// The handshake, to its end.
    ///
    /// # Errors
    /// It failed, and the peer was told why where the socket took that at once.
    pub(in crate::engine) async fn handshake(&mut self, socket: &Socket) -> io::Result<()> {
        let mut bytes = 0;
        loop {
            match self.look(&mut [], Wish::Nothing) {
                Ok(Look::Read(_) | Look::Again | Look::Done(_)) => {}
                Ok(Look::Output) => self.flush(socket).await?,
                Ok(Look::Starved) if !self.side.state().is_handshaking() => return self.flush(socket).await,
                Ok(Look::Starved) => {
                    socket.readable().await?;
                    match self.receive(socket) {
                        Ok(0) => return Err(self.breaks(io::ErrorKind::UnexpectedEof.into())),
                        Ok(count) => bytes += count,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(self.breaks(error)),
                    }
                    if bytes > HANDSHAKE_BYTES_MAX {
                        return Err(self.breaks(invalid("the handshake is too long")));
                    }
                }
                Err(error) => {
                    // The alert.
                    let _ = self.try_flush(socket);
                    return Err(error);
                }
            }
        }
    }

    /// Reads what is there; 0 is the end. The peer may end the connection without saying so: SMTP has its own ends.
    pub(in crate::engine) fn try_read(&mut self, socket: &Socket, room: &mut [u8]) -> io::Result<usize> {
        let mut count = self.take_plain(room);
        loop {
            if count == room.len() {
                return Ok(count);
            }
            if !self.starved {
                match self.look(&mut room[count..], Wish::Nothing) {
                    Ok(Look::Read(more)) => count += more,
                    Ok(Look::Again | Look::Done(_)) => {}
                    Ok(Look::Output) => self.try_flush(socket)?,
                    Ok(Look::Starved) => self.starved = true,
                    Err(error) => {
                        let _ = self.try_flush(socket);
                        return Err(error);
                    }
                }
                continue;
            }
            if count > 0 {
                return Ok(count);
            }
            if self.ended || self.receive(socket)? == 0 {
                return Ok(0);
            }
        }
    }

    /// Writes all octets.
    pub(in crate::engine) async fn write_all(&mut self, socket: &Socket, octets: &[u8]) -> io::Result<()> {
        let mut left = octets;
        while !left.is_empty() {
            self.encrypt(&mut left)?;
            self.flush(socket).await?;
        }
        Ok(())
    }

    /// Writes as much of the pieces as an output buffer takes.
    pub(in crate::engine) async fn write_vectored(
        &mut self,
        socket: &Socket,
        pieces: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.flush(socket).await?;
        let mut count = 0;
        for piece in pieces {
            let mut left: &[u8] = piece;
            self.encrypt(&mut left)?;
            count += piece.len() - left.len();
            if !left.is_empty() {
                break;
            }
        }
        self.flush(socket).await?;
        Ok(count)
    }

    /// Says that nothing more will be written. A connection that is broken has nothing more to say.
    pub(in crate::engine) async fn close(&mut self, socket: &Socket) -> io::Result<()> {
        while !self.broken && !self.side.state().is_handshaking() {
            match self.look(&mut [], Wish::Close)? {
                Look::Done(_) | Look::Starved => break,
                Look::Read(_) | Look::Again | Look::Output => {}
            }
        }
        self.flush(socket).await
    }

    /// Encrypts octets from the front of `left`, which are then taken off: as many as the output buffer has room for,
    /// at least one.
    fn encrypt(&mut self, left: &mut &[u8]) -> io::Result<()> {
        let mut room = true;
        while room && !left.is_empty() {
            match self.look(&mut [], Wish::Encrypt(left))? {
                Look::Done(count) => *left = &left[count..],
                Look::Read(_) | Look::Again | Look::Output => {}
                Look::Starved => return Err(self.breaks(io::ErrorKind::BrokenPipe.into())),
            }
            room = self.output.as_mut().is_none_or(|output| output.room().len() > FRAGMENT_BYTES_MIN);
        }
        Ok(())
    }

    /// Has rustls look at the input until it has something to say of it.
    fn look(&mut self, room: &mut [u8], wish: Wish<'_>) -> io::Result<Look> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let handshaking = self.side.state().is_handshaking();
        let input = self.input.as_mut().map_or(&mut [][..], Buffer::unread_mut);
        let UnbufferedStatus { mut discard, state } = self.side.process(input);
        let look = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                let mut count = 0;
                while let Some(Ok(record)) = traffic.next_record() {
                    discard += record.discard;
                    let fitting = record.payload.len().min(room.len() - count);
                    room[count..][..fitting].copy_from_slice(&record.payload[..fitting]);
                    count += fitting;
                    self.plain.extend_from_slice(&record.payload[fitting..]);
                }
                Ok(Look::Read(count))
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                put(&mut self.output, &self.pool, |room| match data.encode(room) {
                    Ok(count) => Ok(count),
                    Err(EncodeError::InsufficientSize(size)) => Err(Short::Of(size.required_size)),
                    Err(error @ EncodeError::AlreadyEncoded) => Err(Short::Never(invalid(error))),
                })
                .map(|_| Look::Again)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(Look::Output)
            }
            Ok(ConnectionState::WriteTraffic(mut traffic)) if !handshaking => match wish {
                Wish::Nothing => Ok(Look::Starved),
                Wish::Encrypt(left) => {
                    let output = self.output.get_or_insert_with(|| self.pool.take_record());
                    let fitting = output.room().len().saturating_sub(OVERHEAD_BYTES).max(1);
                    let piece = &left[..left.len().min(fitting).min(FRAGMENT_BYTES_MAX)];
                    put(&mut self.output, &self.pool, |room| match traffic.encrypt(piece, room) {
                        Ok(count) => Ok(count),
                        Err(EncryptError::InsufficientSize(size)) => Err(Short::Of(size.required_size)),
                        Err(error @ EncryptError::EncryptExhausted) => Err(Short::Never(invalid(error))),
                    })
                    .map(|_| Look::Done(piece.len()))
                }
                Wish::Close => {
                    put(&mut self.output, &self.pool, |room| match traffic.queue_close_notify(room) {
                        Ok(count) => Ok(count),
                        Err(EncryptError::InsufficientSize(size)) => Err(Short::Of(size.required_size)),
                        Err(error @ EncryptError::EncryptExhausted) => Err(Short::Never(invalid(error))),
                    })
                    .map(|_| Look::Done(0))
                }
            },
            Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake) => Ok(Look::Starved),
            Ok(ConnectionState::PeerClosed) => {
                self.ended = true;
                Ok(Look::Again)
            }
            Ok(ConnectionState::Closed) => {
                self.ended = true;
                Ok(Look::Starved)
            }
            // Early data is not asked for, and there are no further states.
            Ok(_) => Err(invalid("an unknown state of the connection")),
            Err(error) => Err(invalid(error)),
        };
        self.consume(discard);
        look.map_err(|error| {
            self.alert();
            self.breaks(error)
        })
    }

    /// rustls is done with the first octets of the input.
    fn consume(&mut self, count: usize) {
        if let Some(mut input) = self.input.take() {
            input.consume(count);
            if input.unread().is_empty() {
                self.pool.give_back(input);
            } else {
                self.input = Some(input);
            }
        }
    }

    /// What rustls has to say about a fault goes to the output.
    fn alert(&mut self) {
        let input = self.input.as_mut().map_or(&mut [][..], Buffer::unread_mut);
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = self.side.process(input).state {
            let _ = put(&mut self.output, &self.pool, |room| match data.encode(room) {
                Ok(count) => Ok(count),
                Err(error) => Err(Short::Never(invalid(error))),
            });
        }
    }

    fn breaks(&mut self, error: io::Error) -> io::Error {
        self.broken = true;
        error
    }

    /// Reads from the socket what is there; 0 is the end.
    fn receive(&mut self, socket: &Socket) -> io::Result<usize> {
        let input = self.input.get_or_insert_with(|| self.pool.take_record());
        if input.room().is_empty() {
            input.compact();
        }
        if input.room().is_empty() {
            // A handshake's message may be longer than a record.
            if input.unread().len() >= HANDSHAKE_BYTES_MAX {
                return Err(self.breaks(invalid("a message is too long")));
            }
            input.grow(HANDSHAKE_BYTES_MAX);
        }
        let read = socket.try_read(input.room());
        match read {
            Ok(count @ 1..) => {
                input.filled(count);
                self.starved = false;
            }
            Ok(0) | Err(_) => self.consume(0),
        }
        read
    }

    fn take_plain(&mut self, room: &mut [u8]) -> usize {
        let left = &self.plain[self.plain_at..];
        let count = left.len().min(room.len());
        room[..count].copy_from_slice(&left[..count]);
        self.plain_at += count;
        if self.plain_at == self.plain.len() && self.plain_at > 0 {
            (self.plain, self.plain_at) = (Vec::new(), 0);
        }
        count
    }

    /// Writes the whole output.
    async fn flush(&mut self, socket: &Socket) -> io::Result<()> {
        loop {
            self.try_flush(socket)?;
            if self.output.is_none() {
                return Ok(());
            }
            socket.writable().await?;
        }
    }

    /// Writes what the socket takes of the output now.
    fn try_flush(&mut self, socket: &Socket) -> io::Result<()> {
        while let Some(mut output) = self.output.take() {
            match socket.try_write(output.unread()) {
                Ok(count) => output.consume(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.output = Some(output);
                    return Ok(());
                }
                Err(error) => return Err(self.breaks(error)),
            }
            if output.unread().is_empty() {
                self.pool.give_back(output);
            } else {
                self.output = Some(output);
            }
        }
        Ok(())
    }
}

impl<S> Drop for Records<S> {
    fn drop(&mut self) {
        for buffer in [self.input.take(), self.output.take()].into_iter().flatten() {
            self.pool.give_back(buffer);
        }
    }
}
