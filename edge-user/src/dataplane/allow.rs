//! Who is never dropped: own addresses, upstreams, default gateways, the operator's `allow` list, never-ban prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use edge_core::source::Source;
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;

use super::Dataplane;
use super::error::DataplaneError;
use crate::config::Config;

/// Which list spares a prefix. The numbers stand in the kernel's maps ([`edge_ebpf::Listed`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// Passed in by the daemon: listening addresses, upstreams.
    AlwaysPass = 1,
    /// An address of this host.
    Own = 2,
    /// A default gateway.
    Gateway = 3,
    /// `xdp.allow`.
    Operator = 4,
    /// `reputation.never_ban` and `reputation.trusted_relays`.
    NeverBan = 5,
}

impl Origin {
    const ALL: [Self; 5] = [Self::AlwaysPass, Self::Own, Self::Gateway, Self::Operator, Self::NeverBan];

    pub(super) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| *origin as u32 == number)
    }

    fn because(self) -> &'static str {
        match self {
            Self::AlwaysPass => "it is one of the edge's own addresses or an upstream",
            Self::Own => "it is an address of this host",
            Self::Gateway => "it is the default gateway",
            Self::Operator => "xdp.allow lets it pass",
            Self::NeverBan => "it stands in reputation.never_ban or reputation.trusted_relays",
        }
    }
}

/// A prefix that is never dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Spared {
    pub(super) prefix: IpNet,
    pub(super) origin: Origin,
}

impl Dataplane {
    /// Whether no block drops this address.
    #[must_use]
    pub fn spares(&self, address: IpAddr) -> bool {
        self.spared.iter().any(|spared| spared.prefix.contains(&address))
    }

    /// All prefixes that are never dropped: nobody in them may be banned elsewhere either.
    #[must_use]
    pub fn spared_prefixes(&self) -> Vec<IpNet> {
        self.spared.iter().map(|spared| spared.prefix).collect()
    }

    /// Refuses a source that lies in a spared prefix, or holds one: the ban of an IPv6 /64 would speak of all in it.
    ///
    /// # Errors
    /// It does: with the prefix, and why that is spared.
    pub fn refuse_spared(&self, source: Source) -> Result<(), DataplaneError> {
        match self.spared.iter().find(|spared| overlaps(spared.prefix, source)) {
            None => Ok(()),
            Some(Spared { prefix, origin }) => {
                Err(DataplaneError::Spared { banned: source, prefix: *prefix, because: origin.because() })
            }
        }
    }
}

/// Refuses a source that is this host, its gateway, or stands in the configuration as a listening address, an upstream
/// or the next hop: also where nothing is attached to the NIC.
///
/// # Errors
/// It is: with the prefix, and why that is spared.
pub fn refuse_own(config: &Config, source: Source) -> Result<(), DataplaneError> {
    match allowed(&always_pass(config), &[]).into_iter().find(|spared| overlaps(spared.prefix, source)) {
        None => Ok(()),
        Some(Spared { prefix, origin }) => {
            Err(DataplaneError::Spared { banned: source, prefix, because: origin.because() })
        }
    }
}

/// The addresses that the configuration names: listening ones, upstreams, the next hop.
pub(super) fn always_pass(config: &Config) -> Vec<IpAddr> {
    let outbound =
        config.outbound.iter().flat_map(|outbound| outbound.listen.iter().chain(&*outbound.next_hop));
    let upstreams = config.domains.iter().flat_map(|domain| &*domain.upstream);
    config.inbound.listen.iter().chain(outbound).chain(upstreams).map(SocketAddr::ip).collect()
}

fn overlaps(prefix: IpNet, source: Source) -> bool {
    let source = match source.address() {
        IpAddr::V4(v4) => IpNet::from(IpAddr::V4(v4)),
        address @ IpAddr::V6(_) => IpNet::new_assert(address, 64),
    };
    prefix.contains(&source) || source.contains(&prefix)
}

/// What goes to `ALLOW`.
pub(super) fn allowed(always_pass: &[IpAddr], operator: &[IpNet]) -> Vec<Spared> {
    let single = |address: IpAddr| IpNet::from(address.to_canonical());
    let spared = |origin| move |prefix| Spared { prefix, origin };
    let mut all: Vec<_> = always_pass.iter().copied().map(single).map(spared(Origin::AlwaysPass)).collect();
    all.extend(own_addresses().into_iter().map(single).map(spared(Origin::Own)));
    all.extend(default_gateways().into_iter().map(single).map(spared(Origin::Gateway)));
    all.extend(operator.iter().map(IpNet::trunc).map(spared(Origin::Operator)));
    all.retain(|spared| !spared.prefix.addr().is_unspecified() || spared.origin == Origin::Operator);
    all
}

/// What goes to `NEVER_BAN`.
pub(super) fn never_banned(prefixes: &[IpNet]) -> Vec<Spared> {
    prefixes.iter().map(|prefix| Spared { prefix: prefix.trunc(), origin: Origin::NeverBan }).collect()
}

/// The addresses of this host's interfaces. Where the system does not tell, the daemon's own list remains.
fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
            (None, Some(v6)) => Some(IpAddr::V6(v6.ip())),
            (None, None) => None,
        })
        .collect()
}

/// The default gateways of this network namespace.
fn default_gateways() -> Vec<IpAddr> {
    // Of this thread: another one may have entered another namespace.
    let read =
        |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    let v4 = gateways_v4(&read("route")).into_iter().map(IpAddr::V4);
    let v6 = gateways_v6(&read("ipv6_route")).into_iter().map(IpAddr::V6);
    v4.chain(v6).collect()
}

/// `/proc/net/route`: interface, destination, gateway, flags, ...; addresses as numbers in host order of their
/// network-order octets.
fn gateways_v4(route: &str) -> Vec<Ipv4Addr> {
    let gateway = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, fields.next()?);
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        (destination == "00000000" && gateway != 0).then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    };
    route.lines().skip(1).filter_map(gateway).collect()
}

/// `/proc/net/ipv6_route`: destination, its length, source, its length, next hop, ...
fn gateways_v6(route: &str) -> Vec<Ipv6Addr> {
    let gateway = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let gateway = u128::from_str_radix(fields.get(4)?, 16).ok()?;
        (fields[1] == "00" && gateway != 0).then(|| Ipv6Addr::from_bits(gateway))
    };
    route.lines().filter_map(gateway).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_default_routes_have_the_gateway() {
        let route = "Iface\tDestination\tGateway \tFlags\n\
            eth0\t00000000\t0112A8C0\t0003\t0\t0\t0\t00000000\n\
            eth0\t0012A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n\
            eth0\t00000A0A\t0212A8C0\t0003\t0\t0\t0\t0000FFFF\n";
        assert_eq!(gateways_v4(route), [Ipv4Addr::new(192, 168, 18, 1)]);
        let zero = "00000000000000000000000000000000";
        let route = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n\
             20010002000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n"
        );
        assert_eq!(gateways_v6(&route), ["fe80::1".parse::<Ipv6Addr>().unwrap()]);
    }

    #[test]
    fn a_source_overlaps_what_it_lies_in_and_what_it_holds() {
        let source = |text: &str| text.parse::<Source>().unwrap();
        let prefix = |text: &str| text.parse::<IpNet>().unwrap();
        assert!(overlaps(prefix("192.0.2.0/24"), source("192.0.2.7")));
        assert!(!overlaps(prefix("192.0.2.0/24"), source("192.0.3.7")));
        assert!(overlaps(prefix("2001:2::/48"), source("2001:2:0:9::1")));
        assert!(overlaps(prefix("2001:2:0:9::25/128"), source("2001:2:0:9::1")));
        assert!(!overlaps(prefix("2001:2:0:8::25/128"), source("2001:2:0:9::1")));
        assert!(!overlaps(prefix("0.0.0.0/0"), source("2001:2:0:9::1")));
    }

    #[test]
    fn an_unspecified_listening_address_allows_nobody() {
        let all = allowed(&["0.0.0.0".parse().unwrap(), "192.0.2.1".parse().unwrap()], &[]);
        assert!(all.iter().any(|spared| spared.prefix == "192.0.2.1/32".parse().unwrap()));
        assert!(all.iter().all(|spared| !spared.prefix.addr().is_unspecified()));
    }
}
