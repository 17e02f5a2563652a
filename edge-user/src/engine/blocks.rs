//! `xdp.block` at SMTP: who is blocked and gets past the program at the NIC all the same is answered 421.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::Config;
use crate::dataplane::Dataplane;

/// The blocked prefixes, and what is spared from them.
#[derive(Debug)]
pub(super) struct Blocks {
    blocked: Vec<IpNet>,
    spared: Vec<IpNet>,
    /// Only what the NIC counts; without a NIC the configuration says so.
    watch: bool,
}

impl Blocks {
    pub(super) fn of(config: &Config) -> Self {
        let xdp = config.xdp.as_ref();
        let spared = xdp.map_or_else(Vec::new, |xdp| [xdp.allow.clone(), config.never_ban()].concat());
        Self {
            blocked: IpNet::aggregate(&xdp.map_or_else(Vec::new, |xdp| xdp.block.clone())),
            spared: IpNet::aggregate(&spared),
            watch: xdp.is_some_and(|xdp| xdp.watch),
        }
    }

    /// Whether this address is to be turned away. Only of the few that a prefix holds the NIC is asked more.
    pub(super) fn hold(&self, address: IpAddr, nic: Option<&Dataplane>) -> bool {
        within(&self.blocked, address)
            && !within(&self.spared, address)
            && !nic.is_some_and(|nic| nic.spares(address))
            && !nic.and_then(|nic| nic.watch().ok()).unwrap_or(self.watch)
    }
}

/// Whether one of the aggregated, so sorted and disjoint, prefixes holds the address.
fn within(prefixes: &[IpNet], address: IpAddr) -> bool {
    let behind = prefixes.partition_point(|prefix| prefix.network() <= address);
    behind.checked_sub(1).is_some_and(|place| prefixes[place].contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(texts: &[&str]) -> Vec<IpNet> {
        IpNet::aggregate(&texts.iter().map(|text| text.parse().expect("a prefix")).collect())
    }

    #[test]
    fn an_address_is_within_prefixes_when_one_holds_it() {
        let all = [
            "198.18.0.0/16",
            "198.18.7.0/24",
            "203.0.113.9/24",
            "192.0.2.1/32",
            "2001:db8:1::/48",
            "2001:db8::1/128",
        ];
        let sorted = prefixes(&all);
        for address in [
            "0.0.0.0",
            "192.0.2.0",
            "192.0.2.1",
            "192.0.2.2",
            "198.17.255.255",
            "198.18.0.0",
            "198.18.7.7",
            "198.18.255.255",
            "198.19.0.0",
            "203.0.113.0",
            "203.0.113.255",
            "255.255.255.255",
            "::",
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8:1:2::3",
            "2001:db8:2::",
            "ffff::",
        ] {
            let address: IpAddr = address.parse().expect("an address");
            let holds = all.iter().any(|text| text.parse::<IpNet>().expect("a prefix").contains(&address));
            assert_eq!(within(&sorted, address), holds, "{address}");
        }
        assert!(!within(&[], IpAddr::from([192, 0, 2, 1])));
        assert!(within(&prefixes(&["0.0.0.0/0"]), IpAddr::from([192, 0, 2, 1])));
        assert!(!within(&prefixes(&["0.0.0.0/0"]), "::1".parse().expect("an address")));
    }
}
