//! The command line's side of the socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::sockopt::PeerCredentials;

use super::protocol::{Reply, Request};
use super::quarantine::{QuarantineReply, QuarantineRequest};
use super::{IDLE_MAX, REPLY_BYTES_MAX};

/// Why a daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error(
        "no backstop answers at {0}: is it running? start it with `backstop run`, or name its file with --config"
    )]
    NotRunning(PathBuf),
    /// The socket may not be opened.
    #[error("may not speak to the daemon at {0}: be root, its user, or a member of the socket's group")]
    Forbidden(PathBuf),
    /// The call broke off.
    #[error("the daemon at {path} did not answer: {error}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The daemon says no.
    #[error("{0}")]
    Refused(String),
    /// The daemon answers something else than was asked.
    #[error(
        "the daemon at {0} speaks another version of the protocol: run the `backstop` that it was started from"
    )]
    Unexpected(PathBuf),
}

/// A connection to a running daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// Connects to the daemon whose socket is at `path`.
    ///
    /// # Errors
    /// Nobody answers, or the caller may not.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning(path.to_owned())
            }
            io::ErrorKind::PermissionDenied => ClientError::Forbidden(path.to_owned()),
            _ => ClientError::Broken { path: path.to_owned(), error },
        })?;
        let broken = |error| ClientError::Broken { path: path.to_owned(), error };
        stream.set_read_timeout(Some(IDLE_MAX)).map_err(broken)?;
        stream.set_write_timeout(Some(IDLE_MAX)).map_err(broken)?;
        Ok(Self { stream: BufReader::new(stream), path: path.to_owned() })
    }

    /// The daemon's process and user, by the kernel's word.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn daemon(&self) -> io::Result<(u32, u32)> {
        let them = nix::sys::socket::getsockopt(self.stream.get_ref(), PeerCredentials)?;
        Ok((u32::try_from(them.pid()).unwrap_or_default(), them.uid()))
    }

    /// Lets it wait longer for its answers, for what takes longer than a look into a table.
    ///
    /// # Errors
    /// The socket does not take it.
    pub fn be_patient(&mut self, patience: Duration) -> Result<(), ClientError> {
        let set = self.stream.get_ref().set_read_timeout(Some(patience));
        set.map_err(|error| ClientError::Broken { path: self.path.clone(), error })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The daemon says no, or the call broke off.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        let broken = |error| ClientError::Broken { path: self.path.clone(), error };
        let mut line = serde_json::to_vec(request).map_err(|error| broken(error.into()))?;
        line.push(b'\n');
        // A daemon that refuses a caller closes at once: its reason is still there to be read.
        let sent = self.stream.get_mut().write_all(&line);
        line.clear();
        (&mut self.stream).take(REPLY_BYTES_MAX).read_until(b'\n', &mut line).map_err(broken)?;
        if line.is_empty() {
            sent.map_err(broken)?;
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_slice(&line) {
            Ok(Reply::Failed { error }) => Err(ClientError::Refused(error)),
            Ok(reply) => Ok(reply),
            Err(_) => Err(self.unexpected()),
        }
    }

    /// Asks something of the quarantine.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_quarantine(&mut self, request: QuarantineRequest) -> Result<QuarantineReply, ClientError> {
        let Reply::Quarantine(reply) = self.ask(&Request::Quarantine(request))? else {
            return Err(self.unexpected());
        };
        Ok(reply)
    }

    /// The error for a reply that does not belong to its request.
    #[must_use]
    pub fn unexpected(&self) -> ClientError {
        ClientError::Unexpected(self.path.clone())
    }
}
