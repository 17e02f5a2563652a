//! A far provider whose users let their mail go on: a Postfix in `internet` with aliases, `.forward` files, SRS, a
//! mailing list and Sieve scripts, all of them real.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use super::postfix::{COMMON, instance};
use super::{Far, Instance, Software, dovecot};
use crate::Host;
use crate::network::{EDGE, far_server};

/// The provider's domain.
pub const FORWARD_DOMAIN: &str = "forward.example";
/// Its mailing list, where it has one.
pub const LIST: &str = "list@forward.example";

/// What the provider does for its users. All local parts exist; those without any of this have a mailbox.
#[derive(Clone, Debug, Default)]
pub struct Forwarder {
    /// Lines of `/etc/aliases`.
    pub aliases: Vec<String>,
    /// What stands in `/etc/members`, for aliases that include it.
    pub members: Option<String>,
    /// What `mark`'s `.forward` file says, where he has one.
    pub dot_forward: Option<String>,
    /// Further lines of its Postfix's `main.cf`.
    pub settings: Vec<String>,
    /// Whether senders are rewritten (`postsrsd`).
    pub srs: bool,
    /// The subscribers of [`LIST`], which `mlmmj` manages.
    pub list: Option<Vec<String>>,
    /// Users with Dovecot mailboxes, and their Sieve scripts.
    pub sieve: Vec<(String, String)>,
}

impl Forwarder {
    /// Its own address, which its mail comes from.
    #[must_use]
    pub fn address() -> Ipv4Addr {
        far_server(5)
    }

    /// Where it takes mail.
    #[must_use]
    pub fn socket() -> SocketAddr {
        (Self::address(), 25).into()
    }

    pub(super) fn instance(&self) -> Instance {
        let address = Self::address();
        let routes: String =
            Far::ALL.map(|far| format!("{{ {} = smtp:[{}] }} ", far.domain(), far.address())).concat();
        // Relayed for by nobody: who it passes mail on to there is refused in the session.
        let main = format!(
            "{common}myhostname = mail.{FORWARD_DOMAIN}
myorigin = {FORWARD_DOMAIN}
mydestination = {FORWARD_DOMAIN}
inet_interfaces = {address}
smtp_bind_address = {address}
mynetworks = 127.0.0.1/32 {address}/32
smtpd_relay_restrictions = permit_mynetworks reject_unauth_destination
local_recipient_maps =
mail_spool_directory = /var/mail
alias_maps = hash:/etc/aliases
recipient_delimiter = +
default_privs = list
transport_maps = inline:{{ {routes}{{ refusing.example = smtp:[{refusing}] }} {{ example.jp = smtp:[{EDGE}] }} }}
default_transport = error:5.4.4 the lab has no route to this domain
{srs}{settings}",
            settings = self.settings.iter().map(|line| format!("{line}\n")).collect::<String>(),
            common = COMMON.replace("alias_maps =\n", ""),
            refusing = Far { software: Software::Postfix }.address(),
            srs = if self.srs { [SRS_SENDERS, SRS_RECIPIENTS].concat() } else { String::new() },
        );
        let mut instance = instance("forwarder", Host::Internet, Self::socket(), main, "");
        instance.users.extend([
            "mark:x:7401:7401::/var/mark:/usr/sbin/nologin",
            "list:x:7402:7402::/var/spool/mlmmj:/usr/sbin/nologin",
        ]);
        instance.groups.extend(["mark:x:7401:", "list:x:7402:"]);
        let mut aliases = self.aliases.join("\n") + "\n";
        let mut prepare = String::from("chmod 1777 /var/mail\npostalias /etc/aliases\n");
        if let Some(content) = &self.dot_forward {
            let _ = writeln!(prepare, "mkdir -p /var/mark\necho '{content}' >/var/mark/.forward");
            prepare += "chown -R mark:mark /var/mark\n";
        }
        if let Some(subscribers) = &self.list {
            aliases += "list: \"|/usr/bin/mlmmj-receive -F -L /var/spool/mlmmj/list\"\n";
            prepare += &mailing_list(subscribers);
            instance.beside.push(Software::Mlmmj);
        }
        instance.etc.push(("aliases", aliases));
        if let Some(members) = &self.members {
            instance.etc.push(("members", members.clone() + "\n"));
        }
        instance.prepare.insert_str(0, &prepare);
        if self.srs {
            instance = with_srs(instance, FORWARD_DOMAIN);
        }
        if self.sieve.is_empty() {
            return instance;
        }
        dovecot::beside(instance, &format!("mail.{FORWARD_DOMAIN}"), &self.sieve)
    }
}

/// How a Postfix asks `postsrsd` of senders, as its README has it: of all that come in.
const SRS_SENDERS: &str = "sender_canonical_maps = tcp:127.0.0.1:10001
sender_canonical_classes = envelope_sender
";
/// The same of recipients.
pub(super) const SRS_RECIPIENTS: &str = "recipient_canonical_maps = tcp:127.0.0.1:10002
recipient_canonical_classes = envelope_recipient,header_recipient
";

/// `postsrsd` beside a Postfix, for this domain.
pub(super) fn with_srs(mut instance: Instance, domain: &str) -> Instance {
    instance.beside.push(Software::Postsrsd);
    let start = format!(
        "echo only-for-the-lab >/etc/postsrsd.secret
postsrsd -4 -s /etc/postsrsd.secret -d {domain} &
"
    );
    instance.prepare.insert_str(0, &start);
    instance
}

/// A list for whose members only, as `mlmmj-make-ml` makes it.
fn mailing_list(subscribers: &[String]) -> String {
    format!(
        "list=/var/spool/mlmmj/list
for folder in incoming queue queue/discarded archive text subconf unsubconf bounce control moderation \\
    subscribers.d digesters.d requeue nomailsubs.d; do mkdir -p $list/$folder; done
cp /usr/share/mlmmj/text.skel/en/* $list/text/
echo {LIST} >$list/control/listaddress
echo owner@{FORWARD_DOMAIN} >$list/control/owner
echo {address} >$list/control/relayhost
touch $list/control/subonlypost $list/control/tocc
echo 0 >$list/index
for who in {subscribers}; do echo $who >>$list/subscribers.d/${{who%%${{who#?}}}}; done
chown -R list:list /var/spool/mlmmj
",
        address = Forwarder::address(),
        subscribers = subscribers.join(" "),
    )
}
