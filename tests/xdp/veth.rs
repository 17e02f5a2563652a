//! Two hosts on a veth pair, each in a network namespace of its own that ends with the test, however it ends.
//!
//! The edge's thread also has a mount namespace with a BPF file system, where the dataplane pins. Namespaces belong to
//! threads here: when a test's threads are gone, so are the interfaces, the program on them and every pin.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use edge_user::config::{Xdp, XdpMode};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use socket2::{Domain, Protocol, Socket, Type};

use crate::kernel::require_root;

pub(crate) const EDGE: &str = "198.18.0.1";
pub(crate) const EDGE6: &str = "2001:2::1";
/// The peer's addresses; the IPv6 ones lie in different /64s.
pub(crate) const PEER: &str = "198.18.0.66";
pub(crate) const OTHER: &str = "198.18.0.67";
pub(crate) const PEER6: &str = "2001:2:0:66::1";
pub(crate) const OTHER6: &str = "2001:2:0:67::1";
pub(crate) const INTERFACE: &str = "xdp-edge";
const PEER_INTERFACE: &str = "xdp-peer";

/// How long a connection attempt may take that is to succeed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one is watched that is to get no answer: over a veth pair an answer takes microseconds.
const SILENCE: Duration = Duration::from_millis(200);

/// The edge's side of a test: its thread is in the edge's namespaces.
pub(crate) struct Veth {
    peer: Peer,
    pin_dir: tempfile::TempDir,
    _listeners: Vec<TcpListener>,
}

/// Runs the test on a veth pair, as the edge.
pub(crate) fn on_veth(test: impl FnOnce(&Veth) + Send + 'static) {
    require_root();
    let edge = thread::spawn(move || {
        let veth = Veth::up();
        test(&veth);
    });
    if let Err(panic) = edge.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Veth {
    fn up() -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces of our own");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)
            .expect("mounts of our own");
        let pin_dir = tempfile::tempdir().expect("a directory");
        mount(Some("bpf"), pin_dir.path(), Some("bpf"), MsFlags::empty(), None::<&str>)
            .expect("mount -t bpf");
        let peer = Peer::start();
        ip(&format!("link add {INTERFACE} type veth peer name {PEER_INTERFACE} netns {}", peer.thread));
        ip("link set lo up");
        ip(&format!("address add {EDGE}/24 dev {INTERFACE}"));
        ip(&format!("address add {EDGE6}/32 dev {INTERFACE} nodad"));
        ip(&format!("link set {INTERFACE} up"));
        peer.run(|| {
            ip("link set lo up");
            for address in [PEER, OTHER] {
                ip(&format!("address add {address}/24 dev {PEER_INTERFACE}"));
            }
            for address in [PEER6, OTHER6] {
                ip(&format!("address add {address}/32 dev {PEER_INTERFACE} nodad"));
            }
            ip(&format!("link set {PEER_INTERFACE} up"));
        });
        let listen = |address: &str, port| {
            let address: IpAddr = address.parse().expect("an address");
            TcpListener::bind((address, port)).unwrap_or_else(|error| panic!("{address}:{port}: {error}"))
        };
        let listeners = [22, 25].map(|port| [listen(EDGE, port), listen(EDGE6, port)]);
        Self { peer, pin_dir, _listeners: listeners.into_iter().flatten().collect() }
    }

    /// Settings that enforce, with ample budgets and small maps.
    pub(crate) fn settings(&self) -> Xdp {
        Xdp {
            interface: INTERFACE.into(),
            mode: XdpMode::Native,
            watch: false,
            ports: vec![25],
            pin_dir: self.pin_dir.path().join("backstop"),
            allow: Vec::new(),
            block: Vec::new(),
            syn_per_sec: 1000,
            syn_burst: 1000,
            bans_max: 64,
            sources_max: 1024,
            prefixes_max: 64,
            samples_per_sec: 100,
        }
    }

    /// Whether a connection from the peer's address to the edge's port comes about.
    pub(crate) fn connects(&self, from: &str, port: u16) -> bool {
        self.connects_within(from, port, PATIENCE)
    }

    /// Whether there is no answer to a connection attempt: what a dropped SYN looks like from outside.
    pub(crate) fn is_dropped(&self, from: &str, port: u16) -> bool {
        !self.connects_within(from, port, SILENCE)
    }

    fn connects_within(&self, from: &str, port: u16, within: Duration) -> bool {
        let from: IpAddr = from.parse().expect("an address");
        let to = SocketAddr::new(if from.is_ipv4() { EDGE } else { EDGE6 }.parse().unwrap(), port);
        self.peer.run(move || {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)).unwrap();
            socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
            match socket.connect_timeout(&to.into(), within) {
                Ok(()) => true,
                Err(error) if error.kind() == ErrorKind::TimedOut => false,
                Err(error) => panic!("from {from} to {to}: {error}"),
            }
        })
    }

    /// The peer forgets the edge's hardware addresses, so that it must ask by ARP and neighbour discovery.
    pub(crate) fn forget_neighbours(&self) {
        self.peer.run(|| ip(&format!("neighbour flush dev {PEER_INTERFACE}")));
    }

    /// What the peer knows of the edge's hardware address.
    pub(crate) fn knows_neighbour(&self, address: &'static str) -> bool {
        self.peer.run(move || ip(&format!("neighbour show {address}")).contains("lladdr"))
    }

    /// Whether the edge answers an ICMP echo request (RFC 792, RFC 4443) from the peer's address.
    pub(crate) fn answers_ping(&self, from: &str) -> bool {
        let from: IpAddr = from.parse().expect("an address");
        self.peer.run(move || {
            let (domain, protocol, to, kinds) = match from {
                IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, EDGE, (8u8, 0u8)),
                IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, EDGE6, (128, 129)),
            };
            let socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
            socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            // Type, code, checksum (of IPv4 alone; the kernel fills in IPv6's), identifier, sequence number.
            let mut request = [kinds.0, 0, 0, 0, 0x12, 0x34, 0, 1];
            if from.is_ipv4() {
                let sum = !(0x0800u16 + 0x1234 + 1);
                request[2..4].copy_from_slice(&sum.to_be_bytes());
            }
            let to: IpAddr = to.parse().unwrap();
            socket.send_to(&request, &SocketAddr::new(to, 0).into()).unwrap();
            let mut answer = [0u8; 256];
            // The raw socket also hears other ICMP, such as neighbour discovery.
            for _ in 0..16 {
                let Ok(length) = std::io::Read::read(&mut &socket, &mut answer) else { return false };
                let header = if from.is_ipv4() { 20 } else { 0 };
                let icmp = &answer[header..length];
                if icmp.first() == Some(&kinds.1) && icmp[4..8] == request[4..8] {
                    return true;
                }
            }
            false
        })
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        // A directory cannot be removed while something is mounted on it. What fails here leaves an empty directory.
        let _ = umount2(self.pin_dir.path(), MntFlags::MNT_DETACH);
    }
}

/// A thread in the peer's namespace, which does as it is told.
struct Peer {
    thread: i32,
    jobs: Option<mpsc::Sender<Box<dyn FnOnce() + Send>>>,
    handle: Option<JoinHandle<()>>,
}

impl Peer {
    fn start() -> Self {
        let (jobs, todo) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (tell, told) = mpsc::channel();
        let handle = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of the peer's own");
            tell.send(gettid().as_raw()).expect("the edge waits");
            for job in todo {
                job();
            }
        });
        let thread = told.recv().expect("the peer is there");
        Self { thread, jobs: Some(jobs), handle: Some(handle) }
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let job = Box::new(move || tell.send(job()).expect("the edge waits"));
        self.jobs.as_ref().expect("not dropped").send(job).expect("the peer lives");
        told.recv().expect("the peer did its job (its panic is printed above)")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(handle) = self.handle.take() {
            // A panic of its own was reported by whoever waited for the job.
            let _ = handle.join();
        }
    }
}

/// Runs `ip` in this thread's namespaces.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("`ip` (package iproute2)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
