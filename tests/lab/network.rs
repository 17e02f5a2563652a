//! The lab's addresses, and the veth pairs that join its hosts.
//!
//! ```text
//!   internet  to-edge 198.18.0.1 ───── wan 198.18.0.10  edge  lan 198.19.0.1 ───── lan 198.19.0.2  mta
//!             to-mta  198.18.1.1 ─────────────────────────────────────────── wan 198.18.1.2
//! ```
//! All of it lies in the benchmark ranges 198.18.0.0/15 (RFC 2544) and 2001:2::/48 (RFC 5180). No host forwards, and
//! none has a default route: nothing that is sent here can leave.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A test host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Host {
    /// Clients, reflecting mail servers and attackers, with any source address of [`SOURCES_V4`] and [`SOURCES_V6`].
    Internet,
    /// Backstop; mail comes in at its interface [`EDGE_INTERFACE`].
    Edge,
    /// The operator's mail server.
    Mta,
}

impl Host {
    /// All of them, in the order in which they are made.
    pub const ALL: [Self; 3] = [Self::Internet, Self::Edge, Self::Mta];

    /// The host's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Internet => "internet",
            Self::Edge => "edge",
            Self::Mta => "mta",
        }
    }
}

/// The interface of `edge` that faces the Internet: the one that XDP is attached to.
pub const EDGE_INTERFACE: &str = "wan";
/// Where the edge takes mail from the Internet.
pub const EDGE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
/// The same for IPv6.
pub const EDGE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 1, 0, 0, 0, 0x10);
/// The Internet's own address on the edge's link: the edge's gateway.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The edge on the operator's side: where its mail server hands in outgoing mail.
pub const EDGE_INSIDE: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
/// The operator's mail server, as the edge sees it.
pub const MTA: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 2);
/// The operator's mail server, as the Internet sees it when it delivers.
pub const MTA_OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 2);

/// The source addresses that any program in `internet` may bind, as network and prefix length.
pub const SOURCES_V4: [(Ipv4Addr, u8); 2] =
    [(Ipv4Addr::new(198, 18, 64, 0), 18), (Ipv4Addr::new(198, 18, 128, 0), 17)];
/// The same for IPv6: 65,536 networks of /64.
pub const SOURCES_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2001, 2, 0, 0x100, 0, 0, 0, 0), 56);

/// How many addresses of [`far_server`] stand on an interface.
pub const FAR_SERVERS: u8 = 8;

/// The address of the `n`th far server (from 1 to [`FAR_SERVERS`]): 198.18.64.1 and on. The rest of [`SOURCES_V4`] is
/// free for clients of any kind.
#[must_use]
pub fn far_server(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 64, n)
}

/// The `n`th of 32,768 addresses for clients and attackers, 198.18.128.0 and on; it wraps.
#[must_use]
pub fn client(n: u32) -> IpAddr {
    let [_, _, high, low] = (n % 32_768).to_be_bytes();
    Ipv4Addr::new(198, 18, 128 | high, low).into()
}

/// What `ip -batch` in `edge` reads; the PIDs are those of the other two hosts.
pub(crate) fn edge_batch(internet_pid: u32, mta_pid: u32) -> String {
    format!(
        "link add wan type veth peer name to-edge netns {internet_pid}
link add lan type veth peer name lan netns {mta_pid}
addr add {EDGE}/24 dev wan
addr add {EDGE_V6}/64 dev wan nodad
addr add {EDGE_INSIDE}/24 dev lan
link set wan up
link set lan up
"
    )
}

/// What `ip -batch` in `edge` reads once both ends of its links are up.
pub(crate) fn edge_routes() -> String {
    let mut batch = String::new();
    for (net, length) in SOURCES_V4 {
        batch += &format!("route add {net}/{length} via {GATEWAY} dev wan\n");
    }
    batch + &format!("route add {}/{} via 2001:2:0:1::1 dev wan\n", SOURCES_V6.0, SOURCES_V6.1)
}

/// What `ip -batch` in `mta` reads.
pub(crate) fn mta_batch(internet_pid: u32) -> String {
    let mut batch = format!(
        "link add wan type veth peer name to-mta netns {internet_pid}
addr add {MTA_OUTSIDE}/24 dev wan
addr add {MTA}/24 dev lan
link set wan up
link set lan up
"
    );
    for (net, length) in SOURCES_V4 {
        batch += &format!("route add {net}/{length} via 198.18.1.1 dev wan\n");
    }
    batch
}

/// What `ip -batch` in `internet` reads.
pub(crate) fn internet_batch() -> String {
    let mut batch = format!(
        "addr add {GATEWAY}/24 dev to-edge
addr add 2001:2:0:1::1/64 dev to-edge nodad
addr add 198.18.1.1/24 dev to-mta
link set to-edge up
link set to-mta up
"
    );
    // A local route makes every address of a range bindable, without an address for each.
    for (net, length) in SOURCES_V4 {
        batch += &format!("route add local {net}/{length} dev lo\n");
    }
    // Postfix binds only what stands on an interface.
    for n in 1..=FAR_SERVERS {
        batch += &format!("addr add {}/32 dev lo\n", far_server(n));
    }
    batch + &format!("route add local {}/{} dev lo\n", SOURCES_V6.0, SOURCES_V6.1)
}
