//! Connections that are held open and do nothing: each has its greeting and its answer to EHLO, in clear or by TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::pinned::Pinned;
use crate::reply::{Replies, shown};
use crate::tls::{NAME, offered};

/// Connections that are opened at once: fewer than wait in a listening socket's queue.
const AT_ONCE: usize = 128;
/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What they say of themselves.
const EHLO: &[u8] = b"EHLO idle.far.example\r\n";

/// Clients that know the server by the certificate in this file (PEM). None takes up a session of another: each is a
/// client of its own to the server, which has the whole of the handshake to do.
///
/// # Errors
/// It cannot be read, or is none.
pub fn clients(certificate: &Path) -> Result<Arc<ClientConfig>> {
    let read = CertificateDer::from_pem_file(certificate)
        .with_context(|| format!("no certificate in {}", certificate.display()))?;
    let mut clients = ClientConfig::builder_with_provider(offered().into())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned(read)))
        .with_no_client_auth();
    clients.resumption = Resumption::disabled();
    Ok(Arc::new(clients))
}

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

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.sockets.len()
    }

    /// Opens more, until there are `count`.
    ///
    /// # Errors
    /// One is refused, or hears what it did not expect.
    pub fn open_until(&mut self, count: usize) -> Result<()> {
        while self.sockets.len() < count {
            let first = self.sockets.len();
            let opened = self.open(first..count.min(first + AT_ONCE))?;
            self.sockets.extend(opened);
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

    /// Opens some, step by step all of them: while one's answer is on its way, the others are spoken to.
    fn open(&self, numbers: Range<usize>) -> Result<Vec<TcpStream>> {
        let mut opened =
            numbers.map(|number| Ok((number, self.connect(number)?))).collect::<Result<Vec<_>>>()?;
        each(&mut opened, |socket| expect(socket, 220))?;
        each(&mut opened, |socket| Ok(socket.write_all(EHLO)?))?;
        each(&mut opened, |socket| expect(socket, 250).context("after EHLO"))?;
        let Some(tls) = &self.tls else { return Ok(opened.into_iter().map(|(_, socket)| socket).collect()) };
        each(&mut opened, |socket| Ok(socket.write_all(b"STARTTLS\r\n")?))?;
        each(&mut opened, |socket| expect(socket, 220).context("after STARTTLS"))?;
        let mut secured = Vec::with_capacity(opened.len());
        for (number, socket) in opened {
            let client = ClientConnection::new(Arc::clone(tls), ServerName::try_from(NAME)?)?;
            secured.push((number, StreamOwned::new(client, socket)));
        }
        each(&mut secured, |stream| Ok(stream.conn.write_tls(&mut stream.sock).map(drop)?))?;
        // The rest of the handshake, and what it was for.
        each(&mut secured, |stream| Ok(stream.write_all(EHLO)?))?;
        each(&mut secured, |stream| expect(stream, 250).context("after EHLO by TLS"))?;
        // Nothing more is said on them: their keys are not needed.
        Ok(secured.into_iter().map(|(_, stream)| stream.sock).collect())
    }

    fn connect(&self, number: usize) -> Result<TcpStream> {
        let (first, count) = self.sources;
        let nth = u32::try_from(number)? % count.max(1);
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddr::from((Ipv4Addr::from_bits(first.to_bits() + nth), 0)))?;
        let connected = connect(&socket, &self.target);
        connected.with_context(|| format!("idle connection {number} cannot connect to {}", self.target))?;
        let socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    }
}

/// One step of each of them, in turn.
fn each<S>(opened: &mut [(usize, S)], step: impl Fn(&mut S) -> Result<()>) -> Result<()> {
    for (number, stream) in opened {
        step(stream).with_context(|| format!("idle connection {number}"))?;
    }
    Ok(())
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
        held.sockets[4].write_all(b"QUIT\r\n").unwrap();
        expect(&mut held.sockets[4], 221).unwrap();
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
