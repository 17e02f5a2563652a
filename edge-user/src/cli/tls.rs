//! What is wrong with the certificates, and with the authorities that upstreams are verified by.

use edge_core::time::UnixMillis;

use crate::config::{Config, Level, Problem};
use crate::engine::tls::{Certificate, CertificateError, Certificates, Connectors};

/// What keeps TLS from being had as the configuration says, and what of it may not be meant so.
pub(super) fn problems(config: &Config, now: UnixMillis) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut problem =
        |level, key: String, text| problems.push(Problem { level, line: 0, column: 0, key, text });
    for (place, setting) in config.tls.certificates.iter().enumerate() {
        let path = |key: &str| format!("tls.certificate[{place}].{key}");
        match Certificate::read(setting) {
            Ok(certificate) => {
                for oddity in certificate.oddities(now) {
                    problem(Level::Warning, path("chain"), oddity.to_string());
                }
            }
            Err(error) => {
                let of_key = match &error {
                    CertificateError::NoKey { .. } | CertificateError::Mismatch { .. } => true,
                    CertificateError::NoCertificate { .. } => false,
                    CertificateError::Io { path, .. } | CertificateError::Unfit { path, .. } => {
                        *path == setting.key
                    }
                };
                problem(Level::Error, path(if of_key { "key" } else { "chain" }), error.to_string());
            }
        }
    }
    if let Err((place, error)) = Connectors::of(&config.tls) {
        problem(Level::Error, format!("tls.upstream[{place}]"), error.to_string());
    }
    problems
}

/// Says in the log what of the certificates in force may not be meant so.
pub(super) fn warn(certificates: &Certificates, now: UnixMillis) {
    for (place, certificate) in certificates.all().iter().enumerate() {
        for oddity in certificate.oddities(now) {
            tracing::warn!("tls.certificate[{place}]: {oddity}");
        }
    }
}
