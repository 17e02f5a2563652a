//! What contradicts itself in a file whose keys and values are all well-formed.

use super::Config;
use super::reader::Reader;

/// Checks the whole, and brings names into canonical form.
pub(super) fn validate(_config: &mut Config, _reader: &mut Reader<'_>) {}
