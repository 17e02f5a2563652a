//! Which servers there are, and where `cargo xtask setup` unpacked them.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::program::target;

/// A mail server software, or what stands beside one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Software {
    /// Postfix.
    Postfix,
    /// Exim, the light daemon.
    Exim,
    /// OpenSMTPD.
    OpenSmtpd,
    /// Sendmail.
    Sendmail,
    /// Dovecot with LMTP and Pigeonhole (Sieve): delivers for a mail server.
    Dovecot,
    /// `postsrsd`: rewrites the senders of what a Postfix passes on (SRS).
    Postsrsd,
    /// The mailing list manager `mlmmj`.
    Mlmmj,
    /// OpenDKIM, a milter that signs.
    OpenDkim,
    /// `stunnel`, which ends TLS for what has none.
    Stunnel,
    /// NSD, a server of the DNS ([`crate::dns`]).
    Nsd,
    /// OpenSSH's server ([`crate::ssh`]).
    OpenSsh,
    /// HAProxy, to measure against.
    HaProxy,
    /// nginx with its mail proxy, to measure against.
    Nginx,
}

impl Software {
    /// Its folder below `target/lab/mta`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Postfix => "postfix",
            Self::Exim => "exim",
            Self::OpenSmtpd => "opensmtpd",
            Self::Sendmail => "sendmail",
            Self::Dovecot => "dovecot",
            Self::Postsrsd => "postsrsd",
            Self::Mlmmj => "mlmmj",
            Self::OpenDkim => "opendkim",
            Self::Stunnel => "stunnel",
            Self::Nsd => "nsd",
            Self::OpenSsh => "openssh",
            Self::HaProxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// A program that every unpacked package has: where it is missing, `setup` has not run.
    #[must_use]
    pub fn landmark(self) -> &'static str {
        match self {
            Self::Postfix => "usr/sbin/postfix",
            Self::Exim => "usr/sbin/exim4",
            Self::OpenSmtpd => "usr/sbin/smtpd",
            Self::Sendmail => "usr/libexec/sendmail/sendmail",
            Self::Dovecot => "usr/lib/dovecot/lmtp",
            Self::Postsrsd => "usr/sbin/postsrsd",
            Self::Mlmmj => "usr/bin/mlmmj-receive",
            Self::OpenDkim => "usr/sbin/opendkim",
            Self::Stunnel => "usr/bin/stunnel4",
            Self::Nsd => "usr/sbin/nsd",
            Self::OpenSsh => "usr/sbin/sshd",
            Self::HaProxy => "usr/sbin/haproxy",
            Self::Nginx => "usr/lib/nginx/modules/ngx_mail_module.so",
        }
    }

    /// Where `cargo xtask setup` unpacked it.
    ///
    /// # Errors
    /// When it did not.
    pub fn package(self) -> Result<PathBuf> {
        let package = prefix().join(self.name());
        ensure!(
            package.join(self.landmark()).exists(),
            "{} is not unpacked in {}: run `cargo xtask setup`",
            self.name(),
            package.display()
        );
        Ok(package)
    }
}

/// The folder that the servers' packages are unpacked to, also the DNS server's: `lab/mta` in the target folder.
#[must_use]
pub fn prefix() -> PathBuf {
    target().join("lab/mta")
}
