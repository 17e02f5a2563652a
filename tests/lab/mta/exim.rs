//! Exim: as a far server that bounces, and as its Debian package sets it up.

use std::net::{IpAddr, Ipv4Addr};

use super::{AWAY, FULL, Far, GATEWAY, Instance, LATE, Software};
use crate::Host;

const USERS: &[&str] = &["Debian-exim:x:7111:7111::/var/spool/exim4:/usr/sbin/nologin"];
const GROUPS: &[&str] = &["Debian-exim:x:7111:"];

/// What the package's scripts do, and the log on standard output. Queue runs every two seconds.
const PREPARE: &str = "mkdir -p /var/spool/exim4 /var/log/exim4 /run/exim4 /var/lib/exim4
touch /var/log/exim4/mainlog
chown -R Debian-exim:Debian-exim /var/spool/exim4 /var/log/exim4 /run/exim4
";
const RUN: &str = "tail --follow=name --lines=+1 /var/log/exim4/mainlog &
exec exim4 -bdf -q2s
";

/// Accepts everything for its domain, then finds no such user.
pub(super) fn far(far: Far, edge: IpAddr) -> Instance {
    let (domain, address) = (far.domain(), far.address());
    let main = format!(
        "primary_hostname = mail.{domain}
local_interfaces = {address}
daemon_smtp_ports = 25
log_file_path = /var/log/exim4/%slog
exim_user = Debian-exim
exim_group = Debian-exim
never_users =
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
smtp_accept_max = 200
smtp_accept_queue_per_connection = 0
delay_warning = 1s:99d
acl_smtp_rcpt = check_rcpt
acl_smtp_data = check_data

begin acl
check_rcpt:
  accept domains = {domain}
  deny message = relay not permitted
check_data:
  warn condition = ${{if match{{$recipients}}{{^{GATEWAY}@}}}}
    remove_header = Backstop-Token
  accept

begin routers
full:
  driver = accept
  domains = {domain}
  local_parts = {FULL}
  transport = full
away:
  driver = accept
  domains = {domain}
  local_parts = {AWAY}
  transport = away
late:
  driver = manualroute
  domains = {domain}
  local_parts = {LATE}
  route_list = * {address}::26
  self = send
  transport = out
unknown:
  driver = redirect
  domains = {domain}
  allow_fail
  data = :fail: user unknown
out:
  driver = manualroute
  domains = ! {domain}
  route_list = * {edge}
  transport = out

begin transports
full:
  driver = appendfile
  file = /var/spool/exim4/full
  user = Debian-exim
  quota = 1
away:
  driver = autoreply
  user = Debian-exim
  from = {AWAY}@{domain}
  to = $sender_address
  subject = Away: $h_subject
  text = I am not here.
out:
  driver = smtp
  interface = {address}

begin retry
# No rule for a full mailbox: it fails at once.
* quota
* * F,1h,2s
"
    );
    Instance {
        name: "far-exim".to_owned(),
        software: Software::Exim,
        beside: Vec::new(),
        host: Host::Internet,
        listens: far.socket(),
        etc: vec![("exim4/exim4.conf", main)],
        users: USERS.to_vec(),
        groups: GROUPS.to_vec(),
        prepare: format!("{PREPARE}{RUN}"),
    }
}

/// What Debian's package writes for an "internet site" (its `postinst`), listening beside the edge.
pub(super) fn with_defaults() -> Instance {
    let debconf = "dc_eximconfig_configtype='internet'
dc_other_hostnames='example.jp'
dc_local_interfaces='127.0.0.1'
dc_readhost=''
dc_relay_domains=''
dc_minimaldns='false'
dc_relay_nets=''
dc_smarthost=''
CFILEMODE='644'
dc_use_split_config='false'
dc_hide_mailname=''
dc_mailname_in_oh='true'
dc_localdelivery='mail_spool'
";
    Instance {
        name: "default-exim".to_owned(),
        software: Software::Exim,
        beside: Vec::new(),
        host: Host::Edge,
        listens: (Ipv4Addr::LOCALHOST, 25).into(),
        etc: vec![
            ("exim4/update-exim4.conf.conf", debconf.to_owned()),
            ("mailname", "example.jp\n".to_owned()),
            ("aliases", "postmaster: root\n".to_owned()),
            ("hosts", "127.0.0.1 localhost\n127.0.1.1 mail.example.jp edge\n".to_owned()),
        ],
        users: USERS.to_vec(),
        groups: GROUPS.to_vec(),
        prepare: format!("{PREPARE}update-exim4.conf\n{RUN}"),
    }
}
