//! The floor: an SMTP server on raw epoll, in one thread, that does nothing but read commands, find the ends of messages
//! and answer. What it costs is what the kernel's sockets cost; all other servers are compared with it. It is also the
//! sink behind those that pass mail on.
//!
//! Its system calls, and they are the least for one request after another: an accept, an `epoll_ctl` and a close a
//! session; a read and a write a step; an `epoll_wait` for all sockets that are ready. TCP_NODELAY is inherited from the
//! listening socket.

pub mod session;

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, bind, getsockname, listen,
    recv, send, socket_with, sockopt,
};

use self::session::{GREETING, Next, Session};

/// Connections that the kernel keeps waiting: as many as the machine allows.
const BACKLOG: i32 = 4096;
/// Events that are asked for at once.
const EVENTS_MAX: usize = 256;
/// Connections that are accepted before others are attended to.
const ACCEPTS_MAX: usize = 16;
/// Octets of the one read buffer.
const READ_BYTES: usize = 256 << 10;
/// The listening socket among the connections, which are numbered from 0.
const LISTENER: u64 = u64::MAX;

/// A server that listens.
#[derive(Debug)]
pub struct Floor {
    listener: OwnedFd,
    /// Where it listens.
    pub address: SocketAddr,
}

struct Connection {
    socket: OwnedFd,
    session: Session,
    /// What came and could not be taken yet: a part of a line, or of a message's end.
    rest: Vec<u8>,
    /// Replies that the socket did not take yet.
    unsent: Vec<u8>,
    closing: bool,
}

impl Floor {
    /// Listens.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn listen(address: SocketAddr) -> Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let listener =
            socket_with(family, SocketType::STREAM, flags, None).context("cannot make a socket")?;
        sockopt::set_socket_reuseaddr(&listener, true)?;
        sockopt::set_tcp_nodelay(&listener, true)?;
        bind(&listener, &address).with_context(|| format!("cannot listen at {address}"))?;
        listen(&listener, BACKLOG)?;
        let address = getsockname(&listener)?.try_into().context("an address that is none of TCP")?;
        Ok(Self { listener, address })
    }

    /// One on the loopback, served by a thread that ends with the test's process: where it listens.
    #[cfg(test)]
    pub(crate) fn in_a_thread() -> SocketAddr {
        let floor = Self::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = floor.address;
        std::thread::spawn(move || floor.serve());
        address
    }

    /// Serves until the process is ended.
    ///
    /// # Errors
    /// The kernel refuses what every server needs.
    pub fn serve(self) -> Result<std::convert::Infallible> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &self.listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let mut connections = Connections { epoll, slots: Vec::new(), free: Vec::new() };
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let (mut input, mut replies) = (vec![0; READ_BYTES], Vec::with_capacity(64 << 10));
        loop {
            events.clear();
            match epoll::wait(&connections.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for sockets"),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => connections.accept(&self.listener)?,
                    slot => connections.attend(slot, &mut input, &mut replies),
                }
            }
        }
    }
}

struct Connections {
    epoll: OwnedFd,
    slots: Vec<Option<Connection>>,
    free: Vec<usize>,
}

impl Connections {
    fn accept(&mut self, listener: &OwnedFd) -> Result<()> {
        for _ in 0..ACCEPTS_MAX {
            let socket = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => socket,
                Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => return Ok(()),
                Err(error) => return Err(error).context("cannot accept"),
            };
            // The socket's buffer is empty: it takes a line. Who is gone already is found so by the next read.
            let _ = send(&socket, GREETING, SendFlags::NOSIGNAL);
            let slot = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            });
            epoll::add(&self.epoll, &socket, EventData::new_u64(slot as u64), EventFlags::IN)?;
            self.slots[slot] = Some(Connection {
                socket,
                session: Session::default(),
                rest: Vec::new(),
                unsent: Vec::new(),
                closing: false,
            });
        }
        Ok(())
    }

    /// One read, what it brings, one write.
    fn attend(&mut self, slot: u64, input: &mut [u8], replies: &mut Vec<u8>) {
        let Some(slot) = usize::try_from(slot).ok().filter(|slot| *slot < self.slots.len()) else { return };
        let Some(connection) = &mut self.slots[slot] else { return };
        if !connection.turn(&self.epoll, slot, input, replies) {
            self.slots[slot] = None;
            self.free.push(slot);
        }
    }
}

impl Connection {
    /// Whether the connection goes on.
    fn turn(&mut self, epoll: &OwnedFd, slot: usize, input: &mut [u8], replies: &mut Vec<u8>) -> bool {
        if !self.unsent.is_empty() {
            return self.send_rest(epoll, slot);
        }
        let kept = self.rest.len();
        input[..kept].copy_from_slice(&self.rest);
        let came = match recv(&self.socket, &mut input[kept..], RecvFlags::empty()) {
            Ok((_, 0)) => return false,
            Ok((_, came)) => came,
            Err(Errno::AGAIN | Errno::INTR) => return true,
            Err(_) => return false,
        };
        replies.clear();
        let all = &input[..kept + came];
        let (taken, next) = self.session.take(all, replies);
        self.rest.clear();
        self.rest.extend_from_slice(&all[taken..]);
        // A line as long as the buffer is none that anybody sends here.
        if self.rest.len() == input.len() {
            return false;
        }
        self.closing = next == Next::Close;
        if replies.is_empty() {
            return true;
        }
        match send(&self.socket, replies, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == replies.len() => !self.closing,
            Ok(sent) => self.keep(epoll, slot, &replies[sent..]),
            Err(Errno::AGAIN) => self.keep(epoll, slot, replies),
            Err(_) => false,
        }
    }

    /// The socket is full: the rest goes out when it is not, and nothing is read before.
    fn keep(&mut self, epoll: &OwnedFd, slot: usize, unsent: &[u8]) -> bool {
        self.unsent.extend_from_slice(unsent);
        epoll::modify(epoll, &self.socket, EventData::new_u64(slot as u64), EventFlags::OUT).is_ok()
    }

    fn send_rest(&mut self, epoll: &OwnedFd, slot: usize) -> bool {
        match send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                self.unsent.drain(..sent);
            }
            Err(Errno::AGAIN | Errno::INTR) => return true,
            Err(_) => return false,
        }
        if !self.unsent.is_empty() {
            return true;
        }
        !self.closing
            && epoll::modify(epoll, &self.socket, EventData::new_u64(slot as u64), EventFlags::IN).is_ok()
    }
}
