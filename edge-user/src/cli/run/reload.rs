//! Reading filters and keys anew, while the edge serves.
//!
//! All or nothing: where the file or a key has a fault, everything stays as it was. Filters, `[policy]`,
//! `require_tag`, keys and `watch` of `[xdp]` take effect at once; what else was changed is named as waiting for a
//! restart.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use anyhow::Context as _;

use crate::config::{self, Config, keys};
use crate::engine::Edge;
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

fn apply(edge: &Edge, path: &Path) -> anyhow::Result<(usize, usize)> {
    let config = config::load(path)?;
    let keys = keys::load(&config.signature.keys)?;
    if let (Some(dataplane), Some(xdp)) = (&edge.dataplane, &config.xdp) {
        dataplane.set_watch(xdp.watch).context("cannot switch watch mode")?;
    }
    let policy = config.policy();
    let counts = (policy.filters.len(), keys.iter().count());
    *edge.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    *edge.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    let waiting = waits_for_a_restart(&edge.config, &config)?;
    if !waiting.is_empty() {
        tracing::warn!("changed, but only a restart makes it so: {}", waiting.join(", "));
    }
    Ok(counts)
}

/// The sections that differ in what a reload does not apply.
fn waits_for_a_restart(running: &Config, new: &Config) -> anyhow::Result<Vec<String>> {
    let (running, new) = (fixed_part(running)?, fixed_part(new)?);
    let names: std::collections::BTreeSet<&String> = running.keys().chain(new.keys()).collect();
    Ok(names.into_iter().filter(|name| running.get(*name) != new.get(*name)).cloned().collect())
}

/// A configuration by sections, without what a reload applies.
fn fixed_part(config: &Config) -> anyhow::Result<serde_json::Map<String, serde_json::Value>> {
    let mut config = config.clone();
    config.filters.clear();
    config.policy = config::Policy::default();
    for domain in &mut config.domains {
        domain.require_tag = edge_core::policy::RequireTag::default();
    }
    if let Some(xdp) = &mut config.xdp {
        xdp.watch = true;
    }
    match serde_json::to_value(&config).context("a configuration is an object")? {
        serde_json::Value::Object(sections) => Ok(sections),
        other => anyhow::bail!("a configuration is no object: {other}"),
    }
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

    fn waiting(from: &str, to: &str) -> Vec<String> {
        let parse = |text: &str| config::parse(text, Path::new("test.toml")).unwrap().config;
        waits_for_a_restart(&parse(TEXT), &parse(&TEXT.replace(from, to))).unwrap()
    }

    #[test]
    fn what_a_reload_applies_waits_for_nothing() {
        assert!(waiting(r#"action = "monitor""#, r#"action = "reject""#).is_empty());
        assert!(waiting(r#"interface = "eth0""#, "interface = \"eth0\"\nwatch = false").is_empty());
        assert!(
            waiting(r#"name = "example.jp""#, "name = \"example.jp\"\ntag = true\nrequire_tag = \"flood\"")
                == ["domain"]
        );
    }

    #[test]
    fn what_it_does_not_apply_is_named() {
        assert_eq!(waiting("127.0.0.1:25", "127.0.0.1:26"), ["inbound"]);
        assert_eq!(waiting("edge.example.jp", "mx.example.jp"), ["hostname"]);
        assert_eq!(waiting("eth0", "eth1"), ["xdp"]);
    }
}
