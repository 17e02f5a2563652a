//! TLS towards clients: what STARTTLS is answered with.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::{ArcSwap, Guard};
use edge_core::smtp::{Enhanced, Reply};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ProtocolVersion};

use super::{Accepted, Certificates};
use crate::config::Tls;
use crate::engine::Edge;
use crate::engine::client::Client;
use crate::telemetry::Event;

/// What STARTTLS is answered with when as many handshakes are going on as may.
pub(in crate::engine) const NO_TLS_NOW: Reply =
    Reply::new(454, Enhanced(4, 7, 0), "TLS is not available now, try again later");

/// Tickets that a client gets with each handshake, to resume by (RFC 8446 section 4.6.1): the next connection brings
/// another one.
const TICKETS: usize = 1;

/// The server's side.
#[derive(Debug)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    chooser: Arc<Chooser>,
    handshakes: Arc<AtomicUsize>,
    handshakes_max: usize,
    /// How long a handshake may take.
    pub(crate) patience: Duration,
}

/// Chooses among the certificates that are in force.
#[derive(Debug)]
struct Chooser(ArcSwap<Certificates>);

impl Chooser {
    fn certificates(&self) -> Guard<Arc<Certificates>> {
        self.0.load()
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certificates().for_client(&hello)
    }
}

/// A handshake that may begin.
pub(crate) struct Handshake {
    /// The new connection's side.
    pub(crate) side: Accepted,
    /// Held until it is done.
    pub(crate) place: Place,
}

/// One of `handshakes_max`.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Acceptor {
    /// With these certificates; none: TLS is not offered.
    ///
    /// # Errors
    /// No randomness for the tickets' keys.
    pub(crate) fn new(settings: &Tls, certificates: Certificates) -> anyhow::Result<Self> {
        let chooser = Arc::new(Chooser(ArcSwap::from_pointee(certificates)));
        let mut config = ServerConfig::builder_with_provider(super::provider())
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up")?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&chooser) as Arc<dyn ResolvesServerCert>);
        // What a client resumes by is in its ticket: nothing is kept here but the key, which handshakes share.
        config.ticketer = Ticketer::new().context("the keys of TLS session tickets cannot be made")?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = TICKETS;
        Ok(Self {
            config: Arc::new(config),
            chooser,
            handshakes: Arc::default(),
            handshakes_max: settings.handshakes_max,
            patience: Duration::from_secs(settings.handshake_secs),
        })
    }

    /// Whether there is a certificate, so that STARTTLS can be offered.
    pub(crate) fn is_on(&self) -> bool {
        !self.certificates().all().is_empty()
    }

    /// Those in force.
    #[must_use]
    pub fn certificates(&self) -> Guard<Arc<Certificates>> {
        self.chooser.certificates()
    }

    /// Handshakes that begin from now on get one of these.
    pub(crate) fn set_certificates(&self, certificates: Certificates) {
        self.chooser.0.store(Arc::new(certificates));
    }

    /// A handshake begins.
    ///
    /// # Errors
    /// There are as many as may be at once, or rustls cannot begin one.
    pub(crate) fn begin(&self) -> io::Result<Handshake> {
        let before = self.handshakes.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.handshakes));
        if before >= self.handshakes_max || !self.is_on() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let side = Accepted::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        Ok(Handshake { side, place })
    }
}

impl Edge {
    /// Counts a client's handshake, and logs it where it failed.
    pub(in crate::engine) fn note_handshake(&self, client: &Client, done: &io::Result<()>) {
        let Err(error) = done else {
            self.metrics.tls_sessions.add(1);
            let Some(tls) = client.tls() else { return };
            if tls.handshake_kind() == Some(HandshakeKind::Resumed) {
                self.metrics.tls_resumed.add(1);
            }
            if tls.protocol_version() == Some(ProtocolVersion::TLSv1_2) {
                self.metrics.tls_version_1_2.add(1);
            }
            return;
        };
        // The edge itself ended it: it stops, or bans the client.
        if error.kind() == io::ErrorKind::Interrupted {
            return;
        }
        self.metrics.tls_failed.add(1);
        self.log.event(Event::TlsFailed { source: client.peer.ip(), error: error.to_string() });
    }
}
