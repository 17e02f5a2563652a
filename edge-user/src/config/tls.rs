//! The section about TLS, towards clients and towards the servers that mail is handed to.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::section::{defaults, section};

section! {
    /// `[tls]`
    pub struct Tls {
        /// How long a handshake may take, in seconds.
        pub handshake_secs: u64 = 30,
        /// Most handshakes with clients at once; further ones are told to try again later (454).
        pub handshakes_max: usize = 1024,
        /// Certificates for STARTTLS. A client gets that of the name it asks for, any other the first. None: STARTTLS is not
        /// offered. A reload reads the files anew.
        #[key = "certificate"]
        pub certificates: Vec<TlsCertificate> = Vec::new(),
        /// Servers that mail goes to by TLS: upstreams, or the next hop. To all others it goes in clear.
        #[key = "upstream"]
        pub upstreams: Vec<TlsUpstream> = Vec::new(),
    }
}

section! {
    /// `[[tls.certificate]]`
    pub struct TlsCertificate {
        /// The file (PEM) with the certificate, and behind it those that lead to its authority: `fullchain.pem`.
        pub chain: PathBuf,
        /// The file (PEM) with its private key, which only root and the edge's own group should read: `privkey.pem`.
        pub key: PathBuf,
        /// Host names that it is for; `*.example.com` is each one under it. Empty: those that the certificate has.
        pub names: Vec<String> = Vec::new(),
    }
}

section! {
    /// `[[tls.upstream]]`
    pub struct TlsUpstream {
        /// The server, as it stands behind `upstream` or `next_hop`.
        pub address: SocketAddr,
        /// `off` (clear), `opportunistic` (TLS with whoever answers where it can be had, else clear: against listeners, not
        /// against impostors; RFC 7435) or `verified` (TLS with a certificate that is right, or no mail: 451).
        pub mode: TlsMode,
        /// The name that its certificate must have. Absent: its address.
        pub name: Option<String>,
        /// The file (PEM) with the authorities that may vouch for it. Absent: the system's.
        pub ca_file: Option<PathBuf>,
    }
}

/// How mail is handed to a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// In clear.
    Off,
    /// By TLS where it can be had, with whoever answers (RFC 7435).
    Opportunistic,
    /// By TLS, with a certificate that is right, or not at all.
    Verified,
}

defaults!(Tls);
