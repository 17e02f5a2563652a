//! Debian's servers, configured to do a row's job and no more: what an operator could put in Backstop's place.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::Result;
use bench_smtp::row::{DOMAIN, MAILBOXES};
use lab::mta::{Peer, Software};

use super::subject::{CHAIN, KEY, shown};

/// HAProxy in TCP mode: it connects to the sink for each session, and reads no SMTP.
pub(super) fn haproxy(address: SocketAddr, sink: SocketAddr) -> Peer {
    let config = format!(
        "global
    nbthread 1
    maxconn 8000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
frontend smtp
    bind {address} backlog 4096
    default_backend sink
backend sink
    server sink {sink}
"
    );
    Peer {
        name: "haproxy",
        software: Software::HaProxy,
        listens: address,
        etc: vec![("haproxy/bench.cfg", config)],
        prepare: String::new(),
        command: "haproxy -db -f /etc/haproxy/bench.cfg".to_owned(),
    }
}

/// nginx's mail proxy, which asks at `asks` where a session goes. A TLS session is resumed as with Backstop: by a ticket,
/// nothing is kept. (Before 1.23.4 it has TLS 1.3 only where it is told to.)
pub(super) fn nginx(address: SocketAddr, asks: SocketAddr) -> Peer {
    let config = format!(
        "load_module /usr/lib/nginx/modules/ngx_mail_module.so;
daemon off;
master_process off;
worker_processes 1;
user root;
pid /run/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8000; }}
mail {{
    server_name edge.example.jp;
    auth_http {asks}/;
    proxy_pass_error_message on;
    xclient off;
    server {{
        listen {address} backlog=4096;
        protocol smtp;
        smtp_auth none;
        proxy on;
        starttls on;
        ssl_certificate {CHAIN};
        ssl_certificate_key {KEY};
        ssl_protocols TLSv1.3;
        ssl_session_tickets on;
        ssl_session_cache none;
    }}
}}
"
    );
    Peer {
        name: "nginx",
        software: Software::Nginx,
        listens: address,
        etc: vec![("nginx/bench.conf", config)],
        prepare: "mkdir -p /var/log/nginx /var/lib/nginx\n".to_owned(),
        command: "nginx -c /etc/nginx/bench.conf".to_owned(),
    }
}

/// Lines of `main.cf` and of `master.cf`, and the mailboxes: it refuses all others of the domain, and passes mail on to the
/// sink while the client waits (`smtpd_proxy_filter`).
pub(super) fn postfix(
    address: SocketAddr,
    sink: SocketAddr,
) -> (String, String, Vec<(&'static str, String)>) {
    let main = format!(
        "myhostname = edge.example.jp
mydestination =
mynetworks = 192.0.2.1
relay_domains = {DOMAIN}
relay_recipient_maps = texthash:/etc/postfix/mailboxes
smtpd_proxy_filter = {sink}
inet_interfaces = 127.0.0.1
"
    );
    // The second one has the keys of TLS tickets.
    let services = format!("{} inet n - n - 200 smtpd\ntlsmgr unix - - n 1000? 1 tlsmgr\n", address.port());
    let mut mailboxes = String::new();
    for number in 0..MAILBOXES {
        let _ = writeln!(mailboxes, "u{number:02}@{DOMAIN} there");
    }
    (main, services, vec![("postfix/mailboxes", mailboxes)])
}

/// Postfix's `smtp-sink`, from the unpacked package.
pub(super) fn smtp_sink(address: SocketAddr, options: &[&str]) -> Result<Vec<String>> {
    let package = Software::Postfix.package()?;
    let libraries = format!("LD_LIBRARY_PATH={}", shown(&package.join("usr/lib/postfix"))?);
    let mut argv = vec!["env".to_owned(), libraries, shown(&package.join("usr/sbin/smtp-sink"))?];
    argv.extend(["-u", "nobody"].iter().chain(options).map(ToString::to_string));
    argv.extend([format!("inet:{address}"), "4096".to_owned()]);
    Ok(argv)
}
