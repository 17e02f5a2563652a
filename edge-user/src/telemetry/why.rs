//! Why a message was answered as it was: one word on each verdict's line.

use edge_core::message::Refusal;
use edge_core::policy::Reason;
use serde::Serialize;

/// Why a message was answered as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Mail with a sender: the upstream took it.
    Accepted,
    /// Outgoing mail: it has a new token, and the next hop took it.
    Signed,
    /// Outgoing mail: it brought young tokens of ours with it, and the next hop took it.
    AlreadySigned,
    /// Outgoing mail of a foreign or null sender: the next hop took it as it was.
    RelayedUnsigned,
    /// Outgoing mail: its header section is longer than `header_bytes_max`.
    HeaderTooLong,
    /// Outgoing mail: it comes from a network that many share, and brings no tenant's secret.
    ForeignTenant,
    /// Outgoing mail: no key signs now.
    NoKey,
    /// It was refused before, or whatever the policy said.
    #[serde(untagged)]
    Refused(Refusal),
    /// A bounce: the policy said so.
    #[serde(untagged)]
    Judged(Reason),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_one_word() {
        for (why, word) in [
            (Why::AlreadySigned, "already_signed"),
            (Why::Refused(Refusal::ByUpstream), "upstream_refused"),
            (Why::Refused(Refusal::BareLineEnding), "bare_line_ending"),
            (Why::Judged(Reason::Unproven), "unproven"),
        ] {
            assert_eq!(serde_json::to_value(why).unwrap(), word);
        }
    }
}
