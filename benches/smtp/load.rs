//! The clients: so many sessions one after another in each of so many places, from many source addresses, in one thread
//! on raw epoll. Every reply is checked; the first wrong one ends the run and is told.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send, socket_with,
};
use serde::{Deserialize, Serialize};

use crate::cpu;
use crate::reply::{Replies, shown};
use crate::row::Dialogue;
use crate::tls::{Client as TlsClient, Tls};

/// Events that are asked for at once.
const EVENTS_MAX: usize = 256;
/// Octets of the one read buffer.
const READ_BYTES: usize = 64 << 10;
/// How long nothing at all may happen.
const SILENCE: Duration = Duration::from_secs(20);

/// What is to be done.
#[derive(Debug)]
pub struct Load {
    /// Where to.
    pub target: SocketAddr,
    /// The sessions' source addresses, by turns: the first of them and how many.
    pub sources: Option<(Ipv4Addr, u32)>,
    /// Sessions in all.
    pub sessions: u64,
    /// Sessions at once.
    pub at_once: usize,
    /// What is said, by turns.
    pub dialogues: Vec<Dialogue>,
    /// How it is said where a dialogue goes over to TLS.
    pub tls: Option<TlsClient>,
}

/// What it took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Took {
    /// Sessions that went as they should: all, or there is no such figure.
    pub sessions: u64,
    /// From the first connection to the last reply, in seconds.
    pub secs: f64,
    /// This process's CPU time meanwhile, in seconds.
    pub cpu_secs: f64,
    /// Sessions that were taken up again by TLS tickets.
    pub resumed: u64,
    /// How long a session took from its connection to its last reply, in microseconds: the median, and what 99 of 100 do
    /// not exceed.
    pub micros: [f64; 2],
}

struct Client {
    socket: OwnedFd,
    tls: Option<Tls>,
    begun: Instant,
    session: u64,
    dialogue: usize,
    step: usize,
    /// Replies to this step that came.
    answered: usize,
    /// Octets of this step that were sent.
    sent: usize,
    /// The socket was full once, and its room is told.
    told_of_room: bool,
    replies: Replies,
}

/// How a turn ended.
enum Turn {
    Waits,
    Done,
}

/// What all turns read into.
struct Buffers {
    input: Vec<u8>,
    /// What the input says, where it came by TLS.
    plain: Vec<u8>,
}

impl Load {
    /// Does it.
    ///
    /// # Errors
    /// A wrong reply, a connection that ended early, or silence.
    pub fn run(&self) -> Result<Took> {
        ensure!(self.at_once > 0 && self.sessions > 0 && !self.dialogues.is_empty(), "no sessions asked for");
        let (begin, cpu_before) = (Instant::now(), cpu::of_this_process()?);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut clients: Vec<Option<Client>> = Vec::new();
        let (mut begun, mut done, mut secured, mut resumed) = (0, 0, 0, 0);
        let mut micros = Vec::with_capacity(usize::try_from(self.sessions)?);
        while begun < self.sessions && clients.len() < self.at_once {
            clients.push(Some(self.open(&epoll, begun, clients.len())?));
            begun += 1;
        }
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut buffers = Buffers { input: vec![0; READ_BYTES], plain: Vec::new() };
        while done < self.sessions {
            events.clear();
            let patience = SILENCE.try_into().context("a time")?;
            match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&patience)) {
                Ok(0) => bail!(
                    "{done} of {} sessions done, then {} s of silence",
                    self.sessions,
                    SILENCE.as_secs()
                ),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for sockets"),
            }
            for event in &events {
                let slot = usize::try_from(event.data.u64())?;
                let Some(client) = clients.get_mut(slot).and_then(Option::as_mut) else { continue };
                let turn = client.turn(&epoll, slot, self, &mut buffers);
                match turn.with_context(|| format!("session {} of {}", client.session, self.sessions))? {
                    Turn::Waits => {}
                    Turn::Done => {
                        done += 1;
                        secured += u64::from(client.tls.is_some());
                        resumed += u64::from(client.tls.as_ref().is_some_and(Tls::is_resumed));
                        micros.push(client.begun.elapsed().as_secs_f64() * 1e6);
                        clients[slot] = None;
                        if begun < self.sessions {
                            clients[slot] = Some(self.open(&epoll, begun, slot)?);
                            begun += 1;
                        }
                    }
                }
            }
        }
        let cpu_secs = cpu::of_this_process()?.saturating_sub(cpu_before).as_secs_f64();
        // Each of the first ones comes without a ticket, and leaves one to a later one.
        ensure!(
            resumed + self.at_once as u64 >= secured,
            "only {resumed} of {secured} sessions over TLS were resumed, with {} at once",
            self.at_once
        );
        let (secs, micros) = (begin.elapsed().as_secs_f64(), median_and_p99(&mut micros));
        Ok(Took { sessions: done, secs, cpu_secs, resumed, micros })
    }

    fn open(&self, epoll: &OwnedFd, session: u64, slot: usize) -> Result<Client> {
        let family = if self.target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let begun = Instant::now();
        let socket = socket_with(family, SocketType::STREAM, flags, None).context("cannot make a socket")?;
        if let Some((first, count)) = self.sources {
            let nth = u32::try_from(session % u64::from(count.max(1)))?;
            let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() + nth)), 0);
            bind(&socket, &source).with_context(|| format!("cannot send from {}", source.ip()))?;
        }
        match connect(&socket, &self.target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot connect to {}", self.target)),
        }
        // Edge-triggered: what is read to its end needs no second look.
        epoll::add(epoll, &socket, EventData::new_u64(slot as u64), EventFlags::IN | EventFlags::ET)?;
        let dialogue = usize::try_from(session % self.dialogues.len() as u64)?;
        Ok(Client {
            socket,
            tls: None,
            begun,
            session,
            dialogue,
            step: 0,
            answered: 0,
            sent: 0,
            told_of_room: false,
            replies: Replies::default(),
        })
    }
}

/// The middle of some times, and the least of them that 99 of 100 do not exceed; zeros of none.
fn median_and_p99(times: &mut [f64]) -> [f64; 2] {
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).max(1) - 1).copied();
    [at(50), at(99)].map(Option::unwrap_or_default)
}

impl Client {
    fn turn(&mut self, epoll: &OwnedFd, slot: usize, load: &Load, buffers: &mut Buffers) -> Result<Turn> {
        let dialogue = &load.dialogues[self.dialogue];
        let Buffers { input, plain } = buffers;
        loop {
            let came = match recv(&self.socket, &mut input[..], RecvFlags::empty()) {
                Ok((_, came)) => came,
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(error) => return Err(error).with_context(|| self.place(dialogue)),
            };
            ensure!(came > 0, "the connection ended {}", self.place(dialogue));
            let mut octets = &input[..came];
            if let Some(tls) = &mut self.tls {
                plain.clear();
                tls.took(octets, plain).with_context(|| self.place(dialogue))?;
                octets = plain;
            }
            if self.replies_came(dialogue, octets)? {
                return Ok(Turn::Done);
            }
            if self.step > 0 && dialogue[self.step - 1].secures && self.tls.is_none() {
                let client = load.tls.as_ref().context("no certificate was named for TLS")?;
                self.tls = Some(client.begin()?);
            }
            // Less than was asked for: that was all. What comes from now on is told.
            if came < input.len() {
                break;
            }
        }
        self.speak(epoll, slot, dialogue)?;
        Ok(Turn::Waits)
    }

    /// Whether the session is over.
    fn replies_came(&mut self, dialogue: &Dialogue, octets: &[u8]) -> Result<bool> {
        let (mut wrong, place) = (None, (self.step, self.answered));
        let (step, answered, sent) = (&mut self.step, &mut self.answered, &mut self.sent);
        let read = self.replies.take(octets, |code, line| {
            let Some(now) = dialogue.get(*step).filter(|now| *sent == now.send.len() && wrong.is_none())
            else {
                wrong.get_or_insert_with(|| format!("unasked: {}", shown(line)));
                return;
            };
            if now.expect[*answered] != code {
                wrong = Some(format!("{} wanted, and not: {}", now.expect[*answered], shown(line)));
                return;
            }
            *answered += 1;
            if *answered == now.expect.len() {
                (*step, *answered, *sent) = (*step + 1, 0, 0);
            }
        });
        if let Err(error) = read {
            bail!("no reply {}: {}", self.place(dialogue), error.line);
        }
        if let Some(wrong) = wrong {
            (self.step, self.answered) = place;
            bail!("{wrong} ({})", self.place(dialogue));
        }
        Ok(self.step == dialogue.len())
    }

    /// Sends what this step has left to send.
    fn speak(&mut self, epoll: &OwnedFd, slot: usize, dialogue: &Dialogue) -> Result<()> {
        let Some(step) = dialogue.get(self.step) else { return Ok(()) };
        loop {
            match self.send_some(&step.send) {
                Ok(()) if self.sent == step.send.len() => return Ok(()),
                Ok(()) => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(error).with_context(|| self.place(dialogue));
                }
                Err(_) if self.told_of_room => return Ok(()),
                Err(_) => {
                    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                    epoll::modify(epoll, &self.socket, EventData::new_u64(slot as u64), flags)?;
                    self.told_of_room = true;
                }
            }
        }
    }

    /// Sends some of what this step has left; by TLS, also what the handshake wants said.
    fn send_some(&mut self, step: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None if self.sent == step.len() => {}
            None => self.sent += send(&self.socket, &step[self.sent..], SendFlags::NOSIGNAL)?,
            Some(tls) => {
                tls.say(&step[self.sent..])?;
                self.sent = step.len();
                tls.flush(&self.socket)?;
            }
        }
        Ok(())
    }

    /// Where in its dialogue it is, for messages.
    fn place(&self, dialogue: &Dialogue) -> String {
        match dialogue.get(self.step) {
            Some(step) if step.send.is_empty() => "before the greeting".to_owned(),
            Some(step) => format!("after {:?}, {} of its replies seen", shown(&step.send), self.answered),
            None => "at the end".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::Floor;
    use crate::row::{Row, Step};

    fn load(target: SocketAddr, sessions: u64, dialogues: Vec<Dialogue>) -> Load {
        let sources = Some((Ipv4Addr::new(127, 0, 1, 1), 7));
        Load { target, sources, sessions, at_once: 5, dialogues, tls: None }
    }

    #[test]
    fn every_row_runs_against_the_floor() {
        let target = Floor::in_a_thread();
        for row in Row::ALL.into_iter().filter(|row| !row.is_over_tls()) {
            let took = load(target, 12, row.dialogues()).run().unwrap();
            assert_eq!(took.sessions, 12, "{}", row.name());
        }
    }

    #[test]
    fn the_times_of_sessions_are_told_by_their_ranks() {
        let mut times: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(median_and_p99(&mut times), [100.0, 198.0]);
        assert_eq!(median_and_p99(&mut [7.0]), [7.0, 7.0]);
        assert_eq!(median_and_p99(&mut []), [0.0, 0.0]);
    }

    #[test]
    fn a_wrong_reply_ends_the_run_and_is_told() {
        let mut dialogues = Row::RefusedRcpt.dialogues();
        dialogues[3][3].expect = vec![250];
        let error = format!("{:#}", load(Floor::in_a_thread(), 12, dialogues).run().unwrap_err());
        assert!(
            error.contains("session 3") && error.contains("250 wanted") && error.contains("550 5.1.1"),
            "{error}"
        );
    }

    #[test]
    fn a_reply_too_many_ends_the_run() {
        let mut dialogues = Row::RefusedRcpt.dialogues();
        dialogues[0][1] = Step { send: b"EHLO a\r\nNOOP\r\n"[..].into(), expect: vec![250], secures: false };
        let error = format!("{:#}", load(Floor::in_a_thread(), 1, dialogues).run().unwrap_err());
        assert!(error.contains("unasked"), "{error}");
    }

    #[test]
    fn a_connection_that_ends_early_ends_the_run() {
        let mut dialogues = Row::RefusedRcpt.dialogues();
        let quit = Step { send: b"QUIT\r\n"[..].into(), expect: vec![221], secures: false };
        dialogues[0].insert(2, quit);
        let error = format!("{:#}", load(Floor::in_a_thread(), 1, dialogues).run().unwrap_err());
        assert!(error.contains("ended") || error.contains("reset") || error.contains("Broken"), "{error}");
    }
}
