//! `backstop doctor` in the lab: real mail servers, a real DNS server, real network cards (veth).

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lab::edge::{CONFIG, Edge, Settings};
use lab::mta::{Operator, Software};
use lab::program::Profile;
use lab::{EDGE, Host, Lab, MTA};
use serde_json::Value;

use crate::readme;
use crate::service::Service;

/// What the DNS says where all is well.
const RECORDS: [&str; 6] = [
    "example.jp. MX 10 edge.example.jp.",
    "example.jp. TXT \"v=spf1 mx -all\"",
    "_dmarc.example.jp. TXT \"v=DMARC1; p=reject\"",
    "edge.example.jp. A 198.18.0.10",
    "edge.example.jp. AAAA 2001:2:0:1::10",
    "10.0.18.198.in-addr.arpa. PTR edge.example.jp.",
];

/// What the doctor found.
struct Findings(Vec<Value>);

impl Findings {
    /// State and words of the check with this name.
    fn of(&self, check: &str) -> Result<(&str, String)> {
        let found = self.0.iter().find(|finding| finding["check"] == check);
        let found = found.with_context(|| format!("no {check} among {:#?}", self.0))?;
        let words = format!("{} → {}", text(&found["found"]), text(&found["advice"]));
        Ok((text(&found["state"]), words))
    }

    /// State and check of all that are not good.
    fn not_good(&self) -> Vec<(&str, &str)> {
        let bad = self.0.iter().filter(|finding| finding["state"] != "good");
        bad.map(|finding| (text(&finding["state"]), text(&finding["check"]))).collect()
    }

    /// Insists on state and words of a check.
    fn insist(&self, check: &str, state: &str, words: &str) -> Result<()> {
        let (is, said) = self.of(check)?;
        ensure!(is == state && said.contains(words), "{check} is {is}, not {state}: {said:?} ({words:?})");
        Ok(())
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Runs the doctor in `edge`, behind a command such as `prlimit`; its exit code must tell of what it found.
fn ask(lab: &Lab, binary: &Path, behind: &[&str]) -> Result<Findings> {
    let binary = binary.to_str().context("a path in UTF-8")?;
    let argv = [behind, &[binary, "doctor", "--config", CONFIG, "--json"]].concat();
    let output = lab.run(Host::Edge, &argv)?;
    let list: Vec<Value> = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no JSON: {}", String::from_utf8_lossy(&output.stderr)))?;
    let bad = list.iter().any(|finding| finding["state"] == "bad");
    ensure!(output.status.code() == Some(i32::from(bad)), "exit code {:?}: {list:#?}", output.status.code());
    Ok(Findings(list))
}

fn prepared(lab: &Lab, settings: &Settings) -> Result<PathBuf> {
    Edge::prepare(lab, settings, Profile::Dev)
}

/// A mail server on the edge's host as README sets it up, which moreover trusts nobody at port 25.
fn readme_postfix() -> Result<String> {
    let commands = readme::in_the_lab(&readme::block_behind("\nPostfix:\n")?);
    Ok(format!(
        "postconf -Me 'submission/inet = submission inet n - n - - smtpd'
postconf -e 'smtp_dns_support_level = disabled'
{commands}
postconf -P '127.0.0.1:25/inet/smtpd_relay_restrictions=reject_unauth_destination'
"
    ))
}

/// A script gets JSON whatever is wrong; the exit code says that nothing could be asked.
#[test]
fn a_configuration_that_cannot_be_read_is_told_in_json_too() -> Result<()> {
    let lab = Lab::up("doctor-unread")?;
    let binary = prepared(&lab, &Settings::default())?;
    lab.write("edge/broken.toml", "hostname = \n")?;
    for (file, words) in [("/run/lab/edge/none.toml", "there is no"), ("/run/lab/edge/broken.toml", ":1:")] {
        let argv = [binary.to_str().context("a path in UTF-8")?, "doctor", "--json", "--config", file];
        let output = lab.run(Host::Edge, &argv)?;
        let list: Vec<Value> = serde_json::from_slice(&output.stdout)?;
        assert_eq!((output.status.code(), list.len()), (Some(2), 1), "{list:?}");
        assert_eq!((&list[0]["group"], &list[0]["check"]), (&"configuration".into(), &file.into()));
        Findings(list).insist(file, "bad", words)?;
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(file),
            "whoever looks at it is told as well"
        );
    }
    Ok(())
}

#[test]
fn a_machine_set_up_as_readme_says_is_good_all_over() -> Result<()> {
    let lab = Lab::up("doctor-good")?;
    let mut dns = lab.dns(&RECORDS)?;
    let mut server = lab.with_changes(Software::Postfix, &readme_postfix()?)?;
    // Where a systemd-timesyncd that has set the clock says so.
    let said = "mkdir -p /run/systemd/timesync && touch /run/systemd/timesync/synchronized";
    ensure!(lab.run(Host::Edge, &["sh", "-c", said])?.status.success(), "{said}");
    let settings = readme::settings("127.0.0.1:10026");
    let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
    let binary = prepared(&lab, &settings)?;

    let found = ask(&lab, &binary, &[])?;
    // The lab's edge runs as root, and has no certificate.
    assert!(
        found
            .not_good()
            .iter()
            .all(|(_, check)| check.starts_with("of the daemon") || *check == "certificates"),
        "{:?}",
        found.not_good()
    );
    found.insist("198.18.0.10:25", "good", "the edge listens there")?;
    found.insist("127.0.0.1:10025", "good", "the edge listens there")?;
    found.insist("native XDP", "good", "veth")?;
    found.insist("attached", "good", "our own program, native")?;
    found.insist("MX of example.jp", "good", "edge.example.jp (10)")?;
    found.insist("PTR of 198.18.0.10", "good", "edge.example.jp")?;
    found.insist("upstream 127.0.0.1:25", "good", "PIPELINING")?;
    found.insist("relaying by upstream 127.0.0.1:25", "good", "Relay access denied")?;
    found.insist("relaying by next hop 127.0.0.1:10026", "good", "takes outgoing mail")?;
    found.insist("running", "good", &format!("pid {}", pid_inside(&edge)?))?;
    found.insist("version", "good", "")?;

    // For eyes, and never coloured where no terminal is.
    let shown = edge.command(&lab, &["doctor"], b"")?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("0 bad") && shown.contains("\nnetwork card\n") && !shown.contains('\x1b'),
        "{shown}"
    );
    // Nothing was sent, nothing changed.
    assert!(edge.verdicts()?.is_empty() && !server.log().contains("status=sent"), "{}", server.log());

    edge.stop()?;
    let found = ask(&lab, &binary, &[])?;
    found.insist("running", "careful", "backstop run")?;
    found.insist("198.18.0.10:25", "good", "free")?;
    found.insist("attached", "good", "our own program")?;

    server.kill9()?;
    dns.stop()?;
    let found = ask(&lab, &binary, &[])?;
    found.insist("upstream 127.0.0.1:25", "bad", "Connection refused")?;
    found.insist("next hop 127.0.0.1:10026", "bad", "Connection refused")?;
    found.insist("MX of example.jp", "careful", "/etc/resolv.conf")?;
    Ok(())
}

/// As its own user, with root's keys, its own pins and state, and the unit where systemd looks for it.
#[test]
fn the_service_of_the_unit_is_good_all_over() -> Result<()> {
    let service = Service::install("doctor-service")?;
    service.configure()?;
    let _process = service.start(&[])?;
    let argv = ["backstop", "doctor", "--json"];
    let output = service.lab.run(Host::Edge, &argv)?;
    let found = Findings(serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?);
    let groups = ["dns", "upstream", "clock"];
    let rest = found.0.iter().filter(|finding| !groups.contains(&text(&finding["group"]))).cloned();
    let rest = Findings(rest.collect());
    // The service's configuration names no certificate, and that is all there is to say.
    assert_eq!(rest.not_good(), [("careful", "certificates")], "{:#?}", rest.0);
    found.insist("installed", "good", "/etc/systemd/system/backstop.service")?;
    found.insist("user", "good", "backstop, with the capabilities")?;
    found.insist("attached", "good", "our own program")?;
    // Its group is how it reads its keys.
    let taken = ["chgrp", "root", "/etc/backstop/keys/001.key"];
    ensure!(service.lab.run(Host::Edge, &taken)?.status.success(), "{taken:?}");
    let output = service.lab.run(Host::Edge, &argv)?;
    let found = Findings(serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?);
    found.insist("readable", "bad", "systemd-tmpfiles --create backstop.conf")
}

/// The edge's process as its own PID namespace numbers it.
fn pid_inside(edge: &Edge) -> Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", edge.process().pid()))?;
    let line = status.lines().find(|line| line.starts_with("NSpid:")).context("no NSpid")?;
    Ok(line.split_whitespace().last().context("no pid")?.to_owned())
}

#[test]
fn a_mail_server_that_holds_the_port_is_named() -> Result<()> {
    let lab = Lab::up("doctor-port")?;
    let changes = "postconf -e 'inet_interfaces = all'\n";
    let _server = lab.with_changes(Software::Postfix, changes)?;
    let binary = prepared(&lab, &Settings::default())?;
    let found = ask(&lab, &binary, &[])?;
    let (state, words) = found.of("198.18.0.10:25")?;
    assert_eq!(state, "bad", "{words}");
    let pid = words.split_once("taken by master (pid ").and_then(|(_, rest)| rest.split_once(')'));
    let (pid, _) = pid.with_context(|| words.clone())?;
    let name = lab.run(Host::Edge, &["cat", &format!("/proc/{pid}/comm")])?;
    assert_eq!(String::from_utf8_lossy(&name.stdout).trim(), "master");
    Ok(())
}

#[test]
fn where_the_domains_mail_goes_is_asked_of_the_dns() -> Result<()> {
    let lab = Lab::up("doctor-dns")?;
    let binary =
        prepared(&lab, &Settings::default().set("reputation.trusted_relays", vec!["198.18.65.0/24"]))?;
    let mut dns = lab.dns(&[])?;
    let others = &RECORDS[1..];
    let backup = ["example.jp. MX 10 edge.example.jp.", "example.jp. MX 20 backup.example."];
    let rows: [(&[&str], &str, &str); 6] = [
        (&[], "bad", "example.jp. MX 10 edge.example.jp."),
        (
            &["example.jp. MX 10 mail.example.jp.", "mail.example.jp. A 198.18.1.2"],
            "bad",
            "does not pass this edge",
        ),
        (&["example.jp. MX 0 ."], "bad", "takes no mail"),
        (&[backup[0], backup[1], "backup.example. A 198.18.64.9"], "careful", "backup.example (20) bypasses"),
        (&[backup[0], backup[1], "backup.example. A 198.18.65.9"], "good", "trusted relays"),
        (&["example.jp. A 198.18.0.10"], "good", "its own address"),
    ];
    for (records, state, words) in rows {
        dns.change(&lab, &[records, others].concat())?;
        ask(&lab, &binary, &[])?.insist("MX of example.jp", state, words)?;
    }
    dns.change(&lab, &["example.jp. MX 10 edge.example.jp.", "edge.example.jp. A 198.18.0.99"])?;
    let found = ask(&lab, &binary, &[])?;
    found.insist("hostname", "careful", "198.18.0.99")?;
    found.insist("PTR of 198.18.0.10", "careful", "none")?;
    found.insist("SPF of example.jp", "careful", "none")?;
    found.insist("DMARC of example.jp", "careful", "_dmarc.example.jp.")
}

#[test]
fn an_upstream_that_relays_for_the_edge_or_has_its_name_is_told_of() -> Result<()> {
    let lab = Lab::up("doctor-relay")?;
    // It knows a way to the domain that is asked for, and trusts the edge's network.
    let routes = vec![("example.com".to_owned(), (lab::far_server(1), 25).into())];
    let _operator = lab.operator(&Operator { routes, ..Operator::default() })?;
    let settings = Settings::default().set("hostname", "mail.example.jp");
    let edge = Edge::start(&lab, &settings, Profile::Dev)?;
    let found = ask(&lab, &prepared(&lab, &settings)?, &[])?;
    let upstream = format!("upstream {MTA}:25");
    found.insist(&format!("relaying by {upstream}"), "careful", "only recipients of your own domains")?;
    found.insist(&upstream, "bad", "it calls itself mail.example.jp, as the edge does")?;
    found.insist(&format!("relaying by next hop {MTA}:10026"), "good", "takes outgoing mail")?;
    found.insist(&format!("example.jp at {upstream}"), "careful", "postmaster@example.jp is refused")?;
    let told =
        edge.process().wait_for_line("calls itself mail.example.jp", std::time::Duration::from_secs(90))?;
    assert!(told.contains("198.19.0.2"), "{told}");
    Ok(())
}

#[test]
fn keys_descriptors_and_cards_that_will_not_do_are_told_with_the_command_that_helps() -> Result<()> {
    let lab = Lab::up("doctor-machine")?;
    let binary = prepared(&lab, &Settings::default())?;
    let key = lab.path("edge/keys/001.key");
    let mode = |mode| std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(mode));
    mode(0o644)?;
    let found = ask(&lab, &binary, &["prlimit", "--nofile=2000:2000"])?;
    found.insist("directory", "bad", "chmod 600 /run/lab/edge/keys/001.key")?;
    found.insist("descriptors", "bad", "LimitNOFILE=")?;
    found.insist("native XDP", "good", "veth")?;
    found.insist("attached", "good", "no program")?;
    mode(0o600)?;

    // A user without rights hears less, and what it was that could not be told.
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"];
    let program = lab.path("edge/backstop");
    lab::program::copy(&binary, &program)?;
    let found = ask(&lab, Path::new("/run/lab/edge/backstop"), &nobody)?;
    found.insist("directory", "careful", "may not be read by this user")?;
    found.insist("of this process", "careful", "CAP_NET_BIND_SERVICE (listening at a port below 1024)")?;
    found.insist("XDP program", "careful", "run it as root")?;
    found.insist("native XDP", "good", "veth")?;

    for (mode, state) in [("auto", "careful"), ("native", "bad")] {
        prepared(&lab, &Settings::default().set("xdp.interface", "lo").set("xdp.mode", mode))?;
        ask(&lab, &binary, &[])?.insist("native XDP", state, "lo has none")?;
    }
    prepared(&lab, &Settings::default().set("xdp.interface", "eth77"))?;
    ask(&lab, &binary, &[])?.insist("interface", "bad", "eth77")?;

    // Another's program on the interface: ours, pinned where this configuration does not look.
    prepared(&lab, &Settings::default().set("xdp.pin_dir", "/sys/fs/bpf/another"))?;
    let attach = [binary.to_str().context("UTF-8")?, "xdp", "attach", "--config", CONFIG];
    ensure!(lab.run(Host::Edge, &attach)?.status.success(), "{attach:?}");
    ask(&lab, &binary, &[])?.insist("attached", "good", "our own program")?;
    prepared(&lab, &Settings::default())?;
    ask(&lab, &binary, &[])?.insist("attached", "bad", "another XDP program (id ")?;
    prepared(&lab, &Settings::default().set("xdp.pin_dir", "/run/lab/no-bpf"))?;
    ask(&lab, &binary, &[])?.insist("mounted", "bad", "mount -t bpf")
}

#[test]
fn servers_that_never_answer_do_not_hold_it_up_and_no_configuration_is_told_by_its_exit_code() -> Result<()> {
    let lab = Lab::up("doctor-silence")?;
    let silent = lab.in_host(Host::Mta, || Ok(TcpListener::bind((MTA, 25))?))?;
    let deaf = lab.in_host(Host::Internet, || Ok(std::net::UdpSocket::bind((lab::dns::ADDRESS, 53))?))?;
    lab.dns(&[]).err().context("its port is taken")?;
    let binary = prepared(&lab, &Settings::default())?;
    let found = ask(&lab, &binary, &[])?;
    found.insist(&format!("upstream {MTA}:25"), "bad", "longer than")?;
    found.insist("MX of example.jp", "careful", "")?;
    drop((silent, deaf));

    let argv = [binary.to_str().context("UTF-8")?, "doctor", "--config", "/run/lab/none.toml"];
    let output = lab.run(Host::Edge, &argv)?;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("backstop init"), "{output:?}");
    assert_eq!(EDGE.to_string(), "198.18.0.10", "as RECORDS have it");
    Ok(())
}
