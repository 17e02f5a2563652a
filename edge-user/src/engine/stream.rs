//! The octets of a connection: what sessions and upstream connections read and write, in place of a socket.
//!
//! Reading goes by readiness and lends no buffer to the wait: first [`Stream::readable`], which holds nothing, then
//! [`Stream::try_read`] into room that is taken only now. So an idle connection costs no buffer.

use std::io::{self, IoSlice};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Octets go as they are.
    Clear(TcpStream),
}

impl Stream {
    /// Waits until something may be read, or the connection has ended. May be wrong, and may be cancelled.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Clear(socket) => socket.readable().await,
        }
    }

    /// Reads what is there; 0 is the end, where there was room.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: nothing is there. Otherwise the connection broke.
    pub(crate) fn try_read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.try_read(room),
        }
    }

    /// The same, into the room that `input` has left.
    ///
    /// # Errors
    /// As [`Self::try_read`].
    pub(crate) fn try_read_buf(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.try_read_buf(input),
        }
    }

    /// Waits for something to read, and reads it; 0 is the end, where there was room.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.read(room).await,
        }
    }

    /// The same, into the room that `input` has left.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn read_buf(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.read_buf(input).await,
        }
    }

    /// Writes all octets.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn write_all(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Self::Clear(socket) => socket.write_all(octets).await,
        }
    }

    /// Writes some of the pieces, from the first on: how many octets. 0: nothing more can be written.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.write_vectored(pieces).await,
        }
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(socket) => socket.shutdown().await,
        }
    }
}
