//! The sockets under [`super::stream`]: a client's stands in its worker's own epoll set, an upstream's in tokio's.
//!
//! Why clients have a set of their own: tokio allocates a node for each socket that it takes in and takes it out of the
//! set again before it closes it. A session of five commands feels both. Ours needs the call that puts it in, and a read
//! that filled less than its room needs no second one to learn that there is no more.

use std::io::{self, IoSlice, Write};
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::seat::Seat;

/// What is read at once where the room behind a `BytesMut` is not initialised, in octets.
const PIECE_BYTES: usize = 8 << 10;

/// One socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// A client's.
    Seated(Seated),
    /// One in the runtime's own set.
    Tokio(TcpStream),
}

/// A client's socket, whose seat hears what it may do.
#[derive(Debug)]
pub(crate) struct Seated {
    socket: mio::net::TcpStream,
    seat: Arc<Seat>,
    set: Arc<Registry>,
}

impl Socket {
    /// Waits until something may be read, or the connection has ended. May be wrong, and may be cancelled.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Seated(seated) => {
                std::future::poll_fn(|context| seated.seat.poll_readable(context).map(Ok)).await
            }
            Self::Tokio(socket) => socket.readable().await,
        }
    }

    /// Whether something may lie there unread.
    pub(crate) fn may_have_more(&self) -> bool {
        match self {
            Self::Seated(seated) => seated.seat.may_read(),
            Self::Tokio(_) => true,
        }
    }

    /// Reads what is there; 0 is the end, where there was room.
    pub(crate) fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Seated(seated) => seated.try_read(room),
            Self::Tokio(socket) => socket.try_read(room),
        }
    }

    /// The same, into the room that `input` has left.
    pub(crate) fn try_read_buf(&self, input: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Seated(seated) => {
                let mut piece = [0; PIECE_BYTES];
                let room = input.chunk_mut().len().min(PIECE_BYTES);
                let count = seated.try_read(&mut piece[..room])?;
                input.extend_from_slice(&piece[..count]);
                Ok(count)
            }
            Self::Tokio(socket) => socket.try_read_buf(input),
        }
    }

    /// Waits until there may be room for octets. May be wrong, and may be cancelled.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Seated(seated) => {
                seated.ask_for_room()?;
                std::future::poll_fn(|context| seated.seat.poll_writable(context).map(Ok)).await
            }
            Self::Tokio(socket) => socket.writable().await,
        }
    }

    /// Writes what there is room for now.
    pub(crate) fn try_write(&self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Seated(seated) => Ok(send(&seated.socket, octets, SendFlags::NOSIGNAL)?),
            Self::Tokio(socket) => socket.try_write(octets),
        }
    }

    /// The same for the last octets before the connection is closed: a packet that they do not fill may wait for that, and
    /// goes out as its end.
    pub(crate) fn try_write_last(&self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Seated(seated) => Ok(send(&seated.socket, octets, SendFlags::MORE | SendFlags::NOSIGNAL)?),
            Self::Tokio(socket) => socket.try_write(octets),
        }
    }
}

impl Seated {
    /// Puts a socket that was just accepted into the worker's set, for `seat`.
    pub(super) fn new(
        mut socket: mio::net::TcpStream,
        seat: Arc<Seat>,
        set: Arc<Registry>,
    ) -> io::Result<Self> {
        set.register(&mut socket, Token(seat.number()), Interest::READABLE)?;
        Ok(Self { socket, seat, set })
    }

    fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        if !self.seat.may_read() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // Not as the C library does it: there a thread may be cancelled in the middle, which costs two locked operations.
        match recv(&self.socket, &mut *room, RecvFlags::empty()) {
            Ok((count, _)) => {
                if (1..room.len()).contains(&count) {
                    self.seat.drained();
                }
                Ok(count)
            }
            Err(error) => {
                if error == Errno::AGAIN {
                    self.seat.would_block();
                }
                Err(error.into())
            }
        }
    }

    /// The set is asked about room only where there was none: most clients never make us wait for it. Asked again, it
    /// reports again, should there be room already.
    fn ask_for_room(&self) -> io::Result<()> {
        self.seat.full();
        let both = Interest::READABLE | Interest::WRITABLE;
        self.set.reregister(&mut SourceFd(&self.socket.as_raw_fd()), Token(self.seat.number()), both)
    }

    /// Tries to write, and where there is no room waits until there is.
    fn poll_write_with(
        &mut self,
        context: &Context<'_>,
        mut write: impl FnMut(&mio::net::TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match write(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ask_for_room()?;
                    ready!(self.seat.poll_writable(context));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                wrote => return Poll::Ready(wrote),
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Seated(seated) => loop {
                ready!(seated.seat.poll_readable(context));
                match seated.try_read(room.initialize_unfilled()) {
                    Ok(count) => {
                        room.advance(count);
                        return Poll::Ready(Ok(()));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            },
            Self::Tokio(socket) => Pin::new(socket).poll_read(context, room),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Seated(seated) => seated.poll_write_with(context, |mut socket| socket.write(octets)),
            Self::Tokio(socket) => Pin::new(socket).poll_write(context, octets),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Seated(seated) => {
                seated.poll_write_with(context, |mut socket| socket.write_vectored(pieces))
            }
            Self::Tokio(socket) => Pin::new(socket).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Seated(seated) => Poll::Ready(seated.socket.shutdown(std::net::Shutdown::Write)),
            Self::Tokio(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}
