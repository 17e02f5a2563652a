//! Postfix in three roles: the operator's server, a far server that bounces, and as its Debian package sets it up.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::forwarder::{FORWARD_DOMAIN, Forwarder, SRS_RECIPIENTS, with_srs};
use super::{FULL, Far, Instance, Software};
use crate::Host;
use crate::network::{EDGE_INSIDE, MTA, MTA_OUTSIDE};

/// Where users hand in mail; it goes through the edge's outbound listener.
pub const SUBMISSION: SocketAddr = SocketAddr::new(IpAddr::V4(MTA), 587);
/// The edge's outbound listener, as the operator's `content_filter` names it.
pub const CONTENT_FILTER: SocketAddr = SocketAddr::new(IpAddr::V4(EDGE_INSIDE), 10025);
/// Where the edge hands signed mail back.
pub const REINJECTION: SocketAddr = SocketAddr::new(IpAddr::V4(MTA), 10026);

const USERS: &[&str] = &[
    "postfix:x:7101:7101::/var/spool/postfix:/usr/sbin/nologin",
    "full:x:7201:7201::/nonexistent:/usr/sbin/nologin",
];
const GROUPS: &[&str] = &["postfix:x:7101:", "postdrop:x:7102:", "full:x:7201:"];

/// The operator's mail server: takes inbound mail from the edge at port 25, mail of users at [`SUBMISSION`], and signed
/// mail back from the edge at [`REINJECTION`]; delivers to Maildirs, and to far servers by a table.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The instance's name.
    pub name: String,
    /// The operator's domains.
    pub domains: Vec<String>,
    /// The users of each domain.
    pub users: Vec<String>,
    /// Far domains and where their mail goes.
    pub routes: Vec<(String, SocketAddr)>,
    /// Its aliases, each an address and the one that its mail goes on to.
    pub passed_on: Vec<(String, String)>,
    /// Whether senders of mail that is passed on are rewritten (`postsrsd`), as docs/postfix.md has it: what leaves with a
    /// foreign sender gets its new one, and goes through the edge's outbound listener.
    pub srs: bool,
    /// Whether the edge stands before it: users' mail goes through the edge's outbound listener, and it takes none from
    /// the Internet itself. Without, it listens at [`MTA_OUTSIDE`] too.
    pub behind_edge: bool,
    /// Where the certificates lie with which it offers STARTTLS: `mail.pem`, and `self.pem` at [`REINJECTION`]; each with
    /// its `.key`.
    pub tls: Option<String>,
    /// Whether postscreen(8) stands before port 25.
    pub postscreen: bool,
    /// Settings of `main.cf` that are to be others than the lab's.
    pub settings: Vec<(&'static str, &'static str)>,
}

impl Default for Operator {
    /// `example.jp` with alice and bob, routes to every far server.
    fn default() -> Self {
        Self {
            name: "operator".into(),
            domains: vec!["example.jp".into()],
            users: vec!["alice".into(), "bob".into()],
            routes: Far::ALL.map(|far| (far.domain(), far.socket())).to_vec(),
            passed_on: Vec::new(),
            srs: false,
            behind_edge: true,
            tls: None,
            postscreen: false,
            settings: Vec::new(),
        }
    }
}

impl Operator {
    pub(super) fn instance(&self) -> Instance {
        let mut mailboxes = String::new();
        for domain in &self.domains {
            for user in &self.users {
                let _ = writeln!(mailboxes, "{user}@{domain} {user}@{domain}/");
            }
        }
        let mut transport = String::new();
        let mut hosts = String::new();
        for (domain, to) in &self.routes {
            // A table of routes would be a way past the one for foreign senders.
            let _ = match self.srs {
                true => writeln!(hosts, "{} {domain}", to.ip()),
                false => writeln!(transport, "{domain} smtp:[{}]:{}", to.ip(), to.port()),
            };
        }
        let mut aliases = String::new();
        for (address, to) in &self.passed_on {
            let _ = writeln!(aliases, "{address} {to}");
        }
        let name = &self.name;
        let main = format!(
            "{COMMON}myhostname = mail.{first}
mydestination =
inet_interfaces = {MTA}{outside}{loopback}
smtp_bind_address = 0.0.0.0
mynetworks = 127.0.0.0/8 198.19.0.0/24
virtual_mailbox_domains = {domains}
virtual_mailbox_base = /run/lab/{name}/mail
virtual_mailbox_maps = texthash:/etc/postfix/mailboxes
virtual_uid_maps = static:7101
virtual_gid_maps = static:7101
transport_maps = texthash:/etc/postfix/transport
virtual_alias_maps = texthash:/etc/postfix/virtual
{routes}{tls}{postscreen}",
            postscreen = if self.postscreen { POSTSCREEN } else { "" },
            tls = self.tls.as_ref().map_or(String::new(), |folder| starttls(folder)),
            routes = if self.srs {
                format!(
                    "sender_dependent_default_transport_maps = regexp:/etc/postfix/passed-on\n{SRS_RECIPIENTS}"
                )
            } else {
                "default_transport = error:5.4.4 the lab has no route to this domain\n".to_owned()
            },
            loopback = if self.srs { ", 127.0.0.1" } else { "" },
            outside = if self.behind_edge { String::new() } else { format!(", {MTA_OUTSIDE}") },
            first = self.domains.first().map_or("example.jp", String::as_str),
            domains = self.domains.join(" "),
        );
        let main = self.settings.iter().fold(main, |main, (name, value)| with_setting(&main, name, value));
        let filter = if self.behind_edge {
            format!(" -o content_filter=smtp:[{}]:{}", CONTENT_FILTER.ip(), CONTENT_FILTER.port())
        } else {
            String::new()
        };
        let own_certificate = self.tls.as_ref().map_or(String::new(), |folder| {
            format!(" -o smtpd_tls_chain_files={folder}/self.key,{folder}/self.pem")
        });
        let passed_on = if self.srs {
            format!(
                "srs unix n - n - 0 cleanup -o sender_canonical_maps=tcp:127.0.0.1:10001 \
                 -o sender_canonical_classes=envelope_sender -o virtual_alias_maps=
127.0.0.1:10027 inet n - n - - smtpd -o cleanup_service_name=srs{filter}
"
            )
        } else {
            String::new()
        };
        let services = format!(
            "{passed_on}587 inet n - n - - smtpd{filter}
10026 inet n - n - - smtpd{own_certificate} -o content_filter= -o receive_override_options=no_unknown_recipient_checks
"
        );
        let mut instance = instance(name, Host::Mta, (MTA, 25).into(), main, &services);
        instance.etc.push(("postfix/mailboxes", mailboxes));
        instance.etc.push(("postfix/transport", transport));
        instance.etc.push(("postfix/virtual", aliases));
        if self.postscreen {
            instance.replace_in_master(SMTPD, POSTSCREEN_SERVICES);
        }
        if self.srs {
            let domain = self.domains.first().map_or("example.jp", String::as_str);
            let passed_on = format!("/@{}$/ DUNNO\n/@/ smtp:[127.0.0.1]:10027\n", domain.replace('.', "\\."));
            instance.etc.push(("postfix/passed-on", passed_on));
            instance.etc.push(("hosts", format!("127.0.0.1 localhost\n{hosts}")));
            instance = with_srs(instance, domain);
        }
        let mail = format!("mkdir -p /run/lab/{name}/mail\nchown postfix:postfix /run/lab/{name}/mail\n");
        instance.prepare = mail + &instance.prepare;
        instance
    }
}

impl Instance {
    /// Puts other services in the place of one, in `master.cf`.
    fn replace_in_master(&mut self, service: &str, by: &str) {
        if let Some((_, master)) = self.etc.iter_mut().find(|(path, _)| *path == "postfix/master.cf") {
            *master = master.replacen(service, by, 1);
        }
    }
}

/// Port 25 as Debian has it.
const SMTPD: &str = "smtp inet n - n - - smtpd";

/// postscreen(8) as its README has it, without blocklists: they need a DNS. Who speaks before the greeting is refused; who
/// waits for it once is let through for a day.
const POSTSCREEN: &str = "postscreen_access_list = permit_mynetworks
postscreen_greet_action = enforce
postscreen_cache_map = btree:$data_directory/postscreen_cache
";
const POSTSCREEN_SERVICES: &str = "smtp inet n - n - 1 postscreen
smtpd pass - - n - - smtpd
dnsblog unix - - n - 0 dnsblog
tlsproxy unix - - n - 0 tlsproxy";

/// `main.cf` with a setting in the place of its own. (Not twice: each program would log that, postlogd to itself.)
fn with_setting(main: &str, name: &str, value: &str) -> String {
    let others = main.lines().filter(|line| line.split(" =").next() != Some(name));
    others.chain([format!("{name} = {value}").as_str()]).flat_map(|line| [line, "\n"]).collect()
}

/// STARTTLS as a server, told in `Received`.
fn starttls(folder: &str) -> String {
    format!(
        "smtpd_tls_security_level = may
smtpd_tls_chain_files = {folder}/mail.key, {folder}/mail.pem
smtpd_tls_received_header = yes
"
    )
}

/// Accepts everything for its domain, then finds no such user.
pub(super) fn far(far: Far, edge: IpAddr) -> Instance {
    let (domain, address) = (far.domain(), far.address());
    let main = format!(
        "{COMMON}myhostname = mail.{domain}
mydestination = {domain}
inet_interfaces = {address}
smtp_bind_address = {address}
mynetworks = 127.0.0.1/32
smtpd_relay_restrictions = reject_unauth_destination
local_recipient_maps =
mail_spool_directory = /var/spool/full
transport_maps = inline:{{ {{ {FORWARD_DOMAIN} = smtp:[{forwarder}] }} }}
relayhost = [{edge}]
smtp_tls_security_level = may
",
        forwarder = Forwarder::address(),
    );
    let mut instance = instance("far-postfix", Host::Internet, far.socket(), main, "");
    // The mailbox of `full` is at the size limit: a sparse file takes no memory.
    let full = format!(
        "mkdir -p /var/spool/full
chmod 1777 /var/spool/full
truncate --size=51200000 /var/spool/full/{FULL}
chown full:full /var/spool/full/{FULL}
"
    );
    instance.prepare = full + &instance.prepare;
    instance
}

/// What Debian's package writes for an "Internet Site" (its `postinst`), listening beside the edge.
pub(super) fn with_defaults() -> Instance {
    let main = "smtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)
biff = no
append_dot_mydomain = no
readme_directory = no
compatibility_level = 3.6
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
myhostname = mail.example.jp
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
mydestination = $myhostname, example.jp, localhost
relayhost =
mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128
mailbox_size_limit = 0
recipient_delimiter = +
inet_interfaces = loopback-only
inet_protocols = all
maillog_file = /dev/stdout
maillog_file_prefixes = /dev
";
    let listens = (Ipv4Addr::LOCALHOST, 25).into();
    let mut instance = instance("default-postfix", Host::Edge, listens, main.to_owned(), "");
    instance.etc.push(("aliases", "postmaster: root\n".to_owned()));
    instance.prepare = "postalias /etc/aliases\n".to_owned() + &instance.prepare;
    instance
}

/// What every role has: the log on standard output, no DNS, quick retries, no limits that a test would meet.
pub(super) const COMMON: &str = "compatibility_level = 3.6
maillog_file = /dev/stdout
maillog_file_prefixes = /dev
inet_protocols = ipv4
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
smtp_tls_security_level = none
alias_maps =
alias_database =
biff = no
in_flow_delay = 0
queue_run_delay = 2s
minimal_backoff_time = 2s
maximal_backoff_time = 4s
smtpd_client_connection_count_limit = 0
";

pub(super) fn instance(
    name: &str,
    host: Host,
    listens: SocketAddr,
    main: String,
    services: &str,
) -> Instance {
    Instance {
        name: name.to_owned(),
        software: Software::Postfix,
        beside: Vec::new(),
        host,
        listens,
        etc: vec![("postfix/main.cf", main), ("postfix/master.cf", format!("{MASTER}{services}"))],
        users: USERS.to_vec(),
        groups: GROUPS.to_vec(),
        // What `postfix start-fg` does as PID 1, without the hundreds of processes by which it looks everything over.
        prepare: "cd /var/spool/postfix
mkdir -p active bounce corrupt defer deferred flush hold incoming maildrop pid private public saved trace
mkdir -p /var/lib/postfix
chown postfix active bounce corrupt defer deferred flush hold incoming maildrop private public saved trace \\
    /var/lib/postfix
chgrp postdrop maildrop public
chmod 730 maildrop
chmod 710 public
exec /usr/lib/postfix/sbin/master -i
"
        .to_owned(),
    }
}

/// Debian's `master.cf`, without chroot.
const MASTER: &str = "smtp inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
lmtp unix - - n - - lmtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_stands_once() {
        let main = with_setting("biff = no\nin_flow_delay = 0\n", "in_flow_delay", "1s");
        assert_eq!(main, "biff = no\nin_flow_delay = 1s\n");
    }
}
