//! Reading filters and keys anew, while the edge serves.
//!
//! All or nothing: where the file or a key has a fault, everything stays as it was. Filters, trusted forwarders,
//! `[policy]`, `[kinds]`, `require_tag`, tenants and their secrets, `[watch]`, keys, certificates, `[[tls.upstream]]` and
//! `watch` of `[xdp]` take effect at once; what else was changed is named as waiting for a restart.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use edge_core::policy::Policy;
use serde_json::{Map, Value};

use crate::cli::{tls, watched};
use crate::config::{self, Config, keys};
use crate::engine::tls::{Certificates, Connectors};
use crate::engine::{Edge, Tenants, clock};
use crate::telemetry::Event;

/// Reads them anew; says how many filters and keys there are now. Both outcomes are logged.
///
/// # Errors
/// The file or a key has a fault; nothing was changed.
pub(super) fn reload(edge: &Edge, path: &Path) -> anyhow::Result<(usize, usize)> {
    let done = apply(edge, path);
    edge.log.event(match &done {
        Ok((filters, keys)) => Event::Reloaded { filters: *filters, keys: *keys },
        Err(error) => Event::ReloadFailed { error: format!("{error:#}") },
    });
    done
}

/// Reads the keys alone anew, where they changed on disk: a key that was retired must not go on signing until somebody
/// thinks of a reload. Keys with a fault leave the old ones in force, and are logged as a failed reload.
pub(super) fn changed_keys(edge: &Edge, watch: &mut keys::Watch) {
    if !watch.changed() {
        return;
    }
    edge.log.event(match keys::load_signing(watch.dir(), clock::system_now()) {
        Ok(keys) => {
            let count = keys.iter().count();
            edge.keys.store(Arc::new(keys));
            let filters = edge.policy().filters.len();
            Event::Reloaded { filters, keys: count }
        }
        Err(error) => Event::ReloadFailed { error: error.to_string() },
    });
}

fn apply(edge: &Edge, path: &Path) -> anyhow::Result<(usize, usize)> {
    let config = config::load(path)?;
    // Another directory waits for a restart, as all of [signature].
    let keys = keys::load_signing(&edge.config.signature.keys, clock::system_now())?;
    // Without the section there is nothing to take over: that waits for a restart.
    let tenants = config.outbound.as_ref().map(|_| Tenants::of(&config)).transpose()?;
    let certificates = Certificates::configured(&config.tls)?;
    let connectors = Connectors::configured(&config.tls)?;
    if let (Some(dataplane), Some(xdp)) = (&edge.dataplane, &config.xdp) {
        dataplane.set_watch(xdp.watch).context("cannot switch watch mode")?;
    }
    let policy = config.policy();
    let counts = (policy.filters.len(), keys.iter().count());
    edge.keys.store(Arc::new(keys));
    let before = edge.policy.swap(Arc::new(policy));
    if let Some(tenants) = tenants {
        edge.set_tenants(tenants);
    }
    edge.acceptor.set_certificates(certificates);
    edge.set_connectors(connectors);
    tls::warn(&edge.acceptor.certificates(), edge.now());
    edge.watch.set_hosts(&config);
    warn_if_early(edge, &before);
    let waiting = waits_for_a_restart(&edge.config, &config)?;
    if !waiting.is_empty() {
        tracing::warn!("changed, but only a restart makes it so: {}", waiting.join(", "));
    }
    Ok(counts)
}

/// Logs when the policy stops unproven bounces that `before` did not, earlier than enough clean days have passed: whoever
/// changes the file by hand is to know it too.
pub(super) fn warn_if_early(edge: &Edge, before: &Policy) {
    let newly_stopped = edge.policy().newly_stopped(before);
    let summary = edge.watched(0);
    if !newly_stopped.is_empty() && !summary.is_ready() {
        edge.log.event(Event::EarlyToEnforce {
            newly_stopped,
            clean_days: summary.clean_days,
            clean_days_wanted: summary.clean_days_wanted,
            ours: watched::lines(&summary.ours),
        });
    }
}

/// The keys that differ in what a reload does not apply.
fn waits_for_a_restart(running: &Config, new: &Config) -> anyhow::Result<Vec<String>> {
    let (running, new) = (fixed_part(running)?, fixed_part(new)?);
    let mut names = Vec::new();
    differences("", &running, &new, &mut names);
    Ok(names)
}

/// Names what differs, as narrowly as both sides have it: a key of a section, a section that one of them lacks, a list.
fn differences(path: &str, one: &Value, other: &Value, names: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let of = |side: &Map<String, Value>| side.get(key).cloned().unwrap_or_default();
                differences(&path, &of(one), &of(other), names);
            }
        }
        (one, other) if one != other => names.push(path.to_owned()),
        (_, _) => {}
    }
}

/// A configuration by sections, without what a reload applies.
fn fixed_part(config: &Config) -> anyhow::Result<Value> {
    let mut config = config.clone();
    config.filters.clear();
    config.trusted_forwarders.clear();
    config.policy = config::Policy::default();
    let mailboxes_max = config.kinds.mailboxes_max;
    config.kinds = config::Kinds { mailboxes_max, ..config::Kinds::default() };
    config.watch = config::Watch::default();
    config.tls.certificates.clear();
    config.tls.upstreams.clear();
    if let Some(outbound) = &mut config.outbound {
        outbound.tenants.clear();
    }
    for domain in &mut config.domains {
        domain.require_tag = edge_core::policy::RequireTag::default();
    }
    if let Some(xdp) = &mut config.xdp {
        xdp.watch = true;
    }
    serde_json::to_value(&config).context("a configuration is an object")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        hostname = "edge.example.jp"
        [inbound]
        listen = ["127.0.0.1:25"]
        [[domain]]
        name = "example.jp"
        upstream = "127.0.0.1:10025"
        [signature]
        keys = "/etc/backstop/keys"
        [xdp]
        interface = "eth0"
        [[filter]]
        covers = ["*"]
        action = "monitor"
    "#;

    fn edge(keys_dir: &Path) -> Arc<Edge> {
        let text = TEXT.replace("/etc/backstop/keys", keys_dir.to_str().unwrap());
        let config = config::parse(&text, Path::new("test.toml")).unwrap().config;
        let settings = crate::telemetry::Settings {
            format: config.log.format,
            hasher: None,
            queue_lines_max: config.log.queue_lines_max,
            clock: clock::system_now,
        };
        let log = crate::telemetry::EventLog::start(settings, std::io::sink()).unwrap();
        Edge::new(config, keys::load(keys_dir).unwrap(), None, log, None).unwrap()
    }

    fn signer(edge: &Edge) -> Option<u8> {
        edge.keys().signer(clock::system_now()).map(|key| key.id())
    }

    #[test]
    fn a_rotated_key_signs_without_a_reload_and_wrong_keys_leave_the_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("keys");
        let before = clock::system_now().minus(std::time::Duration::from_secs(60));
        keys::create(&dir, before).unwrap();
        let mut watch = keys::Watch::new(&dir);
        let edge = edge(&dir);
        keys::rotate(&dir, before).unwrap();
        changed_keys(&edge, &mut watch);
        assert_eq!(signer(&edge), Some(2));
        assert!(edge.keys().get(1).unwrap().retired().is_some());
        keys::retire(&dir, 2, before).unwrap();
        changed_keys(&edge, &mut watch);
        assert_eq!(signer(&edge), Some(2), "no key would sign any more");
        std::fs::write(keys::path_of(&dir, 3), "no key").unwrap();
        changed_keys(&edge, &mut watch);
        assert_eq!(signer(&edge), Some(2), "a broken key");
    }

    #[test]
    fn a_changed_secret_of_a_tenant_is_taken_over_and_one_that_cannot_be_used_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, secret) = (folder.path().join("keys"), folder.path().join("secret"));
        let file = folder.path().join("backstop.toml");
        keys::create(&keys, clock::system_now()).unwrap();
        let edge = edge(&keys);
        let tenant = format!(
            "[outbound]\nlisten = [\"127.0.0.1:10026\"]\nnetworks = [\"127.0.0.1\"]\nnext_hop = \"127.0.0.1:10027\"\n\
             [[outbound.tenant]]\nnetworks = [\"192.0.2.0/24\"]\nheader = \"Our-Tenant\"\nsecret_file = {secret:?}\n"
        );
        let text = TEXT.replace("/etc/backstop/keys", keys.to_str().unwrap());
        std::fs::write(&file, format!("{text}{tenant}")).unwrap();
        let own = |secret: &str| {
            let section = format!("Our-Tenant: {secret}\r\n");
            edge.tenants().own("192.0.2.1".parse().unwrap(), section.as_bytes())
        };
        let write = |text: &str| {
            std::fs::write(&secret, text).unwrap();
            std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        };
        write("0123456789abcdef\n");
        apply(&edge, &file).unwrap();
        assert!(own("0123456789abcdef") && !own("fedcba9876543210"));
        write("fedcba9876543210\n");
        apply(&edge, &file).unwrap();
        assert!(own("fedcba9876543210") && !own("0123456789abcdef"));
        write("short\n");
        assert!(apply(&edge, &file).is_err());
        assert!(own("fedcba9876543210") && !own("0123456789abcdef"));
    }

    #[test]
    fn a_host_of_ours_that_is_named_while_it_runs_is_known_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, file) = (folder.path().join("keys"), folder.path().join("backstop.toml"));
        keys::create(&keys, clock::system_now()).unwrap();
        let edge = edge(&keys);
        let text = TEXT.replace("/etc/backstop/keys", keys.to_str().unwrap());
        std::fs::write(&file, format!("{text}[watch]\nown_hosts = [\"shop.example\"]\n")).unwrap();
        assert!(!edge.watch.knows_host("shop.example"));
        apply(&edge, &file).unwrap();
        assert!(edge.watch.knows_host("shop.example"));
    }

    fn waiting(from: &str, to: &str) -> Vec<String> {
        let parse = |text: &str| config::parse(text, Path::new("test.toml")).unwrap().config;
        waits_for_a_restart(&parse(TEXT), &parse(&TEXT.replace(from, to))).unwrap()
    }

    #[test]
    fn what_a_reload_applies_waits_for_nothing() {
        assert!(waiting(r#"action = "monitor""#, r#"action = "reject""#).is_empty());
        assert!(waiting(r#"interface = "eth0""#, "interface = \"eth0\"\nwatch = false").is_empty());
        assert!(waiting("[xdp]", "[kinds]\nlist = \"bounce\"\nper_mailbox_per_hour = 5\n[xdp]").is_empty());
        assert!(waiting("[xdp]", "[watch]\nown_hosts = [\"shop.example.jp\"]\n[xdp]").is_empty());
        assert!(waiting("[xdp]", "[watch]\nforged_hosts = [\"*.dyn.example.jp\"]\n[xdp]").is_empty());
        assert!(
            waiting(r#"name = "example.jp""#, "name = \"example.jp\"\ntag = true\nrequire_tag = \"flood\"")
                == ["domain"]
        );
    }

    #[test]
    fn what_it_does_not_apply_is_named() {
        assert_eq!(waiting("127.0.0.1:25", "127.0.0.1:26"), ["inbound.listen"]);
        assert_eq!(waiting("edge.example.jp", "mx.example.jp"), ["hostname"]);
        assert_eq!(waiting("eth0", "eth1"), ["xdp.interface"]);
        assert_eq!(waiting("[xdp]", "[kinds]\nmailboxes_max = 5\n[xdp]"), ["kinds.mailboxes_max"]);
    }
}
