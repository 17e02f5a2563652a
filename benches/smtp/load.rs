//! The clients: so many sessions one after another in each of so many places, from many source addresses, in one thread
//! on raw epoll. Every reply is checked; the first wrong one ends the run and is told.

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
}

struct Client {
    socket: OwnedFd,
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
        let (mut begun, mut done) = (0, 0);
        while begun < self.sessions && clients.len() < self.at_once {
            clients.push(Some(self.open(&epoll, begun, clients.len())?));
            begun += 1;
        }
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut input = vec![0; READ_BYTES];
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
                let turn = client.turn(&epoll, slot, self, &mut input);
                match turn.with_context(|| format!("session {} of {}", client.session, self.sessions))? {
                    Turn::Waits => {}
                    Turn::Done => {
                        done += 1;
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
        Ok(Took { sessions: done, secs: begin.elapsed().as_secs_f64(), cpu_secs })
    }

    fn open(&self, epoll: &OwnedFd, session: u64, slot: usize) -> Result<Client> {
        let family = if self.target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
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

impl Client {
    fn turn(&mut self, epoll: &OwnedFd, slot: usize, load: &Load, input: &mut [u8]) -> Result<Turn> {
        let dialogue = &load.dialogues[self.dialogue];
        loop {
            let came = match recv(&self.socket, &mut *input, RecvFlags::empty()) {
                Ok((_, came)) => came,
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(error) => return Err(error).with_context(|| self.place(dialogue)),
            };
            ensure!(came > 0, "the connection ended {}", self.place(dialogue));
            if self.replies_came(dialogue, &input[..came])? {
                return Ok(Turn::Done);
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
        while self.sent < step.send.len() {
            match send(&self.socket, &step.send[self.sent..], SendFlags::NOSIGNAL) {
                Ok(sent) => self.sent += sent,
                Err(Errno::AGAIN) if self.told_of_room => return Ok(()),
                Err(Errno::AGAIN) => {
                    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                    epoll::modify(epoll, &self.socket, EventData::new_u64(slot as u64), flags)?;
                    self.told_of_room = true;
                }
                Err(error) => return Err(error).with_context(|| self.place(dialogue)),
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

    fn floor() -> SocketAddr {
        let floor = Floor::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = floor.address;
        std::thread::spawn(move || floor.serve());
        address
    }

    fn load(target: SocketAddr, sessions: u64, dialogues: Vec<Dialogue>) -> Load {
        Load { target, sources: Some((Ipv4Addr::new(127, 0, 1, 1), 7)), sessions, at_once: 5, dialogues }
    }

    #[test]
    fn every_row_runs_against_the_floor() {
        let target = floor();
        for row in Row::ALL {
            let took = load(target, 12, row.dialogues()).run().unwrap();
            assert_eq!(took.sessions, 12, "{}", row.name());
        }
    }

    #[test]
    fn a_wrong_reply_ends_the_run_and_is_told() {
        let mut dialogues = Row::RefusedRcpt.dialogues();
        dialogues[3][3].expect = vec![250];
        let error = format!("{:#}", load(floor(), 12, dialogues).run().unwrap_err());
        assert!(
            error.contains("session 3") && error.contains("250 wanted") && error.contains("550 5.1.1"),
            "{error}"
        );
    }

    #[test]
    fn a_reply_too_many_ends_the_run() {
        let mut dialogues = Row::RefusedRcpt.dialogues();
        dialogues[0][1] = Step { send: b"EHLO a\r\nNOOP\r\n"[..].into(), expect: vec![250] };
        let error = format!("{:#}", load(floor(), 1, dialogues).run().unwrap_err());
        assert!(error.contains("unasked"), "{error}");
    }

    #[test]
    fn a_connection_that_ends_early_ends_the_run() {
        let mut dialogues = Row::RefusedRcpt.dialogues();
        dialogues[0].insert(2, Step { send: b"QUIT\r\n"[..].into(), expect: vec![221] });
        let error = format!("{:#}", load(floor(), 1, dialogues).run().unwrap_err());
        assert!(error.contains("ended") || error.contains("reset") || error.contains("Broken"), "{error}");
    }
}
