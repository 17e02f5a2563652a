//! The load's side of STARTTLS: TLS 1.3 with AES-128-GCM and X25519, the same for every server; a session that was had
//! before is resumed by a ticket, each of which serves once (RFC 8446 section 4.6.1 and appendix C.4).

use std::collections::VecDeque;
use std::io::{self, Read as _, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{SendFlags, send};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore};

/// The name that the servers' certificate has.
pub const NAME: &str = "edge.example.jp";
/// Tickets that are kept: more than there are sessions at once.
const TICKETS_MAX: usize = 8192;

/// What all connections of a load have in common.
#[derive(Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Client {
    /// Trusts the certificate in this file (PEM), which is for [`NAME`].
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn trusting(certificate: &Path) -> Result<Self> {
        let read = CertificateDer::from_pem_file(certificate)
            .with_context(|| format!("no certificate in {}", certificate.display()))?;
        let mut roots = RootCertStore::empty();
        roots.add(read)?;
        let mut config = ClientConfig::builder_with_provider(offered().into())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::store(Arc::new(Tickets::default()));
        Ok(Self { config: config.into(), name: ServerName::try_from(NAME)? })
    }

    /// A connection whose handshake is to begin.
    pub(crate) fn begin(&self) -> Result<Tls> {
        let mut connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())?;
        // A step waits here whole until the handshake is done; its length is known.
        connection.set_buffer_limit(None);
        Ok(Tls(Box::new(connection)))
    }
}

/// One cipher suite and one group: what every server has to do is the same.
pub(crate) fn offered() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }
}

/// TLS on one connection.
pub(crate) struct Tls(Box<ClientConnection>);

impl Tls {
    /// Octets came: what they say is put behind `plain`.
    pub(crate) fn took(&mut self, mut octets: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        while !octets.is_empty() {
            self.0.read_tls(&mut octets)?;
            let state = self.0.process_new_packets().map_err(io::Error::other)?;
            let (filled, more) = (plain.len(), state.plaintext_bytes_to_read());
            plain.resize(filled + more, 0);
            if more > 0 {
                self.0.reader().read_exact(&mut plain[filled..])?;
            }
        }
        Ok(())
    }

    /// Takes a step, to be sent.
    pub(crate) fn say(&mut self, octets: &[u8]) -> io::Result<()> {
        self.0.writer().write_all(octets)
    }

    /// Sends what there is to send.
    pub(crate) fn flush(&mut self, socket: &OwnedFd) -> io::Result<()> {
        while self.0.wants_write() {
            self.0.write_tls(&mut Sends(socket))?;
        }
        Ok(())
    }

    /// Whether the handshake took up a session that was had before.
    pub(crate) fn is_resumed(&self) -> bool {
        self.0.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

/// A socket, as rustls writes to it.
struct Sends<'s>(&'s OwnedFd);

impl Write for Sends<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        Ok(send(self.0.as_fd(), octets, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The tickets of the one server that there is; the oldest goes first. rustls' own store keeps eight, which is too few for
/// more sessions at once.
#[derive(Debug, Default)]
struct Tickets(Mutex<VecDeque<Tls13ClientSessionValue>>);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() < TICKETS_MAX {
            tickets.push_back(ticket);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::NoServerSessionStorage;
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;
    use crate::floor::session::{GREETING, Next, Session};
    use crate::load::{Load, Took};
    use crate::row::Row;

    /// The floor's session behind STARTTLS.
    fn serve(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
        (&stream).write_all(GREETING)?;
        let mut input = BufReader::new(&stream);
        let mut line = String::new();
        while line != "STARTTLS\r\n" {
            line.clear();
            input.read_line(&mut line)?;
            (&stream).write_all(if line.starts_with("EHLO") {
                b"250 floor.example\r\n"
            } else {
                b"220 go on\r\n"
            })?;
        }
        assert!(input.buffer().is_empty(), "something came before the reply to STARTTLS");
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        let (mut session, mut waiting, mut replies, mut room) =
            (Session::default(), Vec::new(), Vec::new(), [0; 8192]);
        loop {
            let came = stream.read(&mut room)?;
            waiting.extend_from_slice(&room[..came]);
            replies.clear();
            let (taken, next) = session.take(&waiting, &mut replies);
            waiting.drain(..taken);
            stream.write_all(&replies)?;
            if came == 0 || next == Next::Close {
                return Ok(());
            }
        }
    }

    /// Sessions with a server that gives its clients so many tickets.
    fn play(tickets: usize, sessions: u64, certificate: Option<&[u8]>) -> Result<Took> {
        let own = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)?;
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = tickets;
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let target: SocketAddr = listener.local_addr()?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let config = Arc::clone(&config);
                // What breaks is the load's connection, and the load tells the test.
                std::thread::spawn(move || serve(stream, config));
            }
        });
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), certificate.unwrap_or(own.cert.pem().as_bytes()))?;
        let tls = Some(Client::trusting(file.path())?);
        Load { target, sources: None, sessions, at_once: 5, dialogues: Row::Tls4k.dialogues(), tls }.run()
    }

    #[test]
    fn all_but_the_first_sessions_are_resumed() {
        let took = play(1, 60, None).unwrap();
        assert_eq!(took.sessions, 60);
        assert!((55..60).contains(&took.resumed), "{took:?}");
    }

    #[test]
    fn a_server_that_resumes_none_fails_the_run() {
        let error = format!("{:#}", play(0, 60, None).unwrap_err());
        assert!(error.contains("only 0 of 60 sessions over TLS were resumed"), "{error}");
    }

    #[test]
    fn a_server_with_another_certificate_fails_the_run() {
        let other = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap().cert.pem();
        let error = format!("{:#}", play(1, 1, Some(other.as_bytes())).unwrap_err());
        assert!(error.contains("certificate"), "{error}");
    }
}
