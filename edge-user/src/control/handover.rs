//! One process takes the place of another: the listening sockets go over the control socket (`SCM_RIGHTS`, unix(7)).
//!
//! ```text
//! next ── {"request":"hand_over"} ──────────────────► last   accepts no more, lets its transactions end, writes what
//!                                                            it knows, lets go of state directory, pins and socket
//! next ◄─ {"reply":"handed_over","sockets":4}, them ─ last   waits
//! next ── serving ──────────────────────────────────► last   ends
//! ```
//!
//! Connections that come meanwhile wait in the sockets' backlogs, which both processes have: none is refused or reset.
//! Where the connection closes before the last word, the next one has failed, and the last one goes on.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::client::ClientError;
use super::protocol::{Reply, Request};

/// Most sockets in one message; the kernel takes 253.
pub const SOCKETS_AT_ONCE: usize = 64;
/// How long the last process may take to let go: its transactions have 20 seconds, then it writes to disk.
const LET_GO_MAX: Duration = Duration::from_secs(120);
/// The last process's longest reply, in octets.
const REPLY_BYTES_MAX: usize = 4096;
/// The last word.
const SERVING: &[u8] = b"serving\n";

/// The process that is to come after this one. Dropped: it gets nothing.
#[derive(Debug)]
pub struct Successor {
    stream: UnixStream,
}

impl Successor {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// Gives it the sockets.
    ///
    /// # Errors
    /// It is gone.
    pub fn give(&self, sockets: &[TcpListener]) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Reply::HandedOver { sockets: sockets.len() })?;
        line.push(b'\n');
        (&self.stream).write_all(&line)?;
        let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        sockets.chunks(SOCKETS_AT_ONCE).try_for_each(|some| send_with(&self.stream, b"\n", some))
    }

    /// Waits until it serves (true), or is gone. It is waited for as long as it is there: it holds what this process had.
    #[must_use]
    pub fn serves(&self) -> bool {
        let mut word = [0; SERVING.len()];
        let waits = self.stream.set_read_timeout(None);
        waits.and_then(|()| (&self.stream).read_exact(&mut word)).is_ok() && word == SERVING
    }
}

/// The process before this one: it has let go, and waits for a word.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
}

impl Predecessor {
    /// Asks the daemon at `socket` to hand over, and waits until it has; `None`: nobody is there.
    ///
    /// # Errors
    /// It refuses, or broke off.
    pub fn ask(socket: &Path) -> Result<Option<(Self, Vec<TcpListener>)>, ClientError> {
        let stream = match UnixStream::connect(socket) {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => return Ok(None),
                io::ErrorKind::PermissionDenied => return Err(ClientError::Forbidden(socket.to_owned())),
                _ => return Err(ClientError::Broken { path: socket.to_owned(), error }),
            },
        };
        let broken = |error| ClientError::Broken { path: socket.to_owned(), error };
        match ask(&stream).map_err(broken)? {
            Reply::HandedOver { sockets } => {
                let sockets = receive(&stream, sockets).map_err(broken)?;
                Ok(Some((Self { stream }, sockets)))
            }
            Reply::Failed { error } => Err(ClientError::Refused(error)),
            _ => Err(ClientError::Unexpected(socket.to_owned())),
        }
    }

    /// Tells it that this process serves: it ends.
    ///
    /// # Errors
    /// It is gone already.
    pub fn serving(&self) -> io::Result<()> {
        (&self.stream).write_all(SERVING)
    }
}

fn ask(stream: &UnixStream) -> io::Result<Reply> {
    stream.set_read_timeout(Some(LET_GO_MAX))?;
    let mut line = serde_json::to_vec(&Request::HandOver)?;
    line.push(b'\n');
    // A daemon that refuses a caller closes at once: its reason is still there to be read.
    let sent = { stream }.write_all(&line);
    line.clear();
    // Octet by octet: the sockets come with those behind the line.
    let mut octet = [0];
    while line.len() < REPLY_BYTES_MAX && { stream }.read(&mut octet)? > 0 {
        match octet {
            [b'\n'] => return Ok(serde_json::from_slice(&line)?),
            [octet] => line.push(octet),
        }
    }
    sent.and(Err(io::ErrorKind::UnexpectedEof.into()))
}

fn receive(stream: &UnixStream, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut sockets = Vec::new();
    while sockets.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_AT_ONCE))];
        let (mut control, mut octet) = (RecvAncillaryBuffer::new(&mut space), [0]);
        let got = recvmsg(stream, &mut [IoSliceMut::new(&mut octet)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if got.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                sockets.extend(descriptors.map(|descriptor: OwnedFd| TcpListener::from(descriptor)));
            }
        }
    }
    Ok(sockets)
}

/// Writes `octets` to a connected Unix socket, and descriptors with them: at most [`SOCKETS_AT_ONCE`].
///
/// # Errors
/// The other side does not take them.
pub fn send_with(socket: impl AsFd, octets: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_AT_ONCE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = sendmsg(socket, &[IoSlice::new(octets)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == octets.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(count: usize) -> Vec<TcpListener> {
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect()
    }

    #[test]
    fn more_sockets_than_one_message_holds_arrive_all_and_in_order() {
        for count in [0, 1, SOCKETS_AT_ONCE, 2 * SOCKETS_AT_ONCE + 1] {
            let (last, next) = UnixStream::pair().unwrap();
            let sockets = listening(count);
            Successor::new(last).give(&sockets).unwrap();
            let Reply::HandedOver { sockets: announced } = ask(&next).unwrap() else { panic!("no handover") };
            let received = receive(&next, announced).unwrap();
            let addresses = |sockets: &[TcpListener]| -> Vec<_> {
                sockets.iter().map(|socket| socket.local_addr().unwrap()).collect()
            };
            assert_eq!(addresses(&received), addresses(&sockets));
        }
    }

    #[test]
    fn one_that_says_something_else_or_goes_away_does_not_serve() {
        for (word, serves) in [(SERVING, true), (b"serving", false), (b"", false), (b"surfing\n", false)] {
            let (last, mut next) = UnixStream::pair().unwrap();
            next.write_all(word).unwrap();
            drop(next);
            assert_eq!(Successor::new(last).serves(), serves, "{word:?}");
        }
    }
}
