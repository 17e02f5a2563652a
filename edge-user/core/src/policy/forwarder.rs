//! Forwarders that the operator trusts: a user's other mailbox, at another provider, that passes everything on to him.
//!
//! Among that are bounces of mail that he sent from *there*. They have a null sender, and nothing of ours can be in
//! them. So the operator names the forwarder and the mailboxes that it passes mail on to: what else no proof was found
//! in is delivered there.
//!
//! Whoever writes to the mailbox at the forwarder writes to ours then, forged bounces included. So each mailbox gets
//! `per_hour` of it at most, in a flood too; what comes beyond meets the filters. Nobody else's mailbox gets any.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Cover, Policy};
use crate::mailbox::Mailbox;

/// One forwarder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustedForwarder {
    /// The operator's note.
    pub memo: String,
    /// Where its mail comes from.
    pub networks: Vec<IpNet>,
    /// To whom it passes mail on.
    pub recipients: Vec<Cover>,
    /// Most unproven messages an hour, for each recipient.
    pub per_hour: u32,
}

impl Policy {
    /// The first forwarder that passes mail on from `client` to `recipient`.
    #[must_use]
    pub fn trusted_forwarder(&self, client: IpAddr, recipient: &Mailbox) -> Option<&TrustedForwarder> {
        let client = client.to_canonical();
        self.trusted_forwarders.iter().find(|forwarder| {
            forwarder.networks.iter().any(|network| network.contains(&client))
                && forwarder.recipients.iter().any(|cover| cover.covers(recipient))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_the_source_and_the_recipient_must_be_named() {
        let mailbox = |text: &str| Mailbox::parse(text).unwrap();
        let forwarder = |memo: &str, network: &str, recipient| TrustedForwarder {
            memo: memo.into(),
            networks: vec![network.parse().unwrap()],
            recipients: vec![recipient],
            per_hour: 60,
        };
        let policy = Policy {
            trusted_forwarders: vec![
                forwarder("ann's", "192.0.2.0/24", Cover::Mailbox(mailbox("ann@example.jp"))),
                forwarder("alumni", "2001:db8::/32", Cover::Domain("alumni.example.jp".into())),
            ],
            ..Policy::default()
        };
        for (client, recipient, found) in [
            ("192.0.2.7", "ann@example.jp", Some("ann's")),
            ("::ffff:192.0.2.7", "Ann@Example.JP", Some("ann's")),
            ("192.0.2.7", "bob@example.jp", None),
            ("192.0.3.7", "ann@example.jp", None),
            ("2001:db8::7", "bob@alumni.example.jp", Some("alumni")),
            ("2001:db8::7", "ann@example.jp", None),
            ("192.0.2.7", "bob@alumni.example.jp", None),
        ] {
            let named = policy.trusted_forwarder(client.parse().unwrap(), &mailbox(recipient));
            assert_eq!(named.map(|forwarder| forwarder.memo.as_str()), found, "{client} to {recipient}");
        }
    }
}
