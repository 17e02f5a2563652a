//! The listening sockets: one set for each worker (SO_REUSEPORT), bound here, or taken over from the process before.
//!
//! A socket that is taken over brings the connections that wait in its backlog, and none of them may be lost: of a group
//! that shares a port each socket has a backlog of its own, and the kernel resets what waits in one that is closed. So
//! *all* sockets of the process before go on being listened at, however many workers there are now; those of an address
//! that is no longer configured are emptied before they close.

use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener};

use anyhow::Context as _;
use edge_core::smtp::{Enhanced, Reply};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::Edge;
use crate::config::Config;
use crate::telemetry::Direction;

/// Connections that the kernel keeps waiting at each listener.
const BACKLOG: i32 = 1024;

/// The bound listeners: one set for each worker.
#[derive(Debug)]
pub struct Listeners {
    workers: Vec<Vec<(TcpListener, Direction)>>,
    /// Taken over, and bound to addresses that are not configured (any more).
    others: Vec<(TcpListener, SocketAddr)>,
}

impl Listeners {
    /// Binds all addresses of the configuration, once for each of `workers`.
    ///
    /// # Errors
    /// An address cannot be bound; the error names it.
    pub fn bind(edge: &Edge, workers: usize) -> anyhow::Result<Self> {
        Self::take_over(&edge.config, workers, Vec::new())
    }

    /// Listens at all addresses of the configuration: with the sockets of `before` that are bound there, and new ones
    /// where there is none. For what is left over of `before` see [`Self::leave_others`].
    ///
    /// # Errors
    /// An address cannot be bound; the error names it.
    pub fn take_over(config: &Config, workers: usize, before: Vec<TcpListener>) -> anyhow::Result<Self> {
        let workers = workers.max(1);
        let mut all: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        let mut before = with_addresses(before);
        let mut new = Vec::new();
        for (address, direction) in configured(config) {
            let (there, others) = before.into_iter().partition(|(_, theirs)| *theirs == address);
            before = others;
            match dealt(there, workers).with_context(|| format!("cannot share the sockets at {address}"))? {
                dealt if dealt.is_empty() => new.push((address, direction)),
                dealt => {
                    let sets = all.iter_mut().zip(dealt);
                    sets.for_each(|(set, own)| set.extend(own.into_iter().map(|one| (one, direction))));
                }
            }
        }
        for (address, _) in &new {
            // With an edge that runs already, the kernel would share the port, and split the mail between both.
            bind(*address, false).with_context(|| format!("cannot listen at {address}"))?;
        }
        for set in &mut all {
            for (address, direction) in &mut new {
                let listener =
                    listen(*address, workers > 1).with_context(|| format!("cannot listen at {address}"))?;
                // Port 0 means any: the further workers share the one that the first got.
                *address = listener.local_addr().context("cannot ask a listener for its address")?;
                set.push((listener, *direction));
            }
        }
        Ok(Self { workers: all, others: before })
    }

    /// Listens no more at addresses that came from the process before and are not configured, and says which. Who waits
    /// there hears a reply instead of a reset. To be called when the process before will not need them any more.
    pub fn leave_others(&mut self) -> Vec<SocketAddr> {
        let mut left: Vec<_> = self.others.iter().map(|(_, address)| *address).collect();
        self.others.drain(..).for_each(|(listener, address)| leave(&listener, address));
        left.dedup();
        left
    }

    /// Where one of the directions is listened at.
    #[must_use]
    pub fn addresses(&self, direction: Direction) -> Vec<SocketAddr> {
        let first = self.workers.first().into_iter().flatten().filter(|(_, theirs)| *theirs == direction);
        let mut addresses: Vec<_> = first.filter_map(|(listener, _)| listener.local_addr().ok()).collect();
        // A worker may have more than one that was taken over.
        addresses.dedup();
        addresses
    }

    /// All sockets, for who passes them on; those of one address stand in no order.
    pub fn sockets(&self) -> impl Iterator<Item = &TcpListener> {
        self.workers.iter().flatten().map(|(listener, _)| listener)
    }

    /// The sets, each for its worker.
    pub(super) fn into_workers(self) -> Vec<Vec<(TcpListener, Direction)>> {
        self.workers
    }
}

/// The addresses of a configuration.
fn configured(config: &Config) -> impl Iterator<Item = (SocketAddr, Direction)> {
    let inbound = config.inbound.listen.iter().map(|address| (*address, Direction::Inbound));
    let outbound = config.outbound.iter().flat_map(|side| &side.listen);
    inbound.chain(outbound.map(|address| (*address, Direction::Outbound)))
}

/// Those that listen for TCP, with where they do: whatever else came by mistake is dropped.
fn with_addresses(listeners: Vec<TcpListener>) -> Vec<(TcpListener, SocketAddr)> {
    let known = listeners.into_iter().filter_map(|listener| {
        let address = listener.local_addr().ok()?;
        // As in `listen`; one that comes from elsewhere may lack it.
        let _ = SockRef::from(&listener).set_tcp_nodelay(true);
        let ready = SockRef::from(&listener).is_listener().is_ok_and(|listens| listens)
            && listener.set_nonblocking(true).is_ok()
            // Says the backlog anew, which another version may have set.
            && SockRef::from(&listener).listen(BACKLOG).is_ok();
        ready.then_some((listener, address))
    });
    known.collect()
}

/// Deals sockets of one address out to the workers. Where there are fewer, workers share; where there are more, a worker
/// has several.
fn dealt(sockets: Vec<(TcpListener, SocketAddr)>, workers: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    if sockets.is_empty() {
        return Ok(Vec::new());
    }
    let mut sets: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for worker in sockets.len()..workers {
        sets[worker].push(sockets[worker % sockets.len()].0.try_clone()?);
    }
    for (number, (socket, _)) in sockets.into_iter().enumerate() {
        sets[number % workers].push(socket);
    }
    Ok(sets)
}

/// Listens there no more. Who waits in the backlog would hear of a reset: he hears a reply.
fn leave(listener: &TcpListener, address: SocketAddr) {
    let mut line = Vec::new();
    Reply::new(421, Enhanced(4, 3, 2), "Closing, try again later").write(&mut line);
    let mut waited = 0_u32;
    while let Ok((mut stream, _)) = listener.accept() {
        // A new socket's buffer is empty: it takes a line.
        let _ = stream.write_all(&line);
        waited += 1;
    }
    // Whoever else has this socket (systemd, the process before) does not listen by it either.
    let _ = SockRef::from(listener).shutdown(Shutdown::Read);
    tracing::warn!(
        "{address} is no longer in the configuration: nobody listens there any more ({waited} connections that \
         waited there heard 421)"
    );
}

fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = bind(address, shared)?;
    // Replies are small and the client waits for each. What is accepted here has the option from here: a call less for
    // each connection. A socket without it works, only slower.
    let _ = socket.set_tcp_nodelay(true);
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket at the address; `shared`: others listen there, too. Where nobody does, it is not said: the kernel may give
/// a shared port 0 the port of a stranger who shares his, too.
fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // [::] and 0.0.0.0 may both be configured.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpStream;
    use std::path::Path;

    use super::*;

    fn config(address: SocketAddr) -> Config {
        let text = "hostname = \"edge.example\"\n[inbound]\nlisten = [\"127.0.0.1:25\"]\n[[domain]]\nname = \"ours.example\"\n\
             upstream = \"127.0.0.1:9\"\n[signature]\nkeys = \"/nowhere\"\n[[filter]]\ncovers = [\"*\"]\naction = \"reject\"";
        let mut config = crate::config::parse(text, Path::new("test")).expect("it is right").config;
        config.inbound.listen = vec![address];
        config
    }

    /// At an address of this test's own: a port that is free there is taken by no other.
    fn any_port(of: u8) -> Config {
        config(SocketAddr::from(([127, 0, 8, of], 0)))
    }

    /// As another process would have them.
    fn passed_on(listeners: &Listeners) -> Vec<TcpListener> {
        listeners.sockets().map(|socket| socket.try_clone().unwrap()).collect()
    }

    /// How many connections wait at these workers, each listener asked once for each.
    fn waiting(listeners: &Listeners) -> usize {
        let mut count = 0;
        for socket in listeners.sockets() {
            while socket.accept().is_ok() {
                count += 1;
            }
        }
        count
    }

    #[test]
    fn whatever_the_number_of_workers_nobody_who_waits_is_lost() {
        for (before, after) in [(1, 1), (2, 2), (1, 4), (4, 1), (4, 3), (3, 4)] {
            let first = Listeners::take_over(&any_port(1), before, Vec::new()).unwrap();
            let address = first.addresses(Direction::Inbound)[0];
            let clients: Vec<_> = (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
            let sockets = passed_on(&first);
            drop(first);
            let second = Listeners::take_over(&config(address), after, sockets).unwrap();
            assert_eq!(second.addresses(Direction::Inbound), [address]);
            assert!(second.workers.iter().all(|set| !set.is_empty()), "{after} workers after {before}");
            assert_eq!(waiting(&second), clients.len(), "{after} workers after {before}");
        }
    }

    #[test]
    fn who_waits_at_an_address_that_is_no_longer_configured_hears_421() {
        let first = Listeners::take_over(&any_port(2), 2, Vec::new()).unwrap();
        let address = first.addresses(Direction::Inbound)[0];
        let mut clients: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
        let sockets = passed_on(&first);
        drop(first);
        let kept: Vec<_> = sockets.iter().map(|socket| socket.try_clone().unwrap()).collect();
        let mut other = Listeners::take_over(&any_port(2), 2, sockets).unwrap();
        assert_eq!(other.leave_others(), [address]);
        assert_ne!(other.addresses(Direction::Inbound), [address]);
        for client in &mut clients {
            let mut heard = String::new();
            client.read_to_string(&mut heard).expect("no reset");
            assert!(heard.starts_with("421 4.3.2"), "{heard}");
        }
        assert!(TcpStream::connect(address).is_err(), "nobody listens there, whoever has {kept:?}");
    }

    #[test]
    fn a_socket_that_does_not_listen_is_none_to_take_over() {
        let bound = bind(any_port(3).inbound.listen[0], false).unwrap();
        let address = bound.local_addr().unwrap().as_socket().unwrap();
        assert!(with_addresses(vec![bound.into()]).is_empty());
        let taken = Listeners::take_over(&config(address), 1, Vec::new()).unwrap();
        assert_eq!(taken.addresses(Direction::Inbound), [address]);
    }
}
