//! Sendmail as its Debian package sets it up.

use std::net::Ipv4Addr;

use super::{Instance, Software};
use crate::Host;

/// Debian's `sendmail.mc` goes through m4, as its `sendmailconfig` does; it listens at 127.0.0.1 only.
pub(super) fn with_defaults() -> Instance {
    let access = "Connect:localhost RELAY
GreetPause:localhost 0
ClientRate:localhost 0
ClientConn:localhost 0
Connect:127 RELAY
GreetPause:127 0
ClientRate:127 0
ClientConn:127 0
";
    Instance {
        name: "default-sendmail".to_owned(),
        software: Software::Sendmail,
        beside: Vec::new(),
        host: Host::Edge,
        listens: (Ipv4Addr::LOCALHOST, 25).into(),
        etc: vec![
            ("mail/access", access.to_owned()),
            ("mail/local-host-names", "localhost\nexample.jp\n".to_owned()),
            ("mail/trusted-users", String::new()),
            ("mail/aliases", "postmaster: root\n".to_owned()),
            ("hosts", "127.0.0.1 localhost\n127.0.1.1 mail.example.jp edge\n198.18.64.8 example.jp\n198.18.64.9 elsewhere.example\n".to_owned()),
            ("mail/service.switch", "hosts files\naliases files\n".to_owned()),
        ],
        users: vec![
            "smmta:x:7131:7131::/var/lib/sendmail:/usr/sbin/nologin",
            "smmsp:x:7132:7132::/var/lib/sendmail:/usr/sbin/nologin",
        ],
        groups: vec!["smmta:x:7131:", "smmsp:x:7132:"],
        prepare: "mkdir -p /var/spool/mqueue /run/sendmail/mta /var/lib/sendmail/host_status /etc/mail/m4
touch /etc/mail/m4/dialup.m4 /etc/mail/m4/provider.m4
[ -e /etc/mail/sendmail.mc ] || cp /usr/share/sendmail/cf/debian/sendmail.mc /etc/mail/sendmail.mc
m4 /usr/share/sendmail/cf/m4/cf.m4 /etc/mail/sendmail.mc >/etc/mail/sendmail.cf
/usr/libexec/sendmail/makemap hash /etc/mail/access </etc/mail/access
/usr/libexec/sendmail/newaliases
exec /usr/libexec/sendmail/sendmail -bD -q10s -X /dev/stdout
"
        .to_owned(),
    }
}
