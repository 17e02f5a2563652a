//! OpenSMTPD as a far server that bounces. Its listen backlog is 5: at most 4 sessions at once to it.

use std::net::IpAddr;

use super::{FULL, Far, Instance, Software};
use crate::Host;

/// Accepts everything for its domain, then its delivery agent says `EX_NOUSER` (67), or that the mailbox is full.
pub(super) fn far(far: Far, edge: IpAddr) -> Instance {
    let (domain, address) = (far.domain(), far.address());
    let main = format!(
        "listen on {address} port 25 hostname mail.{domain}
action \"full\" mda \"echo '552 5.2.2 mailbox full: over quota'; exit 77\" virtual {{ \"@\" = \"nobody\" }}
action \"unknown\" mda \"exit 67\" virtual {{ \"@\" = \"nobody\" }}
action \"out\" relay host smtp://{edge} src {address}
match from any for domain {domain} rcpt-to \"{FULL}@{domain}\" action \"full\"
match from any for domain {domain} action \"unknown\"
match from local for any action \"out\"
"
    );
    Instance {
        name: "far-opensmtpd".to_owned(),
        software: Software::OpenSmtpd,
        beside: Vec::new(),
        host: Host::Internet,
        listens: far.socket(),
        etc: vec![("smtpd.conf", main), ("mailname", format!("mail.{domain}\n"))],
        users: vec![
            "opensmtpd:x:7121:7121::/var/empty:/usr/sbin/nologin",
            "opensmtpq:x:7122:7122::/var/empty:/usr/sbin/nologin",
        ],
        groups: vec!["opensmtpd:x:7121:", "opensmtpq:x:7122:"],
        prepare: "mkdir -p /var/empty /var/lib/opensmtpd/empty
exec smtpd -d
"
        .to_owned(),
    }
}
