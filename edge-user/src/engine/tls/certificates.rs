//! The server's certificates: read from disk, and chosen by the name that the client asks for (RFC 6066 section 3).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edge_core::time::UnixMillis;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SignatureScheme};
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::config::{Tls, TlsCertificate};

/// Octets of the largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file holds no certificate.
    #[error("{} holds no certificate in PEM; it should be the chain, like certbot's fullchain.pem", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no key.
    #[error("{} holds no private key in PEM without a password; it should be one like certbot's privkey.pem", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The certificate is not that of the key.
    #[error(
        "the key in {} is not the one of the first certificate in {}; name the files of one pair, the server's own \
         certificate first in the chain",
        key.display(), chain.display()
    )]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The chain's.
        chain: PathBuf,
    },
    /// Something in a file is not understood.
    #[error("{} cannot be used: {cause}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
}

/// What of a certificate may not be meant so; it is used all the same.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Oddity {
    /// Its time is over.
    #[error("it expired on {}: clients that verify do not take it; renew it, then systemctl reload backstop", day(*.0))]
    Expired(UnixMillis),
    /// Its time has not come.
    #[error("it counts from {} on: clients that verify do not take it before; is the clock right?", day(*.0))]
    NotYet(UnixMillis),
    /// Nobody can ask for it.
    #[error(
        "it has no host name, and `names` gives it none: only a client that asks for no other one gets it"
    )]
    Nameless,
    /// It is chosen by a name that it does not have.
    #[error("it has not the name {0}, which it is chosen by: clients that verify do not take it")]
    Foreign(String),
    /// Everybody on this host may read the key.
    #[error("everybody on this host can read its key: chmod 640, and the edge's group")]
    Exposed,
}

/// A day, as people write it.
#[must_use]
pub fn day(at: UnixMillis) -> String {
    let time = jiff::Timestamp::from_second(i64::try_from(at.secs()).unwrap_or(i64::MAX));
    time.unwrap_or_default().strftime("%Y-%m-%d").to_string()
}

/// A certificate, its chain and its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The names that it is chosen by: lowercase, `*.` in front for all that are under it.
    pub names: Vec<String>,
    /// The names that it has.
    pub own_names: Vec<String>,
    /// From when on it counts.
    pub not_before: UnixMillis,
    /// Until when.
    pub not_after: UnixMillis,
    /// Everybody on this host may read the key.
    pub key_exposed: bool,
    key: Arc<CertifiedKey>,
}

impl Certificate {
    /// Reads one.
    ///
    /// # Errors
    /// A file cannot be used; the error says which, and what to do.
    pub fn read(setting: &TlsCertificate) -> Result<Self, CertificateError> {
        let (chain_path, key_path) = (&setting.chain, &setting.key);
        let unfit = |path: &Path, cause: String| CertificateError::Unfit { path: path.to_owned(), cause };
        let chain = read_chain(chain_path)?;
        let (pem, mode) = read(key_path)?;
        let key = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|_| CertificateError::NoKey { path: key_path.clone() })?;
        let Some(first) = chain.first() else {
            return Err(CertificateError::NoCertificate { path: chain_path.clone() });
        };
        let parsed = x509_cert::Certificate::from_der(first)
            .map_err(|error| unfit(chain_path, format!("its first certificate is malformed ({error})")))?;
        let certificate = parsed.tbs_certificate();
        let alternatives = certificate.get_extension::<SubjectAltName>();
        let alternatives = alternatives.map_err(|error| unfit(chain_path, error.to_string()))?;
        let own_names: Vec<String> = alternatives
            .iter()
            .flat_map(|(_, SubjectAltName(names))| names)
            .filter_map(|name| match name {
                GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
                _ => None,
            })
            .collect();
        let [not_before, not_after] = [certificate.validity().not_before, certificate.validity().not_after]
            .map(|time| UnixMillis::from_secs(time.to_unix_duration().as_secs()));
        let key = CertifiedKey::from_der(chain, key, &super::provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                CertificateError::Mismatch { key: key_path.clone(), chain: chain_path.clone() }
            }
            error => unfit(key_path, error.to_string()),
        })?;
        let names = match setting.names.as_slice() {
            [] => own_names.clone(),
            names => names.iter().map(|name| name.to_ascii_lowercase()).collect(),
        };
        let key_exposed = mode & 0o007 != 0;
        Ok(Self { names, own_names, not_before, not_after, key_exposed, key: Arc::new(key) })
    }

    /// What of it may not be meant so.
    #[must_use]
    pub fn oddities(&self, now: UnixMillis) -> Vec<Oddity> {
        let mut found = Vec::new();
        if self.not_after < now {
            found.push(Oddity::Expired(self.not_after));
        } else if self.not_before > now {
            found.push(Oddity::NotYet(self.not_before));
        }
        if self.names.is_empty() {
            found.push(Oddity::Nameless);
        }
        let foreign = self.names.iter().filter(|name| !self.has_name(name));
        found.extend(foreign.cloned().map(Oddity::Foreign));
        if self.key_exposed {
            found.push(Oddity::Exposed);
        }
        found
    }

    /// Whether it has this name, by itself or by `*.`.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        let wildcard = wildcard_of(name);
        self.own_names.iter().any(|own| *own == name || Some(own) == wildcard.as_ref())
    }
}

/// All certificates, by their names.
#[derive(Debug, Default)]
pub struct Certificates {
    /// In the order of the configuration.
    all: Vec<Certificate>,
    by_name: HashMap<String, Vec<usize>>,
}

impl Certificates {
    /// Reads all that the configuration names.
    ///
    /// # Errors
    /// The first that cannot be used, with its place.
    pub fn read(settings: &Tls) -> Result<Self, (usize, CertificateError)> {
        let read = |(place, setting)| Certificate::read(setting).map_err(|error| (place, error));
        let all: Vec<Certificate> =
            settings.certificates.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, certificate) in all.iter().enumerate() {
            for name in &certificate.names {
                by_name.entry(name.clone()).or_default().push(place);
            }
        }
        Ok(Self { all, by_name })
    }

    /// The same, with an error that names the setting.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn configured(settings: &Tls) -> anyhow::Result<Self> {
        Self::read(settings).map_err(|(place, error)| anyhow::anyhow!("tls.certificate[{place}]: {error}"))
    }

    /// In the order of the configuration.
    #[must_use]
    pub fn all(&self) -> &[Certificate] {
        &self.all
    }

    /// The one for a client that asks for `name` and can verify `schemes`: of several for the name, the first that it
    /// can; of none, the first of all, or of those that are for the same name.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let fitting = |places: &Vec<usize>| {
            let keys = places.iter().filter_map(|place| self.all.get(*place)).map(|one| &one.key);
            keys.clone()
                .find(|key| key.key.choose_scheme(schemes).is_some())
                .or_else(|| keys.clone().next())
                .cloned()
        };
        let named = name.map(str::to_ascii_lowercase).and_then(|name| {
            let wildcard = || self.by_name.get(&wildcard_of(&name)?);
            self.by_name.get(&name).or_else(wildcard)
        });
        let first = || self.by_name.get(self.all.first()?.names.first()?);
        named.or_else(first).and_then(fitting).or_else(|| Some(Arc::clone(&self.all.first()?.key)))
    }

    pub(super) fn for_client(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

/// `*.example.com` for `mx.example.com`.
fn wildcard_of(name: &str) -> Option<String> {
    name.split_once('.').map(|(_, parent)| format!("*.{parent}"))
}

/// All certificates of a file.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let (pem, _) = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) | Err(_) => Err(CertificateError::NoCertificate { path: path.to_owned() }),
    }
}

/// A file's octets and mode.
fn read(path: &Path) -> Result<(zeroize::Zeroizing<Vec<u8>>, u32), CertificateError> {
    let io = |cause| CertificateError::Io { path: path.to_owned(), cause };
    // A FIFO would wait for somebody who writes.
    let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        let cause = format!("it is no file of at most {FILE_BYTES_MAX} octets");
        return Err(CertificateError::Unfit { path: path.to_owned(), cause });
    }
    // As large as it may become from the start: a buffer that grows leaves copies of the key behind.
    let mut octets = zeroize::Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    file.take(FILE_BYTES_MAX).read_to_end(&mut octets).map_err(io)?;
    Ok((octets, metadata.mode()))
}
