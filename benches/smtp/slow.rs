//! Slow senders: connections that say an octet a second. Every other one does so from its first command on; the others say
//! an envelope as fast as anybody, and the message behind it an octet a second. Who is turned away comes again at once,
//! from the next address.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send, socket_with,
};

use crate::row::DISCARDED;

/// Into how many shares a second is cut: each has its share of the senders.
const SHARES: usize = 20;
/// What a message is made of, behind its envelope.
const LINE: &[u8] = b"Slowly, slowly comes a message that nobody asked for.\r\n";

/// What the senders, and who watches them, tell each other.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    rests: AtomicBool,
    greeted: AtomicUsize,
    ended: AtomicU64,
}

/// Slow senders, in a thread of their own.
#[derive(Debug)]
pub struct Slow {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
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

impl Slow {
    /// They begin, in the namespace and on the cores of who calls this.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn begin(plan: Plan) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let name = "slow-senders".to_owned();
        let thread =
            std::thread::Builder::new().name(name).spawn(move || Senders::new(plan, theirs).run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// They say nothing, and keep their places; or go on.
    pub fn rest(&self, rest: bool) {
        self.shared.rests.store(rest, Ordering::Relaxed);
    }

    /// How many were greeted and are still there.
    #[must_use]
    pub fn greeted(&self) -> usize {
        self.shared.greeted.load(Ordering::Relaxed)
    }

    /// How many connections the server ended so far.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.shared.ended.load(Ordering::Relaxed)
    }

    /// They hang up.
    ///
    /// # Errors
    /// They could not do what they were to do.
    pub fn end(mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(done)) => done,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

struct Sender {
    socket: OwnedFd,
    greeted: bool,
    /// Octets said one by one so far.
    said: usize,
}

struct Senders {
    plan: Plan,
    shared: Arc<Shared>,
    senders: Vec<Option<Sender>>,
    connections: u32,
    envelope: Vec<u8>,
}

impl Senders {
    fn new(plan: Plan, shared: Arc<Shared>) -> Self {
        let envelope = format!(
            "EHLO slow.far.example\r\nMAIL FROM:<>\r\nRCPT TO:<u00@{DISCARDED}>\r\nDATA\r\nSubject: slow\r\n\r\n"
        );
        let senders = (0..plan.senders).map(|_| None).collect();
        Self { plan, shared, senders, connections: 0, envelope: envelope.into_bytes() }
    }

    fn run(mut self) -> Result<()> {
        let share = Duration::from_secs(1) / u32::try_from(SHARES)?;
        let mut next = Instant::now();
        for turn in (0..SHARES).cycle() {
            if self.shared.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            if !self.shared.rests.load(Ordering::Relaxed) {
                for number in (turn..self.senders.len()).step_by(SHARES) {
                    self.turn(number).with_context(|| format!("slow sender {number}"))?;
                }
            }
            next += share;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }

    /// One sender's second.
    fn turn(&mut self, number: usize) -> Result<()> {
        let Some(sender) = &mut self.senders[number] else {
            self.senders[number] = Some(self.open()?);
            return Ok(());
        };
        let was_greeted = sender.greeted;
        let goes_on = sender.turn(number % 2 == 1, &self.envelope);
        let is_greeted = goes_on && sender.greeted;
        match (was_greeted, is_greeted) {
            (false, true) => drop(self.shared.greeted.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.shared.greeted.fetch_sub(1, Ordering::Relaxed)),
            (true, true) | (false, false) => {}
        }
        if !goes_on {
            self.shared.ended.fetch_add(1, Ordering::Relaxed);
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

    use super::*;

    fn slow(listener: &TcpListener, senders: usize) -> Slow {
        let target = listener.local_addr().unwrap();
        Slow::begin(Plan { target, senders, sources: (Ipv4Addr::new(127, 0, 3, 1), 50) }).unwrap()
    }

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
        let slow = slow(&listener, 2);
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
        // They are counted once their turn is over, and what they said is here before.
        while slow.greeted() < 2 {
            std::thread::yield_now();
        }
        assert_eq!(slow.greeted(), 2);
        first.write_all(b"421 go away\r\n").unwrap();
        drop(first);
        let (_again, third) = listener.accept().unwrap();
        assert_ne!(third.ip(), from.ip());
        assert_eq!(slow.ended(), 1);
        slow.end().unwrap();
    }
}
