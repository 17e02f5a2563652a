//! Who has the ports that the edge listens at.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Subject;
use super::finding::Findings;
use super::process::{self, Process};

/// A listening socket of this network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Listening {
    address: SocketAddr,
    inode: u64,
}

pub(super) fn ask(subject: &Subject, findings: &mut Findings) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let listening: Vec<_> = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .iter()
        .flat_map(|path| listening(&read(path)))
        .collect();
    let outbound = subject.config.outbound.iter().flat_map(|side| &side.listen);
    let wanted: Vec<SocketAddr> = subject.config.inbound.listen.iter().chain(outbound).copied().collect();
    let concerned: Vec<_> = listening
        .into_iter()
        .filter(|socket| wanted.iter().any(|wanted| overlap(*wanted, socket.address)))
        .collect();
    let inodes: Vec<_> = concerned.iter().map(|socket| socket.inode).collect();
    let holders = process::holders(&inodes);
    let daemon = process::daemon(subject).map(|(pid, _)| pid);
    for address in wanted {
        judge(address, &concerned, &holders, daemon, findings);
    }
}

/// The listening sockets in `/proc/net/tcp` or `tcp6` (proc_pid_net(5)): state `0A`.
fn listening(table: &str) -> Vec<Listening> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (address, port) = local.split_once(':')?;
        let socket = SocketAddr::new(address_of(address)?, u16::from_str_radix(port, 16).ok()?);
        (*state == "0A").then_some(Listening { address: socket, inode: inode.parse().ok()? })
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// An address as the kernel prints it: words of 32 bits, each as this machine has it in memory.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            Some(Ipv6Addr::from(octets).to_canonical())
        }
        _ => None,
    }
}

/// Whether a listener at one of them keeps another from the other.
fn overlap(wanted: SocketAddr, there: SocketAddr) -> bool {
    let same = match (wanted.ip(), there.ip()) {
        (a, b) if a == b => true,
        // `::` takes IPv4 too, unless it was told not to.
        (IpAddr::V6(any), _) | (_, IpAddr::V6(any)) if any.is_unspecified() => true,
        (IpAddr::V4(any), IpAddr::V4(_)) | (IpAddr::V4(_), IpAddr::V4(any)) if any.is_unspecified() => true,
        (IpAddr::V4(one), IpAddr::V4(_)) => one.is_unspecified(),
        (IpAddr::V4(_) | IpAddr::V6(_), _) => false,
    };
    same && wanted.port() == there.port()
}

fn judge(
    wanted: SocketAddr,
    listening: &[Listening],
    holders: &BTreeMap<u64, Vec<Process>>,
    daemon: Option<u32>,
    findings: &mut Findings,
) {
    let check = wanted.to_string();
    let there: Vec<_> = listening.iter().filter(|socket| overlap(wanted, socket.address)).collect();
    if there.is_empty() {
        match daemon {
            None => findings.good(check, "free"),
            Some(pid) => findings.bad(
                check,
                format!("nobody listens there, though the edge runs (pid {pid})"),
                "the configuration was changed since: restart the edge",
            ),
        }
        return;
    }
    let mut others: Vec<String> = Vec::new();
    let mut ours = false;
    let mut untold = false;
    for socket in there {
        match holders.get(&socket.inode) {
            None => untold = true,
            Some(held) => {
                for process in held {
                    let own = Some(process.pid) == daemon;
                    ours |= own;
                    let words = format!("{} (pid {}) at {}", process.name, process.pid, socket.address);
                    if !own && !others.contains(&words) {
                        others.push(words);
                    }
                }
            }
        }
    }
    if !others.is_empty() {
        findings.bad(
            check,
            format!("taken by {}", others.join(", ")),
            "stop it, or let it listen elsewhere: a mail server behind the edge belongs at 127.0.0.1 or another port",
        );
    } else if ours {
        findings.good(check, "the edge listens there");
    } else if untold {
        match daemon {
            // Its descriptors are not to be seen, but it said who it is.
            Some(pid) => findings.careful(
                check,
                format!("taken, most likely by the edge (pid {pid}): this user may not see by whom"),
                "run it as root",
            ),
            None => findings.careful(check, "taken; this user may not see by whom", "run it as root"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State::{Bad, Careful, Good};
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0A0012C6:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000 100 0 0 10 0
   1: 0100007F:0019 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000 100 0 0 10 0
";
    const TABLE6: &str =
        "  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:0019 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 4713 1
   1: 02000120000000000000000010000000:0019 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 4714 1
";

    #[test]
    fn listeners_are_read_from_the_kernels_tables_whole_or_cut() {
        let found = listening(TABLE);
        assert_eq!(found, [Listening { address: "198.18.0.10:25".parse().unwrap(), inode: 4711 }]);
        let found = listening(TABLE6);
        assert_eq!(found[0].address, "[::]:25".parse().unwrap());
        assert_eq!(found[1].address, "[2001:2::10]:25".parse().unwrap());
        for cut in 0..TABLE.len() {
            let _ = listening(&TABLE[..cut]);
        }
    }

    #[test]
    fn who_is_in_the_way_of_whom() {
        for (wanted, there, expected) in [
            ("192.0.2.1:25", "192.0.2.1:25", true),
            ("192.0.2.1:25", "192.0.2.1:26", false),
            ("192.0.2.1:25", "127.0.0.1:25", false),
            ("192.0.2.1:25", "0.0.0.0:25", true),
            ("0.0.0.0:25", "127.0.0.1:25", true),
            ("192.0.2.1:25", "[::]:25", true),
            ("[2001:db8::1]:25", "0.0.0.0:25", false),
            ("[2001:db8::1]:25", "[::]:25", true),
            ("[2001:db8::1]:25", "[2001:db8::2]:25", false),
        ] {
            assert_eq!(
                overlap(wanted.parse().unwrap(), there.parse().unwrap()),
                expected,
                "{wanted} {there}"
            );
        }
    }

    #[test]
    fn a_port_is_free_ours_or_somebody_elses() {
        let wanted = "192.0.2.1:25".parse().unwrap();
        let at = |inode| Listening { address: wanted, inode };
        let held = |inode: u64, pid, name: &str| (inode, vec![Process { pid, name: name.into() }]);
        let rows = [
            (vec![], vec![], None, Good, "free"),
            (vec![], vec![], Some(7), Bad, "nobody listens"),
            (
                vec![at(1), at(2)],
                vec![held(1, 7, "backstop"), held(2, 7, "backstop")],
                Some(7),
                Good,
                "the edge",
            ),
            (vec![at(1)], vec![held(1, 99, "master")], None, Bad, "taken by master (pid 99) at 192.0.2.1:25"),
            (
                vec![at(1), at(2)],
                vec![held(1, 7, "backstop"), held(2, 9, "exim4")],
                Some(7),
                Bad,
                "exim4 (pid 9)",
            ),
            (vec![at(1)], vec![], Some(7), Careful, "most likely"),
            (vec![at(1)], vec![], None, Careful, "may not see"),
        ];
        for (listening, holders, daemon, state, words) in rows {
            let mut findings = Findings::of("port");
            judge(wanted, &listening, &holders.into_iter().collect(), daemon, &mut findings);
            assert_eq!(findings.states(), [(state, "192.0.2.1:25")], "{}", findings.text());
            assert!(findings.text().contains(words), "{words}: {}", findings.text());
        }
    }
}
