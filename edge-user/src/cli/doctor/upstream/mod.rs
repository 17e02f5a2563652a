//! The mail servers beside the edge: upstreams and the next hop. Whether they answer, what they offer, for whom they
//! relay.
//!
//! A transaction is begun, a recipient asked for, and all of it taken back (RSET): nothing is ever sent. The questions
//! come from this host, as the edge's own would, so a server that trusts the edge trusts them.

mod judge;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use edge_core::smtp::Capabilities;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Subject;
use super::finding::Findings;
use crate::config::Config;
use crate::engine::tls::{Connector, Connectors};
use crate::engine::{Patience, Pool, Stage, Upstream};

/// How long a server may take: for its connection, for a reply (some greet late on purpose), for all of it.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(4), reply: Duration::from_secs(8) };
const ALL_MAX: Duration = Duration::from_secs(12);
/// Servers, and domains of each, that are asked about.
const SERVERS_MAX: usize = 16;
const DOMAINS_MAX: usize = 5;
/// A recipient that is nobody's here: example.com is kept free for such use (RFC 2606).
const FOREIGN: &str = "backstop-doctor@example.com";

/// What a server is for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Role {
    /// The domains whose mail it takes.
    domains: Vec<String>,
    /// It takes the outgoing mail.
    next_hop: bool,
}

/// How it was spoken to.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Way {
    Clear,
    Tls,
    /// In clear, because the handshake failed.
    NoTls(String),
}

/// What a server said.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Said {
    /// How it calls itself.
    name: String,
    /// It calls itself as the edge does.
    alike: bool,
    way: Way,
    offers: Capabilities,
    /// To a recipient that is not ours.
    foreign: Result<Reply, String>,
    /// To the postmaster of its domains.
    own: Vec<(String, Result<Reply, String>)>,
}

/// A reply to RCPT, or what kept it from being asked.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Reply {
    code: u16,
    text: String,
}

/// Each server once, with all that it is for.
fn servers(config: &Config) -> BTreeMap<SocketAddr, Role> {
    let mut servers: BTreeMap<SocketAddr, Role> = BTreeMap::new();
    for domain in &config.domains {
        for address in domain.upstream.iter() {
            servers.entry(*address).or_default().domains.push(domain.name.clone());
        }
    }
    if let Some(outbound) = &config.outbound {
        for address in outbound.next_hop.iter() {
            servers.entry(*address).or_default().next_hop = true;
        }
    }
    servers
}

pub(super) fn ask(subject: &Subject, findings: &mut Findings) {
    let config = &subject.config;
    let servers = servers(config);
    let connectors = match Connectors::of(&config.tls) {
        Ok(connectors) => connectors,
        Err((place, error)) => {
            let fix = "until then `backstop run` does not start, and a reload changes nothing";
            findings.bad(format!("tls.upstream[{place}]"), error.to_string(), fix);
            Connectors::default()
        }
    };
    let pool = Pool::new(1, 0);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return findings.careful("servers", error.to_string(), "try again"),
    };
    let mut answers = runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for (address, role) in servers.iter().take(SERVERS_MAX) {
            let (address, role, hostname) = (*address, role.clone(), config.hostname.clone());
            let (connector, pool) = (connectors.get(address), Arc::clone(&pool));
            tasks.spawn(async move {
                let connector = connector.as_deref();
                let said = timeout(ALL_MAX, converse(address, &role, &hostname, connector, &pool)).await;
                let late = || Err(format!("not done within {} s", ALL_MAX.as_secs()));
                (address, said.unwrap_or_else(|_| late()))
            });
        }
        let mut answers = BTreeMap::new();
        while let Some(Ok((address, said))) = tasks.join_next().await {
            answers.insert(address, said);
        }
        answers
    });
    for (address, role) in servers.iter().take(SERVERS_MAX) {
        let said = answers.remove(address).unwrap_or_else(|| Err("not asked".into()));
        judge::judge(*address, role, said, config, findings);
    }
    if servers.len() > SERVERS_MAX {
        findings.careful(
            "further servers",
            format!("only the first {SERVERS_MAX} of {} were asked", servers.len()),
            "ask about the others by a configuration of their own",
        );
    }
}

/// One session.
async fn converse(
    address: SocketAddr,
    role: &Role,
    hostname: &str,
    connector: Option<&Connector>,
    pool: &Arc<Pool>,
) -> Result<Said, String> {
    let tls = connector.filter(|connector| !connector.is_off()).map(|connector| (connector, pool));
    let (mut upstream, way) = match Upstream::open(address, hostname, PATIENCE, tls).await {
        Ok(upstream) if upstream.is_secured() => (upstream, Way::Tls),
        Ok(upstream) => (upstream, Way::Clear),
        Err(error) if error.stage == Stage::StartTls && connector.is_some_and(Connector::may_be_clear) => {
            let upstream = Upstream::open(address, hostname, PATIENCE, None).await;
            (upstream.map_err(|error| error.fault.to_string())?, Way::NoTls(error.fault.to_string()))
        }
        Err(error) => return Err(error.fault.to_string()),
    };
    let mut said = Said {
        way,
        name: upstream.name().to_owned(),
        alike: upstream.is_called(hostname),
        offers: upstream.capabilities(),
        foreign: rcpt(&mut upstream, FOREIGN).await,
        own: Vec::new(),
    };
    for domain in role.domains.iter().take(DOMAINS_MAX) {
        let reply = rcpt(&mut upstream, &format!("postmaster@{domain}")).await;
        said.own.push((domain.clone(), reply));
    }
    upstream.quit().await;
    Ok(said)
}

/// Asks for a recipient of a bounce, and takes it back.
async fn rcpt(upstream: &mut Upstream, recipient: &str) -> Result<Reply, String> {
    let words = |error: crate::engine::UpstreamError| error.fault.to_string();
    let mail = upstream.begin(b"", b"").await.map_err(words)?;
    if mail.code / 100 != 2 {
        return Err(format!("to MAIL it says {}", text(mail.raw)));
    }
    let reply = upstream.rcpt(recipient.as_bytes(), b"").await.map_err(words)?;
    let reply = Reply { code: reply.code, text: text(reply.raw) };
    upstream.reset().await.map_err(words)?;
    Ok(reply)
}

/// A reply's first line.
fn text(raw: &[u8]) -> String {
    let line = raw.split(|octet| *octet == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(line).trim().chars().filter(|c| !c.is_control()).take(160).collect()
}
