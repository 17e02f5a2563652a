//! The sections about mail: where it comes in and goes out, for whom, and what is done with unproven bounces.

use std::net::SocketAddr;
use std::path::PathBuf;

use edge_core::policy::{Action, KindRule, RequireTag};
use ipnet::IpNet;

use super::Servers;
use super::section::{defaults, section};

section! {
    /// `[inbound]`
    pub struct Inbound {
        /// Addresses and ports to listen at.
        pub listen: Vec<SocketAddr>,
    }
}

section! {
    /// `[outbound]`
    pub struct Outbound {
        /// Addresses and ports to listen at.
        pub listen: Vec<SocketAddr>,
        /// The only networks that may hand mail in.
        pub networks: Vec<IpNet>,
        /// Whether STARTTLS is offered here too, with the certificates of `[tls]`: what comes from the same host gains
        /// nothing by it.
        pub starttls: bool = false,
        /// Where signed mail goes: the one next hop. A list, like `["192.0.2.1:25", "192.0.2.2:25"]`: the first that answers.
        pub next_hop: Servers,
        /// Networks that strangers share with you, like those of Microsoft 365 or Google: their mail may come in too, but
        /// only with a secret in a header field, which is taken off.
        #[key = "tenant"]
        pub tenants: Vec<Tenant> = Vec::new(),
    }
}

section! {
    /// `[[outbound.tenant]]`
    pub struct Tenant {
        /// The shared networks. The rule holds for them even where `outbound.networks` has them too.
        pub networks: Vec<IpNet>,
        /// The header field that the secret stands in. Whoever sent it, it goes no further than here.
        pub header: String = "Backstop-Tenant".into(),
        /// The file with the secret: 16 to 64 visible characters, which only root and the edge's own group may read.
        pub secret_file: PathBuf,
    }
}

section! {
    /// `[[domain]]`
    pub struct Domain {
        /// The domain's name.
        pub name: String,
        /// The mail server behind the edge. A list, like `["192.0.2.1:25", "192.0.2.2:25"]`, are servers that can take each
        /// other's place: mail goes to the first that answers. Once one has accepted a recipient, its message goes nowhere else.
        pub upstream: Servers,
        /// Whether outgoing mail gets a BATV tag in its envelope sender, beside the token.
        pub tag: bool = false,
        /// When untagged bounces are refused in answer to DATA: `never`, `flood` (during one) or `always`. Their kind cannot
        /// be known then: automatic replies and their like are refused too.
        pub require_tag: RequireTag = RequireTag::Never,
    }
}

section! {
    /// `[signature]`
    pub struct Signature {
        /// The directory of the keys (`backstop key new --dir`).
        pub keys: PathBuf,
        /// How long a token is believed, in days; at most 365.
        pub max_age_days: u32 = 16,
        /// How many tokens' uses are counted at once.
        pub uses_max: usize = 1_000_000,
    }
}

section! {
    /// `[record]`
    pub struct Record {
        /// How many entries a day (UTC) may have: one for each message and mailbox, and one more where a message has more
        /// than four recipients. What does not fit goes out all the same and is not remembered. An entry costs about 4.4
        /// octets of memory and disk, today's up to 20, for `max_age_days` and a day. 0: no record.
        pub messages_per_day_max: usize = 1_000_000,
    }
}

section! {
    /// `[[filter]]`
    pub struct Filter {
        /// A note, at most 80 characters, any language.
        pub memo: String = String::new(),
        /// Domains and addresses it covers; `*` is all.
        pub covers: Vec<String>,
        /// What it does with an unproven bounce: `monitor` (deliver it, and log what would have been done), `deliver`,
        /// `mark` (deliver it with the field `Backstop-Verdict: unproven`), `reject` (550),
        /// `quarantine` (250, and kept for you: `[quarantine]`) or `discard` (250, and gone).
        pub action: Action,
        /// Whether a bounce is proven by a Message-ID in it that the record holds. It is the weakest proof: whoever got a
        /// message, or reads a mailing list's archive, knows its Message-ID. Each proves 16 bounces or so.
        pub record: bool = true,
        /// Whether it is on.
        pub on: bool = true,
    }
}

section! {
    /// `[[trusted_forwarder]]`
    pub struct TrustedForwarder {
        /// A note, at most 80 characters, any language.
        pub memo: String = String::new(),
        /// Where the forwarder's mail comes from: as few addresses as it has.
        pub networks: Vec<IpNet>,
        /// To whom it passes mail on: addresses of yours, or whole domains.
        pub recipients: Vec<String>,
        /// Most of its unproven null-sender mail that each recipient gets in an hour, in a flood too. What comes beyond
        /// meets the filters.
        pub per_hour: u32 = 60,
    }
}

section! {
    /// `[policy]`
    pub struct Policy {
        /// Recipients whose bounces are delivered unproven: `local@` in every domain, or an address.
        pub exempt_recipients: Vec<String> = vec!["postmaster@".into(), "abuse@".into()],
        /// During a flood, what becomes of a bounce whose token was used too often. Outside it is delivered.
        pub overused_in_flood: Action = Action::Reject,
        /// For how many days after the first signature unproven bounces are delivered where a filter would reject, quarantine
        /// or discard them (and `require_tag` does not refuse): mail that was sent before it can still bounce. 16: queues of 5
        /// to 7 days on two hops, as for `max_age_days`. Before anything was signed, grace has not begun to run out. 0: none;
        /// a reload with 0 ends it at once.
        pub grace_days: u32 = 16,
        /// Whether that holds during a flood too. `false`: in a flood the filters do what they say, also to the few real
        /// bounces among it that answer mail from before the first signature.
        pub grace_in_flood: bool = true,
    }
}

section! {
    /// `[kinds]`
    pub struct Kinds {
        /// A delivery failed (RFC 3464, or the same in another form).
        pub failure: KindRule = KindRule::Bounce,
        /// A delivery is late.
        pub delay: KindRule = KindRule::Bounce,
        /// A delivery went well.
        pub success: KindRule = KindRule::Bounce,
        /// An automatic reply, such as a note of absence (RFC 3834).
        pub auto_reply: KindRule = KindRule::Deliver,
        /// A read receipt (RFC 8098).
        pub receipt: KindRule = KindRule::Deliver,
        /// An invitation, or its answer (RFC 5546).
        pub calendar: KindRule = KindRule::Deliver,
        /// Mail of a list (RFC 2369, 2919).
        pub list: KindRule = KindRule::Deliver,
        /// A challenge: somebody wants the sender to prove that he is one.
        pub challenge: KindRule = KindRule::Bounce,
        /// A complaint about mail from here (RFC 5965).
        pub complaint: KindRule = KindRule::Deliver,
        /// A DMARC report (RFC 7489, 6591) on a domain of yours, one below it or above it. On any other it is `unknown`: a
        /// mailbox that collects reports for domains that are not in `[[domain]]` belongs into `exempt_recipients`.
        pub dmarc_report: KindRule = KindRule::Deliver,
        /// A TLS report (RFC 8460), on such a domain too.
        pub tls_report: KindRule = KindRule::Deliver,
        /// What shows no structure of any kind.
        pub unknown: KindRule = KindRule::Bounce,
        /// How many messages of each kind these rules let through to one mailbox in an hour (`deliver`, `mark`,
        /// `monitor`). A mailbox for reports may get all of them at once: name it in `exempt_recipients`.
        pub per_mailbox_per_hour: u32 = 60,
        /// For how many mailboxes and kinds this is counted at once; those that nothing came for longest make room.
        pub mailboxes_max: usize = 100_000,
    }
}

section! {
    /// `[watch]`
    pub struct Watch {
        /// Hosts of yours that send mail, by name or by prefix, like `shop.example.com` or `192.0.2.0/24`: a bounce whose
        /// original says that it began at one of them looks like yours. The edge, the upstreams and `trusted_relays` are
        /// known anyway; so are the names by which your mail servers greet the edge, and servers with names in your domains.
        pub own_hosts: Vec<String> = Vec::new(),
        /// Names in your domains that no server of yours has, but forgers write into their mail, like `pc1.example.com`, or
        /// `*.dyn.example.com` for all names below: what says that it began there does not look like yours.
        pub forged_hosts: Vec<String> = Vec::new(),
    }
}

defaults!(Policy, Kinds, Record, Watch);
