//! The secrets of tenants, each in a file of its own: the configuration may be read by who may not know them.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use edge_core::message::secret_field::{SECRET_BYTES_MAX, SECRET_BYTES_MIN, SecretField};
use ipnet::IpNet;
use zeroize::Zeroizing;

use super::{Config, Tenant};

/// Octets of the largest file that is read.
const FILE_BYTES_MAX: u64 = 4096;

/// Why a tenant's secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret in {}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Others may read it, or it belongs to a user who is neither root nor this program's.
    #[error(
        "{0} can be read by others, or belongs to another user: chown root {0} and chmod 640 {0}",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It holds no secret.
    #[error(
        "{0} holds no secret of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} visible characters; make one: \
         openssl rand -hex 24 >{0}",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// From where mail comes that must bring one of these fields.
#[derive(Debug)]
pub struct TenantSecret {
    /// The networks.
    pub networks: Vec<IpNet>,
    /// The field.
    pub field: SecretField,
}

impl Config {
    /// The tenants of the outbound listener, with their secrets.
    ///
    /// # Errors
    /// The first secret that cannot be used, with its place among the tenants.
    pub fn tenant_secrets(&self) -> Result<Vec<TenantSecret>, (usize, SecretError)> {
        let tenants = self.outbound.iter().flat_map(|outbound| &outbound.tenants);
        tenants.enumerate().map(|(place, tenant)| read(tenant).map_err(|fault| (place, fault))).collect()
    }
}

fn read(tenant: &Tenant) -> Result<TenantSecret, SecretError> {
    let path = &tenant.secret_file;
    let secret = octets(path)?;
    let field = SecretField::new(&tenant.header, &secret);
    let field = field.ok_or_else(|| SecretError::Malformed { path: path.clone() })?;
    Ok(TenantSecret { networks: tenant.networks.clone(), field })
}

fn octets(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let io = |cause| SecretError::Io { path: path.to_owned(), cause };
    // A FIFO would wait for somebody who writes.
    let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(SecretError::Malformed { path: path.to_owned() });
    }
    let owned = [0, nix::unistd::geteuid().as_raw()].contains(&metadata.uid());
    if !owned || metadata.permissions().mode() & 0o027 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned() });
    }
    // As large as it may become from the start: a buffer that grows leaves copies behind.
    let mut secret = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 1));
    file.take(FILE_BYTES_MAX).read_to_end(&mut secret).map_err(io)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(secret_file: &Path) -> Tenant {
        Tenant {
            networks: vec!["192.0.2.0/24".parse().unwrap()],
            header: "Our-Tenant".into(),
            secret_file: secret_file.into(),
        }
    }

    #[test]
    fn a_fifo_or_a_directory_is_no_secret_and_nobody_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
        assert!(matches!(read(&tenant(&fifo)), Err(SecretError::Malformed { .. })));
        assert!(matches!(read(&tenant(dir.path())), Err(SecretError::Malformed { .. })));
    }

    #[test]
    fn a_secret_is_read_that_nobody_else_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert!(matches!(read(&tenant(&path)), Err(SecretError::Io { .. })));
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        for (mode, exposed) in [(0o644, true), (0o660, true), (0o604, true), (0o640, false), (0o600, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let read = read(&tenant(&path));
            assert_eq!(matches!(read, Err(SecretError::Exposed { .. })), exposed, "{mode:o}: {read:?}");
        }
        let field = read(&tenant(&path)).unwrap().field;
        assert!(field.is_in(b"Our-Tenant: 0123456789abcdef\r\n"));
        std::fs::write(&path, "short\n").unwrap();
        let fault = read(&tenant(&path)).unwrap_err().to_string();
        assert!(fault.contains("openssl rand") && !fault.contains("short\n"), "{fault}");
    }
}
