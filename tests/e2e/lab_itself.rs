//! The lab keeps what it promises.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use lab::{Host, Lab};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn every_host_reaches_its_neighbours_from_any_source_address() -> Result<()> {
    let lab = Lab::up("neighbours")?;
    let ways = [
        (Host::Internet, Some(lab::client(40_000)), Host::Edge, lab::EDGE.into()),
        (Host::Internet, Some("2001:2:0:1ff:abcd::1".parse()?), Host::Edge, lab::EDGE_V6.into()),
        (Host::Internet, Some(lab::far_server(7).into()), Host::Mta, lab::MTA_OUTSIDE.into()),
        (Host::Mta, None, Host::Internet, lab::far_server(9).into()),
        (Host::Edge, None, Host::Internet, lab::far_server(9).into()),
        (Host::Edge, None, Host::Mta, lab::MTA.into()),
        (Host::Mta, None, Host::Edge, lab::EDGE_INSIDE.into()),
    ];
    for (client, from, server, address) in ways {
        let address = SocketAddr::new(address, 2525);
        let listener = lab.in_host(server, || Ok(TcpListener::bind(address)?))?;
        let mut out = lab.connect(client, from, address, PATIENCE)?;
        let (mut accepted, peer) = listener.accept()?;
        if let Some(from) = from {
            assert_eq!(peer.ip(), from);
        }
        out.write_all(b"hello")?;
        let mut read = [0; 5];
        accepted.read_exact(&mut read)?;
        assert_eq!(&read, b"hello", "{} to {address}", client.name());
    }
    Ok(())
}

#[test]
fn nothing_that_the_lab_sends_can_leave_it() -> Result<()> {
    let lab = Lab::up("sealed")?;
    for host in Host::ALL {
        let out = lab.run(host, &["ip", "route", "get", "192.0.2.1"])?;
        assert!(!out.status.success(), "{} has a route to the world", host.name());
        let links = lab.run(host, &["ip", "-oneline", "link"])?;
        let names = String::from_utf8_lossy(&links.stdout).into_owned();
        assert!(names.lines().all(|l| ["lo:", "wan", "lan", "to-"].iter().any(|n| l.contains(n))), "{names}");
    }
    Ok(())
}

#[test]
fn the_machines_own_backstop_is_neither_seen_nor_touched() -> Result<()> {
    let lab = Lab::up("hidden")?;
    for (folder, machines) in [("/etc", "/etc/passwd"), ("/var/lib", "/var/lib/dpkg"), ("/run", "/run/lab")] {
        let name = format!("{folder}/backstop-{}", std::process::id());
        let script =
            format!("[ -e {machines} ] && [ ! -e {folder}/backstop ] && mkdir {name} {folder}/backstop");
        let done = lab.run(Host::Edge, &["sh", "-c", &script])?;
        assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
        let leaked = std::fs::remove_dir(&name).is_ok();
        assert!(!leaked, "{name} was made on the machine");
    }
    Ok(())
}

#[test]
fn a_dropped_lab_leaves_no_process() -> Result<()> {
    let lab = Lab::up("dropped")?;
    let orphan = lab.spawn("sleeper", Host::Mta, &["setsid", "--fork", "sleep", "12345"]);
    drop(orphan); // ends at once; what it forked is a process of its own session
    let sleeper = lab.spawn("sleeper", Host::Edge, &["sleep", "12345"])?;
    let pid = sleeper.pid();
    let root = lab.path("").parent().expect("the lab's files lie in a folder").to_owned();
    assert!(root.exists());
    drop(lab);
    let gone_by = Instant::now() + PATIENCE;
    while std::fs::exists(format!("/proc/{pid}"))? || root.exists() {
        assert!(Instant::now() < gone_by, "a process of the lab outlived it");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[test]
fn a_killed_test_leaves_no_process() -> Result<()> {
    // Another test, by this very program, killed in the middle.
    let victim = "servers_alone::postfix_bounces_and_returns_our_header";
    let mut test = Command::new(std::env::current_exe()?)
        .args(["--exact", victim])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let found_by = Instant::now() + PATIENCE;
    let init = loop {
        // `unshare`, and its child, the lab's PID 1.
        let init = children(test.id()).into_iter().find_map(|unshare| children(unshare).first().copied());
        if let Some(init) = init {
            break init;
        }
        assert!(Instant::now() < found_by, "it never made a lab: {:?}", test.try_wait());
        std::thread::sleep(Duration::from_millis(5));
    };
    test.kill()?;
    test.wait()?;
    let gone_by = Instant::now() + PATIENCE;
    while std::fs::exists(format!("/proc/{init}"))? {
        assert!(Instant::now() < gone_by, "the lab outlived its test");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The child processes of a process, whichever thread started them.
fn children(parent: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn two_labs_do_not_see_each_other() -> Result<()> {
    let (one, two) = (Lab::up("one")?, Lab::up("two")?);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 2526));
    let _listener = one.in_host(Host::Edge, || Ok(TcpListener::bind(address)?))?;
    assert!(one.connect(Host::Edge, None, address, PATIENCE).is_ok());
    assert!(two.connect(Host::Edge, None, address, PATIENCE).is_err());
    Ok(())
}

#[test]
fn the_edge_asks_the_labs_dns_server_and_hears_of_changes_and_of_nothing_else() -> Result<()> {
    let lab = Lab::up("dns")?;
    let asks = |name: &str| -> Result<String> {
        let said = lab.run(Host::Edge, &["getent", "ahostsv4", name])?;
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    };
    assert_eq!(asks("mx.example.jp")?, "", "without a DNS server");
    let mut dns =
        lab.dns(&["mx.example.jp. A 198.18.0.10", "10.0.18.198.in-addr.arpa. PTR mx.example.jp."])?;
    assert!(asks("mx.example.jp")?.contains("198.18.0.10"), "{}", dns.process().tail(20));
    assert_eq!(asks("other.example.jp")?, "");
    dns.change(&lab, &["mx.example.jp. A 198.18.0.11"])?;
    assert!(asks("mx.example.jp")?.contains("198.18.0.11"), "{}", dns.process().tail(20));
    dns.stop()?;
    assert_eq!(asks("mx.example.jp")?, "", "it is stopped");
    assert!(lab.dns(&["mx.example.jp. NO SUCH LINE"]).is_err());
    Ok(())
}
