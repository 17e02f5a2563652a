//! `backstop init`: a commented configuration and the first key. Nothing that exists is ever overwritten, and what it
//! made is gone again when it fails half-way.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use super::{Answer, CONFIG_PATH, print, print_json};
use crate::config::{Answers, domain_name, keys, parse};
use crate::engine::clock::system_now;

mod steps;

/// Where mail comes in (RFC 5321 section 4.5.4.2).
const SMTP_PORT: u16 = 25;

/// What the command takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Ask nothing: all answers are flags. (It never asks in this version.)
    #[arg(long)]
    non_interactive: bool,
    /// A domain whose mail comes here; may be given more than once.
    #[arg(long = "domain", value_name = "DOMAIN", required = true)]
    domains: Vec<String>,
    /// The mail server behind the edge.
    #[arg(long, value_name = "HOST:PORT")]
    upstream: String,
    /// Where mail from the Internet comes in; may be given more than once. By default port 25 of all addresses; where
    /// the mail server has that port on the loopback, of all but the loopback.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    /// The edge's own name; by default `mx.` and the first domain. Not the mail server's: each would take the other for
    /// a loop.
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// The directory for keys; by default `keys` beside the configuration. Keys that are there are kept.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// The configuration's file.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
    output: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<Answer> {
    let output = std::path::absolute(&args.output).context("the current directory is gone")?;
    let folder = output.parent().context("--output must name a file")?;
    let keys = match &args.keys {
        Some(keys) => std::path::absolute(keys)?,
        None => folder.join("keys"),
    };
    for domain in &args.domains {
        check_domain(domain)?;
    }
    let upstream = resolve(&args.upstream)?;
    let seen_as = if is_here(upstream.ip())? { None } else { Some(seen_as(upstream, &args.listen)?) };
    let answers = Answers {
        hostname: args.hostname.clone().unwrap_or_else(|| format!("mx.{}", args.domains[0])),
        listen: if args.listen.is_empty() { listen_beside(upstream)? } else { args.listen.clone() },
        domains: args.domains.clone(),
        upstream,
        seen_as,
        keys: keys.clone(),
    };
    let text = answers.write();
    let config = match parse(&text, &output) {
        Ok(loaded) => loaded.config,
        Err(problems) => bail!("these answers make no configuration:\n{problems}"),
    };
    if output.exists() {
        bail!("{} exists and stays as it is; name another file with --output", output.display());
    }
    let mut made = Made::default();
    let key = write(&output, folder, &keys, &text, &mut made)?;
    made.keep();
    let steps = steps::next(&config, upstream, seen_as, &output);
    if args.json {
        print_json(&json!({ "config": output, "keys": keys, "key_id": key, "next": steps }))?;
    } else {
        let mut told = format!("wrote {}\n", output.display());
        match key {
            Some(id) => told += &format!("made key {id} in {}\n", keys.display()),
            None => told += &format!("kept the keys in {}\n", keys.display()),
        }
        told += "\nNext:\n";
        for (number, step) in (1..).zip(&steps) {
            told += &format!("{number}. {}\n", step.replace('\n', "\n   "));
        }
        print(&told)?;
    }
    Ok(Answer::Yes)
}

/// Refuses what is no domain that mail can come for from the Internet, before a whole configuration is written for a
/// slip of the keyboard. The configuration itself is more patient: names without a dot work within a house.
fn check_domain(domain: &str) -> anyhow::Result<()> {
    let name = domain_name(domain).unwrap_or_else(|| domain.to_owned());
    let letters = |label: &str| label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    // RFC 1123 section 2.1: letters, digits and hyphens, no hyphen at either end.
    let right =
        |label: &str| !label.is_empty() && letters(label) && !label.starts_with('-') && !label.ends_with('-');
    if let Some(label) = name.split('.').find(|label| !right(label)) {
        bail!(
            "--domain {domain}: `{label}` is no part of a domain name: expected letters, digits and hyphens, like \
             example.com"
        );
    }
    ensure!(
        name.contains('.'),
        "--domain {domain}: expected a whole domain name with a dot, like example.com"
    );
    Ok(())
}

/// Writes everything; `made` remembers what must go again when a later step fails. Returns the new key's id.
fn write(
    output: &Path,
    folder: &Path,
    keys: &Path,
    text: &str,
    made: &mut Made,
) -> anyhow::Result<Option<u8>> {
    made.folder(folder, 0o755)?;
    made.folder(keys, 0o700)?;
    let key = match keys::load(keys) {
        Ok(_) => None,
        Err(keys::KeyDirError::NoKey { .. }) => {
            let key = keys::create(keys, system_now())?;
            made.0.push(Thing::File(keys::path_of(keys, key.id())));
            Some(key.id())
        }
        Err(error) => return Err(error.into()),
    };
    let failed = || format!("cannot write {}", output.display());
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o644).open(output).with_context(failed)?;
    made.0.push(Thing::File(output.to_owned()));
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)?;
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(failed)?;
    Ok(key)
}

/// What was made so far; dropped without [`Made::keep`], it removes it all again.
#[derive(Default)]
struct Made(Vec<Thing>);

enum Thing {
    File(PathBuf),
    Folder(PathBuf),
}

impl Made {
    /// Makes a folder and those above it, each that is not there.
    fn folder(&mut self, path: &Path, mode: u32) -> anyhow::Result<()> {
        let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
        for above in missing.into_iter().rev() {
            DirBuilder::new()
                .mode(mode)
                .create(above)
                .with_context(|| format!("cannot make the directory {}", above.display()))?;
            self.0.push(Thing::Folder(above.to_owned()));
        }
        Ok(())
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for thing in self.0.iter().rev() {
            // The fault that brought us here is the one to report.
            let _ = match thing {
                Thing::File(path) => std::fs::remove_file(path),
                Thing::Folder(path) => std::fs::remove_dir_all(path),
            };
        }
    }
}

fn resolve(upstream: &str) -> anyhow::Result<SocketAddr> {
    let mut found = upstream.to_socket_addrs().with_context(|| {
        format!(
            "--upstream {upstream} is no HOST:PORT that can be found; write an address, like 127.0.0.1:10024"
        )
    })?;
    found.next().with_context(|| format!("--upstream {upstream}: the name has no address"))
}

/// Where to listen so that a mail server at `upstream` keeps its port.
fn listen_beside(upstream: SocketAddr) -> anyhow::Result<Vec<SocketAddr>> {
    if !(upstream.ip().is_loopback() && upstream.port() == SMTP_PORT) {
        let everywhere = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
        return Ok(everywhere.map(|address| SocketAddr::new(address, SMTP_PORT)).into());
    }
    let addresses = reachable()?;
    if addresses.is_empty() {
        bail!("this machine has no address but its loopback, where {upstream} is; name one with --listen");
    }
    Ok(addresses.into_iter().map(|address| SocketAddr::new(address, SMTP_PORT)).collect())
}

/// Whether an address is one of this host.
fn is_here(address: IpAddr) -> anyhow::Result<bool> {
    Ok(address.is_loopback() || address.is_unspecified() || own_addresses()?.contains(&address))
}

/// The address by which a server elsewhere sees this host: that of the way to it. Where there is no way yet, one that the
/// Internet is to reach this host by. Nothing is sent.
fn seen_as(server: SocketAddr, listen: &[SocketAddr]) -> anyhow::Result<IpAddr> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let by_route = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(server)?;
        socket.local_addr()
    });
    let is_fit = |address: &IpAddr| !address.is_unspecified() && address.is_ipv4() == server.is_ipv4();
    let found = by_route.map(|address| address.ip()).ok().filter(is_fit);
    let named = found.or_else(|| listen.iter().map(SocketAddr::ip).find(is_fit));
    let found = match named {
        Some(address) => Some(address),
        None => reachable()?.into_iter().find(is_fit),
    };
    found.with_context(|| {
        format!("no address of this host has a way to the mail server at {server}; name one with --listen")
    })
}

/// This host's addresses that others may reach, in their order.
fn reachable() -> anyhow::Result<Vec<IpAddr>> {
    let mut addresses = own_addresses()?;
    addresses.retain(is_reachable);
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

fn own_addresses() -> anyhow::Result<Vec<IpAddr>> {
    let interfaces = nix::ifaddrs::getifaddrs().context("cannot list this machine's addresses")?;
    Ok(interfaces.filter_map(|interface| address_of(&interface)).collect())
}

fn address_of(interface: &nix::ifaddrs::InterfaceAddress) -> Option<IpAddr> {
    let address = interface.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

/// Whether the Internet, or a network behind it, may reach this address.
fn is_reachable(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(address.is_loopback() || link_local)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn args(output: &Path, domain: &str) -> Args {
        Args {
            non_interactive: true,
            domains: vec![domain.into()],
            upstream: "127.0.0.1:10024".into(),
            listen: Vec::new(),
            hostname: Some("mx.example.jp".into()),
            keys: None,
            output: output.to_owned(),
            json: true,
        }
    }

    #[test]
    fn it_writes_a_configuration_that_loads_and_a_key_that_only_the_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("etc/backstop.toml");
        assert_eq!(run(args(&output, "example.jp")).unwrap(), Answer::Yes);
        let config = crate::config::load(&output).unwrap();
        assert_eq!(config.domains[0].name, "example.jp");
        let keys = keys::load(&config.signature.keys).unwrap();
        let key = keys::path_of(&config.signature.keys, keys.iter().next().unwrap().id());
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_domain_of_the_internet_is_refused_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("etc/backstop.toml");
        for (domain, says) in [
            ("ex_ample.jp", "`ex_ample` is no part of a domain name"),
            ("ex_ample", "`ex_ample`"),
            ("example", "with a dot"),
            ("-a.example.jp", "`-a`"),
            ("a-.example.jp", "`a-`"),
            ("example..jp", "``"),
            ("user@example.jp", "`user@example`"),
            ("*.example.jp", "`*`"),
            ("", "``"),
        ] {
            let error = run(args(&output, domain)).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("example.com"), "{domain}: {error}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        for (name, domain) in
            [("one", "xn--bcher-kva.example"), ("two", "Bücher.example"), ("3", "a-b.co.jp")]
        {
            run(args(&dir.path().join(name).join("backstop.toml"), domain)).unwrap();
        }
    }

    #[test]
    fn the_edges_name_is_one_in_the_domain_and_records_are_as_dns_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("backstop.toml");
        run(Args { hostname: None, ..args(&output, "bücher.example") }).unwrap();
        let config = crate::config::load(&output).unwrap();
        assert_eq!(config.hostname, "mx.xn--bcher-kva.example");
        let steps = steps::next(&config, "127.0.0.1:10024".parse().unwrap(), None, &output).join("\n");
        assert!(steps.contains("  xn--bcher-kva.example. IN MX 10 mx.xn--bcher-kva.example."), "{steps}");
    }

    #[test]
    fn what_exists_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("backstop.toml");
        std::fs::write(&output, "mine").unwrap();
        let error = run(args(&output, "example.jp")).unwrap_err();
        assert!(error.to_string().contains("exists and stays as it is"), "{error}");
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "mine");
        assert!(!dir.path().join("keys").exists());
    }

    #[test]
    fn keys_that_are_there_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        run(args(&dir.path().join("a.toml"), "example.jp")).unwrap();
        run(args(&dir.path().join("b.toml"), "example.jp")).unwrap();
        assert_eq!(keys::load(&dir.path().join("keys")).unwrap().iter().count(), 1);
    }

    #[test]
    fn when_it_fails_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("new/backstop.toml");
        let error =
            run(Args { hostname: Some("not a name".into()), ..args(&output, "example.jp") }).unwrap_err();
        assert!(error.to_string().contains("hostname"), "{error}");
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);

        // The key is made; then the file cannot be, because its name is too long.
        let output = dir.path().join("new").join("x".repeat(300));
        run(args(&output, "example.jp")).unwrap_err();
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn it_listens_beside_a_mail_server_that_has_port_25_of_the_loopback() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let listens = |name: &str| crate::config::load(&file(name)).unwrap().inbound.listen;
        let beside = Args {
            upstream: "127.0.0.1:25".into(),
            listen: vec!["192.0.2.25:25".parse().unwrap()],
            ..args(&file("given.toml"), "example.jp")
        };
        run(beside).unwrap();
        assert_eq!(listens("given.toml"), ["192.0.2.25:25".parse().unwrap()]);
        run(args(&file("everywhere.toml"), "example.jp")).unwrap();
        assert_eq!(listens("everywhere.toml"), ["0.0.0.0:25".parse().unwrap(), "[::]:25".parse().unwrap()]);

        // This machine's own addresses, where it has any: never the loopback, never all.
        match listen_beside("127.0.0.1:25".parse().unwrap()) {
            Ok(listen) => assert!(
                !listen.is_empty()
                    && listen
                        .iter()
                        .all(|at| !at.ip().is_loopback() && !at.ip().is_unspecified() && at.port() == 25)
            ),
            Err(error) => assert!(error.to_string().contains("--listen"), "{error}"),
        }
        let reachable =
            ["192.0.2.1", "10.0.0.1", "2001:db8::1", "127.0.0.1", "169.254.1.1", "fe80::1", "::1"]
                .map(|address| is_reachable(&address.parse().unwrap()));
        assert_eq!(reachable, [true, true, true, false, false, false, false]);
    }

    #[test]
    fn a_server_elsewhere_sees_the_address_of_the_way_to_it() {
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(is_here(here).unwrap() && is_here("::1".parse().unwrap()).unwrap());
        assert!(
            !is_here("192.0.2.30".parse().unwrap()).unwrap(),
            "no machine has an address of the documentation's"
        );
        assert_eq!(seen_as("127.0.0.1:25".parse().unwrap(), &[]).unwrap(), here);
        // Without a way there is an address at all, or the error says what to do.
        let listen = ["192.0.2.25:25".parse().unwrap()];
        assert!(!seen_as("192.0.2.30:25".parse().unwrap(), &listen).unwrap().is_unspecified());
        if let Err(error) = seen_as("[2001:db8::30]:25".parse().unwrap(), &listen) {
            assert!(error.to_string().contains("--listen"), "{error}");
        }
    }

    #[test]
    fn an_upstream_that_is_no_address_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let args = Args { upstream: "127.0.0.1".into(), ..args(&dir.path().join("a.toml"), "example.jp") };
        assert!(run(args).unwrap_err().to_string().contains("--upstream 127.0.0.1"));
    }
}
