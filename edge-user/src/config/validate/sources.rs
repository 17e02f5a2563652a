//! The NIC, reputation, floods.

use edge_core::mailbox::Mailbox;
use ipnet::IpNet;

use super::filters::own_domain;
use super::{at_least, at_least_finite, at_most};
use crate::config::convert::domain_name;
use crate::config::reader::Reader;
use crate::config::{Config, Xdp};

/// The longest name of an interface (IFNAMSIZ less the NUL).
const INTERFACE_BYTES_MAX: usize = 15;

pub(super) fn validate(config: &mut Config, reader: &mut Reader<'_>) {
    if let Some(xdp) = &config.xdp {
        nic(xdp, config, reader);
    }
    reputation(config, reader);
    traps(config, reader);
    own_hosts(config, reader);
    forged_hosts(config, reader);
    let flood = &config.flood;
    at_least(reader, "flood.unproven_min", flood.unproven_min, 1);
    at_least_finite(reader, "flood.factor", flood.factor, 1.0);
    at_least(reader, "flood.window_secs", flood.window_secs, 1);
    at_least(reader, "flood.calm_after_secs", flood.calm_after_secs, 1);
}

fn nic(xdp: &Xdp, config: &Config, reader: &mut Reader<'_>) {
    let name = &xdp.interface;
    if name.is_empty()
        || name.len() > INTERFACE_BYTES_MAX
        || name.contains(|c: char| c == '/' || c.is_whitespace() || c == '\0')
    {
        reader
            .error("xdp.interface", format!("expected an interface's name, like \"eth0\", found \"{name}\""));
    }
    if xdp.ports.is_empty() {
        reader.error("xdp.ports", "expected at least one port, like [25]");
    }
    for (place, port) in xdp.ports.iter().enumerate() {
        let path = format!("xdp.ports[{place}]");
        match port {
            0 => reader.error(&path, "expected a port from 1 to 65535, found 0"),
            22 => reader.warning(&path, "22 is SSH's port: a ban of your own address would lock you out"),
            _ => {}
        }
    }
    for (place, listen) in config.inbound.listen.iter().enumerate() {
        if !xdp.ports.contains(&listen.port()) && !listen.ip().is_loopback() {
            let text = format!("port {} is not protected; add it to xdp.ports", listen.port());
            reader.warning(&format!("inbound.listen[{place}]"), text);
        }
    }
    at_least(reader, "xdp.syn_per_sec", xdp.syn_per_sec, 1);
    at_least(reader, "xdp.syn_burst", xdp.syn_burst, 1);
    at_least(reader, "xdp.bans_max", xdp.bans_max, 1);
    at_least(reader, "xdp.sources_max", xdp.sources_max, 1);
    if !xdp.pin_dir.is_absolute() {
        reader.error(
            "xdp.pin_dir",
            "expected an absolute path below a BPF file system, like /sys/fs/bpf/backstop",
        );
    }
    let never_ban = config.never_ban();
    for (place, block) in xdp.block.iter().enumerate() {
        let path = format!("xdp.block[{place}]");
        if let Some(never) = never_ban.iter().find(|never| overlap(never, block)) {
            reader.error(&path, format!("{block} would block {never}, which is never banned"));
        }
        if let Some(allow) = xdp.allow.iter().find(|allow| allow.contains(block)) {
            reader.warning(
                &path,
                format!("it never drops anything: {allow} is allowed, and allowed goes first"),
            );
        }
    }
}

fn reputation(config: &Config, reader: &mut Reader<'_>) {
    let r = &config.reputation;
    for (key, entries) in [
        ("newcomers_max", r.newcomers_max),
        ("credited_max", r.credited_max),
        ("bans_max", r.bans_max),
        ("correspondents_max", r.correspondents_max),
    ] {
        at_least(reader, &format!("reputation.{key}"), entries, 1);
    }
    at_least_finite(reader, "reputation.connections_per_sec", r.connections_per_sec, 0.001);
    at_least_finite(reader, "reputation.connections_burst", r.connections_burst, 1.0);
    at_least_finite(reader, "reputation.unproven_per_sec", r.unproven_per_sec, 0.001);
    at_least_finite(reader, "reputation.unproven_burst", r.unproven_burst, 1.0);
    at_least(reader, "reputation.over_budget_strikes", r.over_budget_strikes, 1);
    if r.over_budget_strikes > 120 {
        reader.warning(
            "reputation.over_budget_strikes",
            "a minute has at most 120 strikes, half a second apart: nobody is ever banned for being over budget",
        );
    }
    at_least(reader, "reputation.flood_unproven_max", r.flood_unproven_max, 1);
    at_least(reader, "reputation.ban_first_secs", r.ban_first_secs, 1);
    at_least(reader, "reputation.ban_flood_max_secs", r.ban_flood_max_secs, 1);
    at_least(reader, "reputation.credit_half_life_days", r.credit_half_life_days, 1);
    at_most(
        reader,
        "reputation.ban_first_secs",
        r.ban_first_secs,
        ("reputation.ban_max_secs", r.ban_max_secs),
    );
    for (list, prefixes) in [("never_ban", &r.never_ban), ("trusted_relays", &r.trusted_relays)] {
        for (place, prefix) in prefixes.iter().enumerate() {
            if prefix.prefix_len() == 0 {
                reader.warning(
                    &format!("reputation.{list}[{place}]"),
                    format!("{prefix} is everybody: nobody is ever banned"),
                );
            }
        }
    }
}

fn own_hosts(config: &Config, reader: &mut Reader<'_>) {
    for (place, host) in config.watch.own_hosts.iter().enumerate() {
        let path = format!("watch.own_hosts[{place}]");
        let network = host.parse::<IpNet>().or_else(|_| host.parse::<std::net::IpAddr>().map(IpNet::from));
        match network {
            Ok(network) if network.prefix_len() == 0 => {
                reader.error(&path, format!("{network} is everybody: every message would look like yours"));
            }
            Ok(_) => {}
            Err(_) if domain_name(host).is_some() => {}
            Err(_) => {
                reader.error(
                    &path,
                    format!("expected a host's name, an address or a prefix, found \"{host}\""),
                );
            }
        }
    }
}

fn forged_hosts(config: &Config, reader: &mut Reader<'_>) {
    for (place, host) in config.watch.forged_hosts.iter().enumerate() {
        let path = format!("watch.forged_hosts[{place}]");
        let name = host.strip_prefix("*.").unwrap_or(host);
        if domain_name(name).is_none() || name.parse::<std::net::IpAddr>().is_ok() {
            let text =
                format!("expected a host's name, or `*.` and a domain for all below it, found \"{host}\"");
            reader.error(&path, text);
        } else if config.watch.own_hosts.iter().any(|own| own.eq_ignore_ascii_case(host)) {
            reader.error(&path, format!("{host} is among `own_hosts` too: it is yours or it is not"));
        }
    }
}

fn traps(config: &mut Config, reader: &mut Reader<'_>) {
    let domains: Vec<String> = config.domains.iter().map(|domain| domain.name.clone()).collect();
    let exempt = &config.policy.exempt_recipients;
    for (place, text) in config.reputation.traps.iter_mut().enumerate() {
        let path = format!("reputation.traps[{place}]");
        let Some(mailbox) = Mailbox::parse(text) else {
            reader.error(&path, format!("expected an address like \"trap@example.com\", found \"{text}\""));
            continue;
        };
        own_domain(reader, &path, mailbox.domain(), &domains);
        let local = format!("{}@", mailbox.local());
        if exempt.iter().any(|exempt| *exempt == local || exempt == mailbox.as_str()) {
            reader.error(
                &path,
                format!("{} is an exempt recipient: honest senders write to it", mailbox.as_str()),
            );
        }
        *text = mailbox.as_str().to_owned();
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}
