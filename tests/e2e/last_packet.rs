//! What goes over the wire where a session ends: the last reply and the end of the connection are one packet, so that a
//! refused session costs both sides, and the network card, one packet less.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::client::Client;
use lab::edge::{Edge, Settings};
use lab::program::Profile;
use lab::{EDGE, Host, Lab};
use socket2::{Domain, Protocol, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(60);

/// IPv4 as a link layer names it.
const ETHERTYPE_IPV4: u16 = 0x0800;
const PROTOCOL_TCP: u8 = 6;
const FLAG_FIN: u8 = 1;

/// A packet as the client's kernel gets it: the text in it, and whether it ends the connection.
type Segment = (String, bool);

/// Everything that comes in from the network at the Internet's host.
struct Wire(Socket);

impl Wire {
    fn tap(lab: &Lab) -> Result<Self> {
        lab.in_host(Host::Internet, || {
            let protocol = Protocol::from(i32::from(ETHERTYPE_IPV4.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(Self(socket))
        })
    }

    /// The segments from `server` to `client` that say something or end the connection, up to its end, each once.
    fn until_the_end(&self, server: SocketAddr, client: SocketAddr) -> Result<Vec<Segment>> {
        let (mut segments, mut last) = (Vec::new(), None);
        let until = Instant::now() + PATIENCE;
        let mut packet = [0; 2048];
        while Instant::now() < until {
            let length = (&self.0).read(&mut packet).context("the connection's end never came")?;
            let Some((sequence, text, fin)) = segment(&packet[..length], server, client) else { continue };
            // What the kernel sends again says nothing new.
            if (text.is_empty() && !fin) || last.is_some_and(|last| !is_behind(sequence, last)) {
                continue;
            }
            last = Some(sequence);
            segments.push((text, fin));
            if fin {
                return Ok(segments);
            }
        }
        anyhow::bail!("the connection's end never came: {segments:?}")
    }
}

/// The sequence number, the text and the end in an IPv4 packet that goes from `server` to `client` by TCP. The text is what
/// the packet's length says: an Ethernet frame may be longer.
fn segment(packet: &[u8], server: SocketAddr, client: SocketAddr) -> Option<(u32, String, bool)> {
    let number = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let from = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?);
    let tcp = usize::from(packet.first()? & 0xf) * 4;
    let is_it = *packet.get(9)? == PROTOCOL_TCP
        && SocketAddr::from((from, number(tcp)?)) == server
        && number(tcp + 2)? == client.port();
    let sequence = u32::from_be_bytes(packet.get(tcp + 4..tcp + 8)?.try_into().ok()?);
    let text = tcp + usize::from(packet.get(tcp + 12)? >> 4) * 4;
    let text = String::from_utf8_lossy(packet.get(text..usize::from(number(2)?))?).into_owned();
    is_it.then_some((sequence, text, packet.get(tcp + 13)? & FLAG_FIN != 0))
}

/// Whether a sequence number comes behind another: they begin anywhere, and go round (RFC 9293 section 3.4).
fn is_behind(sequence: u32, other: u32) -> bool {
    (1..1 << 31).contains(&sequence.wrapping_sub(other))
}

fn connected(lab: &Lab, server: SocketAddr) -> Result<TcpStream> {
    let stream = lab.connect(Host::Internet, None, server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

#[test]
fn the_last_reply_and_the_end_of_the_connection_are_one_packet() -> Result<()> {
    let lab = Lab::up("last-packet")?;
    let wire = Wire::tap(&lab)?;
    // What it looks like where they are two, so that one cannot be mistaken for the other.
    let plain = SocketAddr::from((EDGE, 2525));
    let listener = lab.in_host(Host::Edge, || Ok(TcpListener::bind(plain)?))?;
    let mut stream = connected(&lab, plain)?;
    let (mut accepted, _) = listener.accept()?;
    accepted.write_all(b"221 in two\r\n")?;
    drop(accepted);
    stream.read_to_end(&mut Vec::new())?;
    let two = wire.until_the_end(plain, stream.local_addr()?)?;
    assert_eq!(two, [("221 in two\r\n".to_owned(), false), (String::new(), true)]);

    let mut edge = Edge::start(&lab, &Settings::default(), Profile::Dev)?;
    let server = SocketAddr::from((EDGE, 25));
    let stream = connected(&lab, server)?;
    let client_address = stream.local_addr()?;
    let mut client = Client::over(stream)?;
    client.command("EHLO client.lab.example")?;
    let reply = client.command("QUIT")?;
    ensure!(reply.is("221"), "{reply:?}");
    let said = wire.until_the_end(server, client_address)?;
    let (last, before) = said.split_last().context("a last packet")?;
    assert!(last.0.starts_with("221 ") && last.0.ends_with("\r\n") && last.1, "{said:?}");
    assert!(before.iter().all(|(text, fin)| !text.is_empty() && !text.contains("221 ") && !fin), "{said:?}");
    edge.stop()
}
