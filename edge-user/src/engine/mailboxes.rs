//! Whether a mailbox exists: the upstream's own answers to RCPT, remembered for a while.
//!
//! Filled by normal mail, and by probes on one kept connection to each upstream: `MAIL FROM:<>`, `RCPT`, `RSET`,
//! never DATA. Probes are rate-limited: what cannot be asked now is unknown, and unknown never refuses.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edge_core::mailbox::Mailbox;
use edge_core::time::UnixMillis;
use foldhash::fast::RandomState;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::clock::Deadline;
use super::domains::Domains;
use super::stripes::Stripes;
use super::upstream::{Upstream, UpstreamError};
use super::{Edge, Route, locked};

/// How long a yes is believed.
const YES_FOR: Duration = Duration::from_secs(86_400);
/// How long a no is believed.
const NO_FOR: Duration = Duration::from_secs(600);
/// Questions that wait for one upstream's prober.
const WAITING_MAX: usize = 64;
/// How long a session waits for a probe.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two probes of one upstream: at most 50 a second.
const PROBE_PAUSE: Duration = Duration::from_millis(20);
/// A kept connection ends after so many refusals: servers slow down or end who has made too many errors (Postfix's
/// `smtpd_soft_error_limit` is 10).
const REFUSALS_MAX: u32 = 8;
/// A kept connection ends after being idle so long.
const PROBER_IDLE: Duration = Duration::from_secs(30);

/// Whether a mailbox exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Existence {
    /// The upstream takes mail for it.
    Yes,
    /// It does not.
    No,
    /// Nobody can say now.
    Unknown,
}

/// What is known of mailboxes, and the way to ask for more.
#[derive(Debug)]
pub(super) struct Mailboxes {
    /// In stripes by mailbox.
    cache: Stripes<Cache>,
    probers: HashMap<SocketAddr, Prober>,
}

#[derive(Debug)]
struct Prober {
    questions: mpsc::Sender<Question>,
    /// Taken by the task that answers.
    waiting: Mutex<Option<mpsc::Receiver<Question>>>,
}

#[derive(Debug)]
struct Question {
    mailbox: Mailbox,
    /// The address as the upstream is to be asked for it.
    path: Vec<u8>,
    answer: oneshot::Sender<Existence>,
}

#[derive(Debug)]
struct Cache {
    known: HashMap<Mailbox, (Existence, UnixMillis), RandomState>,
    /// In the order they were first learnt: the oldest make room.
    order: VecDeque<Mailbox>,
    entries_max: usize,
}

impl Cache {
    fn get(&self, mailbox: &Mailbox, now: UnixMillis) -> Option<Existence> {
        self.known.get(mailbox).filter(|(_, until)| *until > now).map(|(existence, _)| *existence)
    }

    fn learn(&mut self, mailbox: &Mailbox, existence: Existence, now: UnixMillis) {
        let until = match existence {
            Existence::Yes => now.plus(YES_FOR),
            Existence::No => now.plus(NO_FOR),
            Existence::Unknown => return,
        };
        if self.known.insert(mailbox.clone(), (existence, until)).is_none() {
            self.order.push_back(mailbox.clone());
            while self.order.len() > self.entries_max {
                if let Some(oldest) = self.order.pop_front() {
                    self.known.remove(&oldest);
                }
            }
        }
    }
}

/// Whose RCPT was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// Our own probe's: nothing but the recipient could displease.
    ByProbe,
    /// Somebody's mail's: it may be refused for its sender, who must not make a mailbox vanish that way.
    ByMail,
}

/// What a reply to RCPT says of the mailbox. Only a refusal that names the mailbox as the reason is a no (RFC 3463
/// sections 3.2 and 3.3): others (policy, limits, the sender) may be over the next time.
pub(super) fn existence_by_reply(asked: Asked, code: u16, raw: &[u8]) -> Existence {
    let enhanced =
        raw.get(4..).and_then(|text| text.split(|octet| *octet == b' ').next()).unwrap_or_default();
    let coded = enhanced.starts_with(b"5.") && enhanced.iter().all(|o| o.is_ascii_digit() || *o == b'.');
    let names_mailbox = match enhanced {
        b"5.1.1" | b"5.1.6" | b"5.1.10" | b"5.2.1" => true,
        // The sender's address.
        b"5.1.7" | b"5.1.8" => false,
        _ => asked == Asked::ByProbe && (!coded || enhanced.starts_with(b"5.1.")),
    };
    match code {
        200..=299 => Existence::Yes,
        550 | 551 | 553 if names_mailbox => Existence::No,
        _ => Existence::Unknown,
    }
}

impl Mailboxes {
    pub(super) fn new(entries_max: usize, domains: &Domains) -> Self {
        let cache = Stripes::sharing(entries_max, |entries_max| Cache {
            known: HashMap::default(),
            order: VecDeque::new(),
            entries_max,
        });
        let prober = |address| {
            let (questions, waiting) = mpsc::channel(WAITING_MAX);
            (address, Prober { questions, waiting: Mutex::new(Some(waiting)) })
        };
        Self { cache, probers: domains.upstreams().into_iter().map(prober).collect() }
    }

    /// An upstream answered RCPT for `path`. What it says of another spelling, say with a tag that is not ours, it does
    /// not say of the mailbox.
    pub(super) fn learn(&self, mailbox: &Mailbox, path: &[u8], existence: Existence, now: UnixMillis) {
        if path.eq_ignore_ascii_case(mailbox.as_str().as_bytes()) {
            locked(self.cache.of(mailbox)).learn(mailbox, existence, now);
        }
    }

    /// Whether a mailbox exists, as far as is remembered.
    pub(super) fn known(&self, mailbox: &Mailbox, now: UnixMillis) -> Option<Existence> {
        locked(self.cache.of(mailbox)).get(mailbox, now)
    }

    /// Whether a mailbox exists: from memory, or from the upstream, in bounded time.
    pub(super) async fn look(&self, edge: &Edge, mailbox: &Mailbox, path: &[u8], route: Route) -> Existence {
        let now = edge.now();
        if let Some(known) = self.known(mailbox, now) {
            return known;
        }
        let up = edge.domains.servers(route).iter().find(|server| !edge.upstreams.is_down(**server));
        let Some(prober) = up.and_then(|server| self.probers.get(server)) else {
            return Existence::Unknown;
        };
        let (answer, answered) = oneshot::channel();
        let question = Question { mailbox: mailbox.clone(), path: path.to_vec(), answer };
        if prober.questions.try_send(question).is_err() {
            return Existence::Unknown;
        }
        match timeout(PROBE_PATIENCE, answered).await {
            Ok(Ok(existence)) => existence,
            Ok(Err(_)) | Err(_) => Existence::Unknown,
        }
    }
}

#[cfg(test)]
impl Mailboxes {
    /// No prober will ever ask: what is not remembered is unknown.
    pub(super) fn without_probers(&self) {
        for prober in self.probers.values() {
            drop(locked(&prober.waiting).take());
        }
    }
}

/// Starts the tasks that probe, one for each upstream.
pub(super) fn start_probers(edge: &Arc<Edge>, tasks: &mut JoinSet<()>) {
    for (address, prober) in &edge.mailboxes.probers {
        if let Some(questions) = locked(&prober.waiting).take() {
            let waiting = Waiting { edge: Arc::clone(edge), address: *address, questions: Some(questions) };
            tasks.spawn(probe(Arc::clone(edge), *address, waiting));
        }
    }
}

/// The questions to an upstream; put back when their prober ends, for the next one that is started.
struct Waiting {
    edge: Arc<Edge>,
    address: SocketAddr,
    questions: Option<mpsc::Receiver<Question>>,
}

impl Waiting {
    async fn next(&mut self) -> Option<Question> {
        self.questions.as_mut()?.recv().await
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(prober) = self.edge.mailboxes.probers.get(&self.address) {
            *locked(&prober.waiting) = self.questions.take();
        }
    }
}

async fn probe(edge: Arc<Edge>, address: SocketAddr, mut waiting: Waiting) {
    let mut kept: Option<(Upstream, u32)> = None;
    loop {
        let question = match timeout(PROBER_IDLE, waiting.next()).await {
            Ok(Some(question)) => question,
            Ok(None) => return,
            Err(_) => {
                if let Some((upstream, _)) = kept.take() {
                    upstream.quit().await;
                }
                continue;
            }
        };
        let next = Deadline::after(PROBE_PAUSE);
        let known = edge.mailboxes.known(&question.mailbox, edge.now());
        let existence = match known {
            Some(known) => known,
            // The session that asked is gone, or waited long enough.
            None if question.answer.is_closed() => continue,
            None => {
                let asked = ask(&edge, address, &mut kept, &question.path).await;
                // What went wrong is known by `upstream_is_down`; here it means that nobody can say.
                let existence = asked.unwrap_or(Existence::Unknown);
                edge.mailboxes.learn(&question.mailbox, &question.path, existence, edge.now());
                existence
            }
        };
        // Nobody may be left to hear it.
        let _ = question.answer.send(existence);
        if known.is_none() {
            tokio::time::sleep(next.left()).await;
        }
    }
}

/// One probe, on the kept connection or on a new one.
async fn ask(
    edge: &Edge,
    address: SocketAddr,
    kept: &mut Option<(Upstream, u32)>,
    path: &[u8],
) -> Result<Existence, UpstreamError> {
    if let Some((mut upstream, refusals)) = kept.take() {
        // A kept connection may have been closed meanwhile: then a new one is asked.
        if let Ok(existence) = one_probe(&mut upstream, path).await {
            keep(kept, upstream, refusals, existence).await;
            return Ok(existence);
        }
    }
    let mut upstream = edge.open_upstream(address).await?;
    let existence = one_probe(&mut upstream, path).await.inspect_err(|error| edge.upstream_is_down(error))?;
    keep(kept, upstream, 0, existence).await;
    Ok(existence)
}

async fn keep(kept: &mut Option<(Upstream, u32)>, upstream: Upstream, refusals: u32, existence: Existence) {
    let refusals = refusals + u32::from(existence != Existence::Yes);
    if refusals < REFUSALS_MAX {
        *kept = Some((upstream, refusals));
    } else {
        upstream.quit().await;
    }
}

async fn one_probe(upstream: &mut Upstream, path: &[u8]) -> Result<Existence, UpstreamError> {
    let mail = upstream.begin(b"", b"").await?.code;
    if mail / 100 != 2 {
        return Ok(Existence::Unknown);
    }
    let reply = upstream.rcpt(path, b"").await?;
    let existence = existence_by_reply(Asked::ByProbe, reply.code, reply.raw);
    upstream.reset().await?;
    Ok(existence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries_max: usize) -> Cache {
        Cache { known: HashMap::default(), order: VecDeque::new(), entries_max }
    }

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).expect("an address")
    }

    #[test]
    fn a_yes_lasts_a_day_and_a_no_ten_minutes() {
        let (mut cache, start) = (cache(10), UnixMillis::from_secs(1_000_000));
        cache.learn(&mailbox("yes@a.example"), Existence::Yes, start);
        cache.learn(&mailbox("no@a.example"), Existence::No, start);
        let after = |secs| start.plus(Duration::from_secs(secs));
        assert_eq!(cache.get(&mailbox("no@a.example"), after(599)), Some(Existence::No));
        assert_eq!(cache.get(&mailbox("no@a.example"), after(600)), None);
        assert_eq!(cache.get(&mailbox("yes@a.example"), after(86_399)), Some(Existence::Yes));
        assert_eq!(cache.get(&mailbox("yes@a.example"), after(86_400)), None);
    }

    #[test]
    fn the_cache_never_holds_more_than_it_may() {
        let (mut cache, now) = (cache(3), UnixMillis::from_secs(1));
        for number in 0..10 {
            cache.learn(&mailbox(&format!("u{number}@a.example")), Existence::Yes, now);
            cache.learn(&mailbox("again@a.example"), Existence::Yes, now);
            assert!(cache.known.len() <= 3 && cache.order.len() <= 3);
        }
        assert_eq!(cache.get(&mailbox("u9@a.example"), now), Some(Existence::Yes));
    }

    #[test]
    fn only_a_refusal_that_names_the_mailbox_is_a_no() {
        use Existence::{No, Unknown, Yes};
        let rows: [(&[u8], [Existence; 2]); 13] = [
            (b"250 2.1.5 Ok\r\n", [Yes, Yes]),
            (b"550 5.1.1 User unknown\r\n", [No, No]),
            (b"550-5.1.1 No\r\n550 5.1.1 no\r\n", [No, No]),
            (b"550 5.1.10 Recipient not found\r\n", [No, No]),
            (b"550 5.2.1 Mailbox disabled\r\n", [No, No]),
            // Said to somebody's mail, these may mean its sender.
            (b"550 no such user\r\n", [No, Unknown]),
            (b"550 5.1.0 Address rejected\r\n", [No, Unknown]),
            (b"550 5.1.7 Sender address rejected\r\n", [Unknown, Unknown]),
            (b"553 5.1.8 Domain of sender address does not exist\r\n", [Unknown, Unknown]),
            (b"550 5.7.1 Client host rejected\r\n", [Unknown, Unknown]),
            (b"554 5.7.1 Relay access denied\r\n", [Unknown, Unknown]),
            (b"552 5.2.2 Mailbox full\r\n", [Unknown, Unknown]),
            (b"450 4.2.0 Greylisted\r\n", [Unknown, Unknown]),
        ];
        for (raw, want) in rows {
            let code = std::str::from_utf8(&raw[..3]).unwrap().parse().unwrap();
            let got = [Asked::ByProbe, Asked::ByMail].map(|asked| existence_by_reply(asked, code, raw));
            assert_eq!(got, want, "{}", String::from_utf8_lossy(raw));
        }
    }
}
