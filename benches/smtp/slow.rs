//! Slow senders: connections that say an octet a second. Every other one does so from its first command on; the others say
//! an envelope as fast as anybody, and the message behind it an octet a second. Who is turned away comes again at once,
//! from the next address.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send, socket_with,
};
use serde::{Deserialize, Serialize};

use crate::row::DISCARDED;

/// Into how many shares a second is cut: each has its share of the senders. Strangers do not speak at the same moment, so
/// there are many: of 10,000 senders ten are due at once.
const SHARES: usize = 1000;
/// By how many shares they may be late, because the core was taken, and catch up; who is later goes on from there.
const BEHIND_MAX: u32 = 50;
/// They tell how they are every so many shares.
const TELL_EVERY: usize = 50;
/// What a message is made of, behind its envelope.
const LINE: &[u8] = b"Slowly, slowly comes a message that nobody asked for.\r\n";

/// How they are.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Told {
    /// How many were greeted and are still there.
    pub greeted: usize,
    /// How many connections the server ended so far.
    pub ended: u64,
    /// Turns so far: each has one a second, in which it says an octet, or connects, or hears that it is turned away.
    pub turns: u64,
}

/// Who they are.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Where to.
    pub target: SocketAddr,
    /// How many at once.
    pub senders: usize,
    /// Their source addresses, each connection's the next: the first of them and how many.
    pub sources: (Ipv4Addr, u32),
}

struct Sender {
    socket: OwnedFd,
    greeted: bool,
    /// Octets said one by one so far.
    said: usize,
}

/// Slow senders.
pub struct Senders {
    plan: Plan,
    told: Told,
    senders: Vec<Option<Sender>>,
    connections: u32,
    envelope: Vec<u8>,
}

impl Senders {
    /// None has begun yet.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let envelope = format!(
            "EHLO slow.far.example\r\nMAIL FROM:<>\r\nRCPT TO:<u00@{DISCARDED}>\r\nDATA\r\nSubject: slow\r\n\r\n"
        );
        let senders = (0..plan.senders).map(|_| None).collect();
        Self { plan, told: Told::default(), senders, connections: 0, envelope: envelope.into_bytes() }
    }

    /// They go on until `tell`, which hears how they are a few times a second, says that it is enough.
    ///
    /// # Errors
    /// They could not do what they were to do.
    pub fn run(mut self, mut tell: impl FnMut(Told) -> Result<bool>) -> Result<()> {
        let share = Duration::from_secs(1) / u32::try_from(SHARES)?;
        let mut next = Instant::now();
        for turn in (0..SHARES).cycle() {
            let first_of = |share: usize| share * self.senders.len() / SHARES;
            for number in first_of(turn)..first_of(turn + 1) {
                self.turn(number).with_context(|| format!("slow sender {number}"))?;
            }
            if turn % TELL_EVERY == 0 && !tell(self.told)? {
                return Ok(());
            }
            next += share;
            let behind = next.elapsed();
            if behind > share * BEHIND_MAX {
                // After a rest they do not say at once what they would have said meanwhile.
                next += behind;
            }
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }

    /// One sender's second.
    fn turn(&mut self, number: usize) -> Result<()> {
        self.told.turns += 1;
        let Some(sender) = &mut self.senders[number] else {
            self.senders[number] = Some(self.open()?);
            return Ok(());
        };
        let was_greeted = sender.greeted;
        let goes_on = sender.turn(number % 2 == 1, &self.envelope);
        let is_greeted = goes_on && sender.greeted;
        match (was_greeted, is_greeted) {
            (false, true) => self.told.greeted += 1,
            (true, false) => self.told.greeted -= 1,
            (true, true) | (false, false) => {}
        }
        if !goes_on {
            self.told.ended += 1;
            self.senders[number] = Some(self.open()?);
        }
        Ok(())
    }

    fn open(&mut self) -> Result<Sender> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        let (first, count) = self.plan.sources;
        let source = Ipv4Addr::from_bits(first.to_bits() + self.connections % count.max(1));
        self.connections = self.connections.wrapping_add(1);
        bind(&socket, &SocketAddr::from((source, 0)))
            .with_context(|| format!("cannot send from {source}"))?;
        match connect(&socket, &self.plan.target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error).context("cannot connect"),
        }
        Ok(Sender { socket, greeted: false, said: 0 })
    }
}

impl Sender {
    /// Hears what there is, and says the next octet. Whether the connection goes on.
    fn turn(&mut self, knows_its_envelope: bool, envelope: &[u8]) -> bool {
        let mut heard = [0; 1024];
        match recv(&self.socket, &mut heard, RecvFlags::empty()) {
            Ok((_, came)) if came > 0 && !heard.starts_with(b"421") => {
                if !self.greeted && knows_its_envelope {
                    self.said = envelope.len();
                    let _ = send(&self.socket, envelope, SendFlags::NOSIGNAL);
                }
                self.greeted = true;
            }
            // Turned away: what it was told last, or its end.
            Ok(_) => return false,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return false,
        }
        if !self.greeted {
            return true;
        }
        let at = self.said;
        let octet = envelope.get(at).unwrap_or_else(|| &LINE[(at - envelope.len()) % LINE.len()]);
        match send(&self.socket, std::slice::from_ref(octet), SendFlags::NOSIGNAL) {
            Ok(_) => self.said += 1,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use super::*;

    fn read_until(socket: &mut std::net::TcpStream, end: &[u8]) -> Vec<u8> {
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(end) {
            let mut octet = [0; 1];
            assert_eq!(socket.read(&mut octet).unwrap(), 1, "{}", heard.escape_ascii());
            heard.push(octet[0]);
        }
        heard
    }

    #[test]
    fn one_trickles_its_commands_the_other_only_its_message_and_who_is_sent_away_comes_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let last = Arc::new(Mutex::new((Told::default(), true)));
        let theirs = Arc::clone(&last);
        let plan = Plan { target, senders: 2, sources: (Ipv4Addr::new(127, 0, 3, 1), 50) };
        let senders = std::thread::spawn(move || {
            Senders::new(plan).run(|told| {
                let mut last = theirs.lock().unwrap();
                last.0 = told;
                Ok(last.1)
            })
        });
        let until = |is: fn(&Told) -> bool| {
            while !is(&last.lock().unwrap().0) {
                std::thread::yield_now();
            }
        };
        let (mut first, from) = listener.accept().unwrap();
        let (mut second, other) = listener.accept().unwrap();
        assert_ne!(from.ip(), other.ip());
        for socket in [&mut first, &mut second] {
            socket.write_all(b"220 here\r\n").unwrap();
        }
        // Which of them was accepted first is known by what they say first.
        let (mut one, mut two) = ([0; 1], [0; 1]);
        first.read_exact(&mut one).unwrap();
        second.read_exact(&mut two).unwrap();
        assert_eq!((one, two), (*b"E", *b"E"));
        assert!(read_until(&mut second, b"DATA\r\nSubject: slow\r\n\r\n").starts_with(b"HLO slow"));
        until(|told| told.greeted == 2 && told.turns >= 4);
        first.write_all(b"421 go away\r\n").unwrap();
        drop(first);
        let (_again, third) = listener.accept().unwrap();
        assert_ne!(third.ip(), from.ip());
        until(|told| told.ended == 1 && told.greeted == 1);
        last.lock().unwrap().1 = false;
        senders.join().unwrap().unwrap();
    }
}
