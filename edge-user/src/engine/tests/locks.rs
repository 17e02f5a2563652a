//! What two workers share: whoever has it keeps no session of either waiting.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use super::*;
use crate::engine::tls::{Certificates, Connectors};

const BOUNCE: &str = "From: MAILER-DAEMON@far.example\r\nSubject: Undelivered\r\n\r\nIt failed.\r\n";

/// Sessions of each test, all at once. The kernel deals them out by their ports: so many do not all come to one worker.
const SESSIONS: usize = 32;

/// Who is not answered by then waits for ever, however busy the machine is.
const HANGS: Duration = Duration::from_secs(300);

/// Two workers beside the lab's own, each in a thread as in the daemon.
struct Workers {
    address: SocketAddr,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Workers {
    fn start(lab: &Lab) -> Self {
        let listeners = Listeners::bind(&lab.edge, 2).expect("a port");
        let address = listeners.addresses(Direction::Inbound)[0];
        let threads = listeners.start(&lab.edge, &lab.stop.subscribe()).expect("two threads");
        Self { address, threads }
    }

    /// Sends an unproven bounce to each of `recipients`, in sessions of their own: the codes of the last replies.
    async fn bounces(&self, recipients: &[&'static str]) -> Vec<String> {
        let mut sessions = tokio::task::JoinSet::new();
        for number in 0..SESSIONS {
            let (address, recipient) = (self.address, recipients[number % recipients.len()]);
            sessions.spawn(async move {
                let stream = TcpStream::connect(address).await.expect("the edge listens");
                let mut talk = Talk { stream, input: Vec::new() };
                talk.expect("220 edge.example").await;
                talk.say("EHLO client.example", "250").await;
                talk.envelope("", recipient).await;
                talk.send(BOUNCE).await;
                let code = talk.say(".", "").await[..3].to_owned();
                talk.say("QUIT", "221").await;
                talk.expect_end().await;
                code
            });
        }
        let answered = timeout(HANGS, sessions.join_all()).await;
        let mut codes = answered.expect("no session waits for what somebody else has");
        codes.sort();
        codes
    }

    /// Both have served sessions, and end.
    async fn end(self, lab: &Lab) {
        let served = lab.edge.metrics.connections_inbound.by_shards();
        assert_eq!(served.len(), 2, "sessions came to both workers: {served:?}");
        lab.stop.send_replace(true);
        for thread in self.threads {
            let ended = tokio::task::spawn_blocking(move || thread.join()).await.expect("it can wait");
            ended.expect("no worker panicked").expect("it could serve");
        }
    }
}

/// Somebody else, who has something of the edge's until this is dropped.
struct Holder {
    release: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Holder {
    /// `hold` takes what it is to have, and calls its second argument; when that returns `false`, it is to let go.
    fn start(edge: &Arc<Edge>, hold: impl FnOnce(&Edge, &dyn Fn(Duration) -> bool) + Send + 'static) -> Self {
        let (release, released) = mpsc::channel::<()>();
        let (has, held) = mpsc::channel();
        let edge = Arc::clone(edge);
        let thread = thread::spawn(move || {
            hold(&edge, &|time| {
                // The first time says that it has it; nobody listens later.
                let _ = has.send(());
                released.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Timeout)
            });
        });
        held.recv().expect("it has what it is to have");
        Self { release: Some(release), thread: Some(thread) }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.release = None;
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_some_and(|ended| ended.is_ok()) || thread::panicking(), "it panicked");
    }
}

#[tokio::test]
async fn while_ledger_and_detector_are_held_both_workers_answer_and_nothing_is_lost() {
    let lab = Lab::with(Script::default(), |config| {
        // All of them are a flood, and one less is none.
        config.flood.unproven_min = SESSIONS as u32;
        config.flood.factor = 1.0;
    })
    .await;
    let workers = Workers::start(&lab);
    let holder = Holder::start(&lab.edge, |edge, has| {
        let _ledger = edge.watch.hold();
        let _detector = edge.flood.hold();
        while has(PATIENCE) {}
    });
    let codes = workers.bounces(&["monitor@ours.example", "user@ours.example"]).await;
    assert_eq!(codes, [vec!["250"; SESSIONS / 2], vec!["550"; SESSIONS / 2]].concat());
    drop(holder);
    assert_eq!(lab.edge.watched(10).would_be_stopped, SESSIONS as u64 / 2, "the ledger hears of them later");
    assert!(lab.edge.flood_on(), "and the detector of each");
    workers.end(&lab).await;
}

#[tokio::test]
async fn while_all_that_a_reload_replaces_is_replaced_both_workers_answer() {
    let lab = Lab::new(Script::default()).await;
    let workers = Workers::start(&lab);
    let holder = Holder::start(&lab.edge, |edge, has| {
        while has(Duration::from_micros(10)) {
            edge.keys.store(Arc::new(keys()));
            edge.policy.store(Arc::new(edge.config.policy()));
            edge.set_connectors(Connectors::configured(&edge.config.tls).expect("none"));
            edge.acceptor.set_certificates(Certificates::configured(&edge.config.tls).expect("none"));
            edge.watch.set_hosts(&edge.config);
        }
    });
    let codes = workers.bounces(&["monitor@ours.example", "user@ours.example"]).await;
    assert_eq!(codes, [vec!["250"; SESSIONS / 2], vec!["550"; SESSIONS / 2]].concat());
    drop(holder);
    workers.end(&lab).await;
}
