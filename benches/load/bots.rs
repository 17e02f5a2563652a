//! Bots: sources that are no mail servers. They talk garbage, hold connections, send without a queue or a memory,
//! knock past their budget, and come back at once whatever they are told. Each is bounded in connections and time.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::bounce;
use crate::ledger::millis;
use crate::plan;
use crate::reflector::helo;
use crate::smtp::{self, Outcome, Patience, Session, Silence};

/// What a bot does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Habit {
    /// Asks for a web page.
    Http,
    /// Begins TLS.
    TlsHello,
    /// Sends random octets.
    Random,
    /// Connects and says nothing, three times at once.
    Silent,
    /// Sends forged bounces without end and whatever the answer, a connection each.
    Hammer,
    /// Sends SYNs far past any budget ([`crate::knock`]), and connects and leaves besides.
    Knock,
}

/// All habits; the bots take them in turn.
pub const HABITS: [Habit; 6] =
    [Habit::Http, Habit::TlsHello, Habit::Random, Habit::Silent, Habit::Hammer, Habit::Knock];

/// What is known of one bot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BotRecord {
    /// Its address.
    pub source: IpAddr,
    /// What it does.
    pub habit: Habit,
    /// Connections tried.
    pub attempts: u64,
    /// Those whose SYN nothing answered.
    pub unanswered: u64,
    /// From its first attempt to the begin of the first that met silence, in milliseconds.
    pub shut_out_after_ms: Option<u64>,
    /// Forged bounces it got a `250` for.
    pub delivered: u64,
}

/// What all bots share.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Where to.
    pub target: SocketAddr,
    /// Makes them.
    pub seed: u64,
    /// Whom the forged bounces go to.
    pub victims: Vec<String>,
    /// When they stop.
    pub end: Instant,
    /// Most connections a bot tries.
    pub attempts_max: u64,
    /// How long a bot waits for a SYN's answer before it tries anew.
    pub connect: Duration,
    /// How long a silent bot holds a connection.
    pub hold: Duration,
}

/// Runs bot `index` from `source` until its end; what it met is in the record.
pub async fn run(index: u32, source: IpAddr, orders: Rc<Orders>) -> BotRecord {
    let habit = HABITS[index as usize % HABITS.len()];
    let mut bot = Bot {
        rng: plan::rng(orders.seed, &format!("bot {index}")),
        record: BotRecord {
            source,
            habit,
            attempts: 0,
            unanswered: 0,
            shut_out_after_ms: None,
            delivered: 0,
        },
        orders,
    };
    // Not all in the same instant, as hosts that read the same order do not start at once.
    let late = bot.rng.random_range(0..2000);
    sleep(Duration::from_millis(late)).await;
    let began = Instant::now();
    while Instant::now() < bot.orders.end && bot.record.attempts < bot.orders.attempts_max {
        let at = began.elapsed();
        if !bot.attempt().await && bot.record.shut_out_after_ms.is_none() {
            bot.record.shut_out_after_ms = Some(millis(at));
        }
        let pause = match bot.record.habit {
            Habit::Hammer | Habit::Knock => bot.rng.random_range(10..50),
            Habit::Http | Habit::TlsHello | Habit::Random | Habit::Silent => bot.rng.random_range(20..200),
        };
        sleep(Duration::from_millis(pause)).await;
    }
    bot.record
}

struct Bot {
    rng: StdRng,
    record: BotRecord,
    orders: Rc<Orders>,
}

impl Bot {
    /// One round. `false`: its SYN met silence.
    async fn attempt(&mut self) -> bool {
        let garbage = match self.record.habit {
            Habit::Hammer => return self.hammer().await,
            Habit::Http => b"GET / HTTP/1.1\r\nHost: mail\r\nUser-Agent: scanner\r\n\r\n".to_vec(),
            Habit::TlsHello => self.octets(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 500),
            Habit::Random => self.octets(b"", 2000),
            Habit::Silent => {
                let (first, second, third) = tokio::join!(self.open(), self.open(), self.open());
                self.count(3, [&first, &second, &third].iter().filter(|s| s.is_none()).count() as u64);
                let answered = first.is_some() || second.is_some() || third.is_some();
                tokio::join!(self.stay(first), self.stay(second), self.stay(third));
                return answered;
            }
            Habit::Knock => Vec::new(),
        };
        let Some(mut stream) = self.open().await else {
            self.count(1, 1);
            return false;
        };
        self.count(1, 0);
        let hold = if garbage.is_empty() { Duration::ZERO } else { Duration::from_secs(2) };
        let _ = timeout(Duration::from_secs(1), stream.write_all(&garbage)).await;
        let _ = timeout(hold, drain(&mut stream)).await;
        true
    }

    /// One forged bounce over a connection of its own.
    async fn hammer(&mut self) -> bool {
        let patience = Patience { connect: self.orders.connect, reply: Duration::from_secs(3) };
        let source = self.record.source;
        let opened = Session::open(source, self.orders.target, &helo(source), patience).await;
        let silent = opened.as_ref().err() == Some(&Outcome::NoAnswer(Silence::Connect));
        self.count(1, u64::from(silent));
        let Ok(mut session) = opened else { return !silent };
        // Numbers far above any reflector's, so that an id names one message.
        let number = self.rng.random_range(1_000_000..u32::MAX);
        let message = bounce::forged(number, self.orders.seed, &self.orders.victims);
        if session.send(&message.envelope, &message.wire).await == Outcome::Delivered {
            self.record.delivered += 1;
        }
        true
    }

    async fn open(&self) -> Option<TcpStream> {
        smtp::connect(self.record.source, self.orders.target, self.orders.connect).await.ok()
    }

    /// Holds a connection until the server ends it.
    async fn stay(&self, stream: Option<TcpStream>) {
        if let Some(mut stream) = stream {
            let until = self.orders.end.min(Instant::now() + self.orders.hold);
            let _ = timeout_at(until, drain(&mut stream)).await;
        }
    }

    fn octets(&mut self, head: &[u8], length: usize) -> Vec<u8> {
        let mut octets = head.to_vec();
        octets.resize_with(head.len() + length, || self.rng.random());
        octets
    }

    fn count(&mut self, attempts: u64, unanswered: u64) {
        self.record.attempts += attempts;
        self.record.unanswered += unanswered;
    }
}

async fn drain(stream: &mut TcpStream) {
    let mut buffer = [0; 512];
    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
}
