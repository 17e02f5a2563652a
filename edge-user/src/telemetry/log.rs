//! The event log: a bounded queue ([`super::queue`]) that a thread of its own writes out, so that the hot path never
//! waits.
//!
//! Its last places are kept: lines about mail cannot crowd out lines about bans and floods, and neither can crowd out
//! what the operator changed. It is one queue all the same, so that lines come out in their order.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use edge_core::time::UnixMillis;

use super::event::{Event, Origin, VerdictLine};
use super::format::Lines;
use super::hashing::AddressHasher;
use super::metrics::Counter;
use super::queue::{self, Next, Queue, Taker};
use crate::config::LogFormat;

/// Lines are written together up to this size, in octets.
const BATCH_BYTES_MAX: usize = 64 << 10;

/// Places of the queue, in lines, that mail and packets cannot take from the edge's own decisions.
const EDGE_LINES: usize = 4096;
/// And those that neither can take from the operator's changes.
const OPERATOR_LINES: usize = 1024;

/// How the log looks, and how much may wait in it.
#[derive(Debug)]
pub struct Settings {
    /// For eyes, or JSON.
    pub format: LogFormat,
    /// Replaces local parts of mailboxes, where the configuration asks for it.
    pub hasher: Option<AddressHasher>,
    /// Most lines about mail and packets that wait to be written.
    pub queue_lines_max: usize,
    /// What time it is, for events that do not bring their own.
    pub clock: fn() -> UnixMillis,
}

/// Where events go. Clones write to the same place.
#[derive(Clone, Debug)]
pub struct EventLog {
    queue: Queue,
    queue_lines_max: usize,
    lost: Arc<Counter>,
    clock: fn() -> UnixMillis,
}

impl EventLog {
    /// Starts the thread that writes to `to`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(settings: Settings, to: impl Write + Send + 'static) -> io::Result<Self> {
        let (log, waiting) = Self::prepare(settings, to);
        waiting.start()?;
        Ok(log)
    }

    /// The same for who may start no thread yet: lines wait in the queue until [`Waiting::start`].
    pub fn prepare<W: Write + Send + 'static>(settings: Settings, to: W) -> (Self, Waiting<W>) {
        let queue_lines_max = settings.queue_lines_max.max(1);
        let (queue, waiting) = queue::new();
        let lost = Arc::new(Counter::default());
        let clock = settings.clock;
        let Settings { format, hasher, .. } = settings;
        let (batch, lines) = (Vec::new(), Lines::new(format));
        let pen = Pen { hasher, clock, lines, batch, count: 0, lost: Arc::clone(&lost), lost_told: 0, to };
        let writer = Writer { waiting, pen };
        (Self { queue, queue_lines_max, lost, clock }, Waiting(writer))
    }

    /// Queues a verdict. When the queue is full the line is lost and counted.
    pub fn verdict(&self, line: VerdictLine) {
        self.queue(line.at, Event::Verdict(line));
    }

    /// Queues an event that happens now. When the queue is full the line is lost and counted.
    pub fn event(&self, event: Event) {
        self.queue((self.clock)(), event);
    }

    /// Lines lost so far: the queue was full, or what they are written to took no more.
    #[must_use]
    pub fn lines_lost(&self) -> u64 {
        self.lost.get()
    }

    /// Waits until all that was queued before is written, `deadline` at most. `false`: it was not in time.
    pub fn flush(&self, deadline: Duration) -> bool {
        self.queue.flush(deadline)
    }

    fn queue(&self, at: UnixMillis, event: Event) {
        let places = match event.origin() {
            Origin::Traffic => self.queue_lines_max,
            Origin::Edge => self.queue_lines_max.saturating_add(EDGE_LINES),
            Origin::Operator => {
                self.queue_lines_max.saturating_add(EDGE_LINES).saturating_add(OPERATOR_LINES)
            }
        };
        if !self.queue.add((at, event), places) {
            self.lost.add(1);
        }
    }
}

/// A log whose thread is not started.
pub struct Waiting<W>(Writer<W>);

impl<W: Write + Send + 'static> Waiting<W> {
    /// Starts the thread, which writes what has waited first.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(self) -> io::Result<()> {
        thread::Builder::new().name("log".into()).spawn(move || self.0.run()).map(drop)
    }
}

impl<W> fmt::Debug for Waiting<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}

/// The thread's side.
struct Writer<W> {
    waiting: Taker,
    pen: Pen<W>,
}

/// Formats lines, and writes them together.
struct Pen<W> {
    hasher: Option<AddressHasher>,
    clock: fn() -> UnixMillis,
    lines: Lines,
    /// Formatted, and not written yet.
    batch: Vec<u8>,
    /// How many lines it holds.
    count: u64,
    lost: Arc<Counter>,
    /// How many lost lines the log itself has told of.
    lost_told: u64,
    to: W,
}

impl<W: Write> Writer<W> {
    /// Ends when every [`EventLog`] is gone.
    fn run(self) {
        let Self { mut waiting, mut pen } = self;
        while let Next::More = waiting.take(|lines| {
            lines.for_each(|(at, event)| pen.add(at, event));
            pen.put();
        }) {}
    }
}

impl<W: Write> Pen<W> {
    fn add(&mut self, at: UnixMillis, event: Event) {
        self.append(at, event);
        self.count += 1;
        if self.batch.len() >= BATCH_BYTES_MAX {
            self.put();
        }
    }

    fn append(&mut self, at: UnixMillis, mut event: Event) {
        if let Some(hasher) = &self.hasher {
            hash_mailboxes(hasher, &mut event);
        }
        self.lines.add(&mut self.batch, at, &event);
    }

    /// Writes what is formatted.
    fn put(&mut self) {
        self.tell_of_losses();
        if self.to.write_all(&self.batch).and_then(|()| self.to.flush()).is_err() {
            self.lost.add(self.count);
        }
        self.batch.clear();
        self.count = 0;
    }

    fn tell_of_losses(&mut self) {
        let lost = self.lost.get();
        if lost > self.lost_told {
            let event = Event::LinesLost { lines: lost - self.lost_told };
            self.append((self.clock)(), event);
            self.lost_told = lost;
        }
    }
}

fn hash_mailboxes(hasher: &AddressHasher, event: &mut Event) {
    match event {
        Event::Verdict(line) => {
            line.sender = hasher.hash(&line.sender);
            for recipient in std::iter::once(&mut line.recipient).chain(&mut line.also_to) {
                *recipient = hasher.hash(recipient);
            }
        }
        Event::InDoubt { recipient, .. } => *recipient = hasher.hash(recipient),
        Event::Started { .. }
        | Event::Stopping { .. }
        | Event::Stopped {}
        | Event::XdpAttached { .. }
        | Event::BansAdopted { .. }
        | Event::Ban { .. }
        | Event::BanFailed { .. }
        | Event::NicDrop { .. }
        | Event::BanLifted { .. }
        | Event::FloodBegin { .. }
        | Event::FloodEnd { .. }
        | Event::UpstreamDown { .. }
        | Event::UpstreamUp { .. }
        | Event::TlsFailed { .. }
        | Event::UpstreamInClear { .. }
        | Event::QuarantineFailed { .. }
        | Event::QuarantineRecovered {}
        | Event::QuarantineExpired { .. }
        | Event::Reloaded { .. }
        | Event::EarlyToEnforce { .. }
        | Event::ReloadFailed { .. }
        | Event::Control { .. }
        | Event::LinesLost { .. }
        | Event::Diagnostic { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use edge_core::reputation::Cause;

    use super::*;
    use crate::telemetry::{Direction, Level, Why};

    /// A place to write to that opens when the test says so.
    #[derive(Clone, Default)]
    struct Gate {
        open: Arc<(Mutex<bool>, std::sync::Condvar)>,
        written: Arc<Mutex<String>>,
    }

    impl Gate {
        fn open(&self) {
            *self.open.0.lock().unwrap() = true;
            self.open.1.notify_all();
        }

        fn lines(&self) -> Vec<String> {
            self.written.lock().unwrap().lines().map(str::to_owned).collect()
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let open = self.open.1.wait_while(self.open.0.lock().unwrap(), |open| !*open).unwrap();
            drop(open);
            self.written.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    fn settings(queue_lines_max: usize) -> Settings {
        Settings { format: LogFormat::Human, hasher: None, queue_lines_max, clock: || UnixMillis(0) }
    }

    fn numbered(number: usize) -> Event {
        Event::Diagnostic { level: Level::Info, target: "test".into(), message: format!("line {number}") }
    }

    #[test]
    fn lines_come_out_in_their_order() {
        let gate = Gate::default();
        gate.open();
        let log = EventLog::start(settings(100), gate.clone()).unwrap();
        (0..50).for_each(|number| log.event(numbered(number)));
        assert!(log.flush(LONG));
        let lines = gate.lines();
        assert_eq!(lines.len(), 50);
        assert!(lines.iter().enumerate().all(|(number, line)| line.ends_with(&format!("line {number}"))));
        assert_eq!(log.lines_lost(), 0);
    }

    #[test]
    fn a_full_queue_loses_lines_counts_them_and_says_so() {
        let gate = Gate::default();
        let log = EventLog::start(settings(4), gate.clone()).unwrap();
        // Nothing can be written yet: what does not fit is lost, and nobody waits.
        (0..100).for_each(|number| log.event(numbered(number)));
        let lost = log.lines_lost();
        gate.open();
        assert!(log.flush(LONG));
        assert!(log.flush(LONG), "the loss is told by the next batch at the latest");
        let lines = gate.lines();
        let told: u64 = lines
            .iter()
            .filter_map(|line| line.split_once("log: ")?.1.split_once(" lines lost")?.0.parse::<u64>().ok())
            .sum();
        let kept = lines.iter().filter(|line| line.contains("test: line")).count();
        assert!(lost > 0);
        assert_eq!((kept as u64 + lost, told), (100, lost), "{lines:#?}");
    }

    #[test]
    fn verdicts_crowd_out_no_ban_and_bans_crowd_out_no_change_of_the_operator() {
        let gate = Gate::default();
        let log = EventLog::start(settings(4), gate.clone()).unwrap();
        let ban = || Event::Ban {
            source: "192.0.2.1".parse().unwrap(),
            cause: Cause::OverBudget,
            secs: 60,
            at_nic: true,
        };
        (0..100).for_each(|number| log.event(numbered(number)));
        let lost = log.lines_lost();
        (0..1000).for_each(|_| log.event(ban()));
        assert_eq!(log.lines_lost(), lost, "a ban was lost");
        (0..10_000).for_each(|_| log.event(ban()));
        let lost = log.lines_lost();
        assert!(lost > 5000, "the queue has no bound");
        log.event(Event::Control { uid: 7, request: "lift".into(), outcome: "done".into() });
        assert_eq!(log.lines_lost(), lost, "the operator's change was lost");
        gate.open();
        assert!(log.flush(LONG));
        assert!(gate.lines().iter().any(|line| line.contains("lift")));
    }

    #[test]
    fn hashed_addresses_are_nowhere_in_clear() {
        let gate = Gate::default();
        gate.open();
        let hasher = Some(AddressHasher::from_secret(b"secret"));
        let log = EventLog::start(Settings { hasher, ..settings(10) }, gate.clone()).unwrap();
        log.event(Event::InDoubt {
            upstream: "127.0.0.1:25".parse().unwrap(),
            recipient: "user@example.jp".into(),
        });
        log.verdict(VerdictLine {
            at: UnixMillis(0),
            source: "192.0.2.1".parse().unwrap(),
            sender: "user@sender.example".into(),
            recipient: "user@first.example".into(),
            also_to: vec!["user@second.example".into(), "user@third.example".into()],
            recipients: 3,
            direction: Direction::Inbound,
            action: None,
            reason: Why::Accepted,
            proof: None,
            filter: None,
            quarantine: None,
            reply: 250,
            bytes: 1,
            reading: None,
        });
        assert!(log.flush(LONG));
        let text = gate.lines().concat();
        assert!(!text.contains("user@"), "{text}");
        for domain in ["example.jp", "sender.example", "first.example", "second.example", "third.example"] {
            assert!(text.contains(&format!("@{domain}")), "{domain}: {text}");
        }
    }
}
