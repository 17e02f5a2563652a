//! Dovecot beside a Postfix: it takes mail over LMTP, and each user's Sieve script says what becomes of it.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::{Instance, Software};

/// Where it takes mail over LMTP. It stands in its host's network: one of it a host.
const LMTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2424);

/// Gives a Postfix whose mailboxes Dovecot has: `scripts` are users with their Sieve scripts. What a script sends
/// goes back to the Postfix by SMTP, the envelope sender kept where mail is redirected.
pub(super) fn beside(mut instance: Instance, hostname: &str, scripts: &[(String, String)]) -> Instance {
    let users: Vec<String> =
        scripts.iter().map(|(user, _)| format!("{{ {user} = lmtp:inet:{LMTP} }}")).collect();
    let main = instance.etc.iter_mut().find(|(path, _)| *path == "postfix/main.cf");
    if let Some((_, main)) = main {
        let _ = writeln!(main, "mailbox_transport_maps = inline:{{ {} }}", users.join(" "));
    }
    let conf = format!(
        "protocols = lmtp
base_dir = /run/dovecot
log_path = /dev/stderr
ssl = no
hostname = {hostname}
postmaster_address = postmaster@{hostname}
submission_host = {submission}
mail_location = maildir:~/Maildir
default_internal_user = dovecot
default_login_user = dovenull
passdb {{
  driver = static
  args = password=nobody-logs-in
}}
userdb {{
  driver = static
  args = uid=7301 gid=7301 home=/var/vmail/%n allow_all_users=yes
}}
service lmtp {{
  inet_listener lmtp {{
    address = {ip}
    port = {port}
  }}
}}
protocol lmtp {{
  mail_plugins = sieve
}}
plugin {{
  sieve = file:~/.dovecot.sieve
  sieve_redirect_envelope_from = sender
}}
",
        submission = instance.listens,
        ip = LMTP.ip(),
        port = LMTP.port(),
    );
    instance.etc.push(("dovecot/dovecot.conf", conf));
    instance.users.extend([
        "dovecot:x:7302:7302::/usr/lib/dovecot:/usr/sbin/nologin",
        "dovenull:x:7303:7303::/nonexistent:/usr/sbin/nologin",
        "vmail:x:7301:7301::/var/vmail:/usr/sbin/nologin",
    ]);
    instance.groups.extend(["dovecot:x:7302:", "dovenull:x:7303:", "vmail:x:7301:"]);
    instance.beside.push(Software::Dovecot);
    let mut prepare = String::from("mkdir -p /var/lib/dovecot\n");
    for (user, script) in scripts {
        let _ = writeln!(
            prepare,
            "mkdir -p /var/vmail/{user}\ncat >/var/vmail/{user}/.dovecot.sieve <<'END'\n{script}\nEND"
        );
    }
    prepare += "chown -R vmail:vmail /var/vmail\ndovecot -F &\n";
    instance.prepare.insert_str(0, &prepare);
    instance
}
