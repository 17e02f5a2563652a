//! A real DNS server in the lab: NSD in `internet`, with the authority for the whole name space, and the edge's
//! `resolv.conf` pointing at it.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! # let lab = lab::Lab::up("example")?;
//! let mut dns = lab.dns(&[
//!     "example.jp. MX 10 edge.example.jp.",
//!     "edge.example.jp. A 198.18.0.10",
//!     "10.0.18.198.in-addr.arpa. PTR edge.example.jp.",
//!     r#"key1._domainkey.example.jp. TXT "v=DKIM1; k=ed25519; " "p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=""#,
//! ])?; // any other name does not exist
//! dns.change(&lab, &["example.jp. MX 10 elsewhere.example.jp."])?;
//! # Ok(())
//! # }
//! ```
//!
//! Without it, what the edge asks goes to the machine's own DNS server, to which the lab has no route: it fails at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::mta::Software;
use crate::{Host, Lab, Process};

/// Where it answers, over UDP and TCP.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 64, 53);

/// How long it may take until it answers.
const START: Duration = Duration::from_secs(120);

/// What every zone of the lab begins with: one zone is the whole name space.
const HEAD: &str = "$ORIGIN .
$TTL 1
@ SOA ns.lab. hostmaster.lab. 1 3600 600 86400 1
@ NS ns.lab.
";

/// The edge asks this server, at once and only once: what does not answer is to be seen soon.
const RESOLV_CONF: &str = "options timeout:2 attempts:3\n";

/// `/etc/resolv.conf` may be a link to a file that `/run` of the lab does not have.
const POINT: &str = "file=$(readlink -m /etc/resolv.conf)
case $file in /run/*) mkdir -p \"${file%/*}\"; touch \"$file\" ;; esac
mountpoint -q \"$file\" || mount --bind /run/lab/dns/resolv.conf \"$file\"";

/// A running DNS server.
#[derive(Debug)]
pub struct Dns {
    process: Process,
}

impl Lab {
    /// Starts a DNS server that knows these records and no others, and lets the edge ask it. A line is one of a zone
    /// file, with full names: `example.jp. MX 10 mx.example.jp.`
    ///
    /// # Errors
    /// When it does not come up, as with a line that is none.
    pub fn dns(&self, lines: &[&str]) -> Result<Dns> {
        self.write("dns/resolv.conf", format!("nameserver {ADDRESS}\n{RESOLV_CONF}"))?;
        self.write(
            "dns/nsd.conf",
            format!(
                "server:
    server-count: 1
    ip-address: {ADDRESS}
    username: \"\"
    chroot: \"\"
    database: \"\"
    zonesdir: /run/lab/dns
    xfrdir: /run/lab/dns
    xfrdfile: \"\"
    zonelistfile: /run/lab/dns/zone.list
    pidfile: \"\"
    verbosity: 2
remote-control:
    control-enable: no
zone:
    name: .
    zonefile: zone
"
            ),
        )?;
        let point = self.run(Host::Edge, &["sh", "-euc", POINT])?;
        ensure!(
            point.status.success(),
            "the edge's /etc/resolv.conf cannot be covered: {}",
            String::from_utf8_lossy(&point.stderr)
        );
        Ok(Dns { process: start(self, lines)? })
    }
}

impl Dns {
    /// Knows these records instead from now on.
    ///
    /// # Errors
    /// As [`Lab::dns`].
    pub fn change(&mut self, lab: &Lab, lines: &[&str]) -> Result<()> {
        self.stop()?;
        self.process = start(lab, lines)?;
        Ok(())
    }

    /// Ends it: from now on nothing answers.
    ///
    /// # Errors
    /// When it had ended before.
    pub fn stop(&mut self) -> Result<()> {
        self.process.kill9()
    }

    /// Its process, with its log.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn start(lab: &Lab, lines: &[&str]) -> Result<Process> {
    let package = Software::Nsd.package()?;
    let shown = package.to_str().context("the target folder's path is not UTF-8")?;
    lab.write("dns/zone", format!("{HEAD}{}\n", lines.join("\n")))?;
    let libraries = format!("LD_LIBRARY_PATH={shown}/usr/lib/x86_64-linux-gnu");
    let program = format!("{shown}/{}", Software::Nsd.landmark());
    // It forks: PID 1 of a namespace of its own takes its children with it.
    let mut command = lab.command(Host::Internet, "unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.args(["env", &libraries, &program, "-d", "-c", "/run/lab/dns/nsd.conf"]);
    let mut process = Process::start("dns", command, 2)?;
    let deadline = Instant::now() + START;
    while let Err(error) = ask(lab) {
        if !process.is_running() || process.count("error:") > 0 {
            bail!("the DNS server does not come up; it said:\n{}", process.tail(20));
        }
        if Instant::now() > deadline {
            return Err(error.context(format!("the DNS server does not answer:\n{}", process.tail(20))));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(process)
}

/// Asks for the root's SOA over UDP, as the edge will (RFC 1035 section 4.1): answered without an error?
fn ask(lab: &Lab) -> Result<()> {
    let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x06\x00\x01";
    let mut answer = [0; 512];
    let length = lab.in_host(Host::Edge, || {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        socket.connect(SocketAddr::from((ADDRESS, 53)))?;
        socket.send(question)?;
        Ok(socket.recv(&mut answer)?)
    })?;
    let header = answer.get(..length.min(12)).unwrap_or_default();
    ensure!(header.len() == 12 && header[..2] == question[..2], "no answer: {header:?}");
    ensure!(header[3] & 0x0F == 0 && header[7] > 0, "it does not know the root: {header:?}");
    Ok(())
}
