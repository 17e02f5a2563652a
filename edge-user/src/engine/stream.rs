//! The octets of a connection: what sessions and upstream connections read and write, in place of a socket.
//!
//! Reading goes by readiness and lends no buffer to the wait: first [`Stream::readable`], which holds nothing, then
//! [`Stream::try_read`] into room that is taken only now. So an idle connection costs no buffer, in clear or by TLS.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::pool::Pool;
use super::socket::Socket;
use super::tls::{Records, Side};

/// Room that is made for what was read by TLS, where there is none, in octets.
const ROOM_BYTES: usize = 512;

/// One connection; `S` is the side that it would have in TLS.
pub(crate) struct Stream<S> {
    socket: Socket,
    /// Absent: octets go in clear.
    tls: Option<Box<Records<S>>>,
}

impl<S> fmt::Debug for Stream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("socket", &self.socket).field("tls", &self.tls).finish()
    }
}

impl<S: Side> Stream<S> {
    /// A connection in clear.
    pub(crate) fn clear(socket: Socket) -> Self {
        Self { socket, tls: None }
    }

    /// Goes over to TLS, and does the handshake. Nothing may be read or written in clear any more, however it ends.
    ///
    /// # Errors
    /// The handshake failed: all that is left to do is [`Self::shutdown`].
    pub(crate) async fn secure(&mut self, side: S, pool: &Arc<Pool>) -> io::Result<()> {
        let records = self.tls.insert(Box::new(Records::new(side, Arc::clone(pool))));
        records.handshake(&self.socket).await
    }

    /// The side in TLS, where there is TLS.
    pub(crate) fn side(&self) -> Option<&S> {
        self.tls.as_ref().map(|records| records.side())
    }

    /// Waits until something may be read, or the connection has ended. May be wrong, and may be cancelled.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match &self.tls {
            Some(records) if records.has_more() => Ok(()),
            Some(_) | None => self.socket.readable().await,
        }
    }

    /// Whether something can be read, as far as is known: then [`Self::readable`] waits for nothing.
    pub(crate) fn is_readable(&self) -> bool {
        self.tls.as_ref().is_some_and(|records| records.has_more()) || self.socket.may_have_more()
    }

    /// Whether something may lie there unread.
    pub(crate) fn may_have_more(&self) -> bool {
        self.tls.is_some() || self.socket.may_have_more()
    }

    /// Reads what is there; 0 is the end, where there was room.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: nothing is there. Otherwise the connection broke.
    pub(crate) fn try_read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.try_read(room),
            Some(records) => records.try_read(&self.socket, room),
        }
    }

    /// The same, behind what is in `input`.
    ///
    /// # Errors
    /// As [`Self::try_read`].
    pub(crate) fn try_read_buf(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        let Some(records) = &mut self.tls else { return self.socket.try_read_buf(input) };
        let filled = input.len();
        // Without room, nothing read would look like the end.
        if input.capacity() == filled {
            input.reserve(ROOM_BYTES);
        }
        input.resize(input.capacity(), 0);
        let read = records.try_read(&self.socket, &mut input[filled..]);
        input.truncate(filled + read.as_ref().copied().unwrap_or(0));
        read
    }

    /// Waits for something to read, and reads it, behind what is in `input`; 0 is the end.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn read_buf(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        if self.tls.is_none() {
            return self.socket.read_buf(input).await;
        }
        loop {
            self.readable().await?;
            match self.try_read_buf(input) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    /// Writes what there is room for now.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: there is no room now, or it takes more than a try. Otherwise the connection broke.
    pub(crate) fn try_write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match &self.tls {
            None => self.socket.try_write(octets),
            Some(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// The same for the last octets before the connection is closed, which must follow at once: they may wait for it.
    ///
    /// # Errors
    /// As [`Self::try_write`].
    pub(crate) fn try_write_last(&mut self, octets: &[u8]) -> io::Result<usize> {
        match &self.tls {
            None => self.socket.try_write_last(octets),
            Some(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes all octets.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn write_all(&mut self, octets: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.socket.write_all(octets).await,
            Some(records) => records.write_all(&self.socket, octets).await,
        }
    }

    /// Writes some of the pieces, from the first on: how many octets. 0: nothing more can be written.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.write_vectored(pieces).await,
            Some(records) => records.write_vectored(&self.socket, pieces).await,
        }
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        if let Some(records) = &mut self.tls {
            records.close(&self.socket).await?;
        }
        self.socket.shutdown().await
    }

    /// Behind [`Self::shutdown`]: waits for what the peer still sends, to throw it away, and says how much it was. 0 is
    /// the end.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn throw_away(&mut self) -> io::Result<usize> {
        self.socket.read(&mut [0; 1024]).await
    }
}
