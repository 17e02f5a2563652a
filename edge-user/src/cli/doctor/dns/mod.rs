//! The DNS: where the domains' mail goes, what is published against forgery, and the edge's own name.
//!
//! The system's resolver is asked (`/etc/resolv.conf`), `/etc/hosts` is not: others do not see it.

mod domain;
mod hostname;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{RData, RecordType};
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::domain::{Domain, Exchange};
use self::hostname::Hostname;
use super::Subject;
use super::finding::Findings;
use crate::config::Config;

/// How long one question may take, and how often it is asked again.
const QUESTION_MAX: Duration = Duration::from_secs(2);
const AGAIN: usize = 1;
/// How long all questions about one domain may take.
const DOMAIN_MAX: Duration = Duration::from_secs(11);
/// Domains, exchanges of a domain, and listening addresses that are asked about.
const DOMAINS_MAX: usize = 32;
const EXCHANGES_MAX: usize = 10;
const ADDRESSES_MAX: usize = 8;

/// What was answered; nothing there is an empty list.
type Answer<T> = Result<Vec<T>, String>;

/// The edge, as the DNS should know it.
struct Edge {
    hostname: String,
    /// Where it listens for the Internet.
    addresses: Vec<IpAddr>,
    /// The operator's own gateways and backup MXs.
    trusted: Vec<IpNet>,
}

impl Edge {
    fn of(config: &Config) -> Self {
        let listen = config.inbound.listen.iter().map(|address| address.ip());
        let mut addresses: Vec<_> = listen
            .flat_map(|address| if address.is_unspecified() { own_addresses() } else { vec![address] })
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        Self {
            hostname: config.hostname.to_ascii_lowercase(),
            addresses,
            trusted: config.reputation.trusted_relays.clone(),
        }
    }
}

/// This host's addresses, those of the loopback left out.
fn own_addresses() -> Vec<IpAddr> {
    let all = getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
    let address = |storage: nix::sys::socket::SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    all.filter_map(address).filter(|address| !address.is_loopback()).collect()
}

/// Whether it is an address that the Internet does not know.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xC0 == 64; // RFC 6598
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

pub(super) fn ask(subject: &Subject, findings: &mut Findings) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        let resolver = resolver()?;
        Ok(runtime.block_on(ask_all(resolver, &subject.config)))
    });
    let (hostname, domains) = match asked {
        Ok(asked) => asked,
        Err(said) => {
            return findings.careful("resolver", said, "what does /etc/resolv.conf say?");
        }
    };
    let edge = Edge::of(&subject.config);
    hostname.judge(&edge, findings);
    for domain in domains {
        domain.judge(&edge, findings);
    }
    let all = subject.config.domains.len();
    if all > DOMAINS_MAX {
        findings.careful(
            "further domains",
            format!("only the first {DOMAINS_MAX} of {all} were asked about"),
            "ask about the others by a configuration of their own",
        );
    }
}

fn resolver() -> Result<TokioResolver, String> {
    let mut builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
    let options = builder.options_mut();
    options.timeout = QUESTION_MAX;
    options.attempts = AGAIN;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build().map_err(|error| error.to_string())
}

async fn ask_all(resolver: TokioResolver, config: &Config) -> (Hostname, Vec<Domain>) {
    let asking = Arc::new(Asking(resolver));
    let edge = Edge::of(config);
    let hostname = tokio::spawn({
        let asking = Arc::clone(&asking);
        async move { asking.hostname(&edge).await }
    });
    let mut tasks = JoinSet::new();
    for (place, domain) in config.domains.iter().take(DOMAINS_MAX).enumerate() {
        let (asking, name) = (Arc::clone(&asking), domain.name.clone());
        tasks.spawn(async move {
            let late = || Domain::unasked(&name, format!("no answer within {} s", DOMAIN_MAX.as_secs()));
            (place, timeout(DOMAIN_MAX, asking.domain(&name)).await.unwrap_or_else(|_| late()))
        });
    }
    let mut domains = Vec::new();
    while let Some(Ok(asked)) = tasks.join_next().await {
        domains.push(asked);
    }
    domains.sort_by_key(|(place, _)| *place);
    let hostname = hostname.await.unwrap_or_default();
    (hostname, domains.into_iter().map(|(_, domain)| domain).collect())
}

struct Asking(TokioResolver);

impl Asking {
    /// All records of a kind; a name that is not there has none.
    async fn records<T>(&self, name: &str, kind: RecordType, of: impl Fn(&RData) -> Option<T>) -> Answer<T> {
        match self.0.lookup(format!("{}.", name.trim_end_matches('.')), kind).await {
            Ok(lookup) => Ok(lookup.answers().iter().filter_map(|record| of(&record.data)).collect()),
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => Ok(Vec::new()),
            Err(error) => Err(words(&error)),
        }
    }

    async fn addresses(&self, name: &str) -> Answer<IpAddr> {
        let address = |data: &RData| match data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        };
        let (v4, v6) = tokio::join!(
            self.records(name, RecordType::A, address),
            self.records(name, RecordType::AAAA, address)
        );
        match (v4, v6) {
            (Ok(v4), Ok(v6)) => Ok([v4, v6].concat()),
            // What one of them says is better than nothing.
            (Ok(some), Err(error)) | (Err(error), Ok(some)) => {
                if some.is_empty() {
                    Err(error)
                } else {
                    Ok(some)
                }
            }
            (Err(error), Err(_)) => Err(error),
        }
    }

    async fn texts(&self, name: &str, beginning: &str) -> Answer<String> {
        let text = |data: &RData| match data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        };
        let mut texts = self.records(name, RecordType::TXT, text).await?;
        texts.retain(|text| {
            text.get(..beginning.len()).is_some_and(|head| head.eq_ignore_ascii_case(beginning))
        });
        Ok(texts)
    }

    async fn domain(&self, name: &str) -> Domain {
        let exchange = |data: &RData| match data {
            RData::MX(mx) => Some((mx.preference, lower(&mx.exchange.to_string()))),
            _ => None,
        };
        let mut named = match self.records(name, RecordType::MX, exchange).await {
            Ok(named) => named,
            Err(error) => return Domain::unasked(name, error),
        };
        // Without MX the domain's own addresses take its mail (RFC 5321 section 5.1).
        let implicit = named.is_empty();
        if implicit {
            named.push((0, name.to_owned()));
        }
        named.sort_unstable();
        let mut exchanges = Vec::new();
        for (preference, host) in named.into_iter().take(EXCHANGES_MAX) {
            // The root as exchange says that there is no mail (RFC 7505).
            let addresses = if host.is_empty() { Ok(Vec::new()) } else { self.addresses(&host).await };
            exchanges.push(Exchange { preference, host, addresses });
        }
        let policy_name = format!("_dmarc.{name}");
        let (spf, dmarc) = tokio::join!(self.texts(name, "v=spf1"), self.texts(&policy_name, "v=DMARC1"));
        Domain { name: name.to_owned(), implicit, exchanges: Ok(exchanges), spf, dmarc }
    }

    async fn hostname(&self, edge: &Edge) -> Hostname {
        let late = || Err(format!("no answer within {} s", DOMAIN_MAX.as_secs()));
        let forward = timeout(DOMAIN_MAX, self.addresses(&edge.hostname));
        let mut reverse = Vec::new();
        let pointer = |data: &RData| match data {
            RData::PTR(name) => Some(lower(&name.0.to_string())),
            _ => None,
        };
        let asked = edge.addresses.iter().filter(|address| !is_private(**address)).take(ADDRESSES_MAX);
        let back = timeout(DOMAIN_MAX, async {
            for address in asked {
                let name = hickory_resolver::proto::rr::Name::from(*address).to_string();
                reverse.push((*address, self.records(&name, RecordType::PTR, pointer).await));
            }
        });
        let (forward, _) = tokio::join!(forward, back);
        Hostname { forward: forward.unwrap_or_else(|_| late()), reverse }
    }
}

fn lower(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn words(error: &NetError) -> String {
    match error {
        NetError::Timeout => "the name server does not answer".to_owned(),
        NetError::NoConnections => "no name server can be reached".to_owned(),
        other => other.to_string(),
    }
}
