//! SYNs without a connection behind them, from many sources at once, at a bounded rate: what only the NIC can stop.
//!
//! Raw IPv4 sockets, so it needs CAP_NET_RAW; the addresses are the lab's own. What answers such a SYN is reset by
//! our kernel, which knows no connection: the edge's kernel forgets the half-open one at once.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// IPPROTO_RAW: the packet brings its own IP header.
const RAW: i32 = 255;

const TICK: Duration = Duration::from_millis(20);

/// Sends `per_sec` SYNs a second, shared by `sources` in turn, until `end`. Returns how many were sent.
///
/// # Errors
/// No raw socket: the message says what is missing.
pub async fn run(
    sources: Vec<Ipv4Addr>,
    target: SocketAddrV4,
    per_sec: u32,
    end: Instant,
    mut rng: StdRng,
) -> io::Result<u64> {
    if sources.is_empty() || per_sec == 0 {
        return Ok(0);
    }
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW)))
        .map_err(|error| io::Error::new(error.kind(), format!("raw socket (CAP_NET_RAW): {error}")))?;
    socket.set_nonblocking(true)?;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let to = SocketAddr::V4(target).into();
    let (mut sent, mut owed) = (0_u64, 0.0_f64);
    let mut turn = sources.iter().cycle();
    while Instant::now() < end {
        ticks.tick().await;
        owed = (owed + f64::from(per_sec) * TICK.as_secs_f64()).min(f64::from(per_sec));
        while owed >= 1.0 {
            owed -= 1.0;
            let Some(source) = turn.next() else { break };
            let packet = syn(*source, target, rng.random_range(1024..=u16::MAX), rng.random());
            // A full queue loses a SYN, as a network would.
            sent += u64::from(socket.send_to(&packet, &to).is_ok());
        }
    }
    Ok(sent)
}

/// An IPv4 packet (RFC 791) with a TCP SYN (RFC 9293 section 3.1) without options.
fn syn(source: Ipv4Addr, target: SocketAddrV4, port: u16, sequence: u32) -> [u8; 40] {
    let mut packet = [0; 40];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&40_u16.to_be_bytes());
    packet[8] = 64;
    packet[9] = 6;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&target.ip().octets());
    let checksum = ones_complement(&packet[..20], 0);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet[20..22].copy_from_slice(&port.to_be_bytes());
    packet[22..24].copy_from_slice(&target.port().to_be_bytes());
    packet[24..28].copy_from_slice(&sequence.to_be_bytes());
    packet[32] = 5 << 4;
    packet[33] = 0x02;
    packet[34..36].copy_from_slice(&64240_u16.to_be_bytes());
    // The pseudo-header: both addresses, the protocol, TCP's length.
    let checksum = ones_complement(&packet[12..40], 6 + 20);
    packet[36..38].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// RFC 1071 over an even number of octets.
fn ones_complement(octets: &[u8], start: u32) -> u16 {
    let pair = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    let mut sum = start + octets.chunks_exact(2).map(pair).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_checksums_of_a_syn_verify() {
        let target = SocketAddrV4::new([198, 18, 0, 1].into(), 25);
        let packet = syn([198, 18, 64, 3].into(), target, 40_000, 0xdead_beef);
        assert_eq!(ones_complement(&packet[..20], 0), 0);
        assert_eq!(ones_complement(&packet[12..], 6 + 20), 0);
        assert_eq!((packet[33], &packet[22..24]), (2, &25_u16.to_be_bytes()[..]));
    }
}
