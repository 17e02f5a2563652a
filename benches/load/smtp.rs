//! One SMTP session from the client's side, as a sending server speaks it (RFC 5321 section 3).
//!
//! In: where from, where to, an envelope and a message that is ready for the wire. Out: the [`Outcome`] of the
//! try, as the client saw it. Bounds: a reply is at most [`REPLY_BYTES_MAX`] octets, every wait has a deadline.
//! Whether and when to try again is the queue's business.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Longest reply that is read, in octets. Anything longer counts as a broken connection.
pub const REPLY_BYTES_MAX: usize = 16 << 10;

/// How long a client waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection; the kernel sends its SYN again after 1, 3, 7 s within it.
    pub connect: Duration,
    /// For each reply.
    pub reply: Duration,
}

/// What became of one try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// `2xx` to the final dot: the server answers for the message from here on.
    Delivered,
    /// `5xx`: over.
    Refused(u16),
    /// `4xx`: to be tried again.
    Deferred(u16),
    /// No answer to the connection, or the connection broke: to be tried again.
    NoAnswer(Silence),
}

/// How an answer failed to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Silence {
    /// No SYN was answered in time.
    Connect,
    /// The connection was refused (RST).
    ConnectRefused,
    /// The connection stood, but a reply did not come in time.
    Reply,
    /// The other side closed or reset the connection.
    Closed,
    /// The same after the final dot was sent: the message may have been taken (RFC 1047).
    AfterDot,
}

/// What a server does between two messages of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Between {
    /// Nothing: it waits for the next.
    Quiet,
    /// It spoke out of turn: 421 when the client is over a budget, or the server ends.
    Said(u16),
    /// It closed the connection without a whole word, or said what is no reply.
    Broken,
}

/// The envelope of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// The reverse-path without brackets; empty is the null reverse-path.
    pub sender: String,
    /// The one recipient.
    pub recipient: String,
}

/// An open session after a good greeting and EHLO.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    reply: Duration,
    unread: Vec<u8>,
    usable: bool,
    pipelining: bool,
}

/// Connects from `source` (any port) to `target`.
///
/// # Errors
/// The connection's [`Silence`].
pub async fn connect(source: IpAddr, target: SocketAddr, patience: Duration) -> Result<TcpStream, Silence> {
    let socket = match target {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(|_| Silence::ConnectRefused)?;
    socket.bind(SocketAddr::new(source, 0)).map_err(|_| Silence::ConnectRefused)?;
    match timeout(patience, socket.connect(target)).await {
        Ok(Ok(stream)) => Ok(stream),
        // The kernel gave up before we did.
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::TimedOut => Err(Silence::Connect),
        Ok(Err(_)) => Err(Silence::ConnectRefused),
        Err(_) => Err(Silence::Connect),
    }
}

impl Session {
    /// Connects, waits for the greeting, says EHLO.
    ///
    /// # Errors
    /// The outcome that this is for the message in hand.
    pub async fn open(
        source: IpAddr,
        target: SocketAddr,
        helo: &str,
        patience: Patience,
    ) -> Result<Self, Outcome> {
        let stream = connect(source, target, patience.connect).await.map_err(Outcome::NoAnswer)?;
        // A server sends a whole transaction in few writes; waiting to fill segments would only add latency.
        let _ = stream.set_nodelay(true);
        let mut session =
            Self { stream, reply: patience.reply, unread: Vec::new(), usable: true, pipelining: false };
        let greeting = session.reply().await.map_err(Outcome::NoAnswer)?;
        greeting.good()?;
        session.write(format!("EHLO {helo}\r\n").as_bytes()).await.map_err(Outcome::NoAnswer)?;
        let ehlo = session.reply().await.map_err(Outcome::NoAnswer)?;
        ehlo.good()?;
        session.pipelining = ehlo.has_line(b"PIPELINING");
        Ok(session)
    }

    /// Whether the next message can go over this connection.
    #[must_use]
    pub const fn usable(&self) -> bool {
        self.usable
    }

    /// What the server did since the last message. Only a connection that is quiet can be used again.
    pub fn between_messages(&mut self) -> Between {
        let open = loop {
            match self.stream.try_read_buf(&mut self.unread) {
                Ok(0) => break false,
                Ok(_) if self.unread.len() <= REPLY_BYTES_MAX => {}
                Ok(_) => break false,
                Err(error) => break error.kind() == std::io::ErrorKind::WouldBlock,
            }
        };
        let between = match complete(&self.unread) {
            Ok(Some((code, _))) => Between::Said(code),
            Ok(None) if open && self.unread.is_empty() => Between::Quiet,
            Ok(None) | Err(_) => Between::Broken,
        };
        self.usable &= between == Between::Quiet;
        between
    }

    /// One mail transaction. `wire` ends with CRLF and is dot-stuffed; the final dot is added here.
    pub async fn send(&mut self, envelope: &Envelope, wire: &[u8]) -> Outcome {
        match self.transaction(envelope, wire).await {
            Ok(outcome) => {
                if outcome == Outcome::Deferred(421) {
                    self.usable = false;
                }
                outcome
            }
            Err(silence) => {
                self.usable = false;
                Outcome::NoAnswer(silence)
            }
        }
    }

    async fn transaction(&mut self, envelope: &Envelope, wire: &[u8]) -> Result<Outcome, Silence> {
        let mail = format!("MAIL FROM:<{}>\r\n", envelope.sender);
        let rcpt = format!("RCPT TO:<{}>\r\n", envelope.recipient);
        let mut refused = None;
        let data;
        if self.pipelining {
            self.write(format!("{mail}{rcpt}DATA\r\n").as_bytes()).await?;
            for _ in 0..2 {
                let reply = self.reply().await?;
                refused = refused.or(reply.good().err());
                if refused == Some(Outcome::Deferred(421)) {
                    return Ok(Outcome::Deferred(421));
                }
            }
            data = self.reply().await?;
        } else {
            for command in [mail, rcpt] {
                self.write(command.as_bytes()).await?;
                if let Err(outcome) = self.reply().await?.good() {
                    return self.reset(outcome).await;
                }
            }
            self.write(b"DATA\r\n").await?;
            data = self.reply().await?;
        }
        match (data.code, refused) {
            // RFC 2920 section 3.1: DATA was accepted although no recipient was; an empty message ends it.
            (354, Some(outcome)) => {
                self.write(b".\r\n").await?;
                self.reply().await?;
                return self.reset(outcome).await;
            }
            (354, None) => {}
            (421, _) => return Ok(Outcome::Deferred(421)),
            (_, Some(outcome)) => return self.reset(outcome).await,
            (_, None) => {
                let outcome = data.good().err().unwrap_or(Outcome::Deferred(data.code));
                return self.reset(outcome).await;
            }
        }
        self.write(wire).await?;
        self.write(b".\r\n").await?;
        let last = self.reply().await.map_err(|_| Silence::AfterDot)?;
        Ok(last.good().err().unwrap_or(Outcome::Delivered))
    }

    /// Clears what is left of a refused transaction (RFC 5321 section 4.1.1.5); the outcome stays what it is.
    async fn reset(&mut self, outcome: Outcome) -> Result<Outcome, Silence> {
        if outcome == Outcome::Deferred(421) {
            return Ok(outcome);
        }
        let reset = async {
            self.write(b"RSET\r\n").await?;
            self.reply().await
        };
        if !matches!(reset.await, Ok(reply) if reply.code == 250) {
            self.usable = false;
        }
        Ok(outcome)
    }

    /// Says QUIT and waits for the answer, so that the server closes first where it is polite.
    pub async fn quit(mut self) {
        if self.write(b"QUIT\r\n").await.is_ok() {
            let _ = self.reply().await;
        }
    }

    async fn write(&mut self, octets: &[u8]) -> Result<(), Silence> {
        match timeout(self.reply, self.stream.write_all(octets)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Silence::Closed),
            Err(_) => Err(Silence::Reply),
        }
    }

    async fn reply(&mut self) -> Result<Reply, Silence> {
        let wait = self.reply;
        timeout(wait, self.read_reply()).await.map_err(|_| Silence::Reply)?
    }

    async fn read_reply(&mut self) -> Result<Reply, Silence> {
        loop {
            if let Some((code, length)) = complete(&self.unread)? {
                let lines = self.unread.drain(..length).collect();
                return Ok(Reply { code, lines });
            }
            if self.unread.len() > REPLY_BYTES_MAX {
                return Err(Silence::Closed);
            }
            match self.stream.read_buf(&mut self.unread).await {
                Ok(0) | Err(_) => return Err(Silence::Closed),
                Ok(_) => {}
            }
        }
    }
}

/// One reply, all its lines.
#[derive(Debug)]
struct Reply {
    code: u16,
    lines: Vec<u8>,
}

impl Reply {
    fn good(&self) -> Result<(), Outcome> {
        match self.code {
            200..300 => Ok(()),
            500..600 => Err(Outcome::Refused(self.code)),
            code => Err(Outcome::Deferred(code)),
        }
    }

    fn has_line(&self, word: &[u8]) -> bool {
        self.lines
            .split(|octet| *octet == b'\n')
            .any(|line| line.get(4..).is_some_and(|text| text.trim_ascii_end().eq_ignore_ascii_case(word)))
    }
}

/// The code and length of the reply that `buffer` begins with, once its last line is whole.
fn complete(buffer: &[u8]) -> Result<Option<(u16, usize)>, Silence> {
    let mut start = 0;
    while let Some(end) = buffer[start..].iter().position(|octet| *octet == b'\n') {
        let line = &buffer[start..start + end];
        let code = line.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        // Not SMTP: as good as no answer.
        let Some(code) = code else { return Err(Silence::Closed) };
        start += end + 1;
        if line.get(3) != Some(&b'-') {
            return Ok(Some((code, start)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_whole_only_after_its_last_line() {
        const WHOLE: &[u8] = b"250-edge\r\n250-PIPELINING\r\n250 SIZE\r\n";
        for cut in 0..WHOLE.len() {
            assert_eq!(complete(&WHOLE[..cut]), Ok(None), "cut before byte {cut}");
        }
        assert_eq!(complete(WHOLE), Ok(Some((250, WHOLE.len()))));
        assert_eq!(complete(b"HTTP/1.1 400\r\n"), Err(Silence::Closed));
    }
}
