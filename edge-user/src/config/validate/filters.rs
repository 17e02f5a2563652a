//! Filters and exempt recipients.

use edge_core::policy::{Cover, MEMO_CHARS_MAX};

use crate::config::Config;
use crate::config::convert::{cover, exempt_recipient};
use crate::config::reader::{Reader, nearest};

pub(super) fn validate(config: &mut Config, reader: &mut Reader<'_>) {
    let domains: Vec<String> = config.domains.iter().map(|domain| domain.name.clone()).collect();
    let mut covers_all: Option<usize> = None;
    for (place, filter) in config.filters.iter_mut().enumerate() {
        let path = |key: &str| format!("filter[{place}].{key}");
        let characters = filter.memo.chars().count();
        if characters > MEMO_CHARS_MAX {
            reader.error(
                &path("memo"),
                format!("expected at most {MEMO_CHARS_MAX} characters, found {characters}"),
            );
        }
        if filter.memo.contains(|c: char| c.is_control()) {
            reader.error(&path("memo"), "expected one line of text, found a control character");
        }
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
    exempt_recipients(config, &domains, reader);
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
