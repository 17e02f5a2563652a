//! Certificates for tests, made on the spot.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::TlsCertificate;

/// An authority, in a folder of its own.
pub(super) struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for these names, in files that begin with the first (or over those that were there).
    pub(super) fn certificate(&self, names: &[&str]) -> TlsCertificate {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let path = |kind: &str| self.folder.path().join(format!("{}.{kind}", names[0].replace('*', "any")));
        let (chain, key_path) = (path("pem"), path("key"));
        let params = CertificateParams::new(names).unwrap();
        std::fs::write(&chain, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(&key_path, key.serialize_pem()).unwrap();
        TlsCertificate { chain, key: key_path, names: vec![] }
    }

    /// A client that trusts this authority alone.
    pub(super) fn client(&self) -> Arc<ClientConfig> {
        let mut store = RootCertStore::empty();
        store.add(certificate_in(&self.file())).unwrap();
        let config = ClientConfig::builder_with_provider(crate::engine::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(store)
            .with_no_client_auth();
        Arc::new(config)
    }

    /// A server with a certificate for these names.
    pub(super) fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let files = self.certificate(names);
        let config = ServerConfig::builder_with_provider(crate::engine::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate_in(&files.chain)],
                PrivateKeyDer::from_pem_file(&files.key).unwrap(),
            );
        Arc::new(config.unwrap())
    }
}

pub(super) fn certificate_in(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}
