//! Filters, trusted forwarders and exempt recipients.

use edge_core::policy::{Cover, MEMO_CHARS_MAX};

use super::at_least;
use crate::config::Config;
use crate::config::convert::{cover, exempt_recipient};
use crate::config::reader::{Reader, nearest};

pub(super) fn validate(config: &mut Config, reader: &mut Reader<'_>) {
    let domains: Vec<String> = config.domains.iter().map(|domain| domain.name.clone()).collect();
    let mut covers_all: Option<usize> = None;
    for (place, filter) in config.filters.iter_mut().enumerate() {
        let path = |key: &str| format!("filter[{place}].{key}");
        memo(reader, &path("memo"), &filter.memo);
        if filter.covers.is_empty() {
            reader.error(&path("covers"), "expected at least one domain or address, or \"*\" for all");
        }
        if let (Some(first), true) = (covers_all, filter.on) {
            reader.warning(
                &format!("filter[{place}]"),
                format!("it never decides: filter[{first}] stands before it, is on and covers everybody"),
            );
        }
        for (nth, text) in filter.covers.iter_mut().enumerate() {
            let path = format!("filter[{place}].covers[{nth}]");
            match cover(text) {
                None => reader.error(
                    &path,
                    format!(
                        "expected \"*\", a domain or an address like \"ann@example.com\", found \"{text}\""
                    ),
                ),
                Some(Cover::All) => {
                    if filter.on {
                        covers_all.get_or_insert(place);
                    }
                }
                Some(Cover::Domain(domain)) => {
                    own_domain(reader, &path, &domain, &domains);
                    *text = domain;
                }
                Some(Cover::Mailbox(mailbox)) => {
                    own_domain(reader, &path, mailbox.domain(), &domains);
                    *text = mailbox.as_str().to_owned();
                }
            }
        }
    }
    trusted_forwarders(config, &domains, reader);
    exempt_recipients(config, &domains, reader);
    at_least(reader, "kinds.mailboxes_max", config.kinds.mailboxes_max, 1);
}

fn memo(reader: &mut Reader<'_>, path: &str, memo: &str) {
    let characters = memo.chars().count();
    if characters > MEMO_CHARS_MAX {
        reader.error(path, format!("expected at most {MEMO_CHARS_MAX} characters, found {characters}"));
    }
    if memo.contains(|c: char| c.is_control()) {
        reader.error(path, "expected one line of text, found a control character");
    }
}

fn trusted_forwarders(config: &mut Config, domains: &[String], reader: &mut Reader<'_>) {
    for (place, forwarder) in config.trusted_forwarders.iter_mut().enumerate() {
        let path = |key: &str| format!("trusted_forwarder[{place}].{key}");
        memo(reader, &path("memo"), &forwarder.memo);
        if forwarder.networks.is_empty() {
            reader.error(&path("networks"), "expected at least one network that the forwarder sends from");
        }
        for (nth, network) in forwarder.networks.iter().enumerate() {
            if network.prefix_len() == 0 {
                let text =
                    format!("{network} is everybody: name the addresses that the forwarder sends from");
                reader.error(&path(&format!("networks[{nth}]")), text);
            }
        }
        if forwarder.recipients.is_empty() {
            reader.error(&path("recipients"), "expected at least one address that it passes mail on to");
        }
        at_least(reader, &path("per_hour"), forwarder.per_hour, 1);
        for (nth, text) in forwarder.recipients.iter_mut().enumerate() {
            let path = path(&format!("recipients[{nth}]"));
            match cover(text) {
                None => {
                    let expected = "expected an address like \"ann@example.com\", or a domain";
                    reader.error(&path, format!("{expected}, found \"{text}\""));
                }
                Some(Cover::All) => reader.error(
                    &path,
                    "\"*\" is everybody: name the addresses that the forwarder passes mail on to",
                ),
                Some(Cover::Domain(domain)) => {
                    own_domain(reader, &path, &domain, domains);
                    *text = domain;
                }
                Some(Cover::Mailbox(mailbox)) => {
                    own_domain(reader, &path, mailbox.domain(), domains);
                    *text = mailbox.as_str().to_owned();
                }
            }
        }
    }
}

fn exempt_recipients(config: &mut Config, domains: &[String], reader: &mut Reader<'_>) {
    for (place, text) in config.policy.exempt_recipients.iter_mut().enumerate() {
        let path = format!("policy.exempt_recipients[{place}]");
        match exempt_recipient(text) {
            None => reader.error(
                &path,
                format!("expected \"postmaster@\" (in every domain) or an address, found \"{text}\""),
            ),
            Some(canonical) => {
                if let Some((_, domain)) = canonical.rsplit_once('@').filter(|(_, domain)| !domain.is_empty())
                {
                    own_domain(reader, &path, domain, domains);
                }
                *text = canonical;
            }
        }
    }
}

/// An error unless `domain` is one of the operator's.
pub(super) fn own_domain(reader: &mut Reader<'_>, path: &str, domain: &str, domains: &[String]) {
    if domains.iter().any(|own| own == domain) {
        return;
    }
    let hint = nearest(domain, domains.iter().map(String::as_str));
    let hint = hint.map_or(String::new(), |near| format!("; did you mean {near}?"));
    reader.error(path, format!("no section [[domain]] has the name {domain}{hint}"));
}
