//! Networks that many share: mail from them is the operator's own only where it brings a secret.

use std::borrow::Cow;
use std::net::IpAddr;

use edge_core::message::secret_field::without;

use crate::config::{Config, TenantSecret};

/// The tenants of the outbound listener. A reload replaces them.
#[derive(Debug, Default)]
pub(crate) struct Tenants(Vec<TenantSecret>);

impl Tenants {
    /// Reads their secrets.
    ///
    /// # Errors
    /// A secret cannot be used.
    pub(crate) fn of(config: &Config) -> anyhow::Result<Self> {
        config
            .tenant_secrets()
            .map(Self)
            .map_err(|(place, fault)| anyhow::anyhow!("outbound.tenant[{place}].secret_file: {fault}"))
    }

    /// Whether an address is in a network that many share.
    pub(super) fn share(&self, client: IpAddr) -> bool {
        self.at(client).next().is_some()
    }

    /// Whether a message with this header section is the operator's own: it comes from a network of his alone, or brings
    /// the secret of a tenant of its network.
    pub(crate) fn own(&self, client: IpAddr, section: &[u8]) -> bool {
        !self.share(client) || self.at(client).any(|tenant| tenant.field.is_in(section))
    }

    /// The header section without any tenant's field, wherever it comes from.
    pub(super) fn without_secrets<'s>(&self, section: &'s [u8]) -> Cow<'s, [u8]> {
        without(section, |name| self.0.iter().any(|tenant| tenant.field.is_named(name)))
    }

    fn at(&self, client: IpAddr) -> impl Iterator<Item = &TenantSecret> {
        self.0.iter().filter(move |tenant| tenant.networks.iter().any(|network| network.contains(&client)))
    }
}
