//! Lists of prefixes in the kernel's longest-prefix maps, brought up to date by difference.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use edge_ebpf::map_names::{ALLOW_V4, ALLOW_V6, BLOCKS_V4, BLOCKS_V6, NEVER_BAN_V4, NEVER_BAN_V6};
use edge_ebpf::{Block, Listed, NEVER};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::allow::{Origin, Spared};
use super::error::DataplaneError;
use super::load::Maps;

/// Brings `ALLOW`, then `NEVER_BAN` up to date.
pub(super) fn spare(
    maps: &Maps,
    allowed: &[Spared],
    never_banned: &[Spared],
    max: u32,
) -> Result<(), DataplaneError> {
    let listed = |spared: &Spared| (spared.prefix, Listed { origin: spared.origin as u32 });
    let allowed: Vec<_> = allowed.iter().map(listed).collect();
    project(maps, [ALLOW_V4, ALLOW_V6], &allowed, "xdp.allow", max)?;
    let never_banned: Vec<_> = never_banned.iter().map(listed).collect();
    project(maps, [NEVER_BAN_V4, NEVER_BAN_V6], &never_banned, "reputation.never_ban", max)
}

/// Brings `BLOCKS` up to date. Blocks from the configuration have no end.
pub(super) fn block(maps: &Maps, prefixes: &[IpNet], max: u32) -> Result<(), DataplaneError> {
    let blocks: Vec<_> = prefixes.iter().map(|prefix| (prefix.trunc(), Block { until_ns: NEVER })).collect();
    project(maps, [BLOCKS_V4, BLOCKS_V6], &blocks, "xdp.block", max)
}

/// What the kernel spares, as the maps say.
pub(super) fn spared(maps: &Maps) -> Result<Vec<Spared>, DataplaneError> {
    let mut all = Vec::new();
    for names in [[ALLOW_V4, ALLOW_V6], [NEVER_BAN_V4, NEVER_BAN_V6]] {
        let [v4, v6] = names;
        let v4: LpmTrie<_, [u8; 4], Listed> = maps.open(v4)?;
        let v6: LpmTrie<_, [u8; 16], Listed> = maps.open(v6)?;
        let both = entries(&v4, names[0])?
            .into_iter()
            .map(|((length, address), listed)| (IpNet::new(IpAddr::from(address), length as u8), listed));
        let both =
            both.chain(entries(&v6, names[1])?.into_iter().map(|((length, address), listed)| {
                (IpNet::new(IpAddr::from(address), length as u8), listed)
            }));
        // A prefix that is too long or an unknown origin cannot be in a map that this ABI version wrote.
        all.extend(both.filter_map(|(prefix, listed)| {
            Some(Spared { prefix: prefix.ok()?, origin: Origin::from_number(listed.origin)? })
        }));
    }
    Ok(all)
}

fn project<V: Pod + PartialEq>(
    maps: &Maps,
    [v4, v6]: [&'static str; 2],
    wanted: &[(IpNet, V)],
    list: &'static str,
    max: u32,
) -> Result<(), DataplaneError> {
    let mut wanted_v4 = HashMap::new();
    let mut wanted_v6 = HashMap::new();
    for (prefix, value) in wanted {
        match prefix {
            IpNet::V4(prefix) => wanted_v4.insert(key_v4(*prefix), *value),
            IpNet::V6(prefix) => wanted_v6.insert(key_v6(*prefix), *value),
        };
    }
    let longest = wanted_v4.len().max(wanted_v6.len());
    if longest > max as usize {
        return Err(DataplaneError::TooManyPrefixes { list, given: longest, max });
    }
    update(&mut maps.open(v4)?, v4, &wanted_v4)?;
    update(&mut maps.open(v6)?, v6, &wanted_v6)
}

fn key_v4(prefix: Ipv4Net) -> (u32, [u8; 4]) {
    (prefix.prefix_len().into(), prefix.network().octets())
}

fn key_v6(prefix: Ipv6Net) -> (u32, [u8; 16]) {
    (prefix.prefix_len().into(), prefix.network().octets())
}

/// Removes what is not wanted, then adds what is missing or different. What stays is never absent in between.
fn update<A: Pod + Eq + Hash, V: Pod + PartialEq>(
    map: &mut LpmTrie<MapData, A, V>,
    name: &'static str,
    wanted: &HashMap<(u32, A), V>,
) -> Result<(), DataplaneError> {
    let present: HashMap<_, _> = entries(map, name)?.into_iter().collect();
    for (length, address) in present.keys().filter(|key| !wanted.contains_key(key)) {
        match map.remove(&Key::new(*length, *address)) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(DataplaneError::map("remove a prefix from", name)(error)),
        }
    }
    for ((length, address), value) in wanted.iter().filter(|(key, value)| present.get(key) != Some(value)) {
        map.insert(&Key::new(*length, *address), value, 0)
            .map_err(DataplaneError::map("add a prefix to", name))?;
    }
    Ok(())
}

type Entry<A, V> = ((u32, A), V);

fn entries<A: Pod, V: Pod>(
    map: &LpmTrie<MapData, A, V>,
    name: &'static str,
) -> Result<Vec<Entry<A, V>>, DataplaneError> {
    map.iter()
        .map(|entry| entry.map(|(key, value)| ((key.prefix_len(), key.data()), value)))
        .collect::<Result<_, _>>()
        .map_err(DataplaneError::map("list the prefixes of", name))
}
