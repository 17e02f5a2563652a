//! TLS towards upstreams and the next hop: in which way each is spoken to.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edge_core::time::UnixMillis;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::certificates::{CertificateError, read_chain};
use super::{Opened, provider};
use crate::config::{Tls, TlsMode, TlsUpstream};

/// For how long a server whose handshake failed is spoken to in clear, where that is allowed, before TLS is tried again.
const IN_CLEAR: Duration = Duration::from_secs(600);

/// Server names whose tickets are kept to resume by: each server has one.
const RESUMED_MAX: usize = 4;

/// Why a server cannot be spoken to as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectorError {
    /// The authorities' file cannot be used.
    #[error(transparent)]
    Authorities(#[from] CertificateError),
    /// The system has none.
    #[error("this system has no certificate authorities{0}; install ca-certificates, or name a `ca_file`")]
    NoAuthorities(String),
    /// The name can be in no certificate.
    #[error("\"{0}\" is no host name")]
    Name(String),
    /// rustls does not take the settings.
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// How one server is spoken to by TLS.
#[derive(Debug)]
pub(crate) struct Connector {
    mode: TlsMode,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// How long a handshake may take.
    pub(crate) patience: Duration,
    /// Until when it is spoken to in clear, in milliseconds since 1970; 0: its last handshake was good.
    clear_until: AtomicU64,
}

impl Connector {
    fn new(settings: &TlsUpstream, patience: Duration) -> Result<Self, ConnectorError> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let mut config = match settings.mode {
            TlsMode::Verified => builder
                .with_root_certificates(authorities(settings.ca_file.as_deref())?)
                .with_no_client_auth(),
            TlsMode::Off | TlsMode::Opportunistic => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Whoever(provider)))
                .with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(RESUMED_MAX);
        let name = match &settings.name {
            None => ServerName::IpAddress(settings.address.ip().into()),
            Some(name) => {
                ServerName::try_from(name.clone()).map_err(|_| ConnectorError::Name(name.clone()))?
            }
        };
        Ok(Self {
            mode: settings.mode,
            config: Arc::new(config),
            name,
            patience,
            clear_until: AtomicU64::new(0),
        })
    }

    /// Whether mail may go in clear where TLS cannot be had.
    pub(crate) fn may_be_clear(&self) -> bool {
        self.mode != TlsMode::Verified
    }

    /// Whether it is always spoken to in clear.
    pub(crate) fn is_off(&self) -> bool {
        self.mode == TlsMode::Off
    }

    /// Whether it is to be spoken to in clear now.
    pub(crate) fn is_clear(&self, now: UnixMillis) -> bool {
        match self.mode {
            TlsMode::Off => true,
            TlsMode::Opportunistic => self.clear_until.load(Ordering::Relaxed) > now.0,
            TlsMode::Verified => false,
        }
    }

    /// A handshake was good.
    pub(crate) fn is_secured(&self) {
        self.clear_until.store(0, Ordering::Relaxed);
    }

    /// A handshake failed: for how long it is spoken to in clear from `now` on. `None`: it failed the last time too.
    pub(crate) fn go_clear(&self, now: UnixMillis) -> Option<Duration> {
        let until = now.plus(IN_CLEAR).0;
        (self.clear_until.swap(until, Ordering::Relaxed) == 0).then_some(IN_CLEAR)
    }

    /// A handshake begins.
    pub(crate) fn begin(&self) -> Result<Opened, rustls::Error> {
        Opened::new(Arc::clone(&self.config), self.name.clone())
    }
}

/// How servers are spoken to; those that are not here are in clear.
#[derive(Debug, Default)]
pub(crate) struct Connectors(HashMap<SocketAddr, Arc<Connector>>);

impl Connectors {
    /// As the configuration says.
    ///
    /// # Errors
    /// The first server that cannot be spoken to so, with its place.
    pub(crate) fn of(settings: &Tls) -> Result<Self, (usize, ConnectorError)> {
        let patience = Duration::from_secs(settings.handshake_secs);
        let connector = |(place, upstream): (usize, &TlsUpstream)| {
            let connector = Connector::new(upstream, patience).map_err(|error| (place, error))?;
            Ok((upstream.address, Arc::new(connector)))
        };
        settings.upstreams.iter().enumerate().map(connector).collect::<Result<_, _>>().map(Self)
    }

    /// The same, with an error that names the setting.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub(crate) fn configured(settings: &Tls) -> anyhow::Result<Self> {
        Self::of(settings).map_err(|(place, error)| anyhow::anyhow!("tls.upstream[{place}]: {error}"))
    }

    /// How this server is spoken to.
    pub(crate) fn get(&self, address: SocketAddr) -> Option<Arc<Connector>> {
        self.0.get(&address).cloned()
    }
}

/// Those in the file, or the system's.
fn authorities(file: Option<&Path>) -> Result<RootCertStore, ConnectorError> {
    let mut store = RootCertStore::empty();
    match file {
        Some(path) => {
            for certificate in read_chain(path)? {
                store.add(certificate).map_err(|error| CertificateError::Unfit {
                    path: path.to_owned(),
                    cause: error.to_string(),
                })?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            // A system's list may have some that are not understood.
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
                return Err(ConnectorError::NoAuthorities(why));
            }
        }
    }
    Ok(store)
}

/// Takes the certificate of whoever answers, who must only have its key (RFC 7435 section 3).
struct Whoever(Arc<CryptoProvider>);

impl fmt::Debug for Whoever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Whoever")
    }
}

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
