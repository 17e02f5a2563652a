//! STARTTLS by rustls, on both sides.
//!
//! - `records`: TLS over a socket, driven by readiness; an idle connection has no buffer;
//! - `certificates`: the server's certificates from disk, chosen by the name that the client asks for;
//! - `server`: towards clients;
//! - `client`: towards upstreams and the next hop.

mod certificates;
mod client;
mod output;
mod records;
mod server;

use std::sync::Arc;

use rustls::CommonState;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::UnbufferedStatus;

pub use self::certificates::{Certificate, CertificateError, Certificates, Oddity, day};
pub(crate) use self::client::{Connector, Connectors};
pub(super) use self::records::Records;
pub use self::server::Acceptor;
pub(crate) use self::server::Handshake;
pub(super) use self::server::NO_TLS_NOW;

/// The side of a connection that the edge accepted.
pub(crate) type Accepted = UnbufferedServerConnection;
/// The side of a connection that the edge opened.
pub(crate) type Opened = UnbufferedClientConnection;

/// What is different between the two sides of a connection.
pub(crate) trait Side {
    /// What rustls keeps for it.
    type Data;

    /// What the octets from the peer mean.
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// What is known of the connection.
    fn state(&self) -> &CommonState;
}

impl Side for Accepted {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

impl Side for Opened {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

/// Where the cryptography comes from.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
