//! What contradicts itself in a file whose keys and values are all well-formed, and what is zero or beyond reason.

mod daemon;
mod filters;
mod mail;
mod sources;
mod tls;

use super::Config;
use super::reader::Reader;

/// Checks the whole, and brings names into canonical form.
pub(super) fn validate(config: &mut Config, reader: &mut Reader<'_>) {
    mail::validate(config, reader);
    tls::validate(config, reader);
    filters::validate(config, reader);
    sources::validate(config, reader);
    daemon::validate(config, reader);
}

/// An error at `path` unless `value` is at least `min`.
fn at_least<N: PartialOrd + std::fmt::Display>(reader: &mut Reader<'_>, path: &str, value: N, min: N) {
    if value < min {
        reader.error(path, format!("expected {min} or more, found {value}"));
    }
}

/// An error at `path` unless `value` is a finite number of at least `min`.
fn at_least_finite(reader: &mut Reader<'_>, path: &str, value: f64, min: f64) {
    if !(value.is_finite() && value >= min) {
        reader.error(path, format!("expected a finite number of {min} or more, found {value}"));
    }
}

/// An error at `path` when `value` is more than another key's, or than what else it must fit into.
fn at_most<N: PartialOrd + std::fmt::Display>(
    reader: &mut Reader<'_>,
    path: &str,
    value: N,
    (what, other): (&str, N),
) {
    if value > other {
        reader.error(path, format!("{value} is more than {what}, which is {other}"));
    }
}
