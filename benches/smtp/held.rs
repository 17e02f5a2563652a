//! Connections that are held open and do nothing: each has its greeting and its answer to EHLO, in clear or by TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::reply::{Replies, shown};
use crate::tls::NAME;

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What they say of themselves.
const EHLO: &[u8] = b"EHLO idle.far.example\r\n";

/// Idle connections.
#[derive(Debug)]
pub struct Held {
    target: SocketAddr,
    /// Their source addresses, by turns: the first of them and how many.
    sources: (Ipv4Addr, u32),
    /// With it they go over to TLS.
    tls: Option<Arc<ClientConfig>>,
    sockets: Vec<TcpStream>,
}

impl Held {
    /// None yet.
    #[must_use]
    pub const fn new(target: SocketAddr, sources: (Ipv4Addr, u32), tls: Option<Arc<ClientConfig>>) -> Self {
        Self { target, sources, tls, sockets: Vec::new() }
    }

    /// Opens more, until there are `count`.
    ///
    /// # Errors
    /// One is refused, or hears what it did not expect.
    pub fn open_until(&mut self, count: usize) -> Result<()> {
        while self.sockets.len() < count {
            let number = self.sockets.len();
            let socket = self.open(number).with_context(|| format!("idle connection {number}"))?;
            self.sockets.push(socket);
        }
        Ok(())
    }

    /// That each of them is still there, and heard nothing more.
    ///
    /// # Errors
    /// One has ended, or heard something.
    pub fn ensure_open(&self) -> Result<()> {
        for (number, socket) in self.sockets.iter().enumerate() {
            socket.set_nonblocking(true)?;
            match socket.peek(&mut [0; 1]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => bail!("idle connection {number} is not idle any more: {other:?}"),
            }
        }
        Ok(())
    }

    fn open(&self, number: usize) -> Result<TcpStream> {
        let (first, count) = self.sources;
        let nth = u32::try_from(number)? % count.max(1);
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddr::from((Ipv4Addr::from_bits(first.to_bits() + nth), 0)))?;
        connect(&socket, &self.target).with_context(|| format!("cannot connect to {}", self.target))?;
        let mut socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(PATIENCE))?;
        expect(&mut socket, 220)?;
        say(&mut socket, EHLO, 250)?;
        let Some(tls) = &self.tls else { return Ok(socket) };
        say(&mut socket, b"STARTTLS\r\n", 220)?;
        let client = ClientConnection::new(Arc::clone(tls), ServerName::try_from(NAME)?)?;
        let mut stream = StreamOwned::new(client, socket);
        say(&mut stream, EHLO, 250)?;
        // Nothing more is said on it: its keys are not needed.
        Ok(stream.sock)
    }
}

fn say(stream: &mut (impl Read + Write), line: &[u8], code: u16) -> Result<()> {
    stream.write_all(line)?;
    expect(stream, code).with_context(|| format!("after {}", shown(line)))
}

/// Reads one reply.
fn expect(stream: &mut impl Read, code: u16) -> Result<()> {
    let (mut replies, mut octets) = (Replies::default(), [0; 2048]);
    loop {
        let came = stream.read(&mut octets).context("no reply")?;
        ensure!(came > 0, "the connection ended");
        let mut heard = None;
        let read = replies.take(&octets[..came], |code, line| heard = Some((code, shown(line))));
        if let Err(error) = read {
            bail!("no reply: {}", error.line);
        }
        if let Some((heard, line)) = heard {
            ensure!(heard == code, "{code} wanted, and not: {line}");
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::Floor;

    #[test]
    fn connections_are_held_until_the_server_ends_them() {
        let floor = Floor::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let target = floor.address;
        std::thread::spawn(move || floor.serve());
        let mut held = Held::new(target, (Ipv4Addr::new(127, 0, 2, 1), 3), None);
        held.open_until(7).unwrap();
        held.ensure_open().unwrap();
        held.sockets[4].set_nonblocking(false).unwrap();
        say(&mut held.sockets[4], b"QUIT\r\n", 221).unwrap();
        // Its end comes a moment after its last words.
        assert_eq!(held.sockets[4].read(&mut [0; 1]).unwrap(), 0);
        let error = held.ensure_open().unwrap_err().to_string();
        assert!(error.contains("idle connection 4 "), "{error}");
    }

    #[test]
    fn an_answer_that_was_not_expected_is_told() {
        let error = format!("{:#}", expect(&mut &b"421 4.3.2 Too many\r\n"[..], 220).unwrap_err());
        assert!(error.contains("220 wanted") && error.contains("421 4.3.2"), "{error}");
    }
}
